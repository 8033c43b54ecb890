"""Files that are either whole or not there, and the digests that name them.

A step writes beside its target under a hidden name and renames at the end, so a kill at any
moment leaves the old output or none. The hidden name is fixed per target: the next run of the
same step clears what a killed one left.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bonexray.errors import ConfigError

_CHUNK = 1 << 20


def scratch_path(target: Path, purpose: str) -> Path:
    """The hidden sibling of `target` that its own step alone may use for `purpose`."""
    return target.parent / f".{target.name}.{purpose}"


def remove(path: Path) -> None:
    """Delete a file or a folder; nothing happens when there is none.

    Raises:
        ConfigError: it is the working directory or holds it: an output must have its own place.
    """
    if Path.cwd().is_relative_to(path.resolve()):
        raise ConfigError(f"{path}: is or holds the working directory, expected a place of its own")
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yield a path to write to; it becomes `target` only when the block ends without error."""
    partial = scratch_path(target, "partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    remove(partial)
    try:
        yield partial
        _flush_to_disk(partial)
        partial.replace(target)
    finally:
        remove(partial)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it replaces `target` only when the block ends without error.

    A kill between removing the old folder and renaming the new one leaves no target at all,
    never a mixture of the two.
    """
    partial = scratch_path(target, "partial")
    remove(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
        for path in sorted(partial.rglob("*")):
            if path.is_file():
                _flush_to_disk(path)
        remove(target)
        partial.rename(target)
    finally:
        remove(partial)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as sorted, indented JSON, whole or not at all. NaN is refused."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    with whole_file(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of a value's canonical JSON: equal values give equal digests."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _flush_to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
