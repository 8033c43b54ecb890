"""What a server says of studies, out of the protocol's binary form. Knows no socket and no file."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from serving.oip.tensors import Tensor, from_raw

OUTPUTS = (
    *("study_verdict", "study_probability", "study_category", "study_body_part", "study_refusal"),
    *("view_probability", "view_category", "view_claimed_part", "view_body_part", "view_refusal"),
    *("view_note", "view_sha256", "view_instance_uid"),
)
"""What a reading is made of."""
HEATMAP = "view_heatmap"
NO_PROBABILITY = -1.0
"""As the protocol says it."""
Share = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[
    Share | None, BeforeValidator(lambda value: None if value == NO_PROBABILITY else value)
]
"""Of abnormal; None where the network saw nothing."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("expected a text that a terminal shows, and does not act on")
    return text


Text = Annotated[str, AfterValidator(_printable)]
"""Of a server that may be anybody's, to be shown."""


class _Reading(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class ViewReading(_Reading):
    """What the server says of one view."""

    probability: Probability
    category: tuple[Text, Text]
    """`positive` or `negative` at high sensitivity and at high specificity, or `not_analysed`."""
    claimed_part: Text
    """What it is said to show, by the request or by the file; empty when neither says."""
    body_part: Text
    """What the network sees; empty where it saw nothing."""
    refusal: Text
    """Why the view was not read; empty when it was."""
    note: Text
    """What to know of a view that was read; mostly empty."""
    sha256: Text
    """Of the file."""
    instance_uid: Text
    """Of a DICOM file; else empty."""
    heatmap: Annotated[bytes, Field(exclude=True)] = b""
    """PNG in the view's aspect ratio; empty when there is none, or it was not asked for."""


class Origin(_Reading):
    """Where an answer comes from, and what it took."""

    answer_id: Text
    trace_id: Text
    model_version: Text
    bundle_digest: Text
    precision: Text
    negative_below: Share
    positive_from: Share
    queue_ms: float
    decode_ms: float
    """Of all views together, which may be decoded side by side; so is the next."""
    infer_ms: float
    total_ms: float
    """At the server."""
    round_trip_ms: float
    """Measured here."""
    disclaimer: Text


class StudyReading(_Reading):
    """What the server says of one study."""

    verdict: Text
    """`negative`, `doubtful`, `positive` or `not_analysed`."""
    probability: Probability
    category: tuple[Text, Text]
    body_part: Text
    refusal: Text
    """Why the study was not analysed; empty when it was."""
    views: tuple[ViewReading, ...]
    origin: Origin


def read_answer(
    body: bytes, header_length: str | None, study_of: Sequence[int], round_trip_ms: float
) -> list[StudyReading]:
    """Read the body of an answer.

    Args:
        body: JSON, and the outputs' bytes behind it.
        header_length: length of the JSON, by the header of that name.
        study_of: (V,) for each view the number of its study.
        round_trip_ms: from asking to the whole answer.

    Raises:
        ValueError, KeyError, TypeError, RequestError: it is not an answer of our server.
    """
    size = int(header_length or len(body))
    document = orjson.loads(body[:size])
    columns = _columns(document["outputs"], memoryview(body)[size:])
    origin = Origin(**document["parameters"], round_trip_ms=round_trip_ms)
    views = [ViewReading(**row) for row in _rows(columns, "view_", len(study_of))]
    return [
        StudyReading(
            **row,
            views=tuple(view for view, of in zip(views, study_of, strict=True) if of == study),
            origin=origin,
        )
        for study, row in enumerate(_rows(columns, "study_", max(study_of) + 1))
    ]


def _columns(outputs: list[dict[str, Any]], data: memoryview) -> dict[str, list[Any]]:
    columns = {}
    for output in outputs:
        name, size = str(output["name"]), output["parameters"]["binary_data_size"]
        tensor = from_raw(name, output["datatype"], output["shape"], data[:size], {}, name)
        columns[name] = _values(tensor)
        data = data[size:]
    return columns


def _values(tensor: Tensor) -> list[Any]:
    if isinstance(tensor.values, np.ndarray):
        return list(tensor.values.tolist())
    elements = np.array([bytes(element) for element in tensor.values], object)
    return list(elements.reshape(tensor.shape).tolist())


def _rows(columns: dict[str, list[Any]], prefix: str, count: int) -> list[dict[str, Any]]:
    own = {name: values for name, values in columns.items() if name.startswith(prefix)}
    if {len(values) for values in own.values()} != {count}:
        raise ValueError(f"outputs {prefix}*: expected {count} rows of each")
    return [
        {name.removeprefix(prefix): values[row] for name, values in own.items()}
        for row in range(count)
    ]
