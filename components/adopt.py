"""`python -m components.adopt`: put an archive under DVC and switch the flow to it.

No step of the flow but the command before it. DVC is called as a command, so that what it does is
what its user would have done by hand.
"""

import argparse
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from bonexray.artifacts import remove, scratch_path, sha256_file, whole_file
from bonexray.command import run_or_exit
from bonexray.config import DataConfig, IngestConfig, ValidateConfig, read_section
from bonexray.errors import ConfigError, DataError
from components import mura
from components.archive import CSV_NAMES, SIMULATED, Archive, open_archive, read_listing
from components.ingest import describe_path
from components.recipe import change_params
from components.splits import assign, read_pins, strata, write_pins
from components.totals import totals

DATA = Path("data")
SPLITS = DATA / "splits.csv"
TERMS = "https://stanfordmlgroup.github.io/competitions/mura/"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.zip")
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def adopt(source: str, accepts_terms: bool, params: Path) -> None:
    """Fetch, check, pack, track and pin an archive, then name it in params.yaml.

    Args:
        source: a zip or an unpacked folder, as a local path or an s3:// URL.
        accepts_terms: whether the user has accepted Stanford's terms for MURA.
        params: params.yaml; data.archive and ingest.archive_sha256 are changed in it, last.

    Raises:
        DataError: the source cannot be had, is not MURA or is one that must not be used.
        ConfigError: the terms were not accepted, or params.yaml cannot be used.
    """
    config = read_section(str(params), ValidateConfig)
    for section in (DataConfig, IngestConfig):  # what will be written must be there to be changed
        read_section(str(params), section)
    if not source:
        raise ConfigError("no archive was named: ARCHIVE=<zip, folder or s3:// URL> (--archive)")
    with _local(source) as archive:
        with open_archive(archive) as opened:
            name = archive.name if archive.is_file() else f"{opened.origin}.zip"
            target = _target(name, archive)
            _check(opened, source, accepts_terms)
            origin, pins = opened.origin, _pins(opened, config)
            if archive.is_dir():
                _pack(opened, target)
        if archive.is_file() and archive.resolve() != target.resolve():
            _copy(archive, target)
    try:
        _dvc("add", str(target))
    except DataError:
        if archive.resolve() != target.resolve():
            remove(target)
        raise
    digest = sha256_file(target)
    write_pins(SPLITS, origin, pins)
    changes = {
        "data": {"archive": target.as_posix()},
        "ingest": {"archive_sha256": digest},
    }
    change_params(params, changes)
    print(f"adopt: {target} is under DVC, {len(pins)} patients have their split in {SPLITS}")
    print(f"adopt: {params} names it, with its SHA-256 {digest}")
    print(f"next:  git add {target}.dvc {SPLITS} {params} && git commit; dvc repro register")


@contextmanager
def _local(source: str) -> Iterator[Path]:
    """The source on this machine; what was fetched is removed again."""
    if not source.startswith("s3://"):
        yield Path(source)
        return
    scratch = scratch_path(DATA / "adopt", "partial")
    fetched = scratch / source.rstrip("/").rpartition("/")[2]
    remove(scratch)
    scratch.mkdir(parents=True)
    try:
        _dvc("get-url", source, str(fetched))
        yield fetched
    finally:
        remove(scratch)


def _target(name: str, archive: Path) -> Path:
    """Where the archive goes. Raises DataError when it must not go there."""
    target = DATA / name
    if not _PLAIN_NAME.fullmatch(name):
        raise DataError(
            f"{name!r}: expected a name of letters, digits, '.', '_' and '-' that ends in .zip, "
            "since commands will hold it; rename the archive"
        )
    if DATA.resolve().is_relative_to(archive.resolve()):
        raise DataError(f"{archive}: holds {DATA}/, where its zip would be written")
    tracked = Path(f"{target}.dvc").exists() or archive.resolve() == target.resolve()
    if target.exists() and not tracked:
        raise DataError(f"{target}: is there already and is not under DVC; rename the archive")
    return target


def _check(archive: Archive, source: str, accepts_terms: bool) -> None:
    if archive.origin == SIMULATED:
        raise DataError(f"{source}: was made by `simulate`, which `dvc repro` runs by itself")
    if archive.origin == mura.ROOT and not accepts_terms:
        raise ConfigError(
            f"{source}: is {mura.ROOT}, which Stanford gives for research under an agreement "
            f"({TERMS}). If you have accepted it there, say so: TERMS=accepted (or --accept-terms)"
        )


def _pins(archive: Archive, config: ValidateConfig) -> dict[str, tuple[str, int]]:
    """What is pinned already, and a place for every patient that is new."""
    listing = read_listing(archive)
    rows = [describe_path(path, listing, True) for path in listing.images]
    views = pd.DataFrame([asdict(row) for row in rows if row.patient])
    if views.empty:
        raise DataError(f"{archive.origin}: its CSVs list no images")
    if archive.origin == mura.ROOT:
        _check_totals(views)
    pinned = read_pins(SPLITS, archive.origin, config.folds)
    tested = views.loc[views["mura_split"] == "valid", "patient"]
    return pinned | assign(strata(views, label="csv_label"), tested, pinned, config)


def _check_totals(views: pd.DataFrame) -> None:
    counts = totals(views)
    wrong = counts.loc[counts["listed"] != counts["published"], "path"]
    if len(wrong):
        raise DataError(
            f"an archive that calls itself {mura.ROOT} must list what was published; {len(wrong)} "
            f"counts differ, first {wrong.iloc[0]}"
        )


def _pack(archive: Archive, target: Path) -> None:
    """Write an unpacked folder as one zip; DVC suffers from 40,000 small files."""
    with whole_file(target) as partial, zipfile.ZipFile(partial, "w") as packed:
        # The lists first, so that a look into the zip finds them at once.
        names = [*CSV_NAMES, *(name for name in archive.names() if name not in CSV_NAMES)]
        for name in names:
            try:
                data = archive.read(name)
            except DataError as error:
                raise DataError(f"{archive.origin}/{name}: {error}") from error
            packed.writestr(zipfile.ZipInfo(f"{archive.origin}/{name}", _ZIP_DATE), data)


def _copy(archive: Path, target: Path) -> None:
    with whole_file(target) as partial:
        shutil.copyfile(archive, partial)


def _dvc(*words: str) -> None:
    command = [sys.executable, "-m", "dvc", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).splitlines()
        errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
        raise DataError(f"`dvc {' '.join(words)}` failed: {'; '.join(errors or said)}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m components.adopt",
        description="Put a MURA archive under DVC and switch the flow to it.",
    )
    parser.add_argument("--archive", required=True, help="zip or folder: a path or an s3:// URL")
    parser.add_argument(
        "--accept-terms",
        action="store_true",
        help=f"you have accepted Stanford's research use agreement, {TERMS}",
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parser.parse_args(argv)
    run_or_exit("adopt", lambda: adopt(args.archive, args.accept_terms, args.params))


if __name__ == "__main__":
    main()
