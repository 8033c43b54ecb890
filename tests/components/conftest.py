"""What tests of several steps share: a small task for the loop, ingest and validate as called."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from bonexray.config import AugmentConfig, TrainConfig
from bonexray.images import ImageSpec
from bonexray.policy import Policy
from bonexray.store import BundleStore, Champion
from bonexray.tables import read_index
from components import evaluate as evaluate_step
from components import validate
from components.batches import Source, Views
from components.ingest import main as ingest_main

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="session")
def places(tiny_workspace: Path) -> list[str]:
    """Flags that name what a training reads, on the tiny set."""
    data = tiny_workspace / "data"
    return ["--dataset", str(data / "dataset"), "--validated", str(data / "validated")] + [
        "--policy",
        str(data / "policy"),
    ]


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


@pytest.fixture
def ingest(tiny_params: Path, tmp_path: Path) -> Callable[[Path], Path]:
    """Ingest an archive; returns the folder it wrote."""

    def run(archive: Path) -> Path:
        out = tmp_path / "dataset"
        ingest_main(["--params", str(tiny_params), "--archive", str(archive), "--out", str(out)])
        return out

    return run


@pytest.fixture
def check(tiny_workspace: Path, tiny_params: Path, tmp_path: Path) -> Callable[..., Path]:
    """Validate an index made from the tiny one; returns the folder of `validated` and `report`."""

    def run(index: pd.DataFrame, **settings: float) -> Path:
        (tmp_path / "dataset").mkdir()
        index.to_parquet(tmp_path / "dataset/index.parquet")
        for name in ("images.npy", "origin.json"):
            (tmp_path / "dataset" / name).symlink_to(tiny_workspace / "data/dataset" / name)
        params = yaml.safe_load(tiny_params.read_text())
        params["validate"] |= settings
        tiny_params.write_text(yaml.safe_dump(params))
        validate.main(
            ["--params", str(tiny_params), "--dataset", str(tmp_path / "dataset")]
            + ["--splits", str(tmp_path / "splits.csv")]
            + ["--reference", str(tmp_path / "profile.json")]
            + ["--out", str(tmp_path / "validated"), "--report", str(tmp_path / "report")]
        )
        return tmp_path

    return run


@pytest.fixture
def index(tiny_workspace: Path) -> pd.DataFrame:
    return read_index(tiny_workspace / "data/dataset")


@pytest.fixture
def report() -> Callable[[Path], dict[str, Any]]:
    """Read the report of what `check` ran."""

    def read(folder: Path) -> dict[str, Any]:
        return json.loads((folder / "report/report.json").read_text())

    return read


@pytest.fixture
def evaluate(tiny_workspace: Path, tiny_params: Path, tmp_path: Path) -> Callable[..., None]:
    """Evaluate the tiny network, with changes; writes `bundle` and `report` below `tmp_path`."""

    def run(
        data: Path = tiny_workspace / "data",
        models: Path = tiny_workspace / "models",
        arch: str = "resnet18",
        release: Path = tmp_path / "release",
        **settings: Any,
    ) -> None:
        params = yaml.safe_load(tiny_params.read_text())
        params["evaluate"] |= settings
        tiny_params.write_text(yaml.safe_dump(params))
        evaluate_step.main(
            ["--params", str(tiny_params), "--dataset", str(data / "dataset")]
            + ["--validated", str(data / "validated"), "--models", str(models)]
            + ["--archs", arch, "--commit", COMMIT]
            + ["--crossval", str(tmp_path / "crossval"), "--release", str(release)]
            + ["--out", str(tmp_path / "bundle"), "--report", str(tmp_path / "report")]
        )

    return run


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a report."""
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def approved(tiny_workspace: Path, release: Path) -> Path:
    """A release folder whose champion is the tiny bundle; returns the bundle's folder there."""
    store = BundleStore(release)
    digest = store.add(tiny_workspace / "bundle")
    store.set_champion(Champion(model_name="bonexray", version="1", digest=digest))
    return release / "bundles" / digest


def cross_validated(tiny_workspace: Path, crossval: Path, views: pd.DataFrame) -> Path:
    """A folder as cross-validation of the tiny network leaves it, with these predictions."""
    place = crossval / "resnet18"
    place.mkdir(parents=True)
    (record,) = json.loads((tiny_workspace / "reports/evaluation/training.json").read_text())
    record.pop("fold")
    views.to_parquet(place / "predictions.parquet")
    (place / "metrics.json").write_text(json.dumps({"made_from": record}))
    return place
