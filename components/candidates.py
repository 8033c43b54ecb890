"""Trained networks, loaded, calibrated and compared. N views, B batch, h x w last feature map."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from bonexray.config import Arch, EvaluateConfig
from bonexray.errors import DataError
from bonexray.images import ImageSpec, Pixels, normalise
from bonexray.metrics import auroc
from bonexray.network import BothWays, LimbNet, abnormal_logit
from bonexray.studies import BODY_PARTS
from bonexray.trained import RECORD_FILE, WEIGHTS_FILE, TrainingRecord, read_record
from bonexray.verdicts import calibrated_probability
from components.scoring import fit_temperature, lead_of, studies_of, with_intervals


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A trained network and what it says of every view."""

    folder: Path
    record: TrainingRecord
    network: nn.Module
    """As it reads: `LimbNet`, or `BothWays` around it."""
    views: pd.DataFrame
    """The manifest with each view's logit, calibrated probability and seen body part."""
    cams: npt.NDArray[np.float32]
    """(N, h, w) class-activation maps, in the order of `views`."""
    temperature: float
    val_auroc: float
    """Per study."""


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


def assess(
    folder: Path, images: Pixels, manifest: pd.DataFrame, config: EvaluateConfig
) -> Candidate:
    """Load a trained network, let it read every view, and calibrate it on `val`.

    Raises:
        DataError: the folder's files cannot be read as a trained network.
    """
    record = read_record(folder)
    network = load_trained(folder, record.arch, config.test_time_flip)
    logits, parts, cams = predict(
        network, images, manifest["row"].to_numpy(), record.policy.image, config.batch_size
    )
    views = manifest.assign(logit=logits, seen_part=[BODY_PARTS[part] for part in parts])
    temperature = fit_temperature(views[views["split"] == "val"])
    views["probability"] = calibrated_probability(logits, temperature)
    val = studies_of(views[views["split"] == "val"])
    return Candidate(
        folder=folder,
        record=record,
        network=network,
        views=views,
        cams=cams,
        temperature=temperature,
        val_auroc=auroc(val["label"].to_numpy(), val["probability"].to_numpy()),
    )


def compare(candidates: Sequence[Candidate], config: EvaluateConfig) -> dict[str, Any]:
    """The networks side by side, the best on `val` first.

    Returns:
        Network -> `parameters`, how many; `val` and `test`, figures of their studies with
        intervals; `lead`, by how much the first network's test AUROC is higher, paired.
    """
    ordered = sorted(candidates, key=lambda candidate: -candidate.val_auroc)
    studies = [studies_of(candidate.views) for candidate in ordered]
    test = [table[table["split"] == "test"] for table in studies]
    return {
        candidate.record.arch: {
            "parameters": sum(weight.numel() for weight in candidate.network.parameters()),
            "val": with_intervals(table[table["split"] == "val"], config),
            "test": with_intervals(own, config),
            "lead": lead_of(test[0], own, config),
        }
        for candidate, table, own in zip(ordered, studies, test, strict=True)
    }


def load_trained(folder: Path, arch: Arch, test_time_flip: bool) -> nn.Module:
    """A trained network, ready to read. Raises DataError."""
    network = LimbNet(arch)
    try:
        network.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{folder / WEIGHTS_FILE}: not the weights of a {arch}: {reason}"
        ) from error
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    reader = BothWays(network) if test_time_flip else network
    return reader.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


def predict(
    network: nn.Module, images: Pixels, rows: npt.NDArray[np.integer], spec: ImageSpec, batch: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Read views: logits (N,), seen body parts (N,), class-activation maps (N, h, w)."""
    device = next(network.parameters()).device
    logits, parts, cams = [], [], []
    with torch.inference_mode():
        for start in range(0, len(rows), batch):
            squares = normalise(images[rows[start : start + batch]], spec)  # (B, 1, S, S)
            inputs = torch.from_numpy(squares).to(device, memory_format=torch.channels_last)
            reading = network(inputs)
            logits.append(abnormal_logit(reading.label_logits).cpu().numpy())
            parts.append(reading.part_logits.argmax(1).cpu().numpy())
            cams.append(reading.cam.cpu().numpy())
    return np.concatenate(logits), np.concatenate(parts), np.concatenate(cams)
