import numpy as np
import pytest

from bonexray.verdicts import (
    OperatingPoints,
    calibrated_probability,
    study_probability,
    verdict,
)

POINTS = OperatingPoints(high_sensitivity=0.3, high_specificity=0.7)


@pytest.mark.parametrize(
    ("probability", "said"),
    [(0.0, "negative"), (0.299, "negative"), (0.3, "doubtful"), (0.699, "doubtful"),
     (0.7, "positive"), (1.0, "positive")],
)  # fmt: skip
def test_the_operating_points_part_negative_doubtful_and_positive(
    probability: float, said: str
) -> None:
    assert verdict(probability, POINTS) == said


def test_operating_points_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"high_sensitivity = 0\.8 is above"):
        OperatingPoints(high_sensitivity=0.8, high_specificity=0.7)


def test_a_temperature_of_one_is_the_sigmoid_and_a_high_one_is_less_sure() -> None:
    logits = np.array([-2.0, 0.0, 3.0])
    np.testing.assert_allclose(calibrated_probability(logits, 1), 1 / (1 + np.exp(-logits)))
    assert abs(calibrated_probability(logits, 4) - 0.5).max() < 0.2


def test_no_logit_is_too_large_for_a_probability() -> None:
    np.testing.assert_allclose(
        calibrated_probability(np.array([-1e9, 1e9]), 0.01), [0, 1], atol=1e-9
    )


def test_a_study_is_as_probable_as_its_views_on_average() -> None:
    assert study_probability(np.array([0.2, 0.4, 0.9])) == pytest.approx(0.5)
