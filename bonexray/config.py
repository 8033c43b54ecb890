"""Every setting of every step, as read from params.yaml. Knows no step and no platform."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError, model_validator

from bonexray.errors import ConfigError
from bonexray.kubeflow_config import KubeflowConfig
from bonexray.release_config import ReleaseConfig
from bonexray.section import Positive, Section
from bonexray.serve_config import ServeConfig

Arch = Literal["resnet18", "resnet50", "resnet101"]
Fault = Literal[
    "truncated",
    "zero_byte",
    "wrong_extension",
    "sixteen_bit",
    "rgb",
    "rgba",
    "palette",
    "constant",
    "inverted",
    "absurd_aspect",
    "pixel_bomb",
    "stray",
    "row_without_file",
    "file_without_row",
    "label_disagrees",
    "study_without_image",
    "same_image_two_patients",
    "near_duplicate",
    "patient_in_both_splits",
    "zip_slip",
    "zip_bomb",
]
Fraction = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class DataConfig(Section):
    """Where the flow starts."""

    archive: str
    """MURA as a .zip or an unpacked folder. The simulated archive is written by `simulate`."""


class SimulateConfig(Section):
    """The simulated archive: MURA's layout, and its counts times `scale`."""

    seed: Seed
    scale: Annotated[float, Field(gt=0, le=1)]
    """1.0 gives MURA's own numbers of patients, studies and images, per split, part and label."""
    difficulty: Fraction
    """How hard findings are to see: 0 is plain, 1 hardly visible."""
    faults: dict[Fault, Fraction]
    """Share of what a fault can befall (images, studies or patients) that it is planted in."""


class IngestConfig(Section):
    """How an image file becomes pixels."""

    image_size: Annotated[int, Field(ge=32, le=1024)]
    """Side of the packed square image in pixels; the long side is fitted to it."""
    archive_sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
    """What the archive's bytes must be; empty when they may be any."""


class ValidateConfig(Section):
    """What data may pass."""

    seed: Seed
    val_fraction: Annotated[float, Field(gt=0, lt=1)]
    """Share of MURA's train patients that become `val`."""
    folds: Annotated[int, Field(ge=2, le=20)]
    """Parts into which the patients of `train` and `val` are cut for cross-validation."""
    colour_modes: Annotated[tuple[str, ...], Field(min_length=1)]
    """Pillow's names of the modes that an image may have: L is 8-bit grey, RGB is colour."""
    max_quarantine_fraction: Fraction
    """The flow stops when more than this share of the rows is quarantined."""


class AugmentConfig(Section):
    """How far a training image may be moved from the one that was read."""

    seed: Seed
    flip_probability: Fraction
    rotate_degrees: Annotated[float, Field(ge=0, le=180)]
    translate_fraction: Annotated[float, Field(ge=0, lt=1)]
    scale_fraction: Annotated[float, Field(ge=0, lt=1)]
    brightness_fraction: Fraction
    contrast_fraction: Fraction


class TrainConfig(Section):
    """One training run; the architecture is a flag, since several are trained alike."""

    seed: Seed
    epochs: Positive
    batch_size: Annotated[int, Field(ge=2)]
    start: Annotated[str, Field(min_length=1)]
    """Weights to start from: `random`; `imagenet`, if torchvision's cache holds them; or the path
    of a file of torchvision's, with its digest in its name."""
    learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    schedule: Literal["plateau", "cosine", "one_cycle"]
    """`plateau` lowers the rate when the validation loss stops falling; the others follow their
    curve from the first step to the last, `one_cycle` with a rise before the fall."""
    plateau_patience: Annotated[int, Field(ge=0)]
    """Epochs without a better validation loss before the rate is multiplied by the factor."""
    plateau_factor: Annotated[float, Field(gt=0, lt=1)]
    weighting: Literal["none", "label", "part_and_label"]
    """What has the same weight in the loss, however many views it has."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    mixup_alpha: Annotated[float, Field(ge=0)]
    """Of the Beta distribution from which come the shares of two mixed images; 0: none."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    """Of the moving average of the weights, which is validated and kept; 0: no average."""
    first_size_fraction: Annotated[float, Field(ge=0.25, le=1)]
    """Of the images' side, in the first half of the epochs."""
    part_loss_weight: Annotated[float, Field(ge=0)]
    """Weight of the body-part head's loss beside the abnormality loss."""
    threads: Positive
    """CPU threads of each process. Pinned, because another count gives other weights."""
    processes: Positive
    """That share each batch, on this machine one a GPU. Pinned: sums are rounded in their order."""


class Between(Section):
    """Values of a searched field: any from `low` to `high`."""

    low: float
    high: float
    log: bool
    """Whether as many are tried between 0.001 and 0.01 as between 0.01 and 0.1."""


