"""MURA as it is distributed: a zip, or the folder unpacked from one. Knows no pixels.

Paths are those below MURA's root folder, whatever that folder is called.
"""

import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from bonexray.errors import DataError
from components import mura
from components.places import MAX_FILE_BYTES, InFolder, InZip, Place, read_entry

CSV_NAMES = tuple(
    f"{split}_{content}.csv"
    for split in mura.SPLITS
    for content in ("image_paths", "labeled_studies")
)
SIMULATION_FILE = "simulation.json"
"""Lies beside the root of an archive that `simulate` wrote: how it was made, and its faults."""
SIMULATED = "simulated"
_NO_DATE = (1980, 1, 1, 0, 0, 0)


class Archive(Protocol):
    """The files below MURA's root."""

    @property
    def origin(self) -> str:
        """What it claims to be: `simulated`, or the root that its CSVs name (`MURA-v1.1`)."""
        ...

    def simulation(self) -> dict[str, Any] | None:
        """Read simulation.json; None when it is not simulated. Raises DataError.

        Not kept: at MURA's size it takes 30 MB.
        """
        ...

    def names(self) -> list[str]:
        """Every file's path below the root, sorted."""
        ...

    def place(self, name: str) -> Place:
        """Where a file is."""
        ...

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises DataError when they cannot be had."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """What the four CSVs say."""

    images: dict[str, int]
    """Image path -> its line in the CSV of its split."""
    labels: dict[str, int]
    """Study folder -> 0 or 1."""

    def where(self, path: str) -> str:
        """Where a listed image is listed."""
        return f"{path.split('/')[0]}_image_paths.csv, line {self.images[path]}"


class _Folder:
    def __init__(self, root: Path, simulated: bool) -> None:
        self._root = root
        self._simulation = InFolder(root.parent / SIMULATION_FILE) if simulated else None
        self.origin = SIMULATED if simulated else _claimed_root(self)

    def simulation(self) -> dict[str, Any] | None:
        return _read_simulation(self._simulation.read) if self._simulation else None

    def names(self) -> list[str]:
        files = (path for path in self._root.rglob("*") if path.is_file())
        names = sorted(path.relative_to(self._root).as_posix() for path in files)
        for name in names:
            if not name.isprintable():  # bytes that are no text among them
                raise DataError(f"{self._root}: the name {name!r} is no printable text")
        return names

    def place(self, name: str) -> Place:
        return InFolder(self._root / name)

    def read(self, name: str) -> bytes:
        return self.place(name).read()


class _Zip:
    def __init__(self, path: Path, file: zipfile.ZipFile, root: str) -> None:
        self._path, self._file, self._root = path, file, root
        self._simulation = file.NameToInfo.get(f"{PurePosixPath(root).parent / SIMULATION_FILE}")
        for entry in file.infolist():
            entry.date_time = _NO_DATE  # asked by no one; 40,000 of their own take 7 MB
        self.origin = SIMULATED if self._simulation else _claimed_root(self)

    def simulation(self) -> dict[str, Any] | None:
        entry = self._simulation
        return _read_simulation(lambda: read_entry(self._file, entry)) if entry else None

    def names(self) -> list[str]:
        inside = (name for name in self._file.namelist() if name.startswith(self._root))
        return sorted(name[len(self._root) :] for name in inside if not name.endswith("/"))

    def place(self, name: str) -> Place:
        return InZip(self._path, self._file.getinfo(self._root + name))

    def read(self, name: str) -> bytes:
        return read_entry(self._file, self._root + name)


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open MURA from a .zip or a folder.

    Raises:
        DataError: there is nothing at `path`, it is neither, MURA's CSVs are not in it, it is
            MURA-v1.0, an entry climbs out of its folder or unpacks to more than MAX_FILE_BYTES;
            or, at the end, it is no longer what it was when it was opened.
    """
    if path.is_dir():
        before = _fingerprint(path)
        root = Path(_only_root(path, (found.as_posix() for found in path.rglob(CSV_NAMES[0]))))
        _refuse_withdrawn(path, (str(root),))
        simulated = root.name == mura.ROOT and (root.parent / SIMULATION_FILE).exists()
        yield _Folder(root, simulated)
    else:
        if not path.exists():
            raise DataError(f"{path}: no such archive; expected a MURA .zip or an unpacked folder")
        before = _fingerprint(path)
        try:
            file = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, NotImplementedError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: not a zip file ({error}); expected a MURA .zip") from error
        with file:
            _refuse_hostile(path, file.infolist())
            _refuse_withdrawn(path, file.namelist())
            yield _Zip(path, file, _only_root(path, file.namelist()))
    if _fingerprint(path) != before:
        raise DataError(f"{path}: was changed while it was read; nothing was kept of it")


