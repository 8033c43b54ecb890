"""The tables between the steps.

index.parquet      N rows, what ingest saw of each file of the archive
truth.parquet      what was planted in simulated images; there is none of real ones: row (into
                   images.npy), marker (whether a side marker is on the film), finding, and its
                   box left, top, right, bottom in pixels of the packed square. A row a view and
                   lesion; a view that shows none has one row, finding "" and no box
manifest.parquet   the accepted views: row (into images.npy), path, study, patient,
                   body_part, label (0 or 1), split (train, val or test), fold (-1 in test)

Apart from `bonexray.dataset`, since pandas takes longer to import than ingest's workers may.
"""

from pathlib import Path

import pandas as pd

from bonexray.artifacts import sha256_file
from bonexray.dataset import INDEX_FILE, TRUTH_FILE
from bonexray.errors import DataError

TRUTH_COLUMNS = ["row", "marker", "finding", "left", "top", "right", "bottom"]
MANIFEST_FILE = "manifest.parquet"
MANIFEST_COLUMNS = ["row", "path", "study", "patient", "body_part", "label", "split", "fold"]


def read_index(dataset: Path) -> pd.DataFrame:
    """Read index.parquet. Raises DataError."""
    return _read_table(dataset / INDEX_FILE)


def read_truth(dataset: Path) -> pd.DataFrame | None:
    """Read truth.parquet; None where the images are not simulated. Raises DataError."""
    path = dataset / TRUTH_FILE
    return _read_table(path, TRUTH_COLUMNS) if path.exists() else None


def read_manifest(validated: Path) -> pd.DataFrame:
    """Read manifest.parquet. Raises DataError."""
    return _read_table(validated / MANIFEST_FILE)


def manifest_digest(validated: Path) -> str:
    """SHA-256 of the manifest: names the accepted views and their split."""
    return sha256_file(validated / MANIFEST_FILE)


def _read_table(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    try:
        return pd.read_parquet(path, columns=columns)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as a table: {error}") from error
