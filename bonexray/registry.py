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
TAG_PREFIX = "bonexray."


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the embedded store in the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI", EMBEDDED_TRACKING_URI)
