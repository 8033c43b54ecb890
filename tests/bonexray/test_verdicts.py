import numpy as np
import pytest

from bonexray.verdicts import (
    MEAN_RULE,
    RULES,
    UNCALIBRATED,
    Calibration,
    OperatingPoints,
    RuleName,
    StudyRule,
    calibrated_probability,
    combined_logit,
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


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize("seed", range(10))
def test_the_rules_are_those_of_their_names(seed: int) -> None:
    generator = np.random.default_rng(seed)
    logits, temperature = generator.normal(0, 3, generator.integers(1, 6)), 1.3
    views = sigmoid(logits / temperature)
    expected = {
        "mean": views.mean(),
        "max": views.max(),
        "min": views.min(),
        "noisy_or": 1 - np.prod(1 - views),
        "learned": sigmoid((logits / temperature).mean()),
    }
    for name, probability in expected.items():
        combined = combined_logit(logits, StudyRule(name=name, sharpness=0), temperature)
        assert sigmoid(combined) == pytest.approx(probability), name


def test_a_learned_rule_goes_from_the_lowest_view_over_the_mean_to_the_highest() -> None:
    logits = np.array([-2.0, 0.5, 3.0])
    told = [
        combined_logit(logits, StudyRule(name="learned", sharpness=sharpness), 1)
        for sharpness in (-20, -1, 0, 1, 20)
    ]
    assert told == sorted(told)
    assert told[0] == pytest.approx(-2, abs=0.1)
    assert told[2] == pytest.approx(0.5)
    assert told[4] == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("size", [-1e6, 1e6])
def test_no_view_is_too_sure_for_a_rule(name: RuleName, size: float) -> None:
    rule = StudyRule(name=name, sharpness=2)
    told = study_probability(np.array([size, size * 2]), rule, UNCALIBRATED, "XR_HAND")
    assert told == pytest.approx(float(size > 0))


def test_a_study_takes_the_temperature_of_the_part_that_is_seen_in_it() -> None:
    calibration = Calibration(view=1, study=1, parts={"XR_HAND": 4}, val_studies=99)
    views = np.array([2.0])
    hand = study_probability(views, MEAN_RULE, calibration, "XR_HAND")
    assert hand == pytest.approx(sigmoid(np.array(0.5)))
    wrist = study_probability(views, MEAN_RULE, calibration, "XR_WRIST")
    assert wrist == pytest.approx(sigmoid(np.array(2.0)))
