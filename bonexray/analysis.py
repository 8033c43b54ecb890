"""The views of one study -> what the reader is told. Knows no protocol and no server.

n views of the study, S side of the network's image, h x w its map of evidence, D its embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from bonexray.bundle import INT8_FILE, MODEL_FILE, OUTPUTS, Bundle
from bonexray.errors import BundleError
from bonexray.novelty import Refusal, conflict
from bonexray.verdicts import (
    NOT_ANALYSED,
    Verdict,
    calibrated_probability,
    study_probability,
    verdict,
)

Floats32 = npt.NDArray[np.float32]
Precision = Literal["int8", "fp32"]
"""Which of a bundle's networks answers."""

_GRAPHS: dict[Precision, str] = {"int8": INT8_FILE, "fp32": MODEL_FILE}
_CPU_INFO = Path("/proc/cpuinfo")
# Without these, INT8 products are summed in 16 bits, which overflow: the answers are wrong.
_EXACT_INT8 = {"avx512_vnni", "avx_vnni", "asimddp"}

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
    embeddings: Floats32  # (n, D)


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyAnswer:
    """What the reader is told of one study."""

    study_probability: float
    """By the views that are read; by all of them when none is."""
    study_verdict: Verdict | Literal["not_analysed"]
    study_body_part: str
    """As the network sees it."""
    view_probabilities: npt.NDArray[np.float64]  # (n,)
    view_refusals: tuple[Refusal, ...]
    view_body_parts: tuple[str, ...]
    view_cams: Floats32  # (n, h, w)


def cpu_multiplies_int8(cpu_info: Path = _CPU_INFO) -> bool:
    """Whether this machine's CPU sums products of INT8 without overflow.

    Args:
        cpu_info: where Linux lists what the CPU can do.

    Returns:
        False, too, where nothing is listed.
    """
    try:
        lines = cpu_info.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    # x86 lists `flags`, ARM `Features`; each core its own.
    listed = [line.split() for line in lines if line.startswith(("flags", "Features"))]
    return bool(listed) and all(_EXACT_INT8.intersection(words) for words in listed)


def choose_precision(bundle: Bundle, wanted: Precision) -> Precision:
    """The precision to serve: INT8 only where it is wanted, the bundle has it and the CPU can."""
    has_int8 = bundle.model_int8 is not None
    return "int8" if wanted == "int8" and has_int8 and cpu_multiplies_int8() else "fp32"


def open_network(
    bundle: Bundle, threads: int = 1, *, precision: Precision = "fp32"
) -> ort.InferenceSession:
    """Load a bundle's network with CPU threads of its own, and run it once.

    Raises:
        BundleError: as `load_network` and `try_network`.
    """
    session = load_network(bundle, threads, precision=precision)
    try_network(session, bundle, precision=precision)
    return session


def load_network(
    bundle: Bundle,
    threads: int = 1,
    *,
    precision: Precision = "fp32",
    providers: Sequence[str] = ("CPUExecutionProvider",),
) -> ort.InferenceSession:
    """Load a bundle's network, without running it.

    Args:
        bundle: whose network it is.
        threads: CPU threads of its own, for each call.
        precision: which of its networks.
        providers: of ONNX Runtime, the best first.

    Raises:
        BundleError: there is no such graph, or it cannot be loaded.
    """
    file = _GRAPHS[precision]
    graph = bundle.model_int8 if precision == "int8" else bundle.model
    if graph is None:
        raise BundleError(f"{file}: the bundle has none, expected one to serve in {precision}")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # its errors are raised too; its warnings are about graphs
    try:
        session = ort.InferenceSession(graph, sess_options=options, providers=list(providers))
    except _NOT_A_GRAPH as error:
        raise BundleError(f"{file}: cannot be run: {_first_line(error)}") from error
    missing = set(OUTPUTS) - {output.name for output in session.get_outputs()}
    if missing:
        raise BundleError(f"{file}: has no output {', '.join(sorted(missing))}")
    return session


