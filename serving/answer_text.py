"""An answer about a study, as text for a person and as a document for a script."""

from collections.abc import Sequence
from typing import Any, get_args

from bonexray.verdicts import NOT_ANALYSED
from serving.answers import Origin, StudyReading, ViewReading
from serving.dicom.refusal import DicomRefusal, ViewRefusedError

_REFUSALS = {
    "unlike": "unlike the limb radiographs it learned from",
    "other_part": "of another body part than it is said to show",
    "mixed": "no view could be read, for the reasons below",
    **{code: str(ViewRefusedError(code)) for code in get_args(DicomRefusal)},
}
_NOTES = {"no_window": "the file says no window; its greys were spread"}
_TITLES = ("view", "said to show", "looks like", "abnormal")
_NOTHING = "-"


def in_words(refusal: str) -> str:
    """Why something was not read; of a code that is not known here, the code."""
    return _REFUSALS.get(refusal, refusal)


def shown_probability(reading: StudyReading | ViewReading) -> str:
    """Three decimals; `-` where there is no probability, or none that counts."""
    if reading.refusal or reading.probability is None:
        return _NOTHING
    return f"{reading.probability:.3f}"


def plain(text: str) -> str:
    """A file's name with `?` for what a terminal would act on, or cannot show."""
    return "".join(char if char.isprintable() else "?" for char in text)


def render(reading: StudyReading, names: Sequence[str], truth: str = "") -> str:
    """The reading as plain text.

    Args:
        reading: what the server said.
        names: what to call each view.
        truth: the study's label, where it is known.
    """
    origin = reading.origin
    told = (
        ("verdict", reading.verdict.replace("_", " ")),
        ("because", in_words(reading.refusal)),
        ("labelled", truth),
        ("abnormal", f"{shown_probability(reading)}  ({_thresholds(origin)})"),
        ("category", in_categories(reading)),
        ("body part", reading.body_part),
    )
    digest = origin.bundle_digest[:12]
    came_from = (
        ("model", f"version {origin.model_version}, bundle {digest}, {origin.precision}"),
        ("answer", origin.answer_id),
        ("", "python -m serving.release trace ANSWER_ID says where it comes from"),
        ("time", f"{origin.round_trip_ms:.1f} ms round trip, {origin.total_ms:.1f} at the server"),
        (
            "",
            f"{origin.queue_ms:.1f} waiting; summed over the views, {origin.decode_ms:.1f} "
            f"decoding and {origin.infer_ms:.1f} in the network",
        ),
    )
    table = _table(reading.views, [plain(name) for name in names])
    return "\n".join(
        [*_labelled(told), "", *table, "", *_labelled(came_from), "", origin.disclaimer]
    )


def in_categories(reading: StudyReading) -> str:
    """The study at both operating points, in words; empty when it was not analysed."""
    if reading.verdict == NOT_ANALYSED:
        return ""
    sensitive, specific = reading.category
    return f"{sensitive} at high sensitivity, {specific} at high specificity"


def as_document(reading: StudyReading, study: str, names: Sequence[str]) -> dict[str, Any]:
    """The reading for a script, ready for JSON; heatmaps are left out.

    Args:
        reading: what the server said.
        study: what to call it.
        names: what to call each view.
    """
    document = reading.model_dump(mode="json")
    views = zip(names, document.pop("views"), strict=True)
    return {"study": study, **document, "views": [{"file": name, **view} for name, view in views]}


def _thresholds(origin: Origin) -> str:
    return f"negative below {origin.negative_below:.3f}, positive from {origin.positive_from:.3f}"


def _labelled(pairs: Sequence[tuple[str, str]]) -> list[str]:
    return [f"{label:<13}{text}" for label, text in pairs if text]


def _table(views: Sequence[ViewReading], names: Sequence[str]) -> list[str]:
    cells = [
        (name, view.claimed_part or _NOTHING, view.body_part or _NOTHING)
        for name, view in zip(names, views, strict=True)
    ]
    widths = [max(map(len, column)) for column in zip(_TITLES[:-1], *cells, strict=True)]
    lines = []
    for row, last in zip(
        (_TITLES[:-1], *cells), (_TITLES[-1], *(map(_last_cell, views))), strict=True
    ):
        padded = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        lines.append("  " + "  ".join((*padded, last)))
    return lines


def _last_cell(view: ViewReading) -> str:
    why = f"  not read: {in_words(view.refusal)}" if view.refusal else ""
    if view.note and not view.refusal:
        why = f"  note: {_NOTES.get(view.note, view.note)}"
    return f"{shown_probability(view):>8}{why}"
