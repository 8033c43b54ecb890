"""The policy that augment resolves and training obeys: image spec and augmentation, as one file."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from bonexray.artifacts import write_json
from bonexray.config import AugmentConfig
from bonexray.errors import DataError
from bonexray.images import ImageSpec

POLICY_FILE = "policy.json"


class Policy(BaseModel):
    """How training pixels are normalised and how far they may be moved."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: ImageSpec
    augment: AugmentConfig


def write_policy(folder: Path, policy: Policy) -> None:
    """Write policy.json."""
    write_json(folder / POLICY_FILE, policy.model_dump())


def read_policy(folder: Path) -> Policy:
    """Read policy.json. Raises DataError."""
    path = folder / POLICY_FILE
    try:
        return Policy.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(f"{path}: not readable as a policy: {error}") from error
