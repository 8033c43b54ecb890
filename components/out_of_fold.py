"""What cross-validation left: every view of `train` and `val`, read by a network that never saw it.

predictions.parquet   the manifest's rows of all folds, with logit and probability
metrics.json          figures, and what they were made from
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from bonexray.errors import DataError
from bonexray.gate import SKIPPED
from bonexray.scoring import figures_of, studies_of, with_probability
from bonexray.trained import TrainingRecord
from bonexray.verdicts import Calibration, StudyRule

PREDICTIONS_FILE, METRICS_FILE = "predictions.parquet", "metrics.json"


def origin_of(record: TrainingRecord) -> dict[str, Any]:
    """What out-of-fold predictions depend on: those of other data or settings are another's."""
    return record.model_dump(mode="json", exclude={"fold"})


def out_of_fold(
    crossval: Path,
    manifest: pd.DataFrame,
    records: tuple[TrainingRecord, ...],
    rule: StudyRule,
    calibration: Calibration,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Figures of the out-of-fold predictions, read as the chosen network's are.

    Args:
        crossval: folder that holds one of cross-validation for each network.
        manifest: the accepted views.
        records: of the networks that were chosen.
        rule: how views become a study.
        calibration: the chosen network's temperatures.
        draws: of the intervals.
        seed: of the intervals.

    Returns:
        `image` and `study`, figures with intervals, and a `note`; `skipped` and why otherwise.

    Raises:
        DataError: the predictions are there and cannot be read, or are of unknown studies.
    """
    if len(records) > 1:
        return {SKIPPED: "not taken of an ensemble"}
    place = crossval / records[0].arch
    if not (place / METRICS_FILE).exists():
        command = f"python -m components.crossval --arch {records[0].arch}"
        return {SKIPPED: f"not taken yet ({command})"}
    try:
        made_from = json.loads((place / METRICS_FILE).read_bytes())["made_from"]
        views = pd.read_parquet(place / PREDICTIONS_FILE)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{place}: not readable as cross-validation's: {error}") from error
    if made_from != origin_of(records[0]):
        return {SKIPPED: "what there is was made from other data or with other settings"}
    unknown = sorted(set(views["study"]) - set(manifest["study"]))
    if unknown:
        raise DataError(f"{place / PREDICTIONS_FILE}: {unknown[0]} is not in the manifest")
    read = views.assign(refused="", study_part=views["body_part"])
    studies = studies_of(read, rule, calibration)
    return {
        "image": figures_of(with_probability(read, calibration), draws, seed),
        "study": figures_of(studies, draws, seed),
        "note": "networks of the same recipe, each judged on patients whom it never saw",
    }
