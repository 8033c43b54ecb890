"""What is fitted and chosen on `val`: temperatures, the study rule, the operating points.

Pure: tables in, values out. Tables are those of `bonexray.scoring`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize_scalar

from bonexray.bootstrap import paired_difference
from bonexray.errors import DataError
from bonexray.metrics import auroc, cross_entropy
from bonexray.scoring import logits_of, number_or_none
from bonexray.verdicts import (
    RULES,
    UNCALIBRATED,
    Calibration,
    OperatingPoints,
    RuleName,
    StudyRule,
    calibrated_probability,
    combined_logit,
)

MIN_STUDIES = 50
"""Fewer are not calibrated on."""
_LOG_TEMPERATURE = (np.log(0.05), np.log(20.0))
_LOG_SPREAD = 0.5  # of the prior: within a factor of 1.6, mostly
_SHARPNESS = (-8.0, 8.0)
_PARTS = 5  # into which patients are cut, to judge a fitted rule on those it was not fitted on

Logits = Sequence[npt.NDArray[np.floating]]


def fit_temperature(labels: npt.NDArray[Any], logits: npt.NDArray[np.floating]) -> float:
    """The temperature that gives the lowest cross-entropy, near 1 when there is little to tell.

    The networks' epoch was chosen on `val` too, so there it errs less than elsewhere. A prior on
    the temperature's logarithm keeps a handful of errors from making it far too sure.
    """

    def loss(log_temperature: float) -> float:
        probabilities = calibrated_probability(logits, float(np.exp(log_temperature)))
        likelihood = float(cross_entropy(labels, probabilities)) * len(labels)
        return likelihood + (log_temperature / _LOG_SPREAD) ** 2 / 2

    return float(np.exp(minimize_scalar(loss, bounds=_LOG_TEMPERATURE, method="bounded").x))


def fit_view_temperature(val: pd.DataFrame) -> float:
    """The temperature of the views of `val` that count; 1 when their studies are too few."""
    if val["study"].nunique() < MIN_STUDIES:
        return 1.0
    counted = val[val["refused"] == ""]
    return fit_temperature(counted["label"].to_numpy(), counted["logit"].to_numpy())


def choose_rule(
    val: pd.DataFrame, temperature: float, draws: int, seed: int
) -> tuple[StudyRule, dict[str, Any]]:
    """The study rule: `mean`, unless another one is better on `val` beyond doubt.

    Better is a higher AUROC, beyond doubt a lead over `mean` whose 95 % interval, paired by study,
    lies above 0. The learned rule is judged on patients whom it was not fitted on.

    Args:
        val: views of `val`.
        temperature: of the views.
        draws: of the intervals.
        seed: of the intervals.

    Returns:
        The rule, and for each rule its `auroc` and its `lead`, `lead_low`, `lead_high` over `mean`.
    """
    logits, studies = logits_of(val), val.groupby("study", sort=True)[["label", "patient"]].first()
    labels, patients = studies["label"].to_numpy(), studies["patient"].to_numpy()
    rules = {name: StudyRule(name=name, sharpness=0) for name in RULES}
    scores = {name: _combined(logits, rule, temperature) for name, rule in rules.items()}
    if len(studies) >= MIN_STUDIES:
        rules["learned"] = _fit_rule(labels, logits, temperature)
        scores["learned"] = _unseen_scores(labels, patients, logits, temperature)
    compared: dict[str, Any] = {}
    for name, own in scores.items():
        lead = paired_difference(
            auroc, labels, own, scores["mean"], patients, draws=draws, seed=seed
        )
        names = ("lead", "lead_low", "lead_high")
        compared[name] = {"auroc": number_or_none(float(auroc(labels, own)))} | {
            key: number_or_none(value) for key, value in zip(names, lead, strict=True)
        }
    better = [name for name in RULES if (compared[name]["lead_low"] or 0) > 0]
    chosen: RuleName = max(better, key=lambda name: compared[name]["auroc"], default="mean")
    return rules[chosen], compared


def fit_calibration(val: pd.DataFrame, rule: StudyRule, view_temperature: float) -> Calibration:
    """Temperatures of all studies and of each seen body part that has enough in `val`.

    With fewer than `MIN_STUDIES` in all, every temperature is 1 and `val_studies` 0.
    """
    grouped = val.groupby("study", sort=True)
    studies = grouped[["label", "study_part"]].first()
    if len(studies) < MIN_STUDIES:
        return UNCALIBRATED
    labels = studies["label"].to_numpy()
    combined = _combined(logits_of(val), rule, view_temperature)
    parts = {}
    for part in sorted(set(studies["study_part"])):
        own = studies["study_part"].to_numpy() == part
        # Both labels: with one alone the lowest loss is the surest answer.
        if own.sum() >= MIN_STUDIES and 0 < labels[own].mean() < 1:
            parts[part] = fit_temperature(labels[own], combined[own])
    return Calibration(
        view=view_temperature,
        study=fit_temperature(labels, combined),
        parts=parts,
        val_studies=len(studies),
    )


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


def _combined(logits: Logits, rule: StudyRule, temperature: float) -> npt.NDArray[np.float64]:
    return np.array([combined_logit(study, rule, temperature) for study in logits])


def _fit_rule(labels: npt.NDArray[Any], logits: Logits, temperature: float) -> StudyRule:
    """The learned rule with the sharpness of the lowest cross-entropy, each at its own scale."""

    def loss(sharpness: float) -> float:
        rule = StudyRule(name="learned", sharpness=sharpness)
        combined = _combined(logits, rule, temperature)
        scale = fit_temperature(labels, combined)
        return float(cross_entropy(labels, calibrated_probability(combined, scale)))

    fitted = minimize_scalar(loss, bounds=_SHARPNESS, method="bounded", options={"maxiter": 20})
    return StudyRule(name="learned", sharpness=float(fitted.x))


def _unseen_scores(
    labels: npt.NDArray[Any], patients: npt.NDArray[Any], logits: Logits, temperature: float
) -> npt.NDArray[np.float64]:
    """Each study's combined logit by a learned rule that was fitted on other patients."""
    _, owner = np.unique(patients, return_inverse=True)
    scores = np.empty(len(labels))
    for part in range(_PARTS):
        unseen = owner % _PARTS == part
        seen = [study for study, hidden in zip(logits, unseen, strict=True) if not hidden]
        rule = _fit_rule(labels[~unseen], seen, temperature)
        own = [study for study, hidden in zip(logits, unseen, strict=True) if hidden]
        scores[unseen] = _combined(own, rule, temperature)
    return scores
