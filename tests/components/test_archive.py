import os
import zipfile
from pathlib import Path

import pytest

from bonexray.errors import DataError
from components.archive import open_archive, read_listing

FILES = {
    "MURA-v1.1/train_image_paths.csv": b"MURA-v1.1/train/a/image1.png\n",
    "MURA-v1.1/valid_image_paths.csv": b"MURA-v1.1/valid/b/image1.png\n",
    "MURA-v1.1/train_labeled_studies.csv": b"MURA-v1.1/train/a/,1\n",
    "MURA-v1.1/valid_labeled_studies.csv": b"MURA-v1.1/valid/b/,0\n",
    "MURA-v1.1/train/a/image1.png": b"one",
    "MURA-v1.1/valid/b/image1.png": b"two",
}


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def unpacked(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def renamed(files: dict[str, bytes], root: str) -> dict[str, bytes]:
    return {
        name.replace("MURA-v1.1", root): data.replace(b"MURA-v1.1", root.encode())
        for name, data in files.items()
    }


@pytest.mark.parametrize("pack", [zipped, unpacked])
def test_a_zip_and_a_folder_are_the_same_archive(tmp_path: Path, pack: object) -> None:
    with open_archive(pack(tmp_path / "MURA", FILES)) as archive:  # type: ignore[operator]
        assert archive.origin == "MURA-v1.1"
        assert archive.read("train/a/image1.png") == b"one"
        assert len(archive.names()) == len(FILES)
        listing = read_listing(archive)
    assert listing.labels == {"train/a": 1, "valid/b": 0}
    assert listing.where("valid/b/image1.png") == "valid_image_paths.csv, line 1"


@pytest.mark.parametrize("pack", [zipped, unpacked])
def test_the_origin_is_what_the_csvs_claim_unless_it_was_simulated(
    tmp_path: Path, pack: object
) -> None:
    own = renamed(FILES, "st-vincents-2025")
    with open_archive(pack(tmp_path / "own", own)) as archive:  # type: ignore[operator]
        assert archive.origin == "st-vincents-2025"
    simulated = FILES | {"simulation.json": b"{}"}
    with open_archive(pack(tmp_path / "sim", simulated)) as archive:  # type: ignore[operator]
        assert archive.origin == "simulated"


@pytest.mark.parametrize("pack", [zipped, unpacked])
@pytest.mark.parametrize("folder", ["MURA-v1.0", "renamed"])
def test_version_1_0_is_refused_with_the_reason_even_under_another_name(
    tmp_path: Path, pack: object, folder: str
) -> None:
    files = renamed(FILES, "MURA-v1.0")
    files = {name.replace("MURA-v1.0", folder): data for name, data in files.items()}
    with (
        pytest.raises(DataError, match=r"Stanford withdrew because patient data"),
        open_archive(pack(tmp_path / "x", files)),  # type: ignore[operator]
    ):
        pass


@pytest.mark.parametrize(
    "name", ["../out.png", "MURA-v1.1/../../out.png", "/etc/out.png", "..\\out.png"]
)
def test_an_entry_that_climbs_out_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path = zipped(tmp_path / "slip.zip", FILES | {name: b"x"})
    with pytest.raises(DataError, match=r"climbs out of its folder") as error, open_archive(path):
        pass
    assert "out.png" in str(error.value)


def test_a_decompression_bomb_is_refused_by_name(tmp_path: Path) -> None:
    path = zipped(tmp_path / "bomb.zip", FILES | {"MURA-v1.1/train/b.png": bytes(65 << 20)})
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DataError, match=r"train/b.png.*decompression bomb"), open_archive(path):
        pass


def test_an_entry_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "twice.zip", FILES)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("MURA-v1.1/train/a/image1.png", b"other")
    with pytest.raises(DataError, match="is there twice"), open_archive(path):
        pass


def test_a_copy_of_a_csv_that_macos_left_is_no_second_root(tmp_path: Path) -> None:
    extra = {"__MACOSX/MURA-v1.1/._train_image_paths.csv": b"\0\5\26\7"}
    with open_archive(zipped(tmp_path / "mac.zip", FILES | extra)) as archive:
        assert len(archive.names()) == len(FILES)


@pytest.mark.parametrize("pack", [zipped, unpacked])
def test_an_archive_that_changes_while_it_is_read_is_refused_at_the_end(
    tmp_path: Path, pack: object
) -> None:
    path = pack(tmp_path / "MURA", FILES)  # type: ignore[operator]
    changed = path if path.is_file() else path / "MURA-v1.1/train/a/image1.png"
    with pytest.raises(DataError, match="was changed while it was read"), open_archive(path):
        os.utime(changed, ns=(1, 1))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (b'"' + b"x" * 200_000, "line 1: field larger than field limit"),
        (b"MURA-v1.1/valid/b/image1.png\n", "expected one below train/"),
        (b"\xff\xfe\n", "train_image_paths.csv: 'utf-8' codec"),
    ],
)
def test_a_list_that_cannot_be_read_is_named_with_its_line(
    tmp_path: Path, rows: bytes, said: str
) -> None:
    files = FILES | {"MURA-v1.1/train_image_paths.csv": rows}
    with (
        pytest.raises(DataError, match=said),
        open_archive(zipped(tmp_path / "bad.zip", files)) as archive,
    ):
        read_listing(archive)


def test_an_entry_packed_by_a_method_without_bounds_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "packed.zip", FILES)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("MURA-v1.1/train/b.png", b"x" * 99, zipfile.ZIP_BZIP2)
    with pytest.raises(DataError, match="packed by method 12, expected stored"), open_archive(path):
        pass


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "MURA", FILES)
    with open(os.fsencode(folder) + b"/MURA-v1.1/\xff.png", "wb"):  # noqa: PTH123  (no text, no Path)
        pass
    with open_archive(folder) as archive, pytest.raises(DataError, match="no printable text"):
        archive.names()


def test_a_link_to_nowhere_in_a_folder_is_passed_over(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "MURA", FILES)
    (folder / "link.png").symlink_to(tmp_path / "nowhere")
    with open_archive(folder) as archive:
        assert not any("link" in name for name in archive.names())
