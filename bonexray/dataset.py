"""The packed dataset that ingest writes.

images.npy      (N, S, S) uint8, one letterboxed image a file of the archive
index.parquet   N rows, what ingest saw of each file (`bonexray.tables` reads it)
truth.parquet   what was planted in simulated images (`bonexray.tables` reads it)
origin.json     what the archive claims to be
"""

from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from bonexray.artifacts import sha256_file
from bonexray.errors import DataError
from bonexray.images import Pixels

IMAGES_FILE = "images.npy"
INDEX_FILE = "index.parquet"
TRUTH_FILE = "truth.parquet"
ORIGIN_FILE = "origin.json"


class Origin(BaseModel):
    """Where packed images come from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    origin: str
    """`simulated`, or the root folder that the archive's CSVs name, such as `MURA-v1.1`."""
    archive_sha256: str
    """Digest that the archive had to have; empty when none was pinned."""


def open_images(dataset: Path) -> Pixels:
    """Map images.npy read-only: (N, S, S) uint8. Raises DataError."""
    path = dataset / IMAGES_FILE
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: not readable as packed images: {error}") from error
    if not isinstance(images, np.ndarray):
        raise DataError(f"{path}: holds several arrays, expected one")
    if images.ndim != 3 or images.dtype != np.uint8 or images.shape[1] != images.shape[2]:
        raise DataError(f"{path}: {images.dtype} {images.shape}, expected uint8 (N, S, S)")
    return images


def read_origin(dataset: Path) -> Origin:
    """Read origin.json. Raises DataError."""
    path = dataset / ORIGIN_FILE
    try:
        return Origin.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not readable as a dataset's origin: {reason}") from error


def dataset_digest(dataset: Path) -> str:
    """SHA-256 of the packed pixels: names the data in bundle and registry."""
    return sha256_file(dataset / IMAGES_FILE)
