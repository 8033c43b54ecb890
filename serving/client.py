"""Ask a running server about studies, and show its answers to a person or to a script.

python -m serving.client STUDY [STUDY ...] [--body-part XR_WRIST] [--overlay FOLDER] [--json]
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bonexray.command import run_or_exit
from bonexray.errors import ConfigError
from serving.answer_text import as_document, plain, render
from serving.answers import StudyReading
from serving.overlay import write_overlays
from serving.remote import DEFAULT_URL, NoAnswerError, Server, ask
from serving.study_files import StudyFiles, find_studies

TOKEN = "BONEXRAY_TOKEN"
_MAX_VIEWS, _MAX_BYTES = 64, 56 * 2**20
"""Of several studies in one request, within the server's defaults."""
_OF_A_STUDY = (400, 413)
"""Statuses that may be the fault of one study alone."""


def main(argv: list[str] | None = None) -> None:
    """Parse the flags, ask and show."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.client",
        description="Ask a running server about studies.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "studies",
        type=Path,
        nargs="+",
        metavar="STUDY",
        help="a folder with all views of one study; or views, which are one study together",
    )
    parser.add_argument("--body-part", default="", help="what all show, such as XR_WRIST")
    parser.add_argument(
        "--overlay", type=Path, metavar="FOLDER", help="write each view under its heatmap there"
    )
    parser.add_argument("--json", action="store_true", help="a line of JSON for each study")
    parser.add_argument("--url", default=DEFAULT_URL, help=f"the server, by default {DEFAULT_URL}")
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"holds a bearer token; by default the environment's {TOKEN}, if it is set",
    )
    parser.add_argument(
        "--ca", type=Path, metavar="FILE", help="PEM certificates to verify the server's with"
    )
    run_or_exit("serving.client", lambda: _run(parser.parse_args(argv)))


def _run(args: argparse.Namespace) -> None:
    studies = find_studies(args.studies)
    if args.overlay is not None:
        _check_overlay(args.overlay, args.studies)
    server = Server(url=args.url, token=_read_token(args.token_file), ca=args.ca)
    refused = False
    answers = ask_all(server, studies, args.body_part, args.overlay is not None)
    for number, (study, views, answer) in enumerate(answers, start=1):
        if isinstance(answer, NoAnswerError):
            refused = True
            which = f"{plain(study.name)}: " if len(studies) > 1 else ""
            print(f"serving.client: {which}{answer}", file=sys.stderr)
            continue
        names = [view.name for view in study.views]
        pictures = ""
        if args.overlay is not None:
            place = f"{number}-{Path(study.name).resolve().name}" if len(studies) > 1 else ""
            sheet = write_overlays(args.overlay / place, names, views, answer)
            pictures = f"pictures     {plain(str(sheet))}\n"
        if args.json:
            print(json.dumps(as_document(answer, study.name, names)), flush=True)
        else:
            heading = f"== {plain(study.name)} ==\n" if len(studies) > 1 else ""
            print(f"{heading}{render(answer, names)}\n{pictures}", flush=True)
    if refused:
        raise SystemExit(1)


def ask_all(
    server: Server, studies: Sequence[StudyFiles], body_part: str, with_heatmaps: bool
) -> Iterator[tuple[StudyFiles, list[bytes], StudyReading | NoAnswerError]]:
    """Ask about studies in one request where they fit into one, else one after the other.

    Args:
        server: to be asked.
        studies: in whose order the answers come.
        body_part: as of `ask`.
        with_heatmaps: as of `ask`.

    Yields:
        Each study, its views' bytes, and the reading, or why this study alone is refused.

    Raises:
        NoAnswerError: the server refuses whatever the study, or cannot be reached.
    """
    if len(studies) == 1 or _fit(studies):
        views = [[view.read_bytes() for view in study.views] for study in studies]
        try:
            readings = ask(server, views, body_part, with_heatmaps)
        except NoAnswerError as error:
            if error.status not in _OF_A_STUDY:
                raise
            if len(studies) == 1:
                yield studies[0], views[0], error
                return
        else:
            yield from zip(studies, views, readings, strict=True)
            return
    for study in studies:  # each by itself, which also shows whose fault a refusal is
        yield from ask_all(server, [study], body_part, with_heatmaps)


def _fit(studies: Sequence[StudyFiles]) -> bool:
    num_views = sum(len(study.views) for study in studies)
    return num_views <= _MAX_VIEWS and sum(study.num_bytes for study in studies) <= _MAX_BYTES


def _read_token(file: Path | None) -> str:
    if file is None:
        token, where = os.environ.get(TOKEN, ""), TOKEN
        if not token:
            return ""
    else:
        token, where = file.read_text(errors="replace").strip(), str(file)
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(f"{where}: expected one token of visible ASCII characters")
    return token


def _check_overlay(folder: Path, places: Sequence[Path]) -> None:
    holding = {(place if place.is_dir() else place.parent).resolve() for place in places}
    if folder.resolve() in holding:
        raise ConfigError(
            f"--overlay: {folder}: holds views, which pictures in it would become too"
        )


if __name__ == "__main__":
    main()
