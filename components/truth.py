"""What was planted in simulated images, in pixels of the packed squares.

Only an archive that `simulate` wrote tells; of patients nothing is known but the label.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bonexray.errors import DataError
from bonexray.images import fitted_size
from components.archive import SIMULATION_FILE

_SCHEMA = pa.schema(
    [("row", pa.int64()), ("marker", pa.bool_()), ("finding", pa.string())]
    + [(edge, pa.float64()) for edge in ("left", "top", "right", "bottom")]
)
_NO_LESION = {"finding": "", "box": [None] * 4}


def write_truth(simulation: Mapping[str, Any] | None, index: Path, size: int, truth: Path) -> None:
    """Write truth.parquet; nothing when the archive does not tell.

    Args:
        simulation: simulation.json; None when the archive is not simulated.
        index: index.parquet, whose rows are those of the packed images.
        size: S.
        truth: file to write.

    Raises:
        DataError: simulation.json does not hold what `simulate` writes.
    """
    if simulation is None or "views" not in simulation:
        return
    table = pq.read_table(index, columns=["path", "width", "height"])
    try:
        rows = list(_rows(simulation["views"], table.to_pylist(), size))
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), truth)
    except (KeyError, TypeError, ValueError, AttributeError, pa.ArrowInvalid) as error:
        raise DataError(
            f"{SIMULATION_FILE}: views: not as simulate writes them: {error}"
        ) from error


def _rows(
    views: Mapping[str, Any], images: list[dict[str, Any]], size: int
) -> Iterator[dict[str, Any]]:
    for number, image in enumerate(images):
        view = views.get(image["path"])
        if view is None or image["width"] is None:  # a stray, or one that a fault has spoilt
            continue
        width, height = fitted_size(image["width"], image["height"], size)
        left, top = (size - width) // 2, (size - height) // 2
        for lesion in view["lesions"] or [_NO_LESION]:
            x0, y0, x1, y1 = lesion["box"]
            yield {"row": number, "marker": view["marker"], "finding": lesion["finding"]} | (
                {}
                if x0 is None
                else {
                    "left": left + x0 * width,
                    "top": top + y0 * height,
                    "right": left + x1 * width,
                    "bottom": top + y1 * height,
                }
            )
