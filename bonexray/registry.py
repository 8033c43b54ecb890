"""Where the model registry is and what its aliases and tags are called. Imports no MLflow."""

import os

EMBEDDED_TRACKING_URI = "sqlite:///mlflow.db"

CANDIDATE = "candidate"
CHAMPION = "champion"
PREVIOUS = "previous"

BUNDLE_DIGEST_TAG = "bonexray.bundle_digest"
GATE_TAG = "bonexray.gate"
GATE_SHA256_TAG = "bonexray.gate_sha256"
GATE_PASSED = "passed"
GATE_WARNINGS_TAG = "bonexray.gate_warnings"
"""How many rules of severity warning are broken."""
PACK_SHA256_TAG = "bonexray.pack_sha256"
"""Digest of the release pack: of the manifest of its files."""
COMPARED_TAG = "bonexray.compared_with"
"""Bundle digest of the champion that the evaluation held this version against, or `none`."""
PARAMS_SHA256_TAG = "bonexray.params_sha256"
"""Of params.json in the release pack: what trained and judged it."""
LOCK_SHA256_TAG = "bonexray.environment_lock_sha256"
"""Of requirements.lock, or `none`."""
DVC_OUTS_TAG = "bonexray.dvc_outs"
"""JSON: what each DVC stage wrote -> its hash in dvc.lock, or `none`."""
PARENT_RUN_TAG = "bonexray.parent_run"
"""MLflow run that trained each network, joined by `+`; `unknown` where tracking was lost."""
TRAINING_SHA256_TAG = "bonexray.training_sha256"
"""On a training's run: of all that its weights depend on. One cut off is found by it."""
HARDWARE_TAG = "bonexray.hardware"
"""What they were trained on."""
PIPELINE_RUN_TAG = "bonexray.pipeline_run"
"""Kubeflow's run that registered this version, or `none`."""
PIPELINE_RUN = "BONEXRAY_RUN"
"""Environment variable: id of Kubeflow's run, in the pods that are told it."""
SIGNATURE_TAG = "bonexray.signature"
"""Of an approved version: who vouches for its bundle, as OpenSSF Model Signing writes it."""
REPORT_ARTIFACTS = "report"
"""The release pack among a run's artefacts."""
FLOW_ARTIFACTS = "flow"
"""params.yaml and dvc.lock among a run's artefacts: what `dvc repro` was given."""
NONE, UNKNOWN = "none", "unknown"
TAG_PREFIX = "bonexray."


def in_a_line(error: Exception) -> str:
    """What a registry's error says, without the SQL that came with it."""
    return " ".join(str(error).partition("\n[SQL:")[0].split())[:400]


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the embedded store in the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI", EMBEDDED_TRACKING_URI)
