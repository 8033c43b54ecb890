"""Trained networks, loaded, and what they say of every view.

N views, B batch, h x w map of evidence, D embedding.
"""

import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from bonexray.config import Arch, EvaluateConfig
from bonexray.errors import DataError
from bonexray.images import ImageSpec, Pixels, normalise
from bonexray.network import BothWays, Ensemble, FineMap, LimbNet, abnormal_logit
from bonexray.trained import RECORD_FILE, WEIGHTS_FILE, TrainingRecord, read_record

_TIMED_VIEWS = 15
_FINE_BELOW_PX = 192  # there the trained network's own map has fewer than 6 cells each way


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What a network says of N views."""

    logits: npt.NDArray[np.float32]  # (N,)
    part_logits: npt.NDArray[np.float32]  # (N, 7)
    cams: npt.NDArray[np.float32]  # (N, h, w)
    embeddings: npt.NDArray[np.float32]  # (N, D)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One trained network, or several that answer together, and what it says of every view."""

    name: str
    """`resnet18`, or `resnet18+resnet50` for an ensemble."""
    folders: tuple[Path, ...]
    records: tuple[TrainingRecord, ...]
    network: nn.Module
    """As it reads: with a finer map on small images, both ways where `evaluate.test_time_flip`."""
    outputs: Outputs
    ms_per_view: float
    """Median time of one view, read alone."""


def find_trained(models: Sequence[Path], archs: Sequence[Arch]) -> dict[Arch, Path]:
    """The folder of each architecture asked for, in model folders or folders of them.

    Networks that were not asked for, left by an earlier run, are never considered.

    Raises:
        DataError: one that was asked for is missing.
    """
    folders = [
        record.parent
        for place in models
        for record in (place / RECORD_FILE, *sorted(place.glob(f"[!.]*/{RECORD_FILE}")))
        if record.exists()
    ]
    trained = {read_record(folder).arch: folder for folder in folders}
    for arch in archs:
        if arch not in trained:
            places = ", ".join(map(str, models))
            raise DataError(f"{places}: no trained {arch} there, found {sorted(trained)}")
    return {arch: trained[arch] for arch in archs}


def read_candidates(
    folders: Sequence[Path],
    images: Pixels,
    rows: npt.NDArray[np.integer],
    config: EvaluateConfig,
) -> list[Candidate]:
    """Let each trained network read every view; of several, every combination answers too.

    Args:
        folders: of the networks.
        images: (M, S, S) uint8, packed.
        rows: (N,) which of them are read.
        config: of the step.

    Raises:
        DataError: a folder's files cannot be read as a trained network.
    """
    alone = [_read_candidate(folder, images, rows, config) for folder in folders]
    together = [
        _ensemble(members)
        for size in range(2, len(alone) + 1)
        for members in itertools.combinations(alone, size)
    ]
    return alone + together


def load_trained(folder: Path, record: TrainingRecord, test_time_flip: bool) -> nn.Module:
    """A trained network, ready to read. Raises DataError."""
    network = LimbNet(record.arch)
    try:
        network.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{folder / WEIGHTS_FILE}: not the weights of a {record.arch}: {reason}"
        ) from error
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    small = record.policy.image.size < _FINE_BELOW_PX
    reader: nn.Module = FineMap(network) if small else network
    reader = BothWays(reader) if test_time_flip else reader
    return reader.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


def predict(
    network: nn.Module, images: Pixels, rows: npt.NDArray[np.integer], spec: ImageSpec, batch: int
) -> Outputs:
    """Read views.

    Raises:
        DataError: the network answered with something that is not a number.
    """
    device = next(network.parameters()).device
    said = []
    with torch.inference_mode():
        for start in range(0, len(rows), batch):
            squares = normalise(images[rows[start : start + batch]], spec)  # (B, 1, S, S)
            inputs = torch.from_numpy(squares).to(device, memory_format=torch.channels_last)
            reading = network(inputs)
            logit = abnormal_logit(reading.label_logits)
            each = (logit, reading.part_logits, reading.cam, reading.embedding)
            said.append([values.float().cpu().numpy() for values in each])
    logits, part_logits, cams, embeddings = map(np.concatenate, zip(*said, strict=True))
    wrong = int((~np.isfinite(logits)).sum())
    if wrong:
        raise DataError(f"the network's logit of {wrong} of {len(rows)} views is not finite")
    return Outputs(logits=logits, part_logits=part_logits, cams=cams, embeddings=embeddings)


def _read_candidate(
    folder: Path, images: Pixels, rows: npt.NDArray[np.integer], config: EvaluateConfig
) -> Candidate:
    record = read_record(folder)
    network = load_trained(folder, record, config.test_time_flip)
    return Candidate(
        name=record.arch,
        folders=(folder,),
        records=(record,),
        network=network,
        outputs=predict(network, images, rows, record.policy.image, config.batch_size),
        ms_per_view=_time_one(network, record.policy.image.size),
    )


def _ensemble(members: Sequence[Candidate]) -> Candidate:
    """What `bonexray.network.Ensemble` says, from what its members said."""
    outputs = [member.outputs for member in members]
    return Candidate(
        name="+".join(member.name for member in members),
        folders=tuple(folder for member in members for folder in member.folders),
        records=tuple(record for member in members for record in member.records),
        network=Ensemble([member.network for member in members]),
        outputs=Outputs(
            logits=np.mean([each.logits for each in outputs], axis=0),
            part_logits=np.mean([each.part_logits for each in outputs], axis=0),
            cams=np.mean([each.cams for each in outputs], axis=0),
            embeddings=outputs[0].embeddings,
        ),
        ms_per_view=sum(member.ms_per_view for member in members),
    )


def _time_one(network: nn.Module, size: int) -> float:
    device = next(network.parameters()).device
    view = torch.zeros(1, 1, size, size, device=device)
    taken = []
    with torch.inference_mode():
        for _ in range(_TIMED_VIEWS + 1):
            started = time.perf_counter()
            network(view).label_logits.cpu()  # a copy waits for the device
            taken.append(time.perf_counter() - started)
    return 1000 * statistics.median(taken[1:])  # the first one also prepares kernels
