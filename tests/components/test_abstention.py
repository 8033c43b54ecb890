import numpy as np
import pytest

from bonexray.novelty import Abstention
from components.abstention import choose_bounds, fit_typical, strangeness, tell_apart


def embeddings(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions about those of two parts, that vary ten times as much to one side as to another.

    Of any length: that must not matter.
    """
    generator = np.random.default_rng(seed)
    parts = np.arange(count) % 2
    means = np.array([[1, 0, 0, 0], [0, 1, 0, 0]])[parts]
    views = means + generator.normal(0, np.array([0, 0, 0.1, 0.01]), (count, 4))
    return (views * generator.uniform(1, 50, (count, 1))).astype(np.float32), parts


def test_distances_are_in_the_units_in_which_views_vary() -> None:
    typical = fit_typical(*embeddings(4000, 0), 2)
    wide, narrow = np.array([[1, 0, 0.1, 0], [1, 0, 0, 0.1]], np.float32)
    assert typical.novelty(wide[None]) == pytest.approx(1, abs=0.3)
    assert typical.novelty(narrow[None]) > 4 * typical.novelty(wide[None])


def test_novelty_does_not_ask_which_part_is_seen() -> None:
    typical = fit_typical(*embeddings(4000, 0), 2)
    parts = np.array([[1, 0, 0, 0], [0, 1, 0, 0]], np.float32)
    assert typical.novelty(parts).max() < 1.5
    assert typical.novelty(np.array([[-1, 0, 0, 0]], np.float32)) > 5


def test_a_part_that_was_never_seen_does_not_break_the_fit() -> None:
    views, parts = embeddings(100, 0)
    assert fit_typical(views, parts, 7).means.shape == (7, 4)


def test_more_directions_than_views_do_not_break_the_fit() -> None:
    generator = np.random.default_rng(0)
    views = generator.normal(0, 1, (20, 100)).astype(np.float32)
    typical = fit_typical(views, np.arange(20) % 2, 2)
    assert np.isfinite(typical.novelty(views)).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_bounds_refuse_no_more_good_views_than_they_may(seed: int) -> None:
    generator = np.random.default_rng(seed)
    novelty, surprise = generator.gamma(2, 1, 1000), generator.exponential(1, 1000)
    bounds = choose_bounds(novelty, surprise, refused_fraction=0.02)
    assert (strangeness(bounds, novelty, surprise) > 1).mean() <= 0.02
    assert (strangeness(bounds, novelty, surprise) > 1).any()


def test_strangeness_above_one_is_what_is_refused() -> None:
    bounds = Abstention(max_novelty=4, max_conflict=2)
    generator = np.random.default_rng(0)
    novelty, surprise = generator.uniform(0, 8, 200), generator.uniform(0, 4, 200)
    refused = [bounds.refusal(*pair) != "" for pair in zip(novelty, surprise, strict=True)]
    np.testing.assert_array_equal(strangeness(bounds, novelty, surprise) > 1, refused)


def test_each_kind_of_stranger_has_its_figures() -> None:
    good = np.linspace(0.2, 1.1, 50)
    told = tell_apart(good, {"pages": np.full(20, 3.0), "twins": good})
    assert told["pages"] == {"count": 20, "auroc": 1.0, "refused": 1.0}
    assert told["twins"]["auroc"] == pytest.approx(0.5)
