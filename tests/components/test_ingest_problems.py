import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from bonexray.dataset import open_images
from bonexray.tables import read_index
from components.faults import DAMAGES

Alter = Callable[[dict[str, bytes | None]], Path]


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
    ("damage", "problem"),
    [
        (lambda png: b"", "empty_file"),
        (lambda png: png[:500], "undecodable"),
        (lambda png: b"GIF89a", "undecodable"),
        (DAMAGES["pixel_bomb"], "too_many_pixels"),
        (None, "missing_file"),
    ],
    ids=["empty", "cut", "gif", "bomb", "missing"],
)
def test_what_cannot_be_used_is_named_by_its_problem(
    tiny_workspace: Path,
    tiny_entry: Callable[[str], bytes],
    altered_archive: Alter,
    ingest: Callable[[Path], Path],
    damage: Callable[[bytes], bytes] | None,
    problem: str,
) -> None:
    path = read_index(tiny_workspace / "data/dataset")["path"][4]
    out = ingest(altered_archive({path: damage(tiny_entry(path)) if damage else None}))
    row = row_of(read_index(out), path)
    assert row["problem"] == problem
    assert row["error"]
    assert pd.isna(row["width"])


def test_a_study_without_an_image_becomes_a_row_of_its_own(
    tiny_entry: Callable[[str], bytes], altered_archive: Alter, ingest: Callable[[Path], Path]
) -> None:
    study = "train/XR_HAND/patient99999/study1_negative/"
    csv = tiny_entry("train_labeled_studies.csv") + f"MURA-v1.1/{study},0\n".encode()
    row = row_of(read_index(ingest(altered_archive({"train_labeled_studies.csv": csv}))), study)
    assert row["problem"] == "study_without_image"


def test_a_label_of_a_study_that_muras_paths_do_not_allow_is_a_bad_path(
    tiny_entry: Callable[[str], bytes], altered_archive: Alter, ingest: Callable[[Path], Path]
) -> None:
    study = "train/XR_TOE/patient99999/study1_negative/"
    csv = tiny_entry("train_labeled_studies.csv") + f"MURA-v1.1/{study},0\n".encode()
    row = row_of(read_index(ingest(altered_archive({"train_labeled_studies.csv": csv}))), study)
    assert row["problem"] == "bad_path"
