"""From a network's logits to what a reader is told. The same arithmetic proves and serves.

n views of a study.
"""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

RuleName = Literal["mean", "max", "min", "noisy_or", "learned"]
RULES: tuple[RuleName, ...] = get_args(RuleName)
Verdict = Literal["negative", "doubtful", "positive"]
NOT_ANALYSED: Literal["not_analysed"] = "not_analysed"
"""Told in place of a verdict when every view is refused."""
Floats = npt.NDArray[np.floating]
Temperature = Field(gt=0)

_LARGEST_LOGIT = 500.0


class StudyRule(BaseModel):
    """How the probabilities of a study's views become one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: RuleName
    """`mean` is that of MURA's authors; `learned` is the log-mean-exp of the views' logits."""
    sharpness: float = Field(ge=-20, le=20)
    """Of `learned`, fitted on `val`: towards the lowest view below 0, the highest above."""


class Calibration(BaseModel):
    """Temperatures, fitted on `val`: logits are divided by them (Guo et al., ICML 2017)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    view: float = Temperature
    study: float = Temperature
    """Of what the rule makes of the calibrated views."""
    parts: dict[str, float]
    """Body part that the network sees -> its own temperature in place of `study`, for those with
    enough studies in `val`."""
    val_studies: int = Field(ge=0)
    """How many they were fitted on; 0 when those of `val` were too few: all temperatures are 1."""

    @model_validator(mode="after")
    def _positive(self) -> "Calibration":
        for part, temperature in self.parts.items():
            if temperature <= 0:
                raise ValueError(f"parts.{part} = {temperature}, expected a temperature above 0")
        return self


MEAN_RULE = StudyRule(name="mean", sharpness=0)
UNCALIBRATED = Calibration(view=1, study=1, parts={}, val_studies=0)


class OperatingPoints(BaseModel):
    """Two thresholds on a study's probability, both chosen on `val`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    high_sensitivity: float = Field(ge=0, le=1)
    """Below it a study is negative."""
    high_specificity: float = Field(ge=0, le=1)
    """From it on a study is positive."""

    @model_validator(mode="after")
    def _in_order(self) -> "OperatingPoints":
        if self.high_sensitivity > self.high_specificity:
            raise ValueError(
                f"high_sensitivity = {self.high_sensitivity} is above "
                f"high_specificity = {self.high_specificity}"
            )
        return self


def calibrated_probability(logits: Floats, temperature: float) -> npt.NDArray[np.float64]:
    """Probability that each view is abnormal: sigmoid of its logit over the temperature."""
    scaled = np.asarray(logits, np.float64) / temperature
    clipped = np.clip(scaled, -_LARGEST_LOGIT, _LARGEST_LOGIT)
    return np.asarray(1 / (1 + np.exp(-clipped)), np.float64)


def combined_logit(view_logits: Floats, rule: StudyRule, temperature: float) -> float:
    """What a rule makes of the logits (n,) of a study's views, before the study's own temperature.

    Args:
        view_logits: as the network gives them.
        rule: how they are combined.
        temperature: of the views.
    """
    logits = np.asarray(view_logits, np.float64) / temperature
    if rule.name == "max":
        return float(logits.max())
    if rule.name == "min":
        return float(logits.min())
    if rule.name == "learned":
        return _log_mean_exp(logits, rule.sharpness)
    # In logarithms: sure views would round the probability to 0 or 1.
    normal, abnormal = -np.logaddexp(0, logits), -np.logaddexp(0, -logits)
    if rule.name == "noisy_or":
        all_normal = min(float(normal.sum()), -1e-300)
        return float(np.log(-np.expm1(all_normal)) - all_normal)
    return float(np.logaddexp.reduce(abnormal) - np.logaddexp.reduce(normal))


def study_probability(
    view_logits: Floats, rule: StudyRule, calibration: Calibration, body_part: str
) -> float:
    """Probability that a study is abnormal.

    Args:
        view_logits: (n,) of its views, as the network gives them.
        rule: how they are combined.
        calibration: temperatures of views and study.
        body_part: the one that the network sees in the study.
    """
    combined = combined_logit(view_logits, rule, calibration.view)
    temperature = calibration.parts.get(body_part, calibration.study)
    return float(calibrated_probability(np.array(combined), temperature))


def verdict(probability: float, points: OperatingPoints) -> Verdict:
    """What the reader is told of a study with this probability."""
    if probability >= points.high_specificity:
        return "positive"
    return "negative" if probability < points.high_sensitivity else "doubtful"


def _log_mean_exp(logits: npt.NDArray[np.float64], sharpness: float) -> float:
    """Pinheiro & Collobert, From Image-level to Pixel-level Labeling, CVPR 2015."""
    if abs(sharpness) < 1e-6:
        return float(logits.mean())
    total = np.logaddexp.reduce(sharpness * logits)
    return float((total - np.log(len(logits))) / sharpness)
