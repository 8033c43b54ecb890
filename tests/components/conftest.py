"""A small task that a network learns in seconds, for the tests of the training loop."""

import numpy as np
import pytest
import torch

from bonexray.config import AugmentConfig, TrainConfig
from bonexray.images import ImageSpec
from bonexray.policy import Policy
from components.batches import Source, Views


def seed_recipe() -> TrainConfig:
    """The seed's recipe, four epochs."""
    return TrainConfig(
        seed=0,
        epochs=4,
        batch_size=16,
        start="random",
        learning_rate=0.001,
        weight_decay=0,
        schedule="plateau",
        plateau_patience=0,
        plateau_factor=0.5,
        weighting="none",
        label_smoothing=0,
        mixup_alpha=0,
        ema_decay=0,
        first_size_fraction=1,
        part_loss_weight=0.1,
        threads=1,
        processes=1,
    )


def seed_policy() -> Policy:
    """Images of 32 px, flipped and turned a little."""
    augment = AugmentConfig(
        seed=0,
        flip_probability=0.5,
        rotate_degrees=5,
        translate_fraction=0,
        scale_fraction=0,
        brightness_fraction=0,
        contrast_fraction=0,
    )
    return Policy(image=ImageSpec(size=32, mean=0.5, std=0.3), augment=augment)


def blobs(count: int, seed: int, kind: type[Source] = Source) -> Source:
    """Noise that holds a bright square in the middle when abnormal."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = generator.integers(60, 160, (count, 32, 32)).astype(np.uint8)
    images[labels == 1, 10:22, 10:22] = 255
    views = Views(
        images=images,
        rows=np.arange(count),
        labels=torch.from_numpy(labels),
        parts=torch.zeros(count, dtype=torch.int64),
    )
    return kind(views, torch.ones(count), torch.device("cpu"))


@pytest.fixture
def train_config() -> TrainConfig:
    return seed_recipe()


@pytest.fixture
def policy() -> Policy:
    return seed_policy()


@pytest.fixture
def learning() -> Source:
    return blobs(96, seed=0)


@pytest.fixture
def judging() -> Source:
    return blobs(32, seed=1)