def try_network(
    session: ort.InferenceSession, bundle: Bundle, *, precision: Precision = "fp32"
) -> NetworkOutputs:
    """What a bundle's network says of one black view.

    Args:
        session: of the network.
        bundle: whose network it is.
        precision: which of its networks.

    Raises:
        BundleError: it cannot be run, or does not keep the bundle's contract.
    """
    file, size = _GRAPHS[precision], bundle.info.image.size
    try:
        outputs = run_network(session, np.zeros((1, 1, size, size), np.float32))
    except _NOT_A_GRAPH as error:
        raise BundleError(f"{file}: cannot be run: {_first_line(error)}") from error
    _check_contract(outputs, bundle, file)
    return outputs


def run_network(session: ort.InferenceSession, images: Floats32) -> NetworkOutputs:
    """Run the network on (n, 1, S, S), one view at a time.

    A batch was seen to save nothing on a CPU. One by one, memory does not grow with n, and a view
    gets the same bits whatever views stand beside it.
    """
    passes = [session.run(OUTPUTS, {"image": image[None]}) for image in images]
    logits, part_logits, cams, embeddings = map(np.concatenate, zip(*passes, strict=True))
    return NetworkOutputs(logits=logits, part_logits=part_logits, cams=cams, embeddings=embeddings)


def judge_study(
    outputs: NetworkOutputs, bundle: Bundle, claimed_parts: Sequence[str | None]
) -> StudyAnswer:
    """Turn the network's outputs into probabilities, verdict, body parts and refusals.

    Args:
        outputs: of the study's n views.
        bundle: whose network it is.
        claimed_parts: what each view is said to show, such as `XR_WRIST`; None when nothing is
            said of it.
    """
    info = bundle.info
    # A NaN would compare as neither below nor above, and so be told as "doubtful".
    if not np.isfinite(outputs.logits).all():
        raise ArithmeticError("the network returned a logit that is not finite")
    refusals = _refusals(outputs, bundle, claimed_parts)
    read = np.array([refusal == "" for refusal in refusals])
    logits = outputs.logits[read] if read.any() else outputs.logits
    part = seen_part(outputs.part_logits, info.body_parts)
    probability = study_probability(logits, info.study_rule, info.calibration, part)
    told = verdict(probability, info.operating_points)
    return StudyAnswer(
        study_probability=probability,
        study_verdict=told if read.any() else NOT_ANALYSED,
        study_body_part=part,
        view_probabilities=calibrated_probability(outputs.logits, info.calibration.view),
        view_refusals=refusals,
        view_body_parts=tuple(
            seen_part(view[None], info.body_parts) for view in outputs.part_logits
        ),
        view_cams=outputs.cams,
    )


def _refusals(
    outputs: NetworkOutputs, bundle: Bundle, claimed_parts: Sequence[str | None]
) -> tuple[Refusal, ...]:
    novelties = bundle.typical.novelty(outputs.embeddings)
    said = np.array([part is not None for part in claimed_parts])
    conflicts: list[float | None] = [None] * len(said)
    if said.any():
        index = bundle.info.body_parts.index
        claimed = np.array([0 if part is None else index(part) for part in claimed_parts])
        surprise = conflict(outputs.part_logits, claimed).tolist()
        conflicts = [value if known else None for value, known in zip(surprise, said, strict=True)]
    refusal = bundle.info.abstention.refusal
    return tuple(map(refusal, novelties.tolist(), conflicts))


def seen_part(part_logits: Floats32, body_parts: Sequence[str]) -> str:
    """The body part that the network sees in views, from their logits (n, P)."""
    return body_parts[int(part_logits.mean(axis=0).argmax())]


def _check_contract(outputs: NetworkOutputs, bundle: Bundle, file: str) -> None:
    """Compare the shapes of one view's outputs with the bundle's contract."""
    expected_parts = (1, len(bundle.info.body_parts))
    depth = (1, bundle.typical.means.shape[1])
    found = (
        outputs.logits.shape,
        outputs.part_logits.shape,
        outputs.cams.ndim,
        outputs.embeddings.shape,
    )
    if found != ((1,), expected_parts, 3, depth):
        raise BundleError(
            f"{file}: for one view, logit has shape {outputs.logits.shape}, part_logits "
            f"{outputs.part_logits.shape}, cam {outputs.cams.shape} and embedding "
            f"{outputs.embeddings.shape}, expected (1,), {expected_parts}, (1, h, w) and {depth}"
        )
    if not np.isfinite(outputs.logits).all():
        raise BundleError(f"{file}: the logit of a black image is not finite")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
