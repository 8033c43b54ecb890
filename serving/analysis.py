"""The views of one study -> what the reader is told. Knows no protocol and no server.

n views of the study, S side of the network's image, h x w its class-activation map.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from bonexray.bundle import MODEL_FILE, OUTPUTS, Bundle, BundleInfo
from bonexray.errors import BundleError, ImageError
from bonexray.images import ImageSpec, normalise, read_square
from bonexray.verdicts import Verdict, calibrated_probability, study_probability, verdict

Floats32 = npt.NDArray[np.float32]

_SERVED_OUTPUTS = ("logit", "part_logits", "cam")
_NOT_A_GRAPH = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkOutputs:
    """What the network says of each view."""

    logits: Floats32  # (n,)
    part_logits: Floats32  # (n, body parts)
    cams: Floats32  # (n, h, w)


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyAnswer:
    """What the reader is told of one study."""

    study_probability: float
    study_verdict: Verdict
    view_probabilities: npt.NDArray[np.float64]  # (n,)
    view_body_parts: tuple[str, ...]
    view_cams: Floats32  # (n, h, w)


def open_network(bundle: Bundle, threads: int) -> ort.InferenceSession:
    """Load a bundle's network and run it once, so that the first study does not wait.

    Raises:
        BundleError: the graph cannot be loaded or run, or does not keep the bundle's contract.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # its errors are raised too; its warnings are about graphs
    size = bundle.info.image.size
    try:
        session = ort.InferenceSession(
            bundle.model, sess_options=options, providers=["CPUExecutionProvider"]
        )
        missing = set(OUTPUTS) - {output.name for output in session.get_outputs()}
        if missing:
            raise BundleError(f"{MODEL_FILE}: has no output {', '.join(sorted(missing))}")
        outputs = run_network(session, np.zeros((1, 1, size, size), np.float32))
    except _NOT_A_GRAPH as error:
        raise BundleError(f"{MODEL_FILE}: cannot be run: {_first_line(error)}") from error
    _check_contract(outputs, bundle.info)
    return session


def read_views(views: Sequence[bytes], spec: ImageSpec) -> Floats32:
    """Decode and normalise PNG or JPEG files -> (n, 1, S, S).

    Raises:
        ImageError: a view is not an image we accept; the message starts with its number, from 1.
    """
    squares = np.empty((len(views), spec.size, spec.size), np.uint8)
    for number, data in enumerate(views, start=1):
        try:
            squares[number - 1] = read_square(data, spec.size)
        except ImageError as error:
            raise ImageError(f"view {number}: {error}") from error
    return normalise(squares, spec)


def run_network(session: ort.InferenceSession, images: Floats32) -> NetworkOutputs:
    """Run the network on (n, 1, S, S), one view at a time.

    A batch was seen to save nothing on a CPU. One by one, memory does not grow with n, and a view
    gets the same bits whatever views stand beside it.
    """
    passes = [session.run(_SERVED_OUTPUTS, {"image": image[None]}) for image in images]
    logits, part_logits, cams = (np.concatenate(parts) for parts in zip(*passes, strict=True))
    return NetworkOutputs(logits=logits, part_logits=part_logits, cams=cams)


def judge_study(outputs: NetworkOutputs, info: BundleInfo) -> StudyAnswer:
    """Turn the network's outputs into probabilities, verdict and body parts."""
    # A NaN would compare as neither below nor above, and so be told as "doubtful".
    if not np.isfinite(outputs.logits).all():
        raise ArithmeticError("the network returned a logit that is not finite")
    probabilities = calibrated_probability(outputs.logits, info.temperature)
    probability = study_probability(probabilities)
    parts = outputs.part_logits.argmax(axis=1)
    return StudyAnswer(
        study_probability=probability,
        study_verdict=verdict(probability, info.operating_points),
        view_probabilities=probabilities,
        view_body_parts=tuple(info.body_parts[part] for part in parts),
        view_cams=outputs.cams,
    )


def _check_contract(outputs: NetworkOutputs, info: BundleInfo) -> None:
    """Compare the shapes of one view's outputs with the bundle's contract."""
    expected_parts = (1, len(info.body_parts))
    found = (outputs.logits.shape, outputs.part_logits.shape, outputs.cams.ndim)
    if found != ((1,), expected_parts, 3):
        raise BundleError(
            f"{MODEL_FILE}: for one view, logit has shape {outputs.logits.shape}, part_logits "
            f"{outputs.part_logits.shape} and cam {outputs.cams.shape}, expected (1,), "
            f"{expected_parts} and (1, h, w)"
        )
    if not np.isfinite(outputs.logits).all():
        raise BundleError(f"{MODEL_FILE}: the logit of a black image is not finite")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
