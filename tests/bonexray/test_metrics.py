import warnings

import numpy as np
import pytest
from sklearn import metrics as reference

from bonexray.metrics import METRICS, auprc, auroc, calibration_error, calibration_error_debiased

# Ten items by hand: four abnormal. Above 0.5 stand 0.9, 0.8, 0.6 and 0.55, of which three are.
LABELS = np.array([1, 1, 0, 1, 0, 0, 1, 0, 0, 0])
PROBABILITIES = np.array([0.9, 0.8, 0.6, 0.55, 0.45, 0.4, 0.35, 0.2, 0.1, 0.05])
BY_HAND = {
    "accuracy": 8 / 10,
    "loss": -np.log(0.9 * 0.8 * 0.4 * 0.55 * 0.55 * 0.6 * 0.35 * 0.8 * 0.9 * 0.95) / 10,
    "auroc": (6 + 6 + 5 + 3) / (4 * 6),
    "auprc": (1 / 1 + 2 / 2 + 3 / 4 + 4 / 7) / 4,
    "sensitivity": 3 / 4,
    "specificity": 5 / 6,
    "ppv": 3 / 4,
    "npv": 5 / 6,
    "kappa": (0.8 - (0.4 * 0.4 + 0.6 * 0.6)) / (1 - (0.4 * 0.4 + 0.6 * 0.6)),
    "brier": (0.01 + 0.04 + 0.36 + 0.2025 + 0.2025 + 0.16 + 0.4225 + 0.04 + 0.01 + 0.0025) / 10,
    # Bins from 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8 and 0.9.
    "ece": (0.05 + 0.1 + 0.2 + 0.65 + 0.85 + 0.45 + 0.6 + 0.2 + 0.1) / 10,
    # Three of these bins have a squared gap above its variance, the summed p (1 - p).
    "ece_debiased": np.sqrt([0.65**2 - 0.2275, 0.85**2 - 0.4875, 0.6**2 - 0.24]).sum() / 10,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_ten_items_have_the_figures_worked_out_by_hand(name: str) -> None:
    assert METRICS[name](LABELS, PROBABILITIES) == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_figures_agree_with_scikit_learn(seed: int, weighted: bool) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, 60)
    scores = np.round(np.clip(generator.normal(0.4 + 0.2 * labels, 0.3), 0.01, 0.99), 2)  # ties
    weights = generator.random(60) if weighted else None
    called, by = scores > 0.5, {"sample_weight": weights}
    expected = {
        "accuracy": reference.accuracy_score(labels, called, **by),
        "loss": reference.log_loss(labels, scores, **by),
        "auroc": reference.roc_auc_score(labels, scores, **by),
        "auprc": reference.average_precision_score(labels, scores, **by),
        "sensitivity": reference.recall_score(labels, called, **by),
        "specificity": reference.recall_score(1 - labels, ~called, **by),
        "ppv": reference.precision_score(labels, called, **by),
        "npv": reference.precision_score(1 - labels, ~called, **by),
        "kappa": reference.cohen_kappa_score(labels, called, **by),
        "brier": reference.brier_score_loss(labels, scores, **by),
    }
    for name, value in expected.items():
        assert METRICS[name](labels, scores, weights) == pytest.approx(value), name


@pytest.mark.parametrize("name", [name for name in METRICS if name != "ece_debiased"])
def test_a_weight_of_two_is_an_item_that_stands_there_twice(name: str) -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 2, 40)
    scores = np.round(generator.random(40), 1)
    times = generator.integers(0, 3, 40)
    repeated = np.repeat(np.arange(40), times)
    expected = METRICS[name](labels[repeated], scores[repeated])
    assert METRICS[name](labels, scores, times.astype(float)) == pytest.approx(expected)


@pytest.mark.parametrize("name", METRICS)
def test_a_row_of_weights_gives_what_it_gives_alone(name: str) -> None:
    generator = np.random.default_rng(2)
    labels, scores = generator.integers(0, 2, 30), generator.random(30)
    weights = generator.integers(0, 3, (7, 30)).astype(np.float32)
    together = METRICS[name](labels, scores, weights)
    alone = [METRICS[name](labels, scores, row) for row in weights]
    assert together.shape == (7,)
    np.testing.assert_allclose(together, alone)


def test_a_figure_that_is_undefined_is_nan_without_a_warning() -> None:
    ones, zeros = np.ones(4, int), np.zeros(4, int)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(auroc(ones, np.linspace(0, 1, 4)))
        assert np.isnan(auprc(zeros, np.linspace(0, 1, 4)))
        assert np.isnan(METRICS["sensitivity"](zeros, np.full(4, 0.9)))
        assert np.isnan(METRICS["specificity"](ones, np.full(4, 0.9)))
        assert np.isnan(METRICS["ppv"](ones, np.full(4, 0.1)))
        assert np.isnan(METRICS["npv"](ones, np.full(4, 0.9)))
        assert np.isnan(METRICS["kappa"](ones, np.full(4, 0.9)))


@pytest.mark.parametrize("name", METRICS)
def test_a_redraw_without_any_of_the_items_is_nan_without_a_warning(name: str) -> None:
    weights = np.array([[0, 0, 0, 0], [1, 1, 1, 1]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        none, whole = METRICS[name](np.array([0, 1, 1, 0]), np.array([0.2, 0.7, 0.4, 0.9]), weights)
    assert np.isnan(none)
    assert np.isfinite(whole)


def test_a_calibrated_model_has_an_error_by_chance_which_debiasing_takes_back() -> None:
    plain, debiased = [], []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        probabilities = generator.random(60)
        labels = (generator.random(60) < probabilities).astype(int)
        plain.append(calibration_error(labels, probabilities))
        debiased.append(calibration_error_debiased(labels, probabilities))
    assert np.mean(plain) > 0.1
    assert np.mean(debiased) < 0.06


@pytest.mark.parametrize(("count", "within"), [(60, 0.06), (1199, 0.02), (20_000, 0.01)])
def test_debiasing_leaves_most_of_an_error_that_is_no_chance(count: int, within: float) -> None:
    left = []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        probabilities = generator.random(count)
        labels = (generator.random(count) < probabilities**2).astype(int)
        left.append(calibration_error_debiased(labels, probabilities))
    truth = 1 / 2 - 1 / 3
    assert np.mean(left) == pytest.approx(truth, abs=within)
    assert np.mean(left) > truth / 2


@pytest.mark.parametrize("name", METRICS)
def test_a_model_that_is_right_by_construction_scores_best_everywhere(name: str) -> None:
    labels = np.array([0, 1, 1, 0, 1])
    perfect = 0.0 if name in ("loss", "brier", "ece", "ece_debiased") else 1.0
    assert METRICS[name](labels, labels.astype(float)) == pytest.approx(perfect, abs=1e-9)
