import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bonexray.artifacts import sha256_file
from bonexray.dataset import open_images, read_index
from bonexray.images import read_square
from components.ingest import main

Alter = Callable[[dict[str, bytes | None]], Path]


@pytest.fixture
def ingest(tiny_params: Path, tmp_path: Path) -> Callable[[Path], Path]:
    def run(archive: Path) -> Path:
        out = tmp_path / "dataset"
        main(["--params", str(tiny_params), "--archive", str(archive), "--out", str(out)])
        return out

    return run


def row_of(index: pd.DataFrame, path: str) -> pd.Series:
    return index.set_index("path").loc[path]


def torn_entry(content: bytearray, entry: zipfile.ZipInfo) -> str:
    content[entry.header_offset + 30 + len(entry.filename) + 200] ^= 0xFF
    return "Bad CRC-32"


def encrypted_entry(content: bytearray, entry: zipfile.ZipInfo) -> str:
    name = entry.filename.encode()
    in_directory = content.rindex(name) - 46
    for flags in (entry.header_offset + 6, in_directory + 8):
        content[flags] |= 1
    return "encrypted"


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


def test_a_truncated_image_becomes_a_row_that_says_so(
    tiny_workspace: Path,
    tiny_entry: Callable[[str], bytes],
    altered_archive: Alter,
    ingest: Callable[[Path], Path],
) -> None:
    path = read_index(tiny_workspace / "data/dataset")["path"][4]
    out = ingest(altered_archive({path: tiny_entry(path)[:900]}))
    assert "cannot be decoded" in row_of(read_index(out), path)["error"]
    assert len(read_index(out)) == len(read_index(tiny_workspace / "data/dataset"))
    assert not open_images(out)[4].any()


@pytest.mark.parametrize("spoil", [torn_entry, encrypted_entry])
def test_an_entry_that_the_zip_does_not_give_becomes_a_row_that_says_so(
    tiny_workspace: Path,
    ingest: Callable[[Path], Path],
    tmp_path: Path,
    spoil: Callable[[bytearray, zipfile.ZipInfo], str],
) -> None:
    source = tiny_workspace / "data/MURA-sim.zip"
    path = read_index(tiny_workspace / "data/dataset")["path"][1]
    with zipfile.ZipFile(source) as archive:
        entry = archive.getinfo(f"MURA-v1.1/{path}")
    content = bytearray(source.read_bytes())
    reason = spoil(content, entry)
    (tmp_path / "spoilt.zip").write_bytes(content)
    error = row_of(read_index(ingest(tmp_path / "spoilt.zip")), path)["error"]
    assert "cannot be read from the archive" in error
    assert reason in error


def test_a_csv_row_that_names_no_file_becomes_a_row_that_names_csv_and_line(
    tiny_workspace: Path, altered_archive: Alter, ingest: Callable[[Path], Path]
) -> None:
    path = read_index(tiny_workspace / "data/dataset")["path"][0]
    row = row_of(read_index(ingest(altered_archive({path: None}))), path)
    assert not row["present"]
    assert row["error"] == "train_image_paths.csv, line 1 names a file that is not in the archive"


def test_a_body_part_that_does_not_exist_becomes_a_row_that_says_so(
    tiny_entry: Callable[[str], bytes], altered_archive: Alter, ingest: Callable[[Path], Path]
) -> None:
    path = "train/XR_KNEE/patient99999/study1_negative/image1.png"
    csv = tiny_entry("train_image_paths.csv") + f"MURA-v1.1/{path}\n".encode()
    row = row_of(read_index(ingest(altered_archive({"train_image_paths.csv": csv}))), path)
    assert "body part 'XR_KNEE'" in row["error"]
    assert "expected one of XR_ELBOW" in row["error"]


def test_a_stray_file_becomes_a_row_that_no_csv_lists(
    altered_archive: Alter, ingest: Callable[[Path], Path]
) -> None:
    stray = "train/XR_HAND/patient00001/study1_negative/._image1.png"
    row = row_of(read_index(ingest(altered_archive({stray: b"\x00\x05\x16\x07"}))), stray)
    assert not row["listed"]
    assert "listed in no CSV" in row["error"]


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
