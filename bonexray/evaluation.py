"""The report folder that evaluate writes, register logs and `serving.release` verifies.

report.html           for a person          metrics.json         every figure
model_card.md         for whoever uses it   headline.json        a few of them, for DVC
gate.json             the verdict           predictions.parquet  what was said of every view
params.json           settings              bundle.json          how views become studies
training.json         of each network       history.csv          epoch by epoch
data.json             what it was shown     roc.csv, plots/
lineage.json          where it comes from   sbom.json            with what software
manifest.json         SHA-256 of each other file, written last: the folder is the release pack
"""

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bonexray.errors import DataError
from bonexray.trained import TrainingRecord

METRICS_FILE = "metrics.json"
HEADLINE_FILE = "headline.json"
GATE_FILE = "gate.json"
PREDICTIONS_FILE = "predictions.parquet"
REPORT_FILE = "report.html"
CARD_FILE = "model_card.md"
PARAMS_FILE = "params.json"
TRAINING_FILE = "training.json"
DATA_FILE = "data.json"
LINEAGE_FILE = "lineage.json"
SBOM_FILE = "sbom.json"
PLOTS_FOLDER = "plots"
ROC_FILE = "roc.csv"
HISTORY_FILE = "history.csv"

_RECORDS = TypeAdapter(list[TrainingRecord])


def read_metrics(report: Path) -> dict[str, Any]:
    """Read metrics.json. Raises DataError."""
    return read_object(report / METRICS_FILE)


def read_gate(report: Path) -> dict[str, Any]:
    """Read gate.json. Raises DataError."""
    return read_object(report / GATE_FILE)


def read_training(report: Path) -> list[TrainingRecord]:
    """Read training.json, a record a network. Raises DataError."""
    path = report / TRAINING_FILE
    try:
        return _RECORDS.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(f"{path}: not readable as training records: {error}") from error


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises DataError."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds a {type(value).__name__}, expected an object")
    return value
