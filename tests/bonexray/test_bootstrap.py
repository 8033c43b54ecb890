import numpy as np
import pytest

from bonexray import bootstrap
from bonexray.bootstrap import bootstrap_intervals, paired_difference, redraws
from bonexray.metrics import METRICS, accuracy, auroc


def test_a_redraw_draws_whole_patients_as_many_as_there_are() -> None:
    patients = np.array(["a", "b", "a", "c", "b", "a"], object)
    (weights,) = redraws(patients, draws=50, seed=0)
    assert weights.shape == (50, 6)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, 0], weights[:, 5])
    np.testing.assert_array_equal(weights[:, 1], weights[:, 4])
    np.testing.assert_array_equal(weights[:, [0, 1, 3]].sum(axis=1), 3)


def test_the_redraws_of_a_seed_do_not_depend_on_how_many_are_held_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patients = np.arange(20).astype(str).astype(object)
    (whole,) = redraws(patients, draws=40, seed=5)
    monkeypatch.setattr(bootstrap, "_CHUNK", 140)
    pieces = list(redraws(patients, draws=40, seed=5))
    assert len(pieces) > 1
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_every_metric_has_an_interval_that_holds_it() -> None:
    generator = np.random.default_rng(4)
    labels = generator.integers(0, 2, 200)
    scores = np.clip(generator.normal(0.35 + 0.3 * labels, 0.3), 0.01, 0.99)
    patients = np.array([f"patient{number // 2}" for number in range(200)], object)
    drawn = bootstrap_intervals(METRICS, labels, scores, patients, draws=300, seed=0)
    for name, metric in METRICS.items():
        low, high = drawn[name]
        assert low <= metric(labels, scores) <= high, name


def test_the_interval_of_a_mean_matches_theory() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 2000)
    scores = np.where(generator.random(2000) < 0.8, labels, 1 - labels).astype(float)
    low, high = bootstrap_intervals(
        {"accuracy": accuracy}, labels, scores, np.arange(2000).astype(object), draws=500, seed=0
    )["accuracy"]
    half = 1.96 * np.sqrt(0.8 * 0.2 / 2000)
    assert low == pytest.approx(0.8 - half, abs=0.01)
    assert high == pytest.approx(0.8 + half, abs=0.01)


def test_repeating_a_patients_items_does_not_narrow_the_interval() -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 2, 100)
    scores = np.clip(generator.normal(0.35 + 0.3 * labels, 0.3), 0, 1)
    patients = np.array([f"patient{number}" for number in range(100)], object)
    once = bootstrap_intervals({"auroc": auroc}, labels, scores, patients, draws=300, seed=2)
    tenfold = bootstrap_intervals(
        {"auroc": auroc},
        np.repeat(labels, 10),
        np.repeat(scores, 10),
        np.repeat(patients, 10),
        draws=300,
        seed=2,
    )
    assert tenfold["auroc"] == pytest.approx(once["auroc"], abs=0.02)


def test_an_interval_is_nan_when_no_redraw_defines_the_metric() -> None:
    ones, patients = np.ones(3, int), np.array(["a", "b", "c"], object)
    drawn = bootstrap_intervals({"auroc": auroc}, ones, np.ones(3), patients, draws=5, seed=0)
    assert np.isnan(drawn["auroc"]).all()


def test_a_paired_difference_is_narrower_than_two_unpaired_intervals_and_none_for_the_same() -> (
    None
):
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 2, 300)
    one = generator.normal(labels, 1.0)
    other = one + generator.normal(0, 0.3, 300)
    patients = np.array([f"patient{number // 2}" for number in range(300)], object)
    lead, low, high = paired_difference(auroc, labels, one, other, patients, draws=300, seed=0)
    assert lead == pytest.approx(auroc(labels, one) - auroc(labels, other))
    assert low < lead < high
    alone = bootstrap_intervals({"auroc": auroc}, labels, one, patients, draws=300, seed=0)["auroc"]
    assert high - low < (alone[1] - alone[0]) / 2
    same = paired_difference(auroc, labels, one, one, patients, draws=50, seed=0)
    assert same == (0, 0, 0)
