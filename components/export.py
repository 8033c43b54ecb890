"""A judged network -> its bundle, whose graph has the same bytes wherever it is exported."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from bonexray.artifacts import sha256_file, sha256_json, write_json
from bonexray.bundle import (
    INFO_FILE,
    MODEL_FILE,
    OUTPUTS,
    PROFILE_FILE,
    TYPICAL_FILE,
    BundleInfo,
    Provenance,
    TrainedNetwork,
)
from bonexray.errors import BundleError
from bonexray.network import abnormal_logit
from bonexray.novelty import write_typical
from bonexray.sealed import seal
from bonexray.studies import BODY_PARTS, LABELS
from bonexray.trained import WEIGHTS_FILE
from bonexray.verdicts import OperatingPoints
from components.judgement import Judgement

TOLERANCE = 1e-4
"""Largest difference allowed between torch's outputs and the exported graph's."""


def write_bundle(
    chosen: Judgement, points: OperatingPoints, profile: Path, commit: str, folder: Path
) -> BundleInfo:
    """Write the bundle of a judged network into `folder`, sealed; return its info.

    Args:
        chosen: the network and what it is judged by.
        points: chosen on `val`.
        profile: what the training images were like, a file.
        commit: of the running code.
        folder: empty.

    Raises:
        BundleError: ONNX Runtime does not answer as torch does.
    """
    record = chosen.candidate.records[0]  # all were trained on the same data
    info = BundleInfo(
        image=record.policy.image,
        labels=LABELS,
        body_parts=BODY_PARTS,
        study_rule=chosen.rule,
        calibration=chosen.calibration,
        operating_points=points,
        abstention=chosen.abstention,
        provenance=Provenance(
            networks=tuple(
                TrainedNetwork(
                    arch=member.arch,
                    start_weights=member.start,
                    weights_sha256=sha256_file(trained / WEIGHTS_FILE),
                    train_params_sha256=sha256_json(member.config.model_dump()),
                )
                for member, trained in zip(
                    chosen.candidate.records, chosen.candidate.folders, strict=True
                )
            ),
            dataset_sha256=record.dataset_sha256,
            manifest_sha256=record.manifest_sha256,
            code_commit=commit,
        ),
    )
    export_onnx(chosen.candidate.network, info.image.size, folder / MODEL_FILE)
    write_typical(folder / TYPICAL_FILE, chosen.typical)
    shutil.copyfile(profile, folder / PROFILE_FILE)
    write_json(folder / INFO_FILE, info.model_dump(mode="json"))
    seal(folder)
    return info


class _BundleOutputs(nn.Module):
    """The network with the outputs that a bundle promises, in its order."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        reading = self.network(image)
        logit = abnormal_logit(reading.label_logits)
        return logit, reading.part_logits, reading.cam, reading.embedding


def export_onnx(network: nn.Module, size: int, path: Path) -> None:
    """Write the network as ONNX: `image` (B, 1, `size`, `size`) -> the bundle's outputs.

    Raises:
        BundleError: ONNX Runtime does not answer as torch does.
    """
    module = _BundleOutputs(network).cpu().eval()
    example = torch.zeros(2, 1, size, size)
    with warnings.catch_warnings():
        # The exporter's own use of deprecated torch calls is no concern of ours.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["image"],
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    if program is None:
        raise BundleError(f"torch exported no program for a network at {size} px")
    model = without_metadata(program.model_proto)
    path.write_bytes(model.SerializeToString(deterministic=True))
    _check_against_torch(path, module, size)


def without_metadata(model: onnx.ModelProto) -> onnx.ModelProto:
    """Clear notes that do not change the graph: they hold source paths, which differ by clone."""
    graph = model.graph
    named = [*graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info]
    for part in [model, graph, *named]:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model


def _check_against_torch(path: Path, module: _BundleOutputs, size: int) -> None:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    batch = torch.randn(3, 1, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = module(batch)
    for name, ours, theirs in zip(
        OUTPUTS, expected, session.run(list(OUTPUTS), {"image": batch.numpy()}), strict=True
    ):
        difference = float(np.abs(ours.numpy() - theirs).max())
        if not difference <= TOLERANCE:
            raise BundleError(
                f"{path}: output {name!r} differs from torch's by {difference:.3g}, "
                f"expected at most {TOLERANCE}"
            )
