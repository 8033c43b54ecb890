"""Ask a running server about one study, and show the answer to a person.

python -m serving.client VIEW.png [VIEW.png ...] | STUDY_FOLDER [--url http://127.0.0.1:8080]
"""

import argparse
import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bonexray.command import run_or_exit
from bonexray.errors import BonexrayError, DataError

DEFAULT_URL = "http://127.0.0.1:8080"
_INFER_PATH = "/v2/models/bonexray/infer"
_OUTPUTS = (
    "study_probability", "study_verdict", "view_probability", "view_body_part", "view_refusal",
)  # fmt: skip
_REFUSALS = {
    "": "",
    "unlike": "  not read: unlike the limb radiographs it learned from",
    "other_part": "  not read: of another body part than it is said to show",
}
_TIMEOUT_S = 60
_VIEW_SUFFIXES = (".png", ".jpg", ".jpeg")


class NoAnswerError(BonexrayError):
    """A server that cannot be reached, refuses the study, or is not ours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewReading:
    """What the server says of one view."""

    probability: float
    body_part: str
    refusal: str
    """Why it was not read; empty when it was."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyReading:
    """What the server says of a study, and what it took."""

    verdict: str
    probability: float
    negative_below: float
    positive_from: float
    views: tuple[ViewReading, ...]
    model_version: str
    bundle_digest: str
    disclaimer: str
    round_trip_ms: float
    decode_ms: float
    inference_ms: float


def ask(url: str, views: Sequence[bytes], body_part: str | None = None) -> StudyReading:
    """Send all views of one study, each a PNG or JPEG file.

    Args:
        url: of the server.
        views: the files.
        body_part: what the study is said to show, such as `XR_WRIST`.

    Raises:
        NoAnswerError: with the server's own words when it refused.
    """
    tensor = {
        "name": "image",
        "datatype": "BYTES",
        "shape": [len(views)],
        "parameters": {"content_type": "base64"},
        "data": [base64.b64encode(view).decode("ascii") for view in views],
    }
    request = {"inputs": [tensor], "outputs": [{"name": name} for name in _OUTPUTS]}
    if body_part is not None:
        request["parameters"] = {"body_part": body_part}
    try:
        # No proxy from the environment: the views go to the server that was named, and no other.
        with httpx.Client(timeout=_TIMEOUT_S, trust_env=False) as client:
            started_s = time.perf_counter()
            response = client.post(url.rstrip("/") + _INFER_PATH, json=request)
            round_trip_ms = (time.perf_counter() - started_s) * 1000
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise NoAnswerError(f"{url}: no answer: {error}; is the server running?") from error
    if not response.is_success:
        raise NoAnswerError(f"{url}: refused ({response.status_code}): {_reason(response)}")
    try:
        return _read_answer(response.json(), round_trip_ms)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise NoAnswerError(f"{url}: the answer is not one of a bonexray server") from error


def render(reading: StudyReading, names: Sequence[str], truth: str | None = None) -> str:
    """The reading as plain text.

    Args:
        reading: what the server said.
        names: what to call each view.
        truth: the study's label, where it is known.
    """
    width = max(len("view"), *(len(name) for name in names))
    rows = [
        f"  {name:<{width}}  {view.body_part:<11}  {view.probability:8.3f}"
        f"{_REFUSALS.get(view.refusal, f'  not read: {view.refusal}')}"
        for name, view in zip(names, reading.views, strict=True)
    ]
    lines = [
        f"verdict      {reading.verdict}",
        *([f"labelled     {truth}"] if truth is not None else []),
        f"abnormal     {reading.probability:.3f}  (negative below {reading.negative_below:.3f}, "
        f"positive from {reading.positive_from:.3f})",
        "",
        f"  {'view':<{width}}  {'body part':<11}  abnormal",
        *rows,
        "",
        f"model        version {reading.model_version}, bundle {reading.bundle_digest[:12]}",
        f"time         {reading.round_trip_ms:.1f} ms round trip: {reading.decode_ms:.1f} ms to "
        f"decode, {reading.inference_ms:.1f} ms in the network",
        "",
        reading.disclaimer,
    ]
    return "\n".join(lines)


def find_views(places: Sequence[Path]) -> list[Path]:
    """The views that a command line names: files, or one folder with all views of a study.

    Raises:
        DataError: a file is missing, or the folder holds no view.
    """
    if len(places) == 1 and places[0].is_dir():
        found = [path for path in places[0].iterdir() if path.suffix.lower() in _VIEW_SUFFIXES]
        # By length first, so that image10 follows image9. Hidden files are a Mac's metadata.
        views = [path for path in found if not path.name.startswith(".")]
        if not views:
            raise DataError(f"{places[0]}: holds no PNG or JPEG")
        return sorted(views, key=lambda path: (len(path.name), path.name))
    for place in places:
        if not place.is_file():
            raise DataError(f"{place}: no such file; give views, or one folder of a study")
    return list(places)


def main(argv: list[str] | None = None) -> None:
    """Parse the flags, ask and print."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.client", description="Ask a running server about one study."
    )
    parser.add_argument(
        "views", type=Path, nargs="+", metavar="VIEW", help="the study's views, or its folder"
    )
    parser.add_argument("--body-part", help="what it is said to show, such as XR_WRIST")
    parser.add_argument("--url", default=DEFAULT_URL, help=f"the server, by default {DEFAULT_URL}")
    args = parser.parse_args(argv)

    def run() -> None:
        views = find_views(args.views)
        reading = ask(args.url, [view.read_bytes() for view in views], args.body_part)
        print(render(reading, [view.name for view in views]))

    run_or_exit("serving.client", run)


def _read_answer(answer: dict[str, Any], round_trip_ms: float) -> StudyReading:
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    said = answer["parameters"]
    said_of_views = ("view_probability", "view_body_part", "view_refusal")
    views = zip(*(outputs[name] for name in said_of_views), strict=True)
    return StudyReading(
        verdict=outputs["study_verdict"][0],
        probability=outputs["study_probability"][0],
        negative_below=said["negative_below"],
        positive_from=said["positive_from"],
        views=tuple(
            ViewReading(probability=p, body_part=part, refusal=refusal)
            for p, part, refusal in views
        ),
        model_version=said["model_version"],
        bundle_digest=said["bundle_digest"],
        disclaimer=said["disclaimer"],
        round_trip_ms=round_trip_ms,
        decode_ms=said["decode_ms"],
        inference_ms=said["inference_ms"],
    )


def _reason(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase


if __name__ == "__main__":
    main()
