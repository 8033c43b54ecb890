"""The training loop: the seed's recipe, visible from top to bottom. Knows no file.

Adam, cross-entropy, a learning rate that falls when the validation loss stops falling, augmentation
of the training views, validation after each epoch. Every random number comes from seed and epoch,
so a run that starts again at an epoch goes on exactly as the one that was cut off.

B batch, N views, S side of the image.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from bonexray import augmentation
from bonexray.config import TrainConfig
from bonexray.errors import DataError
from bonexray.images import Pixels
from bonexray.metrics import auroc
from bonexray.network import LimbNet, Reading, abnormal_logit
from bonexray.policy import Policy

EpochRecord = dict[str, float]


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

    def scaled(self, chosen: Tensor, device: torch.device) -> Tensor:
        """The chosen views as (B, 1, S, S) float32 in [0, 1] on `device`."""
        pixels = torch.from_numpy(self.images[self.rows[chosen.numpy()]])
        return pixels.to(device).unsqueeze(1).float() / 255


@dataclass(kw_only=True)
class Fit:
    """A run between two epochs: all that must be kept to go on."""

    network: LimbNet
    optimizer: torch.optim.Adam
    scheduler: torch.optim.lr_scheduler.ReduceLROnPlateau
    history: list[EpochRecord] = field(default_factory=list)
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    @property
    def best(self) -> EpochRecord:
        """The epoch with the lowest validation loss, whose weights are kept."""
        return min(self.history, key=lambda epoch: epoch["val_loss"])

    def state(self) -> dict[str, object]:
        """Everything needed to go on, as plain values and tensors."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "history": self.history,
            "best_weights": self.best_weights,
        }

    def load_state(self, state: dict[str, object]) -> None:
        """Take over a state made by `state`."""
        self.network.load_state_dict(state["network"])  # type: ignore[arg-type]
        self.optimizer.load_state_dict(state["optimizer"])  # type: ignore[arg-type]
        self.scheduler.load_state_dict(state["scheduler"])  # type: ignore[arg-type]
        self.history = state["history"]  # type: ignore[assignment]
        self.best_weights = state["best_weights"]  # type: ignore[assignment]


def start_fit(network: LimbNet, config: TrainConfig) -> Fit:
    """A run before its first epoch. The network is moved to channels-last, which is faster."""
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=config.plateau_factor, patience=config.plateau_patience
    )
    return Fit(network=network, optimizer=optimizer, scheduler=scheduler)


def run_epochs(
    fit: Fit,
    train: Views,
    val: Views,
    policy: Policy,
    config: TrainConfig,
    after_epoch: Callable[[EpochRecord], None],
) -> None:
    """Train until `config.epochs` epochs are done, calling `after_epoch` with each one's record.

    Raises:
        DataError: there are fewer than two training views, or the loss is no longer a number.
    """
    if len(train.rows) < 2:
        raise DataError(f"{len(train.rows)} training views, expected at least 2")
    for epoch in range(len(fit.history) + 1, config.epochs + 1):
        record: EpochRecord = {
            "epoch": epoch,
            "learning_rate": float(fit.scheduler.get_last_lr()[0]),
        }
        record |= train_epoch(fit, train, policy, config, epoch)
        record |= validate_epoch(fit.network, val, policy, config)
        fit.scheduler.step(record["val_loss"])
        fit.history.append(record)
        if fit.best is record:
            weights = fit.network.state_dict()
            fit.best_weights = {name: value.clone() for name, value in weights.items()}
        after_epoch(record)


def train_epoch(
    fit: Fit, train: Views, policy: Policy, config: TrainConfig, epoch: int
) -> EpochRecord:
    """One pass over the training views; loss and accuracy are those met on the way."""
    device = next(fit.network.parameters()).device
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    order = torch.randperm(len(train.rows), generator=generator)
    losses, hits, seen = torch.zeros((), device=device), torch.zeros((), device=device), 0
    fit.network.train()
    with _progress(len(order), f"epoch {epoch}/{config.epochs}") as bar:
        for chosen in _batches(order, config.batch_size):
            images = train.scaled(chosen, device)  # (B, 1, S, S)
            draws = augmentation.draw(len(chosen), policy.augment, generator)
            draws = augmentation.Draws(*(values.to(device) for values in draws))
            reading = fit.network(_normalised(augmentation.apply(images, draws), policy))
            labels = train.labels[chosen].to(device)
            loss = _loss(reading, labels, train.parts[chosen].to(device), config)
            fit.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            fit.optimizer.step()
            losses += cross_entropy(reading.label_logits.detach(), labels, reduction="sum")
            hits += (reading.label_logits.argmax(1) == labels).sum()
            seen += len(chosen)
            bar.update(len(chosen))
    if not torch.isfinite(losses):
        raise DataError(f"the training loss is {losses.item()} in epoch {epoch}, expected a number")
    return {"train_loss": losses.item() / seen, "train_accuracy": hits.item() / seen}


@torch.inference_mode()
def validate_epoch(
    network: LimbNet, val: Views, policy: Policy, config: TrainConfig
) -> EpochRecord:
    """Loss, accuracy and AUROC on the validation views, as they are."""
    device = next(network.parameters()).device
    network.eval()
    logits = [
        network(_normalised(val.scaled(chosen, device), policy)).label_logits.cpu()
        for chosen in _batches(torch.arange(len(val.rows)), config.batch_size, smallest=1)
    ]
    label_logits = torch.cat(logits)  # (N, 2)
    return {
        "val_loss": cross_entropy(label_logits, val.labels).item(),
        "val_accuracy": (label_logits.argmax(1) == val.labels).double().mean().item(),
        "val_auroc": auroc(val.labels.numpy(), abnormal_logit(label_logits).numpy()),
    }


def _batches(order: Tensor, size: int, smallest: int = 2) -> Iterator[Tensor]:
    """Cut (N,) into batches; one image alone has no batch statistics and is left out."""
    return (batch for batch in torch.split(order, size) if len(batch) >= smallest)


def _normalised(images: Tensor, policy: Policy) -> Tensor:
    normalised = (images - policy.image.mean) / policy.image.std
    return normalised.contiguous(memory_format=torch.channels_last)


def _loss(reading: Reading, labels: Tensor, parts: Tensor, config: TrainConfig) -> Tensor:
    label_loss = nn.functional.cross_entropy(reading.label_logits, labels)
    part_loss = nn.functional.cross_entropy(reading.part_logits, parts)
    return label_loss + config.part_loss_weight * part_loss


def _progress(total: int, name: str) -> "tqdm[NoReturn]":
    return tqdm(total=total, desc=name, unit="image", disable=None, leave=False)
