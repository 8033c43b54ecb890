"""The training loop, visible from top to bottom. Knows no file and no recipe by name.

Adam, cross-entropy, augmented batches, validation after each epoch, the best epoch's weights kept.
Every random number comes from seed, epoch and batch, so a run that starts again at an epoch goes
on exactly as the one that was cut off. In one process nothing in the loop waits for the device.

B batch, N views, S side of the image.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NoReturn

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from bonexray.config import TrainConfig
from bonexray.errors import DataError
from bonexray.metrics import auroc
from bonexray.network import LimbNet, Reading, abnormal_logit
from bonexray.policy import Policy
from bonexray.studies import LABELS
from components.batches import Batch, Source, batches_of, in_batches, random_of, size_in
from components.group import ALONE, Group
from components.synced import synchronise

EpochRecord = dict[str, float]
Scheduler = lr_scheduler.LRScheduler | lr_scheduler.ReduceLROnPlateau


@dataclass(kw_only=True)
class Fit:
    """A run between two epochs: all that must be kept to go on."""

    network: LimbNet
    learner: nn.Module
    """The network as its steps call it: itself, or what sums gradients over the group."""
    group: Group
    optimizer: torch.optim.Adam
    scheduler: Scheduler
    average: AveragedModel | None
    """The moving average of the network's weights, if the recipe wants one."""
    history: list[EpochRecord] = field(default_factory=list)
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    @property
    def judged(self) -> LimbNet:
        """The network that is validated, and whose weights are kept."""
        return self.average.module if self.average else self.network  # type: ignore[return-value]

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
            "average": self.average.state_dict() if self.average else {},
            "history": self.history,
            "best_weights": self.best_weights,
        }

    def load_state(self, state: dict[str, object]) -> None:
        """Take over a state made by `state`."""
        self.network.load_state_dict(state["network"])  # type: ignore[arg-type]
        self.optimizer.load_state_dict(state["optimizer"])  # type: ignore[arg-type]
        self.scheduler.load_state_dict(state["scheduler"])  # type: ignore[arg-type]
        if self.average:
            self.average.load_state_dict(state["average"])  # type: ignore[arg-type]
        self.history = state["history"]  # type: ignore[assignment]
        self.best_weights = state["best_weights"]  # type: ignore[assignment]


def start_fit(network: LimbNet, config: TrainConfig, steps: int, group: Group = ALONE) -> Fit:
    """A run before its first epoch. The network is moved to channels-last, which is faster.

    Args:
        network: on its device.
        config: the section `train`.
        steps: of the whole run.
        group: the processes that share each batch.
    """
    network.to(memory_format=torch.channels_last)
    learner: nn.Module = network
    if group.size > 1:
        synchronise(network)
        # The part head has no gradient when its loss has no weight.
        learner = DistributedDataParallel(
            network, find_unused_parameters=not config.part_loss_weight
        )
    optimizer = torch.optim.Adam(
        network.parameters(),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=True,
    )
    average = None
    if config.ema_decay:
        mix = get_ema_multi_avg_fn(config.ema_decay)  # type: ignore[no-untyped-call]
        average = AveragedModel(network, multi_avg_fn=mix, use_buffers=True)
    return Fit(
        network=network,
        learner=learner,
        group=group,
        optimizer=optimizer,
        scheduler=_scheduler(optimizer, config, steps),
        average=average,
    )


def _scheduler(optimizer: torch.optim.Adam, config: TrainConfig, steps: int) -> Scheduler:
    if config.schedule == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    if config.schedule == "one_cycle":
        # One more: the curve is asked for a rate after the last step too.
        return lr_scheduler.OneCycleLR(
            optimizer, max_lr=config.learning_rate, total_steps=steps + 1
        )
    return lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=config.plateau_factor, patience=config.plateau_patience
    )


def run_epochs(
    fit: Fit,
    learning: Source,
    judging: Source,
    policy: Policy,
    config: TrainConfig,
    after_epoch: Callable[[EpochRecord], None],
) -> None:
    """Train until `config.epochs` epochs are done, calling `after_epoch` with each one's record.

    Raises:
        DataError: the loss is no longer a number; the fit is then of no use, its last state is.
    """
    done = len(fit.history)
    with _progress(len(learning), done, config.epochs) as bar:
        for epoch in range(done + 1, config.epochs + 1):
            record: EpochRecord = {"epoch": epoch, "learning_rate": _rate(fit)}
            record |= train_epoch(fit, learning, policy, config, epoch, bar)
            record |= validate_epoch(fit.judged, judging, policy, config, fit.group)
            if isinstance(fit.scheduler, lr_scheduler.ReduceLROnPlateau):
                fit.scheduler.step(record["val_loss"])
            fit.history.append(record)
            if fit.best is record:
                weights = fit.judged.state_dict()
                fit.best_weights = {name: value.clone() for name, value in weights.items()}
            after_epoch(record)


