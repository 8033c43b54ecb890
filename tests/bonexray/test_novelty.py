from pathlib import Path

import numpy as np
import pytest

from bonexray.errors import BundleError
from bonexray.novelty import Abstention, Typical, conflict, read_typical, write_typical

TYPICAL = Typical(
    means=np.array([[1, 0], [0, 1]], np.float32),
    whitening=np.diag([1, 2]).astype(np.float32),
)


def test_novelty_is_the_distance_from_the_nearest_part_in_its_own_units() -> None:
    views = np.array([[1, 0], [0, 1], [0.6, 0.8], [0, -1]], np.float32)
    expected = [0, 0, np.hypot(0.6, 0.4), np.hypot(1, 2)]
    np.testing.assert_allclose(TYPICAL.novelty(views), expected, atol=1e-6)


def test_novelty_asks_for_the_direction_of_an_embedding_not_its_length() -> None:
    views = np.array([[0.6, 0.8], [60, 80], [0.006, 0.008]], np.float32)
    np.testing.assert_allclose(TYPICAL.novelty(views), TYPICAL.novelty(views)[0], atol=1e-6)
    assert np.isfinite(TYPICAL.novelty(np.zeros((1, 2), np.float32))).all()


def test_conflict_is_the_surprise_of_the_body_part_head() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1]], np.float32))
    for part, share in enumerate((0.7, 0.2, 0.1)):
        assert conflict(logits, np.array([part])) == pytest.approx(-np.log(share), abs=1e-6)


@pytest.mark.parametrize(
    ("novelty", "surprise", "refusal"),
    [(1, 1, ""), (1, None, ""), (3, 1, "unlike"), (1, 5, "other_part"), (3, 5, "unlike")],
)
def test_what_is_unlike_is_refused_before_it_is_asked_for_its_part(
    novelty: float, surprise: float | None, refusal: str
) -> None:
    assert Abstention(max_novelty=2, max_conflict=4).refusal(novelty, surprise) == refusal


def test_statistics_are_read_as_written_and_have_the_same_bytes_again(tmp_path: Path) -> None:
    write_typical(tmp_path / "one.npz", TYPICAL)
    write_typical(tmp_path / "two.npz", TYPICAL)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    np.testing.assert_array_equal(read_typical(tmp_path / "one.npz").means, TYPICAL.means)


def test_statistics_with_a_pickle_in_them_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", means=np.array([{}], object), whitening=np.eye(2))
    with pytest.raises(BundleError, match="not readable"):
        read_typical(tmp_path / "evil.npz")


def test_statistics_whose_shapes_do_not_fit_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "odd.npz", means=np.zeros((7, 3)), whitening=np.eye(2))
    with pytest.raises(BundleError, match=r"means \(7, 3\) and whitening \(2, 2\) do not fit"):
        read_typical(tmp_path / "odd.npz")
