"""What was planted in simulated images, in pixels of the packed squares.

Only an archive that `simulate` wrote tells; of patients nothing is known but the label.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bonexray.dataset import INDEX_FILE, TRUTH_FILE
from bonexray.errors import DataError
from bonexray.images import fitted_size
from components.archive import SIMULATION_FILE

_EDGES = ("left", "top", "right", "bottom")
_SCHEMA = pa.schema(
    [("row", pa.int32()), ("marker", pa.bool_()), ("finding", pa.string())]
    + [(edge, pa.float32()) for edge in _EDGES]
)
_BATCH = 1024  # rows of the index that are read at once


def write_truth(simulation: Mapping[str, Any] | None, dataset: Path, size: int) -> None:
    """Write truth.parquet beside index.parquet; nothing when the archive does not tell.

    Args:
        simulation: simulation.json; None when the archive is not simulated.
        dataset: folder that holds the index, whose rows are those of the packed images.
        size: S.

    Raises:
        DataError: simulation.json does not hold what `simulate` writes.
    """
    if simulation is None or "views" not in simulation:
        return
    with (
        pq.ParquetFile(dataset / INDEX_FILE) as index,
        pq.ParquetWriter(dataset / TRUTH_FILE, _SCHEMA) as truth,
    ):
        first = 0
        for batch in index.iter_batches(_BATCH, columns=["path", "width", "height"]):
            truth.write_table(_truth_of(batch.to_pylist(), first, simulation["views"], size))
            first += len(batch)


def _truth_of(
    images: list[dict[str, Any]], first: int, views: Mapping[str, Any], size: int
) -> pa.Table:
    try:
        rows = list(_rows(images, first, views, size))
        return pa.Table.from_pylist(rows, schema=_SCHEMA)
    except (KeyError, TypeError, ValueError, AttributeError, pa.ArrowInvalid) as error:
        raise DataError(
            f"{SIMULATION_FILE}: views: not as simulate writes them: {error}"
        ) from error


def _rows(
    images: list[dict[str, Any]], first: int, views: Mapping[str, Any], size: int
) -> Iterator[dict[str, Any]]:
    for row, image in enumerate(images, first):
        view = views.get(image["path"])
        if view is None or image["width"] is None:  # a stray, or one that a fault has spoilt
            continue
        own = {"row": row, "marker": view["marker"]}
        fitted = fitted_size(image["width"], image["height"], size)
        for lesion in view["lesions"]:
            box = _in_square(lesion["box"], fitted, size)
            yield own | {"finding": lesion["finding"]} | dict(zip(_EDGES, box, strict=True))
        if not view["lesions"]:
            yield own | {"finding": ""}


def _in_square(box: list[float], fitted: tuple[int, int], size: int) -> list[float]:
    """Shares of an image, in pixels of the square that it is letterboxed on."""
    margins = [(size - side) // 2 for side in fitted]
    return [margins[k % 2] + share * fitted[k % 2] for k, share in enumerate(box)]
