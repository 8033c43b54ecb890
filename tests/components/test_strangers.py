import numpy as np
import pytest

from components.strangers import draw_strangers, inverted


@pytest.mark.parametrize("size", [32, 224])
def test_every_kind_is_there_in_its_number_and_size(size: int) -> None:
    drawn = draw_strangers(size, 3, seed=0)
    assert len(drawn) == 5
    for squares in drawn.values():
        assert squares.shape == (3, size, size)
        assert squares.dtype == np.uint8


def test_a_seed_gives_the_same_images_and_another_others() -> None:
    one, again, other = (draw_strangers(48, 2, seed) for seed in (1, 1, 2))
    for kind in one:
        np.testing.assert_array_equal(one[kind], again[kind])
        assert (one[kind] != other[kind]).any(), kind


def test_images_of_a_kind_differ_and_show_something_unless_blank() -> None:
    for kind, squares in draw_strangers(96, 6, seed=0).items():
        assert len({square.tobytes() for square in squares}) == 6, kind
        if kind != "blank images":
            assert squares.std(axis=(1, 2)).min() > 3, kind


def test_inverted_twice_is_as_it_was() -> None:
    views = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    np.testing.assert_array_equal(inverted(inverted(views)), views)
    assert inverted(views)[0, 0, 0] == 255
