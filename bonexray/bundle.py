"""The bundle: the folder that evaluation writes and serving reads. Needs no torch.

model.onnx      image (B, 1, S, S) float32 -> logit (B,), part_logits (B, 7),
                cam (B, h, w), embedding (B, D)
model.int8.onnx the same in INT8; only where it answers as well
bundle.json     image spec, labels, study rule, calibration, operating points, provenance
typical.npz     what embeddings of limb radiographs are like; what is unlike them is not analysed
profile.json    what the training images were like; later data is held against it
manifest.json   SHA-256 of each other file, written last
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bonexray.errors import BundleError, SealError
from bonexray.images import ImageSpec
from bonexray.novelty import Abstention, Typical, read_typical
from bonexray.sealed import MANIFEST_FILE, Sha256, verify_seal
from bonexray.verdicts import Calibration, OperatingPoints, StudyRule

MODEL_FILE = "model.onnx"
INT8_FILE = "model.int8.onnx"
INFO_FILE = "bundle.json"
TYPICAL_FILE = "typical.npz"
PROFILE_FILE = "profile.json"
_FILES = {MODEL_FILE, INFO_FILE, TYPICAL_FILE, PROFILE_FILE}
_OPTIONAL = {INT8_FILE}
OUTPUTS = ("logit", "part_logits", "cam", "embedding")


class TrainedNetwork(BaseModel):
    """One of the networks that answer together, mostly the only one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arch: str
    start_weights: str
    """What training began with: `random`, or a file's name and digest."""
    weights_sha256: Sha256
    train_params_sha256: Sha256


class Provenance(BaseModel):
    """Where the weights come from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    networks: tuple[TrainedNetwork, ...] = Field(min_length=1)
    dataset_sha256: Sha256
    """Digest of the packed images."""
    manifest_sha256: Sha256
    """Digest of the accepted views and their split."""
    code_commit: str
    """Commit of the code that made the bundle; ends in `-dirty` when files differed from it."""


class BundleInfo(BaseModel):
    """Everything besides the network that an answer depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[2] = 2
    image: ImageSpec
    labels: tuple[str, ...]
    body_parts: tuple[str, ...]
    study_rule: StudyRule
    calibration: Calibration
    operating_points: OperatingPoints
    abstention: Abstention
    provenance: Provenance


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A bundle whose digests were verified when it was opened."""

    model: bytes
    """The ONNX graph, as verified; a file changed afterwards cannot take its place."""
    model_int8: bytes | None
    """The same network in INT8, as verified; None where it does not answer as well."""
    info: BundleInfo
    typical: Typical
    digest: str
    """SHA-256 of the manifest: names the bundle and, through it, every byte in it."""


def open_bundle(folder: Path) -> Bundle:
    """Verify every digest and read the bundle.

    Raises:
        BundleError: a file is missing, extra or altered, or a field is not what it should be.
    """
    digest = verify_bundle(folder)
    try:
        info = BundleInfo.model_validate_json((folder / INFO_FILE).read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise BundleError(f"{folder / INFO_FILE}: {field}: {first['msg']}") from error
    typical = read_typical(folder / TYPICAL_FILE)
    if len(typical.means) != len(info.body_parts):
        raise BundleError(
            f"{folder / TYPICAL_FILE}: {len(typical.means)} means, expected one for each of "
            f"{len(info.body_parts)} body parts"
        )
    int8 = folder / INT8_FILE
    return Bundle(
        model=(folder / MODEL_FILE).read_bytes(),
        model_int8=int8.read_bytes() if int8.exists() else None,
        info=info,
        typical=typical,
        digest=digest,
    )


def verify_bundle(folder: Path) -> str:
    """Compare each file of a bundle with its manifest and return the bundle's digest.

    Raises:
        BundleError: as `open_bundle`.
    """
    try:
        digest = verify_seal(folder, _FILES)
    except SealError as error:
        raise BundleError(str(error)) from error
    # Sealed is not enough: a pickle may be sealed too, and somebody might load it one day.
    extra = {path.name for path in folder.iterdir()} - _FILES - _OPTIONAL - {MANIFEST_FILE}
    if extra:
        raise BundleError(f"{folder}: holds {sorted(extra)}, which no bundle has")
    return digest
