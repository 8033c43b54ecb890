import numpy as np
import torch

from bonexray.config import TrainConfig
from bonexray.images import ImageSpec
from bonexray.network import LimbNet
from bonexray.policy import Policy
from components.augment import AugmentConfig
from components.fit import Views, run_epochs, start_fit

CONFIG = TrainConfig(
    seed=0,
    epochs=4,
    batch_size=16,
    learning_rate=0.001,
    weight_decay=0,
    plateau_patience=0,
    plateau_factor=0.5,
    part_loss_weight=0.1,
    threads=2,
)
STILL = AugmentConfig(
    seed=0,
    flip_probability=0.5,
    rotate_degrees=5,
    translate_fraction=0,
    scale_fraction=0,
    brightness_fraction=0,
    contrast_fraction=0,
)
POLICY = Policy(image=ImageSpec(size=32, mean=0.5, std=0.3), augment=STILL)


def blobs(count: int = 96, seed: int = 0) -> Views:
    """Noise that holds a bright square in the middle when abnormal."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = generator.integers(60, 160, (count, 32, 32)).astype(np.uint8)
    images[labels == 1, 10:22, 10:22] = 255
    return Views(
        images=images,
        rows=np.arange(count),
        labels=torch.from_numpy(labels),
        parts=torch.zeros(count, dtype=torch.int64),
    )


def test_the_loop_learns_what_can_be_learnt() -> None:
    torch.manual_seed(0)
    fit = start_fit(LimbNet("resnet18"), CONFIG)
    told: list[float] = []
    run_epochs(fit, blobs(), blobs(32, seed=1), POLICY, CONFIG, lambda e: told.append(e["epoch"]))
    assert told == [1, 2, 3, 4]
    assert fit.history[-1]["train_accuracy"] > 0.95
    assert fit.best["val_auroc"] > 0.95


def test_the_kept_weights_are_those_of_the_best_epoch_and_the_rate_falls_on_a_plateau() -> None:
    torch.manual_seed(0)
    fit = start_fit(LimbNet("resnet18"), CONFIG)
    config = CONFIG.model_copy(update={"epochs": 6})
    kept = {}

    def note(epoch: dict[str, float]) -> None:
        kept[epoch["epoch"]] = fit.network.state_dict()["label_head.weight"].clone()

    run_epochs(fit, blobs(48), blobs(32, seed=1), POLICY, config, note)
    assert torch.equal(fit.best_weights["label_head.weight"], kept[fit.best["epoch"]])
    losses = [epoch["val_loss"] for epoch in fit.history]
    rates = [epoch["learning_rate"] for epoch in fit.history]
    for now in range(1, len(losses)):
        fell = rates[now] < rates[now - 1]
        plateau = now > 1 and losses[now - 1] >= min(losses[: now - 1]) * (1 - 1e-4)
        assert fell == plateau
