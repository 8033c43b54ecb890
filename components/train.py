"""Packed images, manifest and policy -> the weights of one network.

Besides `out` there is a scratch checkpoint beside it, written after each epoch: a run that was
killed goes on from there and ends in the same weights. It is deleted when the run is complete.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pandas as pd
import torch
from safetensors.torch import save_file
from tqdm import tqdm

from bonexray.artifacts import refuse_overlap, sha256_json, whole_folder
from bonexray.command import run_or_exit, step_parser
from bonexray.config import Arch, TrainConfig, read_section
from bonexray.dataset import dataset_digest, open_images
from bonexray.errors import DataError
from bonexray.images import Pixels
from bonexray.network import LimbNet
from bonexray.policy import Policy, read_policy
from bonexray.studies import BODY_PARTS, LABELS
from bonexray.tables import manifest_digest, read_manifest
from bonexray.trained import HISTORY_FILE, WEIGHTS_FILE, TrainingRecord, write_record
from components.batches import Source, Views, batches_of, loss_weights
from components.checkpoint import Checkpoint
from components.fit import EpochRecord, Fit, run_epochs, start_fit
from components.forecast import forecast
from components.memory import memory_explained
from components.start import load_start


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a run learns from, with the digests that name it."""

    images: Pixels
    manifest: pd.DataFrame
    policy: Policy
    dataset_sha256: str
    manifest_sha256: str


def read_inputs(dataset: Path, validated: Path, policy: Path) -> Inputs:
    """Open a step's inputs. Raises DataError."""
    inputs = Inputs(
        images=open_images(dataset),
        manifest=read_manifest(validated),
        policy=read_policy(policy),
        dataset_sha256=dataset_digest(dataset),
        manifest_sha256=manifest_digest(validated),
    )
    side = inputs.images.shape[1]
    if side != inputs.policy.image.size:
        raise DataError(
            f"{policy}: made for images of {inputs.policy.image.size} px, {dataset} holds {side} px"
        )
    return inputs


def views_of(inputs: Inputs, split: str) -> Views:
    """The views of one split. Raises DataError when they are too few or of one label."""
    rows = inputs.manifest[inputs.manifest["split"] == split]
    labels = torch.tensor(rows["label"].to_numpy(), dtype=torch.int64)
    held = [LABELS[label] for label in sorted(set(labels.tolist()))]
    if len(held) < len(LABELS):
        raise DataError(
            f"the manifest's split {split!r} holds {len(rows)} views, "
            f"{'all ' + held[0] if held else 'none at all'}; expected both labels"
        )
    part_numbers = {part: number for number, part in enumerate(BODY_PARTS)}
    return Views(
        images=inputs.images,
        rows=rows["row"].to_numpy(),
        labels=labels,
        parts=torch.tensor(rows["body_part"].map(part_numbers).to_numpy(), dtype=torch.int64),
    )


def pick_device(threads: int) -> torch.device:
    """The GPU when there is one; deterministic arithmetic and a fixed number of threads."""
    torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is not deterministic else
    torch.use_deterministic_algorithms(True)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def train(
    dataset: Path, validated: Path, policy: Path, out: Path, arch: Arch, config: TrainConfig
) -> None:
    """Train one network and write weights, history and record to `out`.

    Raises:
        DataError: an input is unreadable or inconsistent, the loss is no longer a number, or the
            GPU's memory does not hold a batch.
    """
    refuse_overlap([out], [dataset, validated, policy])
    inputs = read_inputs(dataset, validated, policy)
    train_views, val_views = views_of(inputs, "train"), views_of(inputs, "val")
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
    )
    print(f"train: {arch} on {device.type}, {len(train_views.rows)} views, starting from {start}")
    learning = Source(train_views, loss_weights(train_views, config), device)
    judging = Source(val_views, torch.ones(len(val_views.rows)), device)
    with memory_explained(network, learning, inputs.policy, config):
        fit = _fit(network.to(device), learning, judging, out, record)
    with whole_folder(out) as folder:
        weights = {name: value.cpu().contiguous() for name, value in fit.best_weights.items()}
        save_file(weights, folder / WEIGHTS_FILE)
        pd.DataFrame(fit.history).to_csv(folder / HISTORY_FILE, index=False)
        write_record(folder, record)
    Checkpoint(out).delete()
    print(f"train: {arch}, best epoch {fit.best['epoch']:.0f} of {config.epochs} -> {out}")


def _fit(
    network: LimbNet, learning: Source, judging: Source, out: Path, record: TrainingRecord
) -> Fit:
    """Run what is left of the epochs."""
    config, policy = record.config, record.policy
    device = next(network.parameters()).device
    steps = len(batches_of(len(learning), config, 1)) * config.epochs
    fit = start_fit(network, config, steps)
    # Another kind of device or number of threads rounds otherwise: that is another run.
    run = sha256_json([record.model_dump(), device.type, torch.__version__])
    checkpoint = Checkpoint(out)
    checkpoint.restore(run, fit, device)
    done = len(fit.history)
    if done < config.epochs:
        told = forecast(network, learning, judging, policy, config, done)
        print(f"train: {told.sentence()}", flush=True)

    def after_epoch(epoch: EpochRecord) -> None:
        checkpoint.save(run, fit)
        tqdm.write(_epoch_line(record.arch, epoch, config.epochs))

    run_epochs(fit, learning, judging, policy, config, after_epoch)
    return fit


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
    run_or_exit(
        "train",
        lambda: train(
            args.dataset,
            args.validated,
            args.policy,
            args.out,
            args.arch,
            read_section(args.params, TrainConfig),
        ),
    )


if __name__ == "__main__":
    main()