class OneOf(Section):
    """Values of a searched field: those listed."""

    choices: Annotated[tuple[bool | int | float | str, ...], Field(min_length=2)]


class SearchConfig(Section):
    """Which training runs a search tries."""

    seed: Seed
    trials: Positive
    """In all, those of earlier calls included."""
    fields: Annotated[dict[str, Between | OneOf], Field(min_length=1)]
    """Field of the section `train` -> its values."""


class Rule(Section):
    """One rule of the gate: a figure of metrics.json and its bound."""

    figure: Annotated[str, Field(min_length=1)]
    """Path in metrics.json, such as `test/study/auroc_low`."""
    at_least: float | None = None
    at_most: float | None = None
    severity: Literal["critical", "warning", "info"]
    """Broken, `critical` stops the flow and `warning` wants an approver's override."""

    @model_validator(mode="after")
    def _one_bound(self) -> "Rule":
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("expected one of at_least and at_most")
        return self


class EvaluateConfig(Section):
    """How the trained networks are judged."""

    seed: Seed
    batch_size: Positive
    threads: Positive
    test_time_flip: bool
    """Read each view and its mirror image, here and when it is served: twice the time."""
    bootstrap_draws: Positive
    sensitivity: Annotated[float, Field(gt=0, lt=1)]
    """Aimed at on `val` by the operating point below which a study is negative."""
    specificity: Annotated[float, Field(gt=0, lt=1)]
    """Aimed at on `val` by the operating point above which a study is positive."""
    refused_fraction: Annotated[float, Field(gt=0, lt=0.5)]
    """Share of the good views of `val` that abstention may cost."""
    int8_max_auroc_lost: Fraction
    """AUROC of studies of `val` that the INT8 network may lose; beyond it the bundle has none."""
    gate: Annotated[tuple[Rule, ...], Field(min_length=1)]


class RegisterConfig(Section):
    """Where a candidate goes."""

    experiment: Annotated[str, Field(min_length=1)]
    model_name: Annotated[str, Field(min_length=1)]


class NetworksConfig(Section):
    """The networks that are trained side by side, for evaluate to choose from."""

    archs: Annotated[tuple[Arch, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_once(self) -> "NetworksConfig":
        if len(set(self.archs)) < len(self.archs):
            raise ValueError("archs name a network twice")
        return self


SECTIONS: dict[str, type[Section]] = {
    "data": DataConfig,
    "simulate": SimulateConfig,
    "ingest": IngestConfig,
    "validate": ValidateConfig,
    "augment": AugmentConfig,
    "networks": NetworksConfig,
    "train": TrainConfig,
    "search": SearchConfig,
    "evaluate": EvaluateConfig,
    "register": RegisterConfig,
    "kubeflow": KubeflowConfig,
    "release": ReleaseConfig,
    "serve": ServeConfig,
}

S = TypeVar("S", bound=Section)


def read_section(params: str, section: type[S]) -> S:
    """Read one section of params.yaml.

    Args:
        params: the path of params.yaml, or the section itself as a JSON object. Kubeflow passes
            the latter and turns its integers into doubles; an integral double is taken back.
        section: the section's class.

    Raises:
        ConfigError: the file is missing or not YAML, or a field is missing, unknown, null, of
            another type or out of its range.
    """
    name = next(key for key, value in SECTIONS.items() if value is section)
    if params.lstrip().startswith("{"):
        source, fields = "--params", _parse(params, "--params")
    else:
        source, fields = params, _section_of(read_params(Path(params)), params, name)
    try:
        return section.model_validate(fields)
    except ValidationError as error:
        raise ConfigError(_explain(error, source, name)) from error


def read_params(path: Path) -> dict[str, Any]:
    """Read params.yaml as it stands, after checking that each of its sections is known."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a parameter file: {error}") from error
    params = _parse(text, str(path))
    for name in params:
        if name not in SECTIONS:
            known = ", ".join(SECTIONS)
            raise ConfigError(f"{path}: unknown section {name!r}; expected one of {known}")
    return params


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        value = json.loads(text) if source == "--params" else yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{source}: not readable: {reason}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{source}: holds a {type(value).__name__}, expected a mapping")
    return value


def _section_of(params: dict[str, Any], source: str, name: str) -> Any:
    if name not in params:
        raise ConfigError(f"{source}: section {name!r} is missing")
    return params[name]


def _explain(error: ValidationError, source: str, section: str) -> str:
    def line(problem: Any) -> str:
        field = ".".join([section, *map(str, problem["loc"])])
        if problem["type"] == "missing":
            return f"{field} is missing"
        if problem["type"] == "extra_forbidden":
            return f"{field} is not a known parameter"
        return f"{field} = {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"

    return f"{source}: " + "; ".join(line(problem) for problem in error.errors())