def train_epoch(
    fit: Fit,
    source: Source,
    policy: Policy,
    config: TrainConfig,
    epoch: int,
    bar: "tqdm[NoReturn]",
) -> EpochRecord:
    """One pass over the training views; loss and accuracy are those met on the way."""
    batches = batches_of(len(source), config, epoch)
    size = size_in(epoch, policy.image.size, config)
    losses, hits = [], []
    fit.network.train()
    bar.set_description(f"epoch {epoch}/{config.epochs}", refresh=False)
    for index, chosen in enumerate(batches, start=1):
        rng = random_of(config.seed, epoch, index)
        batch = source.batch(chosen, policy.augment, policy.image, config, rng, size, fit.group)
        loss, reading = train_step(fit, batch, config, len(chosen))
        losses.append(loss.detach())
        hits.append((reading.label_logits.argmax(1) == batch.labels.argmax(1)).sum())
        if not bar.disable and bar.update(len(chosen)):  # then the bar is drawn anew
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    sizes = torch.tensor([len(batch) for batch in batches])
    met = fit.group.sum(torch.stack(losses)).cpu() / fit.group.size  # (steps,)
    _refuse_nan(met, epoch)
    return {
        "train_loss": float((met * sizes).sum() / sizes.sum()),
        "train_accuracy": float(fit.group.sum(torch.stack(hits).sum()).item() / sizes.sum()),
    }


def train_step(fit: Fit, batch: Batch, config: TrainConfig, whole: int) -> tuple[Tensor, Reading]:
    """One step of the optimizer; returns the loss and what the network said.

    Args:
        fit: the run.
        batch: this process's share.
        config: the section `train`.
        whole: B, images of the whole batch.

    Returns:
        The share's loss, weighed so that its mean over the group is that of the whole batch.
    """
    with mixed_precision(batch.images.device):
        reading: Reading = fit.learner(batch.images)
    loss = loss_of(reading, batch, config) * (len(batch.images) * fit.group.size / whole)
    fit.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    fit.optimizer.step()
    if not isinstance(fit.scheduler, lr_scheduler.ReduceLROnPlateau):
        fit.scheduler.step()
    if fit.average:
        fit.average.update_parameters(fit.network)
    return loss, reading


def loss_of(reading: Reading, batch: Batch, config: TrainConfig) -> Tensor:
    """Weighted cross-entropy of the labels, plus that of the body parts, in the labels' dtype."""
    precise = batch.labels.dtype
    label_loss = cross_entropy(
        reading.label_logits.to(precise),
        batch.labels,
        reduction="none",
        label_smoothing=config.label_smoothing,
    )
    loss = (label_loss * batch.weights).mean()
    if config.part_loss_weight:
        part_loss = cross_entropy(reading.part_logits.to(precise), batch.parts)
        loss = loss + config.part_loss_weight * part_loss
    return loss


@torch.inference_mode()
def validate_epoch(
    network: LimbNet, source: Source, policy: Policy, config: TrainConfig, group: Group
) -> EpochRecord:
    """Loss, accuracy and AUROC on the validation views, as they are."""
    network.eval()
    label_logits = read_all(network, source, policy, config, group)
    return {
        "val_loss": cross_entropy(label_logits, source.labels).item(),
        "val_accuracy": (label_logits.argmax(1) == source.labels).double().mean().item(),
        "val_auroc": float(auroc(source.labels.numpy(), abnormal_logit(label_logits).numpy())),
    }


def read_all(
    network: LimbNet, source: Source, policy: Policy, config: TrainConfig, group: Group
) -> Tensor:
    """The label logits (N, 2) of all views, on the CPU; each process reads some of them."""
    batches = list(in_batches(len(source), config.batch_size))
    logits = torch.zeros(len(source), len(LABELS), device=next(network.parameters()).device)
    for at in batches[group.rank :: group.size]:
        logits[at] = read(network, source, at, policy)
    return group.sum(logits).cpu()


def read(network: LimbNet, source: Source, chosen: Tensor, policy: Policy) -> Tensor:
    """The label logits (B, 2) of the chosen views, as they are."""
    images = source.plain(chosen, policy.image)
    with mixed_precision(images.device):
        logits: Tensor = network(images).label_logits
    return logits.float()


def mixed_precision(device: torch.device) -> AbstractContextManager[None]:
    """Bfloat16 on a GPU; on two CPU cores it did not pay."""
    on_gpu = device.type == "cuda"
    return torch.autocast(device.type, torch.bfloat16, enabled=on_gpu)


def _rate(fit: Fit) -> float:
    return float(fit.optimizer.param_groups[0]["lr"])


def _refuse_nan(losses: Tensor, epoch: int) -> None:
    bad = torch.nonzero(~torch.isfinite(losses))
    if len(bad):
        step = int(bad[0])
        kept = ". The checkpoint of the epoch before is kept" if epoch > 1 else ""
        raise DataError(
            f"the training loss is {losses[step].item()} in epoch {epoch}, step {step + 1} of "
            f"{len(losses)}, expected a number; a lower train.learning_rate may help{kept}"
        )


def _progress(views: int, done: int, epochs: int) -> "tqdm[NoReturn]":
    return tqdm(
        total=views * epochs, initial=views * done, unit="image", disable=None, leave=False,
        smoothing=0.05, desc="train",
    )  # fmt: skip
