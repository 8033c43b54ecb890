"""Files that are either whole or not there, and the digests that name them.

A step writes beside its target under a hidden name and renames at the end, so a kill at any
moment leaves the old output or none. The hidden name is fixed per target: the next run of the
same step clears what a killed one left.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
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
        ConfigError: it is the working directory or holds it, or is a device: an output must have
            its own place.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ConfigError(f"{path}: is neither a file nor a folder, expected a place of its own")
    if Path.cwd().is_relative_to(path.resolve()):
        raise ConfigError(f"{path}: is or holds the working directory, expected a place of its own")
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yield a path to write to; it becomes `target` only when the block ends without error.

    Raises:
        ConfigError: the target is a folder or a device.
    """
    if target.exists() and not target.is_file():
        raise ConfigError(f"{target}: is no file, expected the place of one")
    partial = scratch_path(target, "partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear(partial)
    partial.touch()
    with _claimed(partial):
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

    Raises:
        ConfigError: the target is a file, a device, or as in `remove`.
    """
    refuse_file(target)
    partial = scratch_path(target, "partial")
    _clear(partial)
    partial.mkdir(parents=True)
    with _claimed(partial):
        try:
            yield partial
            for path in sorted(partial.rglob("*")):
                if path.is_file():
                    _flush_to_disk(path)
            remove(target)
            partial.rename(target)
        finally:
            remove(partial)


def refuse_file(out: Path) -> None:
    """Refuse a file where a folder is to be written, before hours are spent. Raises ConfigError."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: is no folder, expected the place of one")


def refuse_overlap(outs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Refuse an output that would take the place of an input or of another output.

    Raises:
        ConfigError: one is the other or holds it.
    """
    for number, out in enumerate(outs):
        for other in [*inputs, *outs[:number], *outs[number + 1 :]]:
            if other.resolve().is_relative_to(out.resolve()):
                raise ConfigError(f"{out}: is or holds {other}, expected a place of its own")


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


@contextmanager
def _claimed(partial: Path) -> Iterator[None]:
    """Hold what is being written; the system lets go of it when the process ends, however."""
    handle = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _clear(partial: Path) -> None:
    """Remove what a killed run left. Raises ConfigError when a run that lives is writing it."""
    if partial.exists():
        try:
            with _claimed(partial):
                pass
        except BlockingIOError as error:
            raise ConfigError(f"{partial}: another run is writing it; wait for its end") from error
    remove(partial)


def _flush_to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
