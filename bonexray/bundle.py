"""The bundle: the folder that evaluation writes and serving reads. Needs no torch.

model.onnx      image (B, 1, S, S) float32 -> logit (B,), part_logits (B, 7),
                cam (B, h, w), embedding (B, D)
bundle.json     image spec, labels, calibration, operating points, provenance
profile.json    what the training images were like; later data is held against it
manifest.json   SHA-256 of each other file, written last
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bonexray.artifacts import remove, sha256_file, write_json
from bonexray.errors import BundleError
from bonexray.images import ImageSpec
from bonexray.verdicts import OperatingPoints

MODEL_FILE = "model.onnx"
INFO_FILE = "bundle.json"
PROFILE_FILE = "profile.json"
MANIFEST_FILE = "manifest.json"
OUTPUTS = ("logit", "part_logits", "cam", "embedding")

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Provenance(BaseModel):
    """Where the weights come from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arch: str
    dataset_sha256: Sha256
    """Digest of the packed images."""
    manifest_sha256: Sha256
    """Digest of the accepted views and their split."""
    start_weights: str
    """What training began with: `random`, or a file's name and digest."""
    weights_sha256: Sha256
    train_params_sha256: Sha256
    code_commit: str
    """Commit of the code that made the bundle; ends in `-dirty` when files differed from it."""


class BundleInfo(BaseModel):
    """Everything besides the network that an answer depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[1] = 1
    image: ImageSpec
    labels: tuple[str, ...]
    body_parts: tuple[str, ...]
    temperature: float = Field(gt=0)
    aggregation: Literal["mean"] = "mean"
    operating_points: OperatingPoints
    provenance: Provenance


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sha256: dict[str, Sha256]
    """File name -> digest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A bundle whose digests were verified when it was opened."""

    model: bytes
    """The ONNX graph, as verified; a file changed afterwards cannot take its place."""
    info: BundleInfo
    digest: str
    """SHA-256 of the manifest: names the bundle and, through it, every byte in it."""


def seal_bundle(folder: Path) -> str:
    """Write the manifest of a bundle folder, last, and return the bundle's digest."""
    remove(folder / MANIFEST_FILE)
    files = {path.name: sha256_file(path) for path in sorted(folder.iterdir())}
    write_json(folder / MANIFEST_FILE, {"sha256": files})
    return sha256_file(folder / MANIFEST_FILE)


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
    return Bundle(model=(folder / MODEL_FILE).read_bytes(), info=info, digest=digest)


def verify_bundle(folder: Path) -> str:
    """Compare each file of a bundle with its manifest and return the bundle's digest.

    Raises:
        BundleError: as `open_bundle`.
    """
    manifest = folder / MANIFEST_FILE
    try:
        expected = _Manifest.model_validate_json(manifest.read_bytes()).sha256
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise BundleError(f"{manifest}: not readable as a bundle's manifest: {reason}") from error
    present = {path.name for path in folder.iterdir()} - {MANIFEST_FILE}
    if present != set(expected) or not {MODEL_FILE, INFO_FILE, PROFILE_FILE} <= present:
        raise BundleError(
            f"{folder}: holds {sorted(present)}, its manifest names {sorted(expected)}"
        )
    for name, digest in expected.items():
        actual = sha256_file(folder / name)
        if actual != digest:
            raise BundleError(f"{folder / name}: SHA-256 is {actual}, expected {digest}")
    return sha256_file(manifest)
