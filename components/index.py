"""What index.parquet holds: one row a file of the archive, written by ingest, read by validate."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

NO_LABEL = -1
# Why a listed file cannot be used; the names of the rules that put it into quarantine.
BAD_PATH, MISSING, NO_IMAGES = "bad_path", "missing_file", "study_without_image"
EMPTY, UNDECODABLE, BOMB = "empty_file", "undecodable", "too_many_pixels"
PROBLEMS = (BAD_PATH, MISSING, NO_IMAGES, EMPTY, UNDECODABLE, BOMB)


@dataclass(kw_only=True, slots=True)
class IndexRow:
    """What one file, or one CSV row that names no file, turned out to be.

    What was not read is None: Great Expectations passes over nulls.
    """

    path: str
    listed: bool
    """Whether a CSV names it."""
    present: bool
    """Whether the archive holds it."""
    mura_split: str = ""
    body_part: str = ""
    patient: str = ""
    study: str = ""
    folder_label: int = NO_LABEL
    csv_label: int = NO_LABEL
    num_bytes: int | None = None
    sha256: str | None = None
    format: str | None = None
    mode: str | None = None
    bit_depth: int | None = None
    width: int | None = None
    height: int | None = None
    pixel_mean: float | None = None
    pixel_std: float | None = None
    polarity: float | None = None
    sharpness: float | None = None
    problem: str | None = None
    """One of PROBLEMS, for a listed file that cannot be used."""
    error: str = ""
    """The same in words."""


_TYPES: dict[Any, pa.DataType] = {
    str: pa.string(),
    bool: pa.bool_(),
    int: pa.int64(),
    str | None: pa.string(),
    int | None: pa.int64(),
    float | None: pa.float64(),
}
SCHEMA = pa.schema([(name, _TYPES[kind]) for name, kind in IndexRow.__annotations__.items()])
