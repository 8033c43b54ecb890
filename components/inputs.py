"""What a training run learns from and what it is judged on, opened and checked."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pandas as pd
import torch

from bonexray.config import Arch, TrainConfig
from bonexray.dataset import dataset_digest, open_images
from bonexray.errors import ConfigError, DataError
from bonexray.images import Pixels
from bonexray.policy import Policy, read_policy
from bonexray.studies import LABELS, PART_NUMBERS
from bonexray.tables import manifest_digest, read_manifest
from components.batches import Views


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The packed images, their manifest and policy, with the digests that name them."""

    images: Pixels
    manifest: pd.DataFrame
    policy: Policy
    dataset_sha256: str
    manifest_sha256: str


def command_parser(name: str, summary: str) -> argparse.ArgumentParser:
    """A parser for a command beside the flow that trains on its outputs."""
    parser = argparse.ArgumentParser(prog=f"python -m components.{name}", description=summary)
    parser.add_argument("--params", default="params.yaml", help="path of params.yaml")
    parser.add_argument("--arch", required=True, choices=get_args(Arch), help="the network")
    parser.add_argument("--dataset", type=Path, default=Path("data/dataset"), help="from ingest")
    parser.add_argument("--validated", type=Path, default=Path("data/validated"), help="manifest")
    parser.add_argument("--policy", type=Path, default=Path("data/policy"), help="from augment")
    parser.add_argument("--out", type=Path, help=f"folder to write; reports/{name}/ARCH")
    return parser


def read_inputs(dataset: Path, validated: Path, policy: Path) -> Inputs:
    """Open a run's inputs. Raises DataError."""
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


def rows_of(manifest: pd.DataFrame, fold: int | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows that a run learns from and those that it is judged on; `test` is in neither.

    Args:
        manifest: the accepted views.
        fold: the fold to judge on, with all others to learn from; None for `train` and `val`.
    """
    if fold is None:
        return manifest[manifest["split"] == "train"], manifest[manifest["split"] == "val"]
    open_rows = manifest[manifest["split"] != "test"]
    return open_rows[open_rows["fold"] != fold], open_rows[open_rows["fold"] == fold]


def learning_and_judging(
    inputs: Inputs, config: TrainConfig, fold: int | None = None
) -> tuple[Views, Views]:
    """The views that a run learns from and those that it is judged on.

    Raises:
        DataError: there are too few of them, or they are of one label.
        ConfigError: a batch has fewer images than there are processes.
    """
    learning, judging = rows_of(inputs.manifest, fold)
    one, other = f"folds but {fold}", f"fold {fold}"
    if fold is None:
        one, other = "split 'train'", "split 'val'"
    _refuse_crowd(learning, config)
    return _views(inputs.images, learning, one), _views(inputs.images, judging, other)


def _refuse_crowd(learning: pd.DataFrame, config: TrainConfig) -> None:
    """Stop when there are more processes than can share the data."""
    studies = learning["study"].nunique()
    if config.processes > studies:
        raise DataError(
            f"train.processes = {config.processes}, but there are {studies} studies to learn from; "
            "expected at least one for each process"
        )
    if config.processes > config.batch_size:
        raise ConfigError(
            f"train.processes = {config.processes}, but train.batch_size = {config.batch_size}; "
            "expected at least one image for each process"
        )


def _views(images: Pixels, rows: pd.DataFrame, name: str) -> Views:
    labels = torch.tensor(rows["label"].to_numpy(), dtype=torch.int64)
    held = [LABELS[label] for label in sorted(set(labels.tolist()))]
    if len(held) < len(LABELS):
        raise DataError(
            f"the manifest's {name} holds {len(rows)} views, "
            f"{'all ' + held[0] if held else 'none at all'}; expected both labels"
        )
    return Views(
        images=images,
        rows=rows["row"].to_numpy(),
        labels=labels,
        parts=torch.tensor(rows["body_part"].map(PART_NUMBERS).to_numpy(), dtype=torch.int64),
    )
