"""Is a release pack what it says? Its files' digests, and its figures out of its predictions."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from bonexray.bundle import INFO_FILE, BundleInfo
from bonexray.config import Rule
from bonexray.errors import BonexrayError, PackError, SealError
from bonexray.evaluation import (
    CARD_FILE,
    DATA_FILE,
    GATE_FILE,
    LINEAGE_FILE,
    METRICS_FILE,
    PARAMS_FILE,
    PREDICTIONS_FILE,
    REPORT_FILE,
    SBOM_FILE,
    TRAINING_FILE,
    read_gate,
    read_metrics,
    read_object,
)
from bonexray.gate import judge
from bonexray.scoring import studies_of, values_of, with_probability
from bonexray.sealed import verify_seal
from bonexray.studies import SPLITS

_REQUIRED = {
    CARD_FILE, DATA_FILE, GATE_FILE, INFO_FILE, LINEAGE_FILE, METRICS_FILE, PARAMS_FILE,
    PREDICTIONS_FILE, REPORT_FILE, SBOM_FILE, TRAINING_FILE,
}  # fmt: skip
_COLUMNS = ["study", "patient", "body_part", "label", "split", "logit", "refused", "study_part"]
_TOLERANCE = 1e-9
_RULES = TypeAdapter(tuple[Rule, ...])


def verify_pack(pack: Path) -> str:
    """Re-check every digest, and recompute figures and verdict from the stored predictions.

    Returns:
        What was checked, in a line.

    Raises:
        PackError: a file is missing, extra or altered, or a figure is not that of the predictions.
    """
    try:
        digest = verify_seal(pack, _REQUIRED)
        info = BundleInfo.model_validate_json((pack / INFO_FILE).read_bytes())
        views = _read_predictions(pack / PREDICTIONS_FILE)
        metrics, gate, data = read_metrics(pack), read_gate(pack), read_object(pack / DATA_FILE)
        checked = _check_figures(views, info, metrics)
        _check_data(views, data)
        _check_verdict(metrics, gate, read_object(pack / PARAMS_FILE))
        bundle = read_object(pack / LINEAGE_FILE).get("bundle_digest")
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise PackError(f"{pack}: {field}: {first['msg']}") from error
    except SealError as error:
        raise PackError(str(error)) from error
    except BonexrayError as error:
        raise PackError(f"{pack}: {error}") from error
    if bundle != metrics.get("bundle_digest"):
        raise PackError(f"{pack}: {LINEAGE_FILE} names bundle {bundle}, {METRICS_FILE} another")
    verdict = "passed" if gate["passed"] else "refused"
    return (
        f"{pack} ({digest[:12]}) holds: bundle {str(bundle)[:12]}, {len(views)} predictions, "
        f"{checked} figures recomputed, gate {verdict} with {gate['warnings']} warnings"
    )


def _read_predictions(path: Path) -> pd.DataFrame:
    try:
        views = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise PackError(f"{path}: not readable as a table: {error}") from error
    missing = sorted(set(_COLUMNS) - set(views.columns))
    if missing:
        raise PackError(f"{path}: lacks the columns {missing}")
    return views


def _check_figures(views: pd.DataFrame, info: BundleInfo, metrics: dict[str, Any]) -> int:
    """Compare every metric of every split and level; return how many there were."""
    levels = {
        "image": with_probability(views, info.calibration),
        "study": studies_of(views, info.study_rule, info.calibration),
    }
    checked = 0
    for split in SPLITS:
        for level, table in levels.items():
            own = table[table["split"] == split]
            stored = metrics.get(split, {}).get(level, {})
            found = {"count": len(own), "abnormal": int(own["label"].sum()), **values_of(own)}
            for name, value in found.items():
                if not _equal(stored.get(name), value):
                    raise PackError(
                        f"{METRICS_FILE}: {split}/{level}/{name} is {stored.get(name)}, the "
                        f"predictions give {value}"
                    )
                checked += 1
    return checked


def _equal(stored: Any, found: float | None) -> bool:
    if stored is None or found is None:
        return stored is None and found is None
    return isinstance(stored, int | float) and math.isclose(stored, found, abs_tol=_TOLERANCE)


def _check_data(views: pd.DataFrame, data: dict[str, Any]) -> None:
    for split in SPLITS:
        own = views[views["split"] == split]
        stored = data.get("splits", {}).get(split, {})
        found = {
            "patients": own["patient"].nunique(),
            "studies": own["study"].nunique(),
            "images": len(own),
        }
        for name, count in found.items():
            if stored.get(name) != count:
                raise PackError(
                    f"{DATA_FILE}: {split} has {stored.get(name)} {name}, the predictions are of "
                    f"{count}"
                )


def _check_verdict(metrics: dict[str, Any], gate: dict[str, Any], params: dict[str, Any]) -> None:
    rules = _RULES.validate_python(params.get("evaluate", {}).get("gate"))
    if judge(metrics, rules) != gate:
        raise PackError(f"{GATE_FILE}: is not what the rules of {PARAMS_FILE} come to")
