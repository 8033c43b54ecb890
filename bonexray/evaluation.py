"""The report folder between evaluate, register and release: the names of its files."""

import json
from pathlib import Path
from typing import Any

from bonexray.errors import DataError

METRICS_FILE = "metrics.json"
GATE_FILE = "gate.json"
PREDICTIONS_FILE = "predictions.parquet"
REPORT_FILE = "report.html"
CARD_FILE = "model_card.md"
PLOTS_FOLDER = "plots"
ROC_FILE = "roc.csv"
HISTORY_FILE = "history.csv"


def read_metrics(report: Path) -> dict[str, Any]:
    """Read metrics.json. Raises DataError."""
    return _read_json(report / METRICS_FILE)


def read_gate(report: Path) -> dict[str, Any]:
    """Read gate.json. Raises DataError."""
    return _read_json(report / GATE_FILE)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds a {type(value).__name__}, expected an object")
    return value
