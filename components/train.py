"""Packed images, manifest and policy -> the weights of one network.

Besides `out` there is a scratch checkpoint beside it, written after each epoch: a run that was
killed goes on from there and ends in the same weights. It is deleted when the run is complete.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import get_args

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from tqdm import tqdm

from bonexray.artifacts import refuse_file, refuse_overlap, sha256_json, whole_folder
from bonexray.command import step_parser
from bonexray.config import Arch, TrainConfig
from bonexray.errors import DataError
from bonexray.network import LimbNet
from bonexray.trained import HISTORY_FILE, WEIGHTS_FILE, TrainingRecord, write_record
from components.batches import Source, batches_of, loss_weights
from components.checkpoint import Checkpoint
from components.device import describe_hardware, pick_device
from components.fit import EpochRecord, Fit, run_epochs, start_fit
from components.forecast import forecast
from components.group import ALONE, Group, run_grouped
from components.inputs import Inputs, learning_and_judging, read_inputs
from components.memory import memory_explained
from components.start import load_start

Track = Callable[[TrainingRecord], AbstractContextManager[Callable[[EpochRecord], None]]]
"""Opens what is told of a run while it lasts; what it yields is called with each epoch."""


@contextmanager
def untracked(_: TrainingRecord) -> Iterator[Callable[[EpochRecord], None]]:
    """Tell nobody."""
    yield lambda _: None


def tracked(name: str, group: Group = ALONE) -> Track:
    """What tells MLflow of a run called `name`, in the group's first process."""
    if group.rank > 0:
        return untracked
    try:  # here: MLflow takes seconds to import, and the other processes do without
        from components.tracking import tracked_training
    except ModuleNotFoundError as error:
        print(f"train: no run is kept in MLflow: {error}")
        return untracked
    return tracked_training(name, describe_hardware())


def train(
    inputs: Inputs,
    out: Path,
    arch: Arch,
    config: TrainConfig,
    *,
    fold: int | None = None,
    group: Group = ALONE,
    track: Track = untracked,
) -> Fit:
    """Train one network, write weights, history and record to `out`, and return the run.

    Args:
        inputs: what there is to learn from.
        out: folder to write, by the first process of the group alone.
        arch: the network.
        config: the section `train`.
        fold: to judge on, in cross-validation; None for the split `val`.
        group: the processes that share each batch.
        track: opens what is told of the run.

    Raises:
        DataError: there is too little to learn from, the start weights cannot be loaded, the loss
            is no longer a number, or the GPU's memory does not hold a batch.
        ConfigError: a batch has fewer images than there are processes.
    """
    refuse_file(out)
    learning_views, judging_views = learning_and_judging(inputs, config, fold)
    device = pick_device(config.threads)
    torch.manual_seed(config.seed)
    network = LimbNet(arch)
    start = load_start(network, arch, config.start)
    record = TrainingRecord(
        arch=arch,
        dataset_sha256=inputs.dataset_sha256,
        manifest_sha256=inputs.manifest_sha256,
        start=start,
        policy=inputs.policy,
        config=config,
        fold=fold,
    )
    views = len(learning_views.rows)
    print(f"train: {arch} on {device.type}, {views} views, starting from {start}")
    learning = Source(learning_views, loss_weights(learning_views, config), device)
    judging = Source(judging_views, torch.ones(len(judging_views.rows)), device)
    with memory_explained(network, learning, inputs.policy, config, group), track(record) as watch:
        fit = _fit(network.to(device), learning, judging, out, record, group, watch)
        if group.rank == 0:
            _write(fit, out, record)
    return fit


def _fit(
    network: LimbNet,
    learning: Source,
    judging: Source,
    out: Path,
    record: TrainingRecord,
    group: Group,
    watch: Callable[[EpochRecord], None],
) -> Fit:
    """Run what is left of the epochs."""
    config, policy = record.config, record.policy
    device = next(network.parameters()).device
    steps = len(batches_of(len(learning), config, 1)) * config.epochs
    fit = start_fit(network, config, steps, group)
    # Another kind of device or number of threads rounds otherwise: that is another run.
    run = sha256_json([record.model_dump(), device.type, torch.__version__])
    checkpoint = Checkpoint(out)
    checkpoint.restore(run, fit, device)
    done = len(fit.history)
    if group.sum(torch.tensor(done, device=device)) != done * group.size:
        raise DataError(f"{out.parent}: not every process sees its checkpoint; expected one folder")
    if done < config.epochs:
        told = forecast(network, learning, judging, policy, config, done, group)
        print(f"train: {told.sentence()}", flush=True)

    def after_epoch(epoch: EpochRecord) -> None:
        if group.rank == 0:
            checkpoint.save(run, fit)
        tqdm.write(_epoch_line(record.arch, epoch, config.epochs))
        watch(epoch)

    run_epochs(fit, learning, judging, policy, config, after_epoch)
    return fit


def _write(fit: Fit, out: Path, record: TrainingRecord) -> None:
    with whole_folder(out) as folder:
        weights = {name: value.cpu().contiguous() for name, value in fit.best_weights.items()}
        try:
            save_file(weights, folder / WEIGHTS_FILE)
        except SafetensorError as error:  # so it calls a full disk
            raise OSError(f"{out}: weights cannot be written, is the disk full? {error}") from error
        pd.DataFrame(fit.history).to_csv(folder / HISTORY_FILE, index=False)
        write_record(folder, record)
    Checkpoint(out).delete()
    best, epochs = fit.best["epoch"], record.config.epochs
    print(f"train: {record.arch}, best epoch {best:.0f} of {epochs} -> {out}")


def _epoch_line(arch: Arch, epoch: EpochRecord, epochs: int) -> str:
    return (
        f"train: {arch} epoch {epoch['epoch']:.0f}/{epochs}  "
        f"loss {epoch['train_loss']:.4f} train {epoch['val_loss']:.4f} val  "
        f"accuracy {epoch['train_accuracy']:.4f} train {epoch['val_accuracy']:.4f} val  "
        f"val AUROC {epoch['val_auroc']:.4f}  learning rate {epoch['learning_rate']:.2g}"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of the step."""
    parser = step_parser("train", "Train one network, on a GPU when there is one.")
    parser.add_argument("--arch", required=True, choices=get_args(Arch), help="the network")
    parser.add_argument("--dataset", type=Path, required=True, help="folder that ingest wrote")
    parser.add_argument("--validated", type=Path, required=True, help="folder of the manifest")
    parser.add_argument("--policy", type=Path, required=True, help="folder that augment wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args(argv)

    def run(config: TrainConfig, group: Group) -> None:
        places = [args.dataset, args.validated, args.policy]
        refuse_overlap([args.out], places)
        inputs = read_inputs(*places)
        train(inputs, args.out, args.arch, config, group=group, track=tracked(args.arch, group))

    run_grouped("train", args.params, main, argv, run)


if __name__ == "__main__":
    main()
