"""Which views make a batch and what is done to them; any batch follows from seed, epoch and index.

N views of a split, B batch, b of it in one process, S side of a packed image, s of a training
image.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from bonexray import augmentation
from bonexray.config import AugmentConfig, TrainConfig
from bonexray.images import ImageSpec, Pixels
from bonexray.studies import BODY_PARTS, LABELS
from components.group import ALONE, Group

_FREE_SHARE = 0.5
"""Of a GPU's free memory, what the images may take; the rest is the network's."""


@dataclass(frozen=True, kw_only=True)
class Views:
    """The views of one split."""

    images: Pixels
    """(M, S, S) uint8, all packed images, not only this split's."""
    rows: npt.NDArray[np.integer]
    """(N,) which of them are this split's."""
    labels: Tensor
    """(N,) int64, 0 or 1."""
    parts: Tensor
    """(N,) int64, position in BODY_PARTS."""


class Batch(NamedTuple):
    """What the network learns from in one step, on its device."""

    images: Tensor  # (b, 1, s, s) float32, normalised
    labels: Tensor  # (b, 2) float32, share of each label
    parts: Tensor  # (b, 7) float32, share of each body part
    weights: Tensor  # (b,) float32, their mean over the split is 1


class Source:
    """The views of one split, where the device finds them fastest.

    On a GPU with room for them the pixels lie in its memory, all of them, for the whole run.
    Elsewhere each batch is read through the memory map. Neither needs worker processes.
    """

    def __init__(self, views: Views, weights: Tensor, device: torch.device) -> None:
        """Args: views: N of them. weights: (N,) of each in the loss. device: the network's."""
        self._views, self._device = views, device
        self._labels = one_hot(views.labels, len(LABELS)).float().to(device)  # (N, 2)
        self._parts = one_hot(views.parts, len(BODY_PARTS)).float().to(device)  # (N, 7)
        self._weights = weights.to(device)
        self._resident = self._load() if _fits(views, device) else None

    def __len__(self) -> int:
        """N."""
        return len(self._views.rows)

    @property
    def labels(self) -> Tensor:
        """(N,) int64, 0 or 1, on the CPU."""
        return self._views.labels

    def plain(self, chosen: Tensor, spec: ImageSpec) -> Tensor:
        """The chosen views (B,) as they are: (B, 1, S, S) float32, normalised."""
        return _normalised(self._scaled(chosen), spec)

    def batch(
        self, chosen: Tensor, augment: AugmentConfig, spec: ImageSpec, config: TrainConfig,
        rng: np.random.Generator, size: int, group: Group = ALONE,
    ) -> Batch:  # fmt: skip
        """The group's share of the chosen views (B,) as training sees them, s = `size`.

        What is drawn is drawn for the whole batch: it is the same, however many share it.
        """
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        draws = augmentation.draw(len(chosen), augment, generator)
        own = group.share(torch.arange(len(chosen)))
        if not config.mixup_alpha:
            return self._seen(chosen, draws, own, spec, size)
        weight = float(rng.beta(config.mixup_alpha, config.mixup_alpha))
        other = torch.from_numpy(rng.permutation(len(chosen)))[own]
        needed, at = torch.unique(torch.cat([own, other]), return_inverse=True)
        seen = self._seen(chosen, draws, needed, spec, size)
        first, second = self._moved(at[: len(own)]), self._moved(at[len(own) :])
        return Batch(*(torch.lerp(values[second], values[first], weight) for values in seen))

    def _seen(
        self, chosen: Tensor, draws: augmentation.Draws, own: Tensor, spec: ImageSpec, size: int
    ) -> Batch:
        """Some views, `own` (b,), of the chosen ones, each changed by its own draws."""
        draws = augmentation.Draws(*(self._moved(values[own]) for values in draws))
        images = augmentation.apply(self._scaled(chosen[own]), draws, size)
        at = self._moved(chosen[own])
        return Batch(
            _normalised(images, spec), self._labels[at], self._parts[at], self._weights[at]
        )

    def _scaled(self, chosen: Tensor) -> Tensor:
        if self._resident is None:
            pixels = torch.from_numpy(self._views.images[self._views.rows[chosen.numpy()]])
            pixels = self._moved(pixels)
        else:
            pixels = self._resident[self._moved(chosen)]
        return pixels.unsqueeze(1).float() / 255

    def _moved(self, values: Tensor) -> Tensor:
        if self._device.type != "cuda":
            return values
        return values.pin_memory().to(self._device, non_blocking=True)

    def _load(self) -> Tensor:
        images, rows = self._views.images, self._views.rows
        resident = torch.empty((len(rows), *images.shape[1:]), dtype=torch.uint8)
        for start in range(0, len(rows), 1024):
            resident[start : start + 1024] = torch.from_numpy(images[rows[start : start + 1024]])
        return resident.to(self._device)


def _fits(views: Views, device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    needed: int = len(views.rows) * views.images.shape[1] ** 2
    return needed < _FREE_SHARE * free


def _normalised(images: Tensor, spec: ImageSpec) -> Tensor:
    normalised = (images - spec.mean) / spec.std
    return normalised.contiguous(memory_format=torch.channels_last)


def random_of(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random numbers of one batch, whatever was drawn before it."""
    return np.random.default_rng([seed, epoch, index])


def batches_of(count: int, config: TrainConfig, epoch: int) -> list[Tensor]:
    """The positions (B,) of an epoch's batches; a last one that is too small is left out.

    One image alone has no batch statistics, and each process needs an image.
    """
    order = random_of(config.seed, epoch, 0).permutation(count)
    batches = torch.split(torch.from_numpy(order), config.batch_size)
    return [batch for batch in batches if len(batch) >= max(2, config.processes)]


def in_batches(count: int, size: int) -> Iterator[Tensor]:
    """The positions of N views in their order, cut into batches."""
    return iter(torch.split(torch.arange(count), size))


def size_in(epoch: int, size: int, config: TrainConfig) -> int:
    """The side of training images in an epoch, in pixels: a multiple of 32 in the first half.

    32 is the network's whole stride.
    """
    if epoch > config.epochs // 2 or config.first_size_fraction == 1:
        return size
    return max(32, round(size * config.first_size_fraction / 32) * 32)


def loss_weights(views: Views, config: TrainConfig) -> Tensor:
    """The weight (N,) of each view in the loss; their mean is 1."""
    groups = {
        "none": torch.zeros_like(views.labels),
        "label": views.labels,
        "part_and_label": views.parts * len(LABELS) + views.labels,
    }[config.weighting]
    counts = torch.bincount(groups)
    return len(groups) / (counts[groups] * (counts > 0).sum()).float()
