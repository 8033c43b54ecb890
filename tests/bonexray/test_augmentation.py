import pytest
import torch

from bonexray.augmentation import Draws, apply, draw
from bonexray.config import AugmentConfig

NOTHING = AugmentConfig(
    seed=0,
    flip_probability=0,
    rotate_degrees=0,
    translate_fraction=0,
    scale_fraction=0,
    brightness_fraction=0,
    contrast_fraction=0,
)


def images(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 1, 24, 24, generator=torch.Generator().manual_seed(0))


def drawn(config: AugmentConfig, seed: int = 0, count: int = 4) -> Draws:
    return draw(count, config, torch.Generator().manual_seed(seed))


def test_a_policy_of_nothing_changes_nothing() -> None:
    torch.testing.assert_close(apply(images(), drawn(NOTHING), 24), images(), atol=1e-5, rtol=0)


def test_a_flip_is_a_mirror_image() -> None:
    flipped = apply(images(), drawn(NOTHING.model_copy(update={"flip_probability": 1})), 24)
    torch.testing.assert_close(flipped, images().flip(3), atol=1e-5, rtol=0)


def test_a_quarter_turn_moves_the_corners_round() -> None:
    turn = torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]]).repeat(4, 1, 1)
    turned = apply(images(), Draws(turn, torch.zeros(4), torch.ones(4)), 24)
    torch.testing.assert_close(turned, images().rot90(1, (2, 3)), atol=1e-5, rtol=0)


def test_the_same_draws_replay_the_same_batch() -> None:
    config = NOTHING.model_copy(update={"rotate_degrees": 30, "contrast_fraction": 0.5})
    torch.testing.assert_close(
        apply(images(), drawn(config, seed=5), 24),
        apply(images(), drawn(config, seed=5), 24),
        atol=0,
        rtol=0,
    )
    assert not torch.equal(
        apply(images(), drawn(config, seed=5), 24), apply(images(), drawn(config, seed=6), 24)
    )


def test_intensities_stay_in_range() -> None:
    config = NOTHING.model_copy(update={"brightness_fraction": 1, "contrast_fraction": 1})
    changed = apply(images(64), drawn(config, count=64), 24)
    assert changed.min() >= 0
    assert changed.max() <= 1


@pytest.mark.parametrize("limit", [10.0, 45.0])
def test_angles_stay_within_the_limit_and_use_it(limit: float) -> None:
    draws = drawn(NOTHING.model_copy(update={"rotate_degrees": limit}), count=2000)
    angles = torch.rad2deg(torch.atan2(draws.affine[:, 1, 0], draws.affine[:, 1, 1]))
    assert angles.abs().max() <= limit + 1e-3
    assert angles.max() > 0.95 * limit
    assert angles.min() < -0.95 * limit
