import json
import resource
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bonexray.artifacts import sha256_file
from bonexray.dataset import open_images
from bonexray.images import read_square
from bonexray.tables import read_index
from components.faults import DAMAGES
from components.ingest import main

Alter = Callable[[dict[str, bytes | None]], Path]


def row_of(index: pd.DataFrame, path: str) -> pd.Series:
    return index.set_index("path").loc[path]


def test_every_image_is_packed_once_at_its_row(
    tiny_workspace: Path, tiny_entry: Callable[[str], bytes]
) -> None:
    index = read_index(tiny_workspace / "data/dataset")
    images = open_images(tiny_workspace / "data/dataset")
    assert len(index) == len(images)
    assert index["path"].is_unique
    for position in range(0, len(index), 17):
        expected = read_square(tiny_entry(index["path"][position]), 32)
        np.testing.assert_array_equal(images[position], expected)


def test_the_index_follows_the_csvs(tiny_workspace: Path) -> None:
    index = read_index(tiny_workspace / "data/dataset")
    assert index["listed"].all()
    assert index["present"].all()
    assert (index["folder_label"] == index["csv_label"]).all()
    assert (index["error"] == "").all()


def test_an_unpacked_folder_gives_the_same_bytes_as_the_zip(
    tiny_workspace: Path, tmp_path: Path, ingest: Callable[[Path], Path]
) -> None:
    with zipfile.ZipFile(tiny_workspace / "data/MURA-sim.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    out = ingest(tmp_path / "unpacked/MURA-v1.1")
    for name in ("images.npy", "index.parquet"):
        assert sha256_file(out / name) == sha256_file(tiny_workspace / "data/dataset" / name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train_image_paths.csv", None, "train_image_paths.csv, expected one"),
        ("valid_image_paths.csv", None, "valid_image_paths.csv: cannot be read"),
        ("train_labeled_studies.csv", b"MURA-v1.1/train/x/,2\n", "line 1: label '2', expected 0"),
        (
            "train_labeled_studies.csv",
            b"MURA-v1.1/train/x/,1\n\nMURA-v1.1/train/x/,0\n",
            "line 3: study 'train/x' has label 0, before it had another",
        ),
        ("train_labeled_studies.csv", b"MURA-v1.1/train/x/\n", "line 1: 1 columns, expected 2"),
        ("train_image_paths.csv", b"MURA-v1.1/../../etc/passwd\n", "line 1: path 'MURA-v1.1/../"),
    ],
)
def test_a_csv_that_is_missing_or_malformed_stops_with_one_line(
    altered_archive: Alter,
    ingest: Callable[[Path], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes | None,
    message: str,
) -> None:
    with pytest.raises(SystemExit, match="1"):
        ingest(altered_archive({name: content}))
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "dataset").exists()


@pytest.mark.parametrize("content", [None, b"this is no zip"])
def test_an_archive_that_is_missing_or_no_zip_stops_with_one_line(
    ingest: Callable[[Path], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
) -> None:
    archive = tmp_path / "MURA.zip"
    if content is not None:
        archive.write_bytes(content)
    with pytest.raises(SystemExit, match="1"):
        ingest(archive)
    error = capsys.readouterr().err
    assert "MURA.zip" in error
    assert "expected a MURA .zip" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "dataset").exists()


def test_the_result_does_not_depend_on_the_number_of_workers(
    tiny_workspace: Path, ingest: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    out = ingest(tiny_workspace / "data/MURA-sim.zip")
    for name in ("images.npy", "index.parquet", "origin.json"):
        assert sha256_file(out / name) == sha256_file(tiny_workspace / "data/dataset" / name)


def test_mode_depth_and_format_are_told_as_the_file_has_them(
    tiny_workspace: Path,
    tiny_entry: Callable[[str], bytes],
    altered_archive: Alter,
    ingest: Callable[[Path], Path],
) -> None:
    kinds = {
        "sixteen_bit": ("PNG", "I;16", 16),
        "rgba": ("PNG", "RGBA", 8),
        "palette": ("PNG", "P", 8),
        "wrong_extension": ("JPEG", "L", 8),
    }
    paths = read_index(tiny_workspace / "data/dataset")["path"][: len(kinds)]
    changed = {
        path: DAMAGES[kind](tiny_entry(path)) for path, kind in zip(paths, kinds, strict=True)
    }
    index = read_index(ingest(altered_archive(changed)))
    told = [
        tuple(row) for row in index[["format", "mode", "bit_depth"]].head(len(kinds)).to_numpy()
    ]
    assert told == list(kinds.values())


def test_inverting_an_image_changes_the_sign_of_its_polarity_alone(
    tiny_workspace: Path,
    tiny_entry: Callable[[str], bytes],
    altered_archive: Alter,
    ingest: Callable[[Path], Path],
) -> None:
    before = read_index(tiny_workspace / "data/dataset")
    path = before["path"][6]
    out = ingest(altered_archive({path: DAMAGES["inverted"](tiny_entry(path))}))
    after = row_of(read_index(out), path)
    assert (before["polarity"] < 0).all()
    assert after["polarity"] == pytest.approx(-before["polarity"][6], abs=0.02)


def test_a_pinned_archive_is_taken_and_another_is_refused_with_both_digests(
    tiny_workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tiny_workspace / "data/MURA-sim.zip"
    digest = sha256_file(archive)

    def run(pinned: str) -> None:
        params = json.dumps({"image_size": 32, "archive_sha256": pinned})
        main(["--params", params, "--archive", str(archive), "--out", str(tmp_path / "out")])

    run(digest)
    with pytest.raises(SystemExit, match="1"):
        run("0" * 64)
    error = capsys.readouterr().err
    assert digest in error
    assert "ingest.archive_sha256 expects 000" in error


def test_a_full_disk_is_one_line_and_leaves_nothing(
    tiny_workspace: Path, ingest: Callable[[Path], Path], tmp_path: Path
) -> None:
    """A limit on the size of files stands for the disk: the system refuses the write alike."""
    params = json.dumps({"image_size": 64, "archive_sha256": ""})
    command = [sys.executable, "-m", "components.ingest", "--params", params, "--archive"]
    command += [str(tiny_workspace / "data/MURA-sim.zip"), "--out", str(tmp_path / "dataset")]
    done = subprocess.run(
        command, capture_output=True, text=True, preexec_fn=lambda: _limit_files(200_000)
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "File too large" in done.stderr
    assert list(tmp_path.glob("*dataset*")) == []


def _limit_files(num_bytes: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def test_any_number_of_rows_is_written_a_whole_row_group_too(
    tiny_workspace: Path, ingest: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = len(read_index(tiny_workspace / "data/dataset"))
    monkeypatch.setattr("components.ingest._BATCH", known)
    monkeypatch.setattr("components.ingest._ROW_GROUP", known)
    assert len(read_index(ingest(tiny_workspace / "data/MURA-sim.zip"))) == known
