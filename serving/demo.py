"""Show the champion at work: start the server, read one abnormal and one normal test study.

The archive is MURA's, a zip or the folder unpacked from one, simulated or real.
"""

import argparse
import csv
import re
import signal
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import NoReturn

from bonexray.command import run_or_exit
from bonexray.errors import DataError
from serving.answer_text import render
from serving.remote import NoAnswerError, Server, ask

_STUDIES_FILE = "valid_labeled_studies.csv"
_START_LIMIT_S = 120
_MIN_VIEWS = 2
_WHERE_THINGS_ARE = """
Where to look next (commands after: . .venv/bin/activate)
  report         reports/evaluation/report.html
  data checks    reports/validation/data_docs/index.html
  runs, models   mlflow ui   (http://127.0.0.1:5000)
  serve          make serve   (http://127.0.0.1:8080)
  ask            python -m serving.client STUDY_FOLDER"""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledStudy:
    """A study of MURA's valid set, which is our test set."""

    name: str
    """Its folder below MURA's root."""
    body_part: str
    label: str
    """`abnormal` or `normal`."""
    views: tuple[tuple[str, bytes], ...]
    """Name and bytes of each view."""


def find_studies(archive: Path) -> list[LabelledStudy]:
    """The first abnormal and the first normal test study that have two or more views.

    Raises:
        DataError: the archive cannot be read, or does not hold both.
    """
    try:
        root = _mura_root(archive)
        rows = csv.reader((root / _STUDIES_FILE).read_text(encoding="utf-8-sig").splitlines())
        wanted = {"1": "abnormal", "0": "normal"}
        studies = []
        for folder, label in rows:
            if label not in wanted:
                continue
            name = "/".join(PurePosixPath(folder).parts[1:])
            views = _read_views(root / name)
            if len(views) >= _MIN_VIEWS:
                studies.append(
                    LabelledStudy(
                        name=name,
                        body_part=PurePosixPath(name).parts[1],
                        label=wanted.pop(label),
                        views=views,
                    )
                )
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{archive}: cannot be read as MURA: {error}") from error
    if wanted:
        missing = " and no ".join(wanted.values())
        raise DataError(f"{archive}: holds no {missing} test study of {_MIN_VIEWS} or more views")
    return sorted(studies, key=lambda study: study.label)


@contextmanager
def running_server(store: Path, trust: Path | None = None) -> Iterator[str]:
    """Start `python -m serving` on a free port, yield its URL, and stop it whatever happens.

    Args:
        store: whose champion it serves.
        trust: what its signature is verified with; None for the server's own default.

    Raises:
        NoAnswerError: it ended before it was ready; the message holds its own.
    """
    command = [sys.executable, "-m", "serving", "--store", str(store)]
    command += ["--port", "0", "--grpc-port", "0", "--metrics-port", "0"]
    if trust is not None:
        command += ["--trust", str(trust)]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as complaints:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True)
        deadline = threading.Timer(_START_LIMIT_S, server.kill)
        deadline.start()
        try:
            assert server.stdout is not None
            ready_line = server.stdout.readline()
            deadline.cancel()
            url = re.search(r"http://\S+:\d+", ready_line)
            if url is None:
                server.wait()
                complaints.seek(0)
                reason = complaints.read().strip() or f"no word in {_START_LIMIT_S} seconds"
                raise NoAnswerError(f"the server did not start: {reason}")
            print(ready_line)
            yield url[0]
        finally:
            deadline.cancel()
            _stop(server)


def show(archive: Path, store: Path, trust: Path | None) -> None:
    """Read both studies and print what came back, with the truth beside it."""
    studies = find_studies(archive)
    with running_server(store, trust) as url:
        for study in studies:
            names = [name for name, _ in study.views]
            views = [data for _, data in study.views]
            (reading,) = ask(Server(url=url), [views], study.body_part)
            print(f"== {study.name} ==\n{render(reading, names, truth=study.label)}\n")
    print(_WHERE_THINGS_ARE.lstrip("\n"))


def main(argv: list[str] | None = None) -> None:
    """Parse the flags and show."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.demo", description="Show the champion at work on two test studies."
    )
    parser.add_argument(
        "--archive", type=Path, required=True, help="MURA as a .zip or an unpacked folder"
    )
    parser.add_argument(
        "--store", type=Path, default=Path("release"), help="folder of approved bundles"
    )
    parser.add_argument("--trust", type=Path, help="as of `python -m serving`, which it goes to")
    args = parser.parse_args(argv)
    # As exceptions, so that the server is stopped on the way out.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit_on_signal)
    run_or_exit("serving.demo", lambda: show(args.archive, args.store, args.trust))


def _mura_root(archive: Path) -> Traversable:
    top: Traversable = zipfile.Path(archive) if archive.is_file() else archive
    inside = sorted((path for path in top.iterdir() if path.is_dir()), key=lambda path: path.name)
    for folder in (top, *inside):
        if (folder / _STUDIES_FILE).is_file():
            return folder
    raise DataError(f"{archive}: holds no {_STUDIES_FILE}")


def _read_views(study: Traversable) -> tuple[tuple[str, bytes], ...]:
    images = [path for path in study.iterdir() if re.fullmatch(r"image\d+\.png", path.name)]
    images.sort(key=lambda path: (len(path.name), path.name))
    return tuple((path.name, path.read_bytes()) for path in images)


def _stop(server: subprocess.Popen[str]) -> None:
    server.terminate()
    try:
        server.wait(timeout=10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    assert server.stdout is not None
    server.stdout.close()


def _exit_on_signal(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
