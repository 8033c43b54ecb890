"""Archive -> packed pixels and their index. The only step that opens image files.

N rows, one a file (and one a study that has none); S the side of the packed image in pixels.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from bonexray.artifacts import refuse_overlap, sha256_file, whole_folder, write_json
from bonexray.command import run_or_exit, step_parser
from bonexray.config import IngestConfig, read_section
from bonexray.dataset import IMAGES_FILE, INDEX_FILE, ORIGIN_FILE, Origin
from bonexray.errors import DataError, ImageError, TooManyPixelsError
from bonexray.images import Pixels, fit, letterbox, open_image, to_grey
from bonexray.studies import parse_view_path
from components.archive import CSV_NAMES, Archive, Listing, open_archive, read_listing
from components.index import (
    BAD_PATH,
    BOMB,
    EMPTY,
    MISSING,
    NO_IMAGES,
    NO_LABEL,
    SCHEMA,
    UNDECODABLE,
    IndexRow,
)
from components.places import Place
from components.properties import bit_depth, measure
from components.truth import write_truth
from components.workers import Workers

_BATCH = 64  # files that a worker is given at once
_ROW_GROUP = 1024  # rows that are written to the index at once


def describe_path(path: str, listing: Listing, present: bool) -> IndexRow:
    """The part of a row that the path and the CSVs tell."""
    row = IndexRow(path=path, listed=path in listing.images, present=present)
    where = listing.where(path) if row.listed else "listed in no CSV"
    try:
        view = parse_view_path(path)
    except ValueError as error:
        row.problem, row.error = BAD_PATH if row.listed else None, f"{error} ({where})"
        return row
    row.mura_split, row.body_part, row.patient = view.mura_split, view.body_part, view.patient
    row.study, row.folder_label = view.study, view.label
    row.csv_label = listing.labels.get(view.study, NO_LABEL)
    if not present:
        row.problem, row.error = MISSING, f"{where} names a file that is not in the archive"
    elif not row.listed:
        row.error = where
    return row


def describe_study(study: str, listing: Listing) -> IndexRow:
    """The row of a study that the CSVs label without listing an image of it."""
    row = describe_path(f"{study}/image1.png", listing, False)
    row.path, row.listed = f"{study}/", True
    row.problem = NO_IMAGES if row.patient else BAD_PATH
    row.error = "has a label in the CSVs, but no image is listed of it"
    return row


def read_view(row: IndexRow, data: bytes | DataError | None, size: int) -> Pixels:
    """Fill in what the bytes tell; return the (S, S) uint8 pixels, black when there are none."""
    if data is None:
        return np.zeros((size, size), np.uint8)
    if isinstance(data, DataError):
        return _unreadable(row, UNDECODABLE, data, size)
    row.num_bytes, row.sha256 = len(data), hashlib.sha256(data).hexdigest()
    try:
        image = open_image(data)
    except TooManyPixelsError as error:
        return _unreadable(row, BOMB, error, size)
    except ImageError as error:
        return _unreadable(row, UNDECODABLE if data else EMPTY, error, size)
    fitted = fit(to_grey(image), size)
    row.format, row.mode, (row.width, row.height) = image.format, image.mode, image.size
    row.bit_depth = bit_depth(data, image.format or "")
    properties = measure(fitted)
    row.pixel_mean, row.pixel_std = properties.pixel_mean, properties.pixel_std
    row.polarity, row.sharpness = properties.polarity, properties.sharpness
    return letterbox(fitted, size)


def _unreadable(row: IndexRow, problem: str, error: Exception, size: int) -> Pixels:
    row.error = row.error or str(error)
    row.problem = row.problem or (problem if row.listed else None)
    return np.zeros((size, size), np.uint8)


def ingest(archive: Path, out: Path, config: IngestConfig) -> None:
    """Read every file of the archive once and write images.npy, index.parquet and origin.json.

    Of a simulated archive, truth.parquet too.

    Raises:
        DataError: the archive is missing, is not MURA, is not the pinned one, lists no images or
            changes while it is read.
    """
    refuse_overlap([out], [archive])
    with whole_folder(out) as folder:
        with open_archive(archive) as source:
            with Workers() as workers:
                _check_pin(archive, config.archive_sha256)
                plan = _Plan.of(source)
                if not plan.listing.images:
                    raise DataError(f"{archive}: its CSVs list no images")
                unusable = _pack(source, plan, folder, config.image_size, workers)
            # Once the workers have given their memory back: what every view shows takes 30 MB.
            write_truth(source.simulation(), folder, config.image_size)
            origin = Origin(origin=source.origin, archive_sha256=config.archive_sha256)
        write_json(folder / ORIGIN_FILE, origin.model_dump())
    print(f"ingest: {len(plan.paths)} files of {archive}, {unusable} unusable -> {out}")


def _check_pin(archive: Path, pinned: str) -> None:
    if not pinned:
        return
    if not archive.is_file():
        raise DataError(f"{archive}: no such file, but ingest.archive_sha256 pins one's bytes")
    actual = sha256_file(archive)
    if actual != pinned:
        raise DataError(
            f"{archive}: SHA-256 is {actual}, but ingest.archive_sha256 expects {pinned}"
        )


@dataclass(frozen=True, slots=True)
class _Plan:
    """Every row's path, in order: listed images, stray files, then studies without an image.

    Rows are made of it a batch at a time: 40,000 of them at once would take their memory.
    """

    listing: Listing
    missing: set[str]
    paths: list[str]

    @staticmethod
    def of(source: Archive) -> "_Plan":
        listing = read_listing(source)
        present = set(source.names())
        missing = listing.images.keys() - present
        strays = sorted(present - listing.images.keys() - set(CSV_NAMES))
        with_images = {path.rpartition("/")[0] for path in listing.images}
        bare = [f"{study}/" for study in listing.labels if study not in with_images]
        return _Plan(listing, missing, [*listing.images, *strays, *bare])

    def row(self, path: str) -> IndexRow:
        if path.endswith("/"):
            return describe_study(path.rstrip("/"), self.listing)
        return describe_path(path, self.listing, path not in self.missing)


def _pack(source: Archive, plan: _Plan, folder: Path, size: int, workers: Workers) -> int:
    """Write pixels and index as the files are read; return how many rows cannot be used."""
    images, total = folder / IMAGES_FILE, len(plan.paths)
    start = _write_header(images, (total, size, size))

    def batches() -> Iterator[Batch]:
        for first in range(0, total, _BATCH):
            rows = [plan.row(path) for path in plan.paths[first : first + _BATCH]]
            places = [source.place(row.path) if row.present else None for row in rows]
            yield Batch(images, start + first * size**2, size, rows, places)

    unusable, group = 0, list[IndexRow]()
    with (
        pq.ParquetWriter(folder / INDEX_FILE, SCHEMA) as index,
        tqdm(total=total, desc="ingest", unit="image", disable=None) as bar,
    ):
        for done in workers.in_order(pack_batch, batches()):
            unusable += sum(bool(row.error) for row in done)
            bar.update(len(done))
            group += done
            if len(group) >= _ROW_GROUP:
                index.write_table(_table(group))
                group.clear()
        if group:
            index.write_table(_table(group))
    return unusable


def _table(rows: list[IndexRow]) -> pa.Table:
    columns = zip(*map(attrgetter(*SCHEMA.names), rows), strict=True)
    return pa.Table.from_pydict(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that follow each other, where their files are, and where their pixels go."""

    images: Path
    offset: int
    size: int
    rows: list[IndexRow]
    places: list[Place | None]


def pack_batch(batch: Batch) -> list[IndexRow]:
    """Write the pixels of a batch at its place in images.npy and return its filled rows."""
    squares = [
        read_view(row, _fetch(place), batch.size)
        for row, place in zip(batch.rows, batch.places, strict=True)
    ]
    # Written, not memory-mapped: on a full disk a map kills the process without a word.
    with batch.images.open("r+b") as file:
        file.seek(batch.offset)
        file.write(b"".join(square.tobytes() for square in squares))
    return batch.rows


def _fetch(place: Place | None) -> bytes | DataError | None:
    try:
        return place.read() if place else None
    except DataError as error:
        return error


def _write_header(path: Path, shape: tuple[int, ...]) -> int:
    """Start the packed images; return the offset of the first one."""
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        return file.tell()


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
