"""Where the bytes of one file of an archive are: found in one process, read in another."""

import zipfile
import zlib
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol

from bonexray.errors import DataError

MAX_FILE_BYTES = 64 << 20
"""Of one unpacked file; MURA's largest image has less than one MiB."""
# zipfile's ways of saying missing, torn, encrypted or packed by a method it does not know.
_UNREADABLE_ENTRY = (
    KeyError,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    UnicodeDecodeError,
    zipfile.BadZipFile,
    zlib.error,
)


class Place(Protocol):
    """Where a file's bytes are; can be sent to another process, and read there."""

    def read(self) -> bytes:
        """The file's bytes. Raises DataError when they cannot be had."""
        ...


class InFolder(NamedTuple):
    """A file of its own."""

    path: Path

    def read(self) -> bytes:
        """As `Place.read`."""
        try:
            if self.path.stat().st_size > MAX_FILE_BYTES:
                raise DataError(f"has more than {MAX_FILE_BYTES:,} bytes")
            return self.path.read_bytes()
        except OSError as error:
            raise DataError(f"cannot be read from the archive: {error.strerror}") from error


class InZip(NamedTuple):
    """An entry of a zip."""

    archive: Path
    entry: zipfile.ZipInfo

    def read(self) -> bytes:
        """As `Place.read`."""
        return read_entry(_without_directory(self.archive), self.entry)


class _WithoutDirectory(zipfile.ZipFile):
    """Reads entries that another process has found: 40,000 of them again take time and memory."""

    def _RealGetContents(self) -> None:  # noqa: N802  (zipfile's name)
        pass


@cache
def _without_directory(path: Path) -> zipfile.ZipFile:
    return _WithoutDirectory(path)


def read_entry(file: zipfile.ZipFile, entry: "zipfile.ZipInfo | str") -> bytes:
    """The bytes of an entry. Raises DataError when they cannot be had."""
    try:
        return file.read(entry)
    except _UNREADABLE_ENTRY as error:
        raise DataError(f"cannot be read from the archive: {error}") from error
