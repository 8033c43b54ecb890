import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bonexray.dataset import open_images
from bonexray.tables import read_manifest
from components.augment import main, pixel_statistics


def test_the_statistics_are_those_of_the_training_pixels_alone(tiny_workspace: Path) -> None:
    images = open_images(tiny_workspace / "data/dataset")
    manifest = read_manifest(tiny_workspace / "data/validated")
    training = images[manifest.loc[manifest["split"] == "train", "row"].to_numpy()] / 255
    policy = json.loads((tiny_workspace / "data/policy/policy.json").read_text())
    assert policy["image"]["size"] == 32
    assert policy["image"]["mean"] == pytest.approx(training.mean())
    assert policy["image"]["std"] == pytest.approx(training.std())


def test_the_statistics_do_not_depend_on_the_order() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3000, 4, 4)).astype(np.uint8)
    assert pixel_statistics(images, np.arange(3000)) == pixel_statistics(
        images, np.arange(3000)[::-1]
    )


def test_the_preview_shows_each_part_with_its_variants(tiny_workspace: Path) -> None:
    with Image.open(tiny_workspace / "data/policy/preview.png") as preview:
        assert preview.size == (8 * 32, 7 * 32)


def test_no_training_views_stops_with_one_line(
    tiny_workspace: Path,
    tiny_params: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = pd.read_parquet(tiny_workspace / "data/validated/manifest.parquet")
    manifest[manifest["split"] == "test"].to_parquet(tmp_path / "manifest.parquet")
    with pytest.raises(SystemExit, match="1"):
        main(
            ["--params", str(tiny_params), "--dataset", str(tiny_workspace / "data/dataset")]
            + ["--validated", str(tmp_path), "--out", str(tmp_path / "policy")]
        )
    assert "no view is in the split 'train'" in capsys.readouterr().err
    assert not (tmp_path / "policy").exists()
