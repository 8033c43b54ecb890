"""Studies in the tensors of a request, and answers as the tensors of a response. Runs nothing.

V views of S studies. A request is one study, unless `study` says which of several each view is of.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bonexray.analysis import StudyAnswer
from bonexray.verdicts import NOT_ANALYSED, OperatingPoints
from serving.oip.errors import BadRequestError
from serving.oip.tensors import InferRequest, Tensor, TensorSpec

INPUTS = (
    TensorSpec(name="image", datatype="BYTES", shape=(-1,), base64=True),
    TensorSpec(name="study", datatype="INT32", shape=(-1,), optional=True),
    TensorSpec(name="body_part", datatype="BYTES", shape=(-1,), optional=True),
)
OUTPUTS = (
    TensorSpec(name="study_probability", datatype="FP64", shape=(-1,)),
    TensorSpec(name="study_verdict", datatype="BYTES", shape=(-1,)),
    TensorSpec(name="study_category", datatype="BYTES", shape=(-1, 2)),
    TensorSpec(name="study_body_part", datatype="BYTES", shape=(-1,)),
    TensorSpec(name="study_refusal", datatype="BYTES", shape=(-1,)),
    TensorSpec(name="view_probability", datatype="FP64", shape=(-1,)),
    TensorSpec(name="view_category", datatype="BYTES", shape=(-1, 2)),
    TensorSpec(name="view_body_part", datatype="BYTES", shape=(-1,)),
    TensorSpec(name="view_claimed_part", datatype="BYTES", shape=(-1,)),
    TensorSpec(name="view_refusal", datatype="BYTES", shape=(-1,)),
    TensorSpec(name="view_note", datatype="BYTES", shape=(-1,)),
    TensorSpec(name="view_sha256", datatype="BYTES", shape=(-1,)),
    TensorSpec(name="view_instance_uid", datatype="BYTES", shape=(-1,)),
    TensorSpec(name="view_cam", datatype="FP32", shape=(-1, -1, -1)),
    TensorSpec(name="view_heatmap", datatype="BYTES", shape=(-1,), base64=True, on_request=True),
)
NO_PROBABILITY = -1.0
"""Where the network saw nothing; NaN cannot be said in JSON."""
MIXED = "mixed"
"""Why a study is not analysed whose views are refused for several reasons."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AskedView:
    """One view of a request."""

    data: bytes | memoryview
    """PNG, JPEG or DICOM, whole."""
    claimed_part: str
    """What the request says that it shows; empty when it says nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AskedStudies:
    """The views of a request, and the study that each is of."""

    views: tuple[AskedView, ...]
    study_of: tuple[int, ...]
    """(V,) from 0 to S - 1."""

    @property
    def count(self) -> int:
        """S."""
        return max(self.study_of) + 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ToldView:
    """What is told of one view."""

    probability: float
    body_part: str
    """As the network sees it; empty when it did not see the view."""
    claimed_part: str
    refusal: str
    """Why the view is not read; empty when it is."""
    note: str
    """What to know of a view that is read: `no_window`, or empty."""
    sha256: str
    """Of the file as it came."""
    instance_uid: str
    """Of a DICOM file; empty for others."""
    cam: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    """(h, w), zero when the network did not see the view."""
    heatmap: bytes
    """PNG; empty when it was not asked for, or there is nothing to show."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToldStudy:
    """What is told of one study."""

    probability: float
    verdict: str
    body_part: str
    refusal: str
    """Why it is not analysed; empty when it is."""


def read_studies(request: InferRequest, max_views: int, body_parts: Sequence[str]) -> AskedStudies:
    """Take the studies out of a request whose tensors fit INPUTS.

    Args:
        request: one or several studies.
        max_views: of all of them.
        body_parts: that the model knows.

    Raises:
        BadRequestError: names the field that is not what it should be.
    """
    tensors = {tensor.name: tensor for tensor in request.inputs}
    images = list(tensors["image"].values)
    if not 1 <= len(images) <= max_views:
        raise BadRequestError(f"image: {len(images)} views, expected 1 to {max_views}")
    study_of = _study_of(tensors.get("study"), len(images))
    said = _claimed(request, tensors.get("body_part"), max(study_of) + 1)
    claimed = [_known_part(part, where, body_parts) for part, where in said]
    return AskedStudies(
        views=tuple(
            AskedView(data=data, claimed_part=claimed[study])
            for data, study in zip(images, study_of, strict=True)
        ),
        study_of=study_of,
    )


