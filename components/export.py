"""A trained network -> the bundle's ONNX graph, the same bytes wherever it is exported."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from bonexray.bundle import OUTPUTS
from bonexray.errors import BundleError
from bonexray.network import abnormal_logit

TOLERANCE = 1e-4
"""Largest difference allowed between torch's outputs and the exported graph's."""


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
