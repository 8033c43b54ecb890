"""From views' logits to studies and their figures. Pure: tables in, tables and values out.

A *views* table has one row a view: study, patient, body_part, label, split, logit, refused,
study_part. `refused` holds a reason or is empty; `study_part` is what the network sees in the whole
study.

A *studies* table has one row a study: study, patient, body_part, label, split, probability, views,
refused (how many of them) and seen_part.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bonexray.bootstrap import bootstrap_intervals
from bonexray.errors import DataError
from bonexray.metrics import METRICS
from bonexray.studies import SPLITS
from bonexray.verdicts import (
    NOT_ANALYSED,
    Calibration,
    OperatingPoints,
    StudyRule,
    calibrated_probability,
    study_probability,
    verdict,
)


def with_probability(views: pd.DataFrame, calibration: Calibration) -> pd.DataFrame:
    """The views with their calibrated probability.

    Raises:
        DataError: a logit is not finite.
    """
    logits = views["logit"].to_numpy()
    wrong = int((~np.isfinite(logits)).sum())
    if wrong:
        raise DataError(f"{wrong} of {len(views)} views have a logit that is not finite")
    return views.assign(probability=calibrated_probability(logits, calibration.view))


def studies_of(views: pd.DataFrame, rule: StudyRule, calibration: Calibration) -> pd.DataFrame:
    """Aggregate views into studies, sorted by study, as they are served.

    Refused views are left out of their study's probability, unless all of them are refused.
    """
    grouped = views.groupby("study", sort=True)
    studies = grouped[["patient", "body_part", "label", "split"]].first()
    studies["seen_part"] = grouped["study_part"].first()
    studies["views"] = grouped.size()
    studies["refused"] = grouped["refused"].agg(lambda reasons: int((reasons != "").sum()))
    studies["probability"] = [
        study_probability(logits, rule, calibration, part)
        for logits, part in zip(logits_of(views), studies["seen_part"], strict=True)
    ]
    return studies.reset_index()


def logits_of(views: pd.DataFrame) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """The logits that count of each study, in the order of `studies_of`."""
    found = []
    for _, study in views.groupby("study", sort=True):
        logits, used = study["logit"].to_numpy(), study["refused"].to_numpy() == ""
        found.append(logits[used] if used.any() else logits)
    return found


def values_of(table: pd.DataFrame) -> dict[str, float | None]:
    """Every metric of some views or studies."""
    labels, probabilities = table["label"].to_numpy(), table["probability"].to_numpy()
    return {
        name: number_or_none(float(metric(labels, probabilities)))
        for name, metric in METRICS.items()
    }


def figures_of(table: pd.DataFrame, draws: int, seed: int) -> dict[str, Any]:
    """Every metric of some views or studies with its 95 % interval by patient.

    Returns:
        `count`, `abnormal`, and for each metric `NAME`, `NAME_low`, `NAME_high`; None where it is
        undefined.
    """
    labels = table["label"].to_numpy()
    figures: dict[str, Any] = {"count": len(table), "abnormal": int(labels.sum())}
    intervals = bootstrap_intervals(
        METRICS,
        labels,
        table["probability"].to_numpy(),
        table["patient"].to_numpy(),
        draws=draws,
        seed=seed,
    )
    for name, value in values_of(table).items():
        low, high = map(number_or_none, intervals[name])
        figures |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return figures


def figures_by_split(
    levels: Mapping[str, pd.DataFrame], draws: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Split -> level (`image`, `study`) -> figures."""
    return {
        split: {
            level: figures_of(table[table["split"] == split], draws, seed)
            for level, table in levels.items()
        }
        for split in SPLITS
    }


def told_of(studies: pd.DataFrame, points: OperatingPoints) -> list[str]:
    """What the reader is told of each study, `not_analysed` where every view is refused."""
    columns = (studies[name].tolist() for name in ("probability", "refused", "views"))
    return [
        NOT_ANALYSED if refused == views else verdict(probability, points)
        for probability, refused, views in zip(*columns, strict=True)
    ]


def number_or_none(value: float) -> float | None:
    """JSON has no NaN: what is undefined is null."""
    return None if np.isnan(value) else float(value)
