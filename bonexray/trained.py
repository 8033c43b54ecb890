"""A trained network's folder, as train leaves it and evaluation reads it.

weights.safetensors   the weights of the epoch with the lowest validation loss
history.csv           one row an epoch
training.json         what the weights depend on
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from bonexray.artifacts import write_json
from bonexray.config import Arch, TrainConfig
from bonexray.errors import DataError
from bonexray.policy import Policy

WEIGHTS_FILE = "weights.safetensors"
HISTORY_FILE = "history.csv"
RECORD_FILE = "training.json"


class TrainingRecord(BaseModel):
    """All that the weights depend on, besides code and kind of machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arch: Arch
    dataset_sha256: str
    manifest_sha256: str
    start: str
    """What the weights were before the first step: `random`, or a file's name and digest."""
    policy: Policy
    config: TrainConfig
    fold: int | None = None
    """The fold that was left out to judge on, in cross-validation."""


def write_record(folder: Path, record: TrainingRecord) -> None:
    """Write training.json."""
    write_json(folder / RECORD_FILE, record.model_dump())


def read_record(folder: Path) -> TrainingRecord:
    """Read training.json. Raises DataError."""
    path = folder / RECORD_FILE
    try:
        return TrainingRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(f"{path}: not readable as a training record: {error}") from error
