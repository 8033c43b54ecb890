"""Augmentation of training images, in batches, on whatever device they are on.

The random draws are apart from their application: any batch can be replayed from its draws.
B batch, S side of the image.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from bonexray.config import AugmentConfig


class Draws(NamedTuple):
    """What is done to each image of a batch."""

    affine: Tensor  # (B, 2, 3) maps output to input coordinates in [-1, 1]
    brightness: Tensor  # (B,) added, in units of full range
    contrast: Tensor  # (B,) factor about the image's own mean


def draw(batch: int, config: AugmentConfig, generator: torch.Generator) -> Draws:
    """Draw flips, rotations, shifts, zooms and intensity changes for `batch` images."""

    def within(limit: float) -> Tensor:
        return (torch.rand(batch, generator=generator) * 2 - 1) * limit

    angle = torch.deg2rad(within(config.rotate_degrees))
    zoom = 1 + within(config.scale_fraction)
    flip = torch.where(torch.rand(batch, generator=generator) < config.flip_probability, -1.0, 1.0)
    shift_x, shift_y = (within(2 * config.translate_fraction) for _ in range(2))
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    affine = torch.stack(
        [
            torch.stack([cos * flip, -sin * flip, shift_x], dim=1),
            torch.stack([sin, cos, shift_y], dim=1),
        ],
        dim=1,
    )
    return Draws(affine, within(config.brightness_fraction), 1 + within(config.contrast_fraction))


def apply(images: Tensor, draws: Draws, size: int) -> Tensor:
    """Apply draws to images, (B, 1, S, S) float32 in [0, 1]; the result is (B, 1, size, size).

    What comes in from beyond the border is black, as the letterbox is.
    """
    grid = functional.affine_grid(draws.affine, [len(images), 1, size, size], align_corners=False)
    moved = functional.grid_sample(images, grid, align_corners=False)
    mean = moved.mean(dim=(1, 2, 3), keepdim=True)
    changed = (moved - mean) * draws.contrast[:, None, None, None] + mean
    return (changed + draws.brightness[:, None, None, None]).clamp(0, 1)
