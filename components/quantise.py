"""The bundle's network in INT8, and whether it answers well enough to be served.

S is the side of the network's image, in pixels.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pandas as pd
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from bonexray.analysis import cpu_multiplies_int8, judge_study, load_network, run_network
from bonexray.bundle import INT8_FILE, Bundle, open_bundle
from bonexray.config import EvaluateConfig
from bonexray.gate import SKIPPED
from bonexray.images import ImageSpec, Pixels, normalise
from bonexray.metrics import auroc
from bonexray.novelty import Abstention
from bonexray.scoring import number_or_none, told_of
from bonexray.sealed import seal
from components.export import without_metadata
from components.judgement import Judgement

MAX_REFUSALS_DIFFERING = 0.01
"""Share of the views of `val` that one of FP32 and INT8 may refuse while the other reads them."""

Floats = npt.NDArray[np.float64]

_VIEWS = 128
_BATCH = 16
# The rest stays in FP32: heads and map cost next to nothing, and sums over the skip connections in
# 8 bits were seen to save no time and to move the embedding by half as much again.
_IN_INT8 = ["Conv", "Relu"]


def add_int8(
    folder: Path, chosen: Judgement, images: Pixels, config: EvaluateConfig
) -> tuple[dict[str, Any], str]:
    """Put the INT8 network into a bundle, if it answers as the FP32 one does.

    It reads `val`, which decides, and `test`, which is only told, as a server does.

    Args:
        folder: of the sealed bundle; sealed again when the network goes in.
        chosen: what is said in FP32 of the same views.
        images: (M, S, S) uint8, packed.
        config: of the step.

    Returns:
        Figures, and the bundle's digest. The figures are `accepted`; `reason`, empty when accepted;
        `val` and `test`, as of `compare_precisions`. `skipped` and why when this machine cannot
        tell.
    """
    bundle = open_bundle(folder)
    if not cpu_multiplies_int8():
        reason = "this CPU saturates where INT8 is summed: it cannot tell how another answers"
        return {SKIPPED: reason}, bundle.digest
    views = chosen.views
    learned = views.loc[views["split"] == "train", "row"].to_numpy()
    drawn = learned[np.linspace(0, len(learned) - 1, min(_VIEWS, len(learned))).round().astype(int)]
    graph = quantise(bundle.model, images[drawn], bundle.info.image)
    quantised = replace(bundle, model_int8=graph)
    figures = {
        split: compare_precisions(quantised, chosen, split, images, config.threads)
        for split in ("val", "test")
    }
    reason = too_different(figures["val"], config.int8_max_auroc_lost)
    told = {"accepted": not reason, "reason": reason, **figures}
    if reason:
        return told, bundle.digest
    (folder / INT8_FILE).write_bytes(graph)
    return told, seal(folder)


def why_no_int8(figures: Mapping[str, Any]) -> str:
    """Why a bundle has no INT8 network, by what `add_int8` found; empty when it has one."""
    return str(figures.get(SKIPPED) or figures["reason"])


def quantise(graph: bytes, views: Pixels, spec: ImageSpec) -> bytes:
    """Turn a network into INT8: 8-bit activations, and 8-bit weights scaled by channel.

    The same graph and views give the same bytes. The range of each activation is the widest that it
    takes on the views: percentiles were seen to cost accuracy, entropy to find the same range.

    Args:
        graph: ONNX in FP32, with the bundle's input and outputs.
        views: (n, S, S) uint8, such as the network was trained on.
        spec: how they become its input.
    """
    with tempfile.TemporaryDirectory() as folder:
        exported, folded, quantised = (Path(folder) / f"{step}.onnx" for step in range(3))
        exported.write_bytes(graph)
        # Folds batch norms into the convolutions before them. Its inference of symbolic shapes
        # needs SymPy, and finds nothing that the exporter did not write down.
        quant_pre_process(exported, folded, skip_symbolic_shape=True)
        quantize_static(
            folded,
            quantised,
            _Batches(views, spec),
            op_types_to_quantize=_IN_INT8,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        model = onnx.load(quantised)
    _share_equal_weights(model.graph)
    graph_int8: bytes = without_metadata(model).SerializeToString(deterministic=True)
    return graph_int8


def compare_precisions(
    bundle: Bundle, chosen: Judgement, split: str, images: Pixels, threads: int
) -> dict[str, Any]:
    """What INT8 says of the views of one split beside what FP32 said.

    Args:
        bundle: with the INT8 network.
        chosen: what is said in FP32.
        split: of the views.
        images: (M, S, S) uint8, packed.
        threads: of the network.

    Returns:
        `views` and `studies`, how many; `auroc_fp32`, `auroc_int8` and `auroc_lost` of studies,
        None where only one label is present; `verdicts_differ`, share of studies;
        `refusals_differ`, share of views that one refuses and the other reads, those on a bound
        left out;
        `largest_difference` and `mean_difference` of the studies' probabilities.
    """
    views, studies = chosen.views[chosen.views["split"] == split], chosen.studies_in(split)
    session, bounds = load_network(bundle, threads, precision="int8"), chosen.abstention
    probabilities, verdicts, differ = [], [], 0
    for _, own in views.groupby("study", sort=True):
        squares = normalise(images[own["row"].to_numpy()], bundle.info.image)
        answer = judge_study(run_network(session, squares), bundle, own["body_part"].tolist())
        probabilities.append(answer.study_probability)
        verdicts.append(answer.study_verdict)
        refused = np.array(answer.view_refusals) != ""
        otherwise = refused != (own["refused"] != "").to_numpy()
        differ += int((otherwise & ~_on_a_bound(own, bounds)).sum())
    told = told_of(studies, bundle.info.operating_points)
    return {
        "views": len(views),
        "studies": len(studies),
        **_aurocs(studies, np.array(probabilities)),
        "verdicts_differ": float(np.mean([a != b for a, b in zip(told, verdicts, strict=True)])),
        "refusals_differ": differ / len(views),
        **_differences(studies, np.array(probabilities)),
    }


def _on_a_bound(views: pd.DataFrame, bounds: Abstention) -> npt.NDArray[np.bool_]:
    """Which views (n,) are those of `val` whose own values became bounds.

    Rounding decides whether they are refused, in FP32 too.
    """
    novelty, conflict = views["novelty"].to_numpy(), views["conflict"].to_numpy()
    return np.asarray((novelty == bounds.max_novelty) | (conflict == bounds.max_conflict))


def _aurocs(studies: pd.DataFrame, probabilities: Floats) -> dict[str, float | None]:
    labels = studies["label"].to_numpy()
    fp32 = float(auroc(labels, studies["probability"].to_numpy()))
    int8 = float(auroc(labels, probabilities))
    figures = {"auroc_fp32": fp32, "auroc_int8": int8, "auroc_lost": fp32 - int8}
    return {name: number_or_none(value) for name, value in figures.items()}


def _differences(studies: pd.DataFrame, probabilities: Floats) -> dict[str, float]:
    apart = np.abs(studies["probability"].to_numpy() - probabilities)
    return {"largest_difference": float(apart.max()), "mean_difference": float(apart.mean())}


def too_different(val: Mapping[str, Any], max_auroc_lost: float) -> str:
    """Why INT8 must not stand in for FP32, by their figures of `val`; empty when it may."""
    lost, differ = val["auroc_lost"], val["refusals_differ"]
    if lost is None:
        return "the AUROC of val is undefined"
    if lost > max_auroc_lost:
        return f"AUROC lost on val is {lost:.4f}, expected at most {max_auroc_lost:g}"
    if differ > MAX_REFUSALS_DIFFERING:
        return (
            f"FP32 and INT8 differ in whether to refuse {differ:.2%} of the views of val, "
            f"expected at most {MAX_REFUSALS_DIFFERING:.0%}"
        )
    return ""


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # published without types
    """Views as the quantiser asks for them."""

    def __init__(self, views: Pixels, spec: ImageSpec) -> None:
        self.batches: Iterator[Pixels] = (
            views[start : start + _BATCH] for start in range(0, len(views), _BATCH)
        )
        self.spec = spec

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"image": normalise(batch, self.spec)}


def _share_equal_weights(graph: onnx.GraphProto) -> None:
    """A network that reads both ways stands in the graph twice; keep its weights once."""
    kept: dict[tuple[bytes, ...], str] = {}
    names: dict[str, str] = {}
    for tensor in list(graph.initializer):
        value = onnx.TensorProto()
        value.CopyFrom(tensor)
        value.ClearField("name")
        names[tensor.name] = kept.setdefault(
            (value.SerializeToString(deterministic=True),), tensor.name
        )
        if names[tensor.name] != tensor.name:
            graph.initializer.remove(tensor)
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
