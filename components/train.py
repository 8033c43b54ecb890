"""Packed images, manifest and policy -> the weights of one network.

Besides `out` there is a scratch checkpoint beside it, written after each epoch: a run that was
killed goes on from there and ends in the same weights. It is deleted when the run is complete.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import torch
from safetensors.torch import save_file

from bonexray.artifacts import (
    refuse_overlap,
    remove,
    scratch_path,
    sha256_json,
    whole_file,
    whole_folder,
)
from bonexray.command import run_or_exit, step_parser
from bonexray.config import Arch, TrainConfig, read_section
from bonexray.dataset import dataset_digest, open_images
from bonexray.errors import DataError
from bonexray.images import Pixels
from bonexray.network import LimbNet
from bonexray.policy import Policy, read_policy
from bonexray.studies import BODY_PARTS
from bonexray.tables import manifest_digest, read_manifest
from bonexray.trained import HISTORY_FILE, WEIGHTS_FILE, TrainingRecord, write_record
from components.fit import EpochRecord, Fit, Views, run_epochs, start_fit


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
    """The views of one split. Raises DataError when there are none."""
    rows = inputs.manifest[inputs.manifest["split"] == split]
    if rows.empty:
        raise DataError(f"the manifest holds no views of the split {split!r}")
    part_numbers = {part: number for number, part in enumerate(BODY_PARTS)}
    return Views(
        images=inputs.images,
        rows=rows["row"].to_numpy(),
        labels=torch.tensor(rows["label"].to_numpy(), dtype=torch.int64),
        parts=torch.tensor(rows["body_part"].map(part_numbers).to_numpy(), dtype=torch.int64),
    )


def pick_device(threads: int) -> torch.device:
    """The GPU when there is one; deterministic arithmetic and a fixed number of threads."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Checkpoint:
    """The state of a run after its last finished epoch, beside the run's output."""

    def __init__(self, out: Path, run: str) -> None:
        """Args: out: the run's output folder. run: digest of all that the weights depend on."""
        self._path, self._run = scratch_path(out, "checkpoint"), run

    def save(self, fit: Fit) -> None:
        """Keep the state in place of the last one."""
        with whole_file(self._path) as partial:
            torch.save({"run": self._run, "fit": fit.state()}, partial)

    def restore(self, fit: Fit, device: torch.device) -> None:
        """Continue from the checkpoint if there is one, and if it is this very run's.

        Raises:
            DataError: the checkpoint is not readable.
        """
        if not self._path.exists():
            return
        if not zipfile.is_zipfile(self._path):
            raise DataError(f"{self._path}: not a whole checkpoint; delete it to start afresh")
        kept: dict[str, Any] = torch.load(self._path, map_location=device, weights_only=True)
        if kept["run"] == self._run:
            fit.load_state(kept["fit"])
            print(f"train: continuing after epoch {len(fit.history)}")
        else:
            print("train: the checkpoint found is of other data or settings; starting afresh")

    def delete(self) -> None:
        """Forget the state: the run is complete."""
        remove(self._path)


def train(
    dataset: Path, validated: Path, policy: Path, out: Path, arch: Arch, config: TrainConfig
) -> None:
    """Train one network and write weights, history and record to `out`.

    Raises:
        DataError: an input is unreadable or inconsistent, or the loss is no longer a number.
    """
    refuse_overlap([out], [dataset, validated, policy])
    inputs = read_inputs(dataset, validated, policy)
    device = pick_device(config.threads)
    record = TrainingRecord(
        arch=arch,
        dataset_sha256=inputs.dataset_sha256,
        manifest_sha256=inputs.manifest_sha256,
        policy=inputs.policy,
        config=config,
    )
    torch.manual_seed(config.seed)
    fit = start_fit(LimbNet(arch).to(device), config)
    # Another kind of device or number of threads rounds otherwise: that is another run.
    checkpoint = Checkpoint(out, sha256_json([record.model_dump(), device.type, torch.__version__]))
    checkpoint.restore(fit, device)

    def after_epoch(epoch: EpochRecord) -> None:
        checkpoint.save(fit)
        print(_epoch_line(arch, epoch, config.epochs), flush=True)

    train_views, val_views = views_of(inputs, "train"), views_of(inputs, "val")
    run_epochs(fit, train_views, val_views, inputs.policy, config, after_epoch)
    with whole_folder(out) as folder:
        weights = {name: value.cpu().contiguous() for name, value in fit.best_weights.items()}
        save_file(weights, folder / WEIGHTS_FILE)
        pd.DataFrame(fit.history).to_csv(folder / HISTORY_FILE, index=False)
        write_record(folder, record)
    checkpoint.delete()
    print(f"train: {arch} on {device.type}, best epoch {fit.best['epoch']:.0f} -> {out}")


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