def _read_simulation(read: Callable[[], bytes]) -> dict[str, Any]:
    try:
        return dict(json.loads(read()))
    except (DataError, ValueError, TypeError) as error:
        raise DataError(f"{SIMULATION_FILE}: not readable as a JSON object: {error}") from error


def _fingerprint(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of each file."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    try:
        stats = [(str(file), file.stat() if file.exists() else file.lstat()) for file in files]
    except OSError as error:
        raise DataError(f"{path}: was changed while it was read: {error}") from error
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def _refuse_hostile(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    seen = set()
    for entry in entries:
        parts = entry.filename.replace("\\", "/").split("/")
        if not parts[0] or ":" in parts[0] or ".." in parts:
            raise DataError(f"{path}: entry {entry.filename!r} climbs out of its folder (zip slip)")
        if entry.file_size > MAX_FILE_BYTES:
            raise DataError(
                f"{path}: entry {entry.filename!r} unpacks from {entry.compress_size:,} to "
                f"{entry.file_size:,} bytes, expected at most {MAX_FILE_BYTES:,} "
                "(decompression bomb)"
            )
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # zipfile does not bound what the other methods unpack to.
            raise DataError(
                f"{path}: entry {entry.filename!r} is packed by method {entry.compress_type}, "
                "expected stored or deflated"
            )
        if entry.filename in seen:
            raise DataError(f"{path}: entry {entry.filename!r} is there twice")
        seen.add(entry.filename)


def _refuse_withdrawn(path: Path, names: "list[str] | tuple[str, ...]") -> None:
    if any(mura.WITHDRAWN_ROOT in name.split("/") for name in names):
        raise DataError(
            f"{path}: is {mura.WITHDRAWN_ROOT}, which Stanford withdrew because patient data is "
            f"in it; delete it and get {mura.ROOT}"
        )


def _only_root(path: Path, names: "list[str] | Iterator[str]") -> str:
    roots = [
        name.removesuffix(CSV_NAMES[0]) for name in names if name.rpartition("/")[2] == CSV_NAMES[0]
    ]
    if len(roots) != 1:
        raise DataError(f"{path}: holds {len(roots)} files {CSV_NAMES[0]}, expected one")
    return roots[0]


def _claimed_root(archive: Archive) -> str:
    """The first part of the paths in the CSVs. Raises DataError when it is MURA-v1.0's."""
    for _, row in _rows(archive, CSV_NAMES[0], 1):
        claimed = row[0].split("/")[0]
        _refuse_withdrawn(Path(CSV_NAMES[0]), (claimed,))
        return claimed
    return ""


def read_listing(archive: Archive) -> Listing:
    """Read the four CSVs.

    Raises:
        DataError: a CSV is missing or a row does not have its form; names file and line.
    """
    images: dict[str, int] = {}
    labels: dict[str, int] = {}
    for split in mura.SPLITS:
        for line, row in _rows(archive, f"{split}_image_paths.csv", 1):
            where = f"{split}_image_paths.csv, line {line}"
            image = _below_root(row[0], where)
            if not image.startswith(f"{split}/"):
                raise DataError(f"{where}: path {row[0]!r}, expected one below {split}/")
            images[image] = line
        for line, row in _rows(archive, f"{split}_labeled_studies.csv", 2):
            where = f"{split}_labeled_studies.csv, line {line}"
            if row[1] not in ("0", "1"):
                raise DataError(f"{where}: label {row[1]!r}, expected 0 or 1")
            study, label = _below_root(row[0], where), int(row[1])
            if labels.setdefault(study, label) != label:
                raise DataError(
                    f"{where}: study {study!r} has label {label}, before it had another"
                )
    return Listing(images=images, labels=labels)


def _rows(archive: Archive, name: str, columns: int) -> Iterator[tuple[int, list[str]]]:
    try:
        text = archive.read(name).decode("utf-8-sig")
    except (DataError, UnicodeDecodeError) as error:
        raise DataError(f"{name}: {error}") from error
    lines = csv.reader(io.StringIO(text))
    try:
        for number, row in enumerate(lines, start=1):
            if not row:
                continue
            if len(row) != columns:
                raise DataError(f"{name}, line {number}: {len(row)} columns, expected {columns}")
            yield number, row
    except csv.Error as error:
        raise DataError(f"{name}, line {lines.line_num}: {error}") from error


def _below_root(path: str, where: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or len(parts) < 2 or ".." in parts:
        raise DataError(f"{where}: path {path!r}, expected one below MURA-v1.1/")
    return "/".join(parts[1:])
