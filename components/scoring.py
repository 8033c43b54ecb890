"""From views' logits to calibrated studies, thresholds and figures. Pure: tables in, values out.

A *views* table has one row a view: study, patient, body_part, label, split, logit, probability.
A *studies* table has one row a study: study, patient, body_part, label, split, probability, views.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize_scalar

from bonexray.config import EvaluateConfig
from bonexray.errors import DataError
from bonexray.metrics import (
    accuracy,
    auroc,
    bootstrap_intervals,
    cohen_kappa,
    cross_entropy,
    paired_difference,
)
from bonexray.studies import BODY_PARTS, SPLITS
from bonexray.verdicts import OperatingPoints, calibrated_probability, study_probability

METRICS = {
    "accuracy": accuracy,
    "loss": cross_entropy,
    "kappa": cohen_kappa,
    "auroc": auroc,
}
_LOG_TEMPERATURE = (np.log(0.05), np.log(20.0))


def fit_temperature(views: pd.DataFrame) -> float:
    """The temperature that gives the views of `val` the lowest cross-entropy.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    labels, logits = views["label"].to_numpy(), views["logit"].to_numpy()

    def loss(log_temperature: float) -> float:
        return cross_entropy(labels, calibrated_probability(logits, np.exp(log_temperature)))

    return float(np.exp(minimize_scalar(loss, bounds=_LOG_TEMPERATURE, method="bounded").x))


def studies_of(views: pd.DataFrame) -> pd.DataFrame:
    """Aggregate views into studies, sorted by study."""
    grouped = views.groupby("study", sort=True)
    studies = grouped[["patient", "body_part", "label", "split"]].first()
    studies["probability"] = grouped["probability"].agg(study_probability)
    studies["views"] = grouped.size()
    return studies.reset_index()


def choose_operating_points(
    studies: pd.DataFrame, sensitivity: float, specificity: float
) -> OperatingPoints:
    """The two thresholds that reach the aims on the studies of `val`.

    When one threshold could reach both aims, the two meet halfway.

    Raises:
        DataError: the studies are all of one label.
    """
    abnormal = np.sort(studies.loc[studies["label"] == 1, "probability"].to_numpy())
    normal = np.sort(studies.loc[studies["label"] == 0, "probability"].to_numpy())
    if not len(abnormal) or not len(normal):
        raise DataError("operating points need both labels in 'val', found one")
    # Positive means at or above: the highest threshold that still leaves enough abnormal above.
    low = abnormal[int(np.floor((1 - sensitivity) * len(abnormal)))]
    # Just above the normal studies that must stay below.
    below = normal[max(0, int(np.ceil(specificity * len(normal))) - 1)]
    high = min(1.0, float(np.nextafter(below, 1)))
    if low > high:
        low = high = (low + high) / 2
    return OperatingPoints(high_sensitivity=float(low), high_specificity=float(high))


def figures(views: pd.DataFrame, config: EvaluateConfig) -> dict[str, Any]:
    """Every metric with its interval: split -> image | study -> metric, metric_low, metric_high."""
    studies = studies_of(views)
    return {
        split: {
            level: with_intervals(table[table["split"] == split], config)
            for level, table in (("image", views), ("study", studies))
        }
        for split in SPLITS
    }


def figures_by_part(studies: pd.DataFrame, config: EvaluateConfig) -> dict[str, Any]:
    """The same per body part, for the studies given."""
    parts = [part for part in BODY_PARTS if (studies["body_part"] == part).any()]
    return {part: with_intervals(studies[studies["body_part"] == part], config) for part in parts}


def lead_of(one: pd.DataFrame, other: pd.DataFrame, config: EvaluateConfig) -> dict[str, Any]:
    """How much higher AUROC is in one table of studies than in another, in the same order."""
    lead, low, high = paired_difference(
        auroc,
        one["label"].to_numpy(),
        one["probability"].to_numpy(),
        other["probability"].to_numpy(),
        one["patient"].to_numpy(),
        draws=config.bootstrap_draws,
        seed=config.seed,
    )
    return {"auroc": _number(lead), "auroc_low": _number(low), "auroc_high": _number(high)}


def shares_at(studies: pd.DataFrame, points: OperatingPoints) -> dict[str, Any]:
    """What the two operating points cost on the studies given."""
    labels = studies["label"].to_numpy()
    probabilities = studies["probability"].to_numpy()
    doubtful = (probabilities >= points.high_sensitivity) & (
        probabilities < points.high_specificity
    )
    return {
        "high_sensitivity": _rates(labels, probabilities >= points.high_sensitivity),
        "high_specificity": _rates(labels, probabilities >= points.high_specificity),
        "doubtful_share": float(doubtful.mean()),
    }


def _rates(labels: npt.NDArray[Any], called: npt.NDArray[np.bool_]) -> dict[str, float | None]:
    def share(of: npt.NDArray[np.bool_]) -> float | None:
        return float(of.mean()) if len(of) else None

    return {"sensitivity": share(called[labels == 1]), "specificity": share(~called[labels == 0])}


def with_intervals(table: pd.DataFrame, config: EvaluateConfig) -> dict[str, Any]:
    """Every metric of some views or studies, with its interval."""
    labels, scores = table["label"].to_numpy(), table["probability"].to_numpy()
    intervals = bootstrap_intervals(
        METRICS,
        labels,
        scores,
        table["patient"].to_numpy(),
        draws=config.bootstrap_draws,
        seed=config.seed,
    )
    values: dict[str, Any] = {"count": len(table), "abnormal": int(labels.sum())}
    for name, metric in METRICS.items():
        low, high = intervals[name]
        values |= {name: _number(metric(labels, scores))}
        values |= {f"{name}_low": _number(low), f"{name}_high": _number(high)}
    return values


def _number(value: float) -> float | None:
    """JSON has no NaN: a metric that is undefined is null."""
    return None if np.isnan(value) else value
