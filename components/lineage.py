"""Where a version comes from, as the tags of its registration. Knows no registry but by its client.

data, split, code, weights      of the bundle's provenance
verdict, figures, settings      of the release pack
environment, DVC's hashes       of the files beside dvc.yaml, where the step runs
runs, hardware                  of the trainings as MLflow was told
Kubeflow's run                  of the environment of the step's pod
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient

from bonexray.artifacts import sha256_file, sha256_json
from bonexray.bundle import Bundle, TrainedNetwork
from bonexray.errors import DataError
from bonexray.evaluation import GATE_FILE, PARAMS_FILE, read_gate, read_metrics
from bonexray.registry import (
    BUNDLE_DIGEST_TAG,
    COMPARED_TAG,
    DVC_OUTS_TAG,
    GATE_PASSED,
    GATE_SHA256_TAG,
    GATE_TAG,
    GATE_WARNINGS_TAG,
    HARDWARE_TAG,
    LOCK_SHA256_TAG,
    NONE,
    PACK_SHA256_TAG,
    PARAMS_SHA256_TAG,
    PARENT_RUN_TAG,
    PIPELINE_RUN,
    PIPELINE_RUN_TAG,
    TAG_PREFIX,
    TRAINING_SHA256_TAG,
    UNKNOWN,
)
from bonexray.sealed import MANIFEST_FILE
from bonexray.trained import TrainingRecord
from components.tracking import EXPERIMENT

ENVIRONMENT_LOCK = Path("requirements.lock")
DVC_LOCK = Path("dvc.lock")


def lineage_tags(
    client: MlflowClient, bundle: Bundle, report: Path, records: Sequence[TrainingRecord]
) -> dict[str, str]:
    """The tags that say where a version comes from.

    Args:
        client: of the registry that was told of the trainings.
        bundle: what is registered.
        report: its release pack.
        records: of the networks in it.

    Raises:
        DataError: the pack or dvc.lock cannot be read.
    """
    provenance = bundle.info.provenance.model_dump(exclude={"networks"})
    for name in TrainedNetwork.model_fields:
        values = (str(getattr(network, name)) for network in bundle.info.provenance.networks)
        provenance[name] = "+".join(values)
    champion = read_metrics(report).get("champion", {})
    return {f"{TAG_PREFIX}{name}": str(value) for name, value in provenance.items()} | {
        BUNDLE_DIGEST_TAG: bundle.digest,
        GATE_TAG: GATE_PASSED,
        GATE_WARNINGS_TAG: str(read_gate(report)["warnings"]),
        GATE_SHA256_TAG: sha256_file(report / GATE_FILE),
        PACK_SHA256_TAG: sha256_file(report / MANIFEST_FILE),
        COMPARED_TAG: champion.get("digest", NONE),
        PARAMS_SHA256_TAG: sha256_file(report / PARAMS_FILE),
        LOCK_SHA256_TAG: sha256_file(ENVIRONMENT_LOCK) if ENVIRONMENT_LOCK.is_file() else NONE,
        DVC_OUTS_TAG: json.dumps(stage_outs(DVC_LOCK)) if DVC_LOCK.is_file() else NONE,
        PIPELINE_RUN_TAG: os.environ.get(PIPELINE_RUN, NONE),
        **_trainings(client, records),
    }


def stage_outs(dvc_lock: Path) -> dict[str, str]:
    """What DVC's stages wrote -> their hashes. Raises DataError."""
    try:
        stages: dict[str, Any] = yaml.safe_load(dvc_lock.read_bytes())["stages"]
        return {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise DataError(f"{dvc_lock}: not readable as DVC's lock: {error}") from error


def _trainings(client: MlflowClient, records: Sequence[TrainingRecord]) -> dict[str, str]:
    """The run that trained each network, and on what."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    runs, hardware = [], []
    for record in records:
        digest = sha256_json(record.model_dump())
        wanted = f"tags.`{TRAINING_SHA256_TAG}` = '{digest}' and attributes.status = 'FINISHED'"
        found = client.search_runs([experiment.experiment_id], wanted) if experiment else []
        runs.append(found[0].info.run_id if found else UNKNOWN)
        hardware.append(found[0].data.tags.get(HARDWARE_TAG, UNKNOWN) if found else UNKNOWN)
    return {PARENT_RUN_TAG: "+".join(runs), HARDWARE_TAG: "+".join(hardware)}
