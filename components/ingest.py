"""Archive -> packed pixels and their index. The only step that opens image files.

N files, S the side of the packed image in pixels.
"""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
from tqdm import tqdm

from bonexray.artifacts import whole_folder
from bonexray.command import run_or_exit, step_parser
from bonexray.config import IngestConfig, read_section
from bonexray.dataset import IMAGES_FILE, INDEX_FILE
from bonexray.errors import DataError, ImageError
from bonexray.images import Pixels, letterbox, open_image, to_grey
from bonexray.studies import parse_view_path
from components.archive import CSV_NAMES, Archive, Listing, open_archive, read_listing

_CHUNK = 256  # files in memory at once
NO_LABEL = -1


@dataclass(kw_only=True, slots=True)
class IndexRow:
    """What one file, or one CSV row that names no file, turned out to be."""

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
    num_bytes: int = 0
    sha256: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    pixel_mean: float = 0.0
    """Over the decoded 8-bit grey image, 0 to 255."""
    pixel_std: float = 0.0
    error: str = ""
    """Why it cannot be used; empty when it can."""


def describe_path(path: str, listing: Listing, present: bool) -> IndexRow:
    """The part of a row that the path and the CSVs tell."""
    row = IndexRow(path=path, listed=path in listing.images, present=present)
    try:
        view = parse_view_path(path)
    except ValueError as error:
        row.error = f"{error} ({listing.images.get(path, 'listed in no CSV')})"
        return row
    row.mura_split, row.body_part, row.patient = view.mura_split, view.body_part, view.patient
    row.study, row.folder_label = view.study, view.label
    row.csv_label = listing.labels.get(view.study, NO_LABEL)
    if not present:
        row.error = f"{listing.images[path]} names a file that is not in the archive"
    return row


def read_view(row: IndexRow, data: bytes, size: int) -> Pixels | None:
    """Fill in what the bytes tell; return the (S, S) uint8 pixels, None when unreadable."""
    row.num_bytes, row.sha256 = len(data), hashlib.sha256(data).hexdigest()
    try:
        image = open_image(data)
    except ImageError as error:
        row.error = row.error or str(error)
        return None
    pixels = to_grey(image)
    row.mode, (row.width, row.height) = image.mode, image.size
    row.pixel_mean, row.pixel_std = float(pixels.mean()), float(pixels.std())
    return letterbox(pixels, size)


def ingest(archive: Path, out: Path, config: IngestConfig) -> None:
    """Read every file of the archive once and write images.npy and index.parquet to `out`.

    Raises:
        DataError: the archive is missing, is not MURA, or lists no images.
    """
    with open_archive(archive) as source, whole_folder(out) as folder:
        listing = read_listing(source)
        present = set(source.names()) - set(CSV_NAMES)
        strays = sorted(present - set(listing.images))
        rows = [describe_path(p, listing, p in present) for p in [*listing.images, *strays]]
        if not listing.images:
            raise DataError(f"{archive}: its CSVs list no images")
        images = np.lib.format.open_memmap(
            folder / IMAGES_FILE,
            mode="w+",
            dtype=np.uint8,
            shape=(len(rows), config.image_size, config.image_size),
        )
        _pack(source, rows, images)
        images.flush()
        pd.DataFrame(map(asdict, rows)).to_parquet(folder / INDEX_FILE, index=False)
    unreadable = sum(bool(row.error) for row in rows)
    print(f"ingest: {len(rows)} files of {archive}, {unreadable} unusable -> {out}")


def _pack(source: Archive, rows: list[IndexRow], images: Pixels) -> None:
    size = images.shape[1]

    def fill(position: int, data: bytes | DataError) -> None:
        if isinstance(data, DataError):
            rows[position].error = str(data)
        elif (pixels := read_view(rows[position], data, size)) is not None:
            images[position] = pixels

    def fetch(position: int) -> bytes | DataError:
        try:
            return source.read(rows[position].path)
        except DataError as error:
            return error

    there = [position for position, row in enumerate(rows) if row.present]
    # Threads: Pillow and hashlib release the interpreter lock while they work.
    with ThreadPoolExecutor(os.cpu_count()) as pool, _progress(len(there)) as bar:
        for start in range(0, len(there), _CHUNK):
            chunk = there[start : start + _CHUNK]
            list(pool.map(fill, chunk, map(fetch, chunk)))
            bar.update(len(chunk))


def _progress(total: int) -> "tqdm[NoReturn]":
    return tqdm(total=total, desc="ingest", unit="image", disable=None)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of the step."""
    parser = step_parser("ingest", "Decode an archive once into packed pixels and an index.")
    parser.add_argument("--archive", type=Path, required=True, help="MURA .zip or folder")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args(argv)
    run_or_exit(
        "ingest",
        lambda: ingest(args.archive, args.out, read_section(args.params, IngestConfig)),
    )


if __name__ == "__main__":
    main()