def _study_of(tensor: Tensor | None, num_views: int) -> tuple[int, ...]:
    if tensor is None:
        return (0,) * num_views
    study_of = [int(number) for number in tensor.values[: num_views + 1]]
    if len(study_of) != num_views or set(study_of) != set(range(len(set(study_of)))):
        raise BadRequestError(
            f"study: expected the number of each view's study, {num_views} numbers from 0 on"
        )
    return tuple(study_of)


def _claimed(
    request: InferRequest, tensor: Tensor | None, num_studies: int
) -> list[tuple[object, str]]:
    """What each study is said to show and where: the tensor counts before the parameter."""
    if tensor is None:
        return [(request.parameters.get("body_part", ""), "parameters.body_part")] * num_studies
    if len(tensor.values) != num_studies:
        raise BadRequestError(
            f"body_part: {len(tensor.values)} body parts, expected one for each of {num_studies} "
            "studies"
        )
    return [
        (bytes(part).decode(errors="replace"), f"body_part[{number}]")
        for number, part in enumerate(tensor.values)
    ]


def _known_part(said: object, where: str, body_parts: Sequence[str]) -> str:
    for part in ("", *body_parts):
        if said == part:
            return part
    raise BadRequestError(f"{where}: expected one of {', '.join(body_parts)}")


def told_study(answer: StudyAnswer | None, refusals: Sequence[str]) -> ToldStudy:
    """What is told of a study.

    Args:
        answer: by the views that the network saw; None when it saw none.
        refusals: of all its views.
    """
    kinds = set(refusals)
    refusal = "" if "" in kinds else kinds.pop() if len(kinds) == 1 else MIXED
    if answer is None:
        return ToldStudy(
            probability=NO_PROBABILITY, verdict=NOT_ANALYSED, body_part="", refusal=refusal
        )
    return ToldStudy(
        probability=answer.study_probability,
        verdict=answer.study_verdict,
        body_part=answer.study_body_part,
        refusal=refusal,
    )


def categories(probability: float, refusal: str, points: OperatingPoints) -> list[str]:
    """Positive or negative at high sensitivity, and at high specificity."""
    if refusal:
        return [NOT_ANALYSED, NOT_ANALYSED]
    return [
        "positive" if probability >= threshold else "negative"
        for threshold in (points.high_sensitivity, points.high_specificity)
    ]


def write_tensors(
    studies: Sequence[ToldStudy],
    views: Sequence[ToldView],
    points: OperatingPoints,
    names: Sequence[str],
) -> tuple[Tensor, ...]:
    """The answer as tensors, in the order of `names`."""
    every: dict[str, Sequence[object]] = {
        "study_probability": [study.probability for study in studies],
        "study_verdict": [study.verdict for study in studies],
        "study_category": [
            categories(study.probability, study.refusal, points) for study in studies
        ],
        "study_body_part": [study.body_part for study in studies],
        "study_refusal": [study.refusal for study in studies],
        "view_probability": [view.probability for view in views],
        "view_category": [categories(view.probability, view.refusal, points) for view in views],
        "view_body_part": [view.body_part for view in views],
        "view_claimed_part": [view.claimed_part for view in views],
        "view_refusal": [view.refusal for view in views],
        "view_note": [view.note for view in views],
        "view_sha256": [view.sha256 for view in views],
        "view_instance_uid": [view.instance_uid for view in views],
        "view_cam": [view.cam for view in views],
        "view_heatmap": [view.heatmap for view in views],
    }
    specs = {spec.name: spec for spec in OUTPUTS}
    return tuple(_tensor(specs[name], every[name]) for name in names)


def _tensor(spec: TensorSpec, values: Sequence[object]) -> Tensor:
    if spec.datatype == "BYTES":
        flat = [entry for row in values for entry in (row if isinstance(row, list) else [row])]
        encoded = [text.encode() if isinstance(text, str) else text for text in flat]
        shape = (len(values), *spec.shape[1:])
        return Tensor(name=spec.name, datatype="BYTES", shape=shape, values=encoded)  # type: ignore[arg-type]
    dtype = np.float64 if spec.datatype == "FP64" else np.float32
    array = np.array(values, dtype)
    return Tensor(name=spec.name, datatype=spec.datatype, shape=array.shape, values=array)
