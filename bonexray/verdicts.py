"""From a network's logits to what a reader is told. The same arithmetic proves and serves."""

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

Verdict = Literal["negative", "doubtful", "positive"]
Floats = npt.NDArray[np.floating]


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
    scaled = np.clip(np.asarray(logits, np.float64) / temperature, -500, 500)
    return np.asarray(1 / (1 + np.exp(-scaled)), np.float64)


def study_probability(view_probabilities: Floats) -> float:
    """A study's probability: the mean of its views', the rule of MURA's authors."""
    return float(np.mean(view_probabilities))


def verdict(probability: float, points: OperatingPoints) -> Verdict:
    """What the reader is told of a study with this probability."""
    if probability >= points.high_specificity:
        return "positive"
    return "negative" if probability < points.high_sensitivity else "doubtful"
