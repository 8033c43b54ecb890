import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bonexray.dataset import open_images
from bonexray.errors import DataError
from bonexray.images import fit, letterbox
from bonexray.tables import read_index, read_truth
from components.truth import write_truth


def test_every_view_of_a_simulated_archive_is_told_of(tiny_workspace: Path) -> None:
    dataset = tiny_workspace / "data/dataset"
    truth, images = read_truth(dataset), open_images(dataset)
    assert truth is not None
    assert set(truth["row"]) == set(range(len(images)))
    labels = read_index(dataset)["folder_label"].to_numpy()[truth["row"].to_numpy()]
    assert (labels[truth["finding"] != ""] == 1).all()
    assert truth.loc[truth["finding"] == "", ["left", "right"]].isna().all(axis=None)


def test_boxes_are_in_pixels_of_the_packed_square(tiny_workspace: Path) -> None:
    dataset = tiny_workspace / "data/dataset"
    truth, index, size = read_truth(dataset), read_index(dataset), open_images(dataset).shape[1]
    assert truth is not None
    with zipfile.ZipFile(tiny_workspace / "data/MURA-sim.zip") as archive:
        views = json.loads(archive.read("simulation.json"))["views"]
    for own in truth.dropna().itertuples():
        image = index.iloc[own.row]
        width, height = image["width"], image["height"]
        scale = size / max(width, height)
        shares = [view["box"] for view in views[image["path"]]["lesions"]]
        margin = np.array([size - round(width * scale), size - round(height * scale)]) // 2
        expected = [
            np.tile(margin, 2)
            + np.array(box) * np.tile(np.round([width * scale, height * scale]), 2)
            for box in shares
        ]
        found = np.array([own.left, own.top, own.right, own.bottom])
        assert min(np.abs(found - box).max() for box in expected) < 1e-4


def test_landscape_and_portrait_are_letterboxed_as_their_pixels_are(tmp_path: Path) -> None:
    wide, high = Image.new("L", (200, 101)), Image.new("L", (101, 200))
    wide.paste(255, (20, 10, 60, 40))
    high.paste(255, (10, 120, 50, 180))
    boxes = {
        "wide.png": [20 / 200, 10 / 101, 60 / 200, 40 / 101],
        "high.png": [10 / 101, 120 / 200, 50 / 101, 180 / 200],
    }
    lesions = {path: [{"finding": "lesion", "box": box}] for path, box in boxes.items()}
    lesions["bare.png"] = []
    views = {path: {"marker": path == "bare.png", "lesions": own} for path, own in lesions.items()}
    index = pd.DataFrame(
        [("stray", None, None), ("wide.png", 200, 101), ("high.png", 101, 200)]
        + [("bare.png", 50, 50)],
        columns=["path", "width", "height"],
    )
    index.to_parquet(tmp_path / "index.parquet")
    write_truth({"views": views}, tmp_path, 50)
    truth = read_truth(tmp_path)
    assert truth is not None
    assert truth["row"].tolist() == [1, 2, 3]
    assert truth["marker"].tolist() == [False, False, True]
    assert truth["finding"].tolist() == ["lesion", "lesion", ""]
    assert [str(kind) for kind in truth.dtypes] == ["int32", "bool", "object"] + ["float32"] * 4
    for row, image in enumerate((wide, high)):
        bright = np.argwhere(letterbox(fit(image, 50), 50) > 127)
        seen = [*bright.min(axis=0)[::-1], *bright.max(axis=0)[::-1] + 1]
        assert truth.loc[row, ["left", "top", "right", "bottom"]].tolist() == pytest.approx(
            seen, abs=1
        )


def test_an_archive_that_does_not_tell_has_no_truth(
    altered_archive: Callable[..., Path], ingest: Callable[[Path], Path]
) -> None:
    archive = altered_archive({})
    with (
        zipfile.ZipFile(archive) as source,
        zipfile.ZipFile(archive.with_name("b.zip"), "w") as bare,
    ):
        for name in source.namelist():
            bare.writestr(name, b"{}" if name == "simulation.json" else source.read(name))
    assert read_truth(ingest(archive.with_name("b.zip"))) is None


def test_an_archive_that_is_not_simulated_has_no_truth(
    tiny_workspace: Path, tmp_path: Path, ingest: Callable[[Path], Path]
) -> None:
    with zipfile.ZipFile(tiny_workspace / "data/MURA-sim.zip") as archive:
        for name in archive.namelist():
            if name != "simulation.json":
                archive.extract(name, tmp_path / "unpacked")
    assert read_truth(ingest(tmp_path / "unpacked")) is None
    assert not (tmp_path / "dataset/truth.parquet").exists()


def test_ingest_does_without_pandas() -> None:
    check = "import sys, components.ingest; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


@pytest.mark.parametrize("content", [b"[1", b'{"views": {"a": 1}}', b'{"views": []}'])
def test_a_simulation_that_is_not_as_written_is_refused(
    altered_archive: Callable[..., Path],
    ingest: Callable[[Path], Path],
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    tiny_workspace: Path,
) -> None:
    archive = altered_archive({})
    first = read_index(tiny_workspace / "data/dataset")["path"].iloc[0]
    damaged = archive.with_name("damaged.zip")
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(damaged, "w") as target:
        for name in source.namelist():
            told = content.replace(b'"a"', json.dumps(first).encode())
            target.writestr(name, told if name == "simulation.json" else source.read(name))
    with pytest.raises(SystemExit, match="1"):
        ingest(damaged)
    assert "simulation.json" in capsys.readouterr().err


def test_a_damaged_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "truth.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="truth.parquet: not readable"):
        read_truth(tmp_path)
    pd.DataFrame({"row": [0]}).to_parquet(tmp_path / "truth.parquet")
    with pytest.raises(DataError, match="truth.parquet: not readable"):
        read_truth(tmp_path)
