"""Folders that name each of their files by its SHA-256, in a manifest that is written last.

A sealed folder's digest is that of its manifest: it names every byte in the folder.
"""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bonexray.artifacts import remove, sha256_file, write_json
from bonexray.errors import SealError

MANIFEST_FILE = "manifest.json"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(BaseModel):
    """Of a sealed folder."""

    model_config = ConfigDict(extra="forbid")

    sha256: dict[str, Sha256]
    """File, as a path below the folder, -> digest."""


def seal(folder: Path) -> str:
    """Write the manifest of a folder's files, last, and return the folder's digest."""
    remove(folder / MANIFEST_FILE)
    files = {name: sha256_file(folder / name) for name in _files(folder)}
    write_json(folder / MANIFEST_FILE, {"sha256": files})
    return sha256_file(folder / MANIFEST_FILE)


def verify_seal(folder: Path, required: set[str]) -> str:
    """Compare each file of a folder with its manifest and return the folder's digest.

    Args:
        folder: sealed.
        required: files that it must hold.

    Raises:
        SealError: a file is missing, extra or altered, or the manifest cannot be read.
    """
    manifest = folder / MANIFEST_FILE
    try:
        expected = Manifest.model_validate_json(manifest.read_bytes()).sha256
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise SealError(f"{manifest}: not readable as a manifest: {reason}") from error
    present = set(_files(folder)) - {MANIFEST_FILE}
    if present != set(expected):
        extra, missing = sorted(present - set(expected)), sorted(set(expected) - present)
        raise SealError(f"{folder}: holds {extra} beside its manifest, and lacks {missing} of it")
    if not required <= present:
        raise SealError(f"{folder}: lacks {sorted(required - present)}")
    for name, digest in expected.items():
        actual = sha256_file(folder / name)
        if actual != digest:
            raise SealError(f"{folder / name}: SHA-256 is {actual}, expected {digest}")
    return sha256_file(manifest)


def _files(folder: Path) -> list[str]:
    """Everything below the folder that is not a folder, a link too: nothing goes unnamed."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in found)
