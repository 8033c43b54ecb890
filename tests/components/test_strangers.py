import numpy as np
import pytest

from components.strangers import draw_strangers, inverted, other_parts

KINDS = [
    "text pages", "photographs", "noise", "blank images", "chest radiographs",
    "inverted radiographs",
]  # fmt: skip


def limbs(size: int) -> np.ndarray:
    """Three bright bars on grey, letterboxed at the left and right."""
    squares = np.zeros((3, size, size), np.uint8)
    squares[:, :, size // 4 : size - size // 4] = 60
    squares[:, :, size // 2 - 2 : size // 2 + 2] = 200
    return squares


@pytest.mark.parametrize("size", [32, 224])
def test_every_kind_is_there_in_its_number_and_size(size: int) -> None:
    drawn = draw_strangers(limbs(size), size, 3, seed=0)
    assert list(drawn) == KINDS
    for squares in drawn.values():
        assert squares.shape == (3, size, size)
        assert squares.dtype == np.uint8


def test_a_seed_gives_the_same_pixels_and_another_others() -> None:
    good = limbs(48) + np.arange(3, dtype=np.uint8)[:, None, None]
    one, again, other = (draw_strangers(good, 48, 4, seed) for seed in (1, 1, 2))
    for kind in one:
        np.testing.assert_array_equal(one[kind], again[kind])
        assert (one[kind] != other[kind]).any(), kind


@pytest.mark.parametrize("kind", ["text pages", "photographs", "noise", "chest radiographs"])
def test_images_of_a_kind_differ_and_show_something(kind: str) -> None:
    squares = draw_strangers(limbs(96), 96, 20, seed=0)[kind]
    assert len({square.tobytes() for square in squares}) == 20
    assert squares.std(axis=(1, 2)).min() > 3


def test_blank_images_hold_hardly_more_than_one_grey() -> None:
    for square in draw_strangers(limbs(96), 96, 20, seed=0)["blank images"]:
        assert square[36:60, 36:60].std() < 12


def test_strangers_are_letterboxed_as_files_are() -> None:
    pages = draw_strangers(limbs(96), 96, 40, seed=0)["text pages"]
    boxed = [not page[0].any() or not page[:, 0].any() for page in pages]
    assert 0.5 < np.mean(boxed) < 1


def test_upside_down_polarity_leaves_the_letterbox_black() -> None:
    view = limbs(32)[0]
    turned = inverted(view)
    np.testing.assert_array_equal(turned[:, :8], 0)
    np.testing.assert_array_equal(turned[:, 8:24], 255 - view[:, 8:24])


def test_an_all_black_view_can_be_turned_upside_down() -> None:
    assert (inverted(np.zeros((16, 16), np.uint8)) == 255).all()


def test_a_claim_is_never_of_the_own_part_and_may_be_of_every_other() -> None:
    parts = np.arange(7).repeat(50)
    claimed = other_parts(parts, 7, seed=0)
    assert (claimed != parts).all()
    for part in range(7):
        assert set(claimed[parts == part]) == set(range(7)) - {part}
