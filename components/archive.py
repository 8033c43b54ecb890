"""MURA as it is distributed: a zip, or the folder unpacked from one. Knows no pixels.

Paths are those below MURA's root folder, whatever that folder is called.
"""

import csv
import io
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from bonexray.errors import DataError

SPLIT_NAMES = ("train", "valid")
CSV_NAMES = tuple(
    f"{split}_{content}.csv"
    for split in SPLIT_NAMES
    for content in ("image_paths", "labeled_studies")
)
# zipfile's ways of saying missing, torn, encrypted or packed by a method it does not know.
_UNREADABLE_ENTRY = (
    KeyError,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


class Archive(Protocol):
    """The files below MURA's root."""

    def names(self) -> list[str]:
        """Every file's path below the root, sorted."""
        ...

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises DataError when they cannot be had."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """What the four CSVs say."""

    images: dict[str, str]
    """Image path -> where it is listed ("train_image_paths.csv, line 3")."""
    labels: dict[str, int]
    """Study folder -> 0 or 1."""


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> list[str]:
        files = (path for path in self._root.rglob("*") if path.is_file())
        return sorted(path.relative_to(self._root).as_posix() for path in files)

    def read(self, name: str) -> bytes:
        try:
            return (self._root / name).read_bytes()
        except OSError as error:
            raise DataError(f"cannot be read from the archive: {error.strerror}") from error


class _Zip:
    def __init__(self, file: zipfile.ZipFile, root: str) -> None:
        self._file, self._root = file, root
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        inside = (name for name in self._file.namelist() if name.startswith(self._root))
        return sorted(name[len(self._root) :] for name in inside if not name.endswith("/"))

    def read(self, name: str) -> bytes:
        try:
            with self._lock:
                return self._file.read(self._root + name)
        except _UNREADABLE_ENTRY as error:
            raise DataError(f"cannot be read from the archive: {error}") from error


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open MURA from a .zip or a folder.

    Raises:
        DataError: there is nothing at `path`, it is neither, or MURA's CSVs are not in it.
    """
    if path.is_dir():
        roots = sorted(found.parent for found in path.rglob(CSV_NAMES[0]))
        yield _Folder(Path(_only_root(path, [str(root) for root in roots])))
        return
    if not path.exists():
        raise DataError(f"{path}: no such archive; expected a MURA .zip or an unpacked folder")
    try:
        file = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: not a zip file ({error}); expected a MURA .zip") from error
    with file:
        listed = (name for name in file.namelist() if name.endswith(CSV_NAMES[0]))
        yield _Zip(file, _only_root(path, [name[: -len(CSV_NAMES[0])] for name in listed]))


def _only_root(path: Path, roots: list[str]) -> str:
    if len(roots) != 1:
        raise DataError(f"{path}: holds {len(roots)} files {CSV_NAMES[0]}, expected one")
    return roots[0]


def read_listing(archive: Archive) -> Listing:
    """Read the four CSVs.

    Raises:
        DataError: a CSV is missing or a row does not have its form; names file and line.
    """
    images: dict[str, str] = {}
    labels: dict[str, int] = {}
    for split in SPLIT_NAMES:
        for where, row in _rows(archive, f"{split}_image_paths.csv", 1):
            images[_below_root(row[0], where)] = where
        for where, row in _rows(archive, f"{split}_labeled_studies.csv", 2):
            if row[1] not in ("0", "1"):
                raise DataError(f"{where}: label {row[1]!r}, expected 0 or 1")
            study, label = _below_root(row[0], where), int(row[1])
            if labels.setdefault(study, label) != label:
                raise DataError(
                    f"{where}: study {study!r} has label {label}, before it had another"
                )
    return Listing(images=images, labels=labels)


def _rows(archive: Archive, name: str, columns: int) -> Iterator[tuple[str, list[str]]]:
    try:
        text = archive.read(name).decode("utf-8-sig")
    except (DataError, UnicodeDecodeError) as error:
        raise DataError(f"{name}: {error}") from error
    for number, row in enumerate(csv.reader(io.StringIO(text)), start=1):
        if not row:
            continue
        where = f"{name}, line {number}"
        if len(row) != columns:
            raise DataError(f"{where}: {len(row)} columns, expected {columns}")
        yield where, row


def _below_root(path: str, where: str) -> str:
    parts = PurePosixPath(path).parts
    if len(parts) < 2 or ".." in parts:
        raise DataError(f"{where}: path {path!r}, expected one below MURA-v1.1/")
    return "/".join(parts[1:])
