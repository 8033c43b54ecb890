"""What a cluster is given, read as strictly as it reads: each object of an overlay, field by field.

`kubectl kustomize` puts the overlay together and refuses what is named twice; the schemas that
Kubernetes publishes say the rest. Nothing is asked of a cluster.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from bonexray.errors import ConfigError
from bonexray.kubeflow_config import NO_IMAGE

KUBERNETES = "1.33"
"""The oldest that Kubeflow Pipelines 2.17 is tested with: a field that came later is refused."""
_PINNED = re.compile(r"\S+@sha256:[0-9a-f]{64}")
_PATIENCE_S = 120.0
_BEFORE_THE_REASON = re.compile(r'.*"command failed" err=|error: ', re.DOTALL)

Document = dict[str, Any]


def check_overlay(folder: Path, pinned: bool) -> str:
    """Build an overlay and read every object of it strictly.

    Args:
        folder: that holds kustomization.yaml.
        pinned: whether each image has to be named by a digest, and a real one.

    Returns:
        What was checked, in one line.

    Raises:
        ConfigError: it cannot be built; a field is unknown, missing or of another type; a kind is
            no one's; an image is not pinned.
    """
    objects = build(folder)
    if not objects:
        raise ConfigError(f"{folder}: builds to nothing, expected objects")
    for document in objects:
        _read_strictly(folder, document)
    images = [(document, image) for document in objects for image in images_of(document)]
    if pinned:
        for document, image in images:
            _refuse_unpinned(folder, document, image)
    told = f"{len(images)} images" + (" by digest" if pinned else "")
    return f"{folder}: {len(objects)} objects as Kubernetes {KUBERNETES} reads them, {told}"


def build(folder: Path) -> list[Document]:
    """The objects of an overlay, as `kubectl apply -k` would send them.

    Raises:
        ConfigError: there is no kubectl, or it cannot build the overlay.
    """
    try:
        built = subprocess.run(
            ["kubectl", "kustomize", str(folder)],
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_S,
        )
    except FileNotFoundError as error:
        raise ConfigError(
            f"{folder}: kubectl is not to be found, expected it on the PATH: it builds overlays"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError(
            f"{folder}: not built after {_PATIENCE_S:.0f} s, expected an overlay that fetches "
            "nothing"
        ) from error
    if built.returncode:
        raise ConfigError(f"{folder}: {_reason(built.stderr)}")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    documents = yaml.load_all(built.stdout, Loader=loader)
    return [document for document in documents if document is not None]


def images_of(document: Document) -> Iterator[str]:
    """The images that an object names, of containers and of volumes."""
    return _images(document.get("spec"))


def name_of(document: Document) -> str:
    """Kind, namespace and name: `Deployment bonexray-registry/mlflow`."""
    metadata = document["metadata"]
    place = f"{metadata['namespace']}/" if "namespace" in metadata else ""
    return f"{document['kind']} {place}{metadata['name']}"


def _images(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "image" and isinstance(inner, str):
                yield inner
            elif key == "image" and isinstance(inner, dict) and "reference" in inner:
                yield inner["reference"]
            else:
                yield from _images(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _images(inner)


def _reason(stderr: str) -> str:
    """What kubectl has to say, as one line and without the mark of its log."""
    text = _BEFORE_THE_REASON.sub("", stderr, count=1)
    text = re.sub(r'\\+(?=")', "", re.sub(r"\\+[nt]", " ", text))  # a quote within a quote
    return " ".join(text.split()).strip('"<> ') or "kubectl kustomize failed and says nothing"


def _read_strictly(folder: Path, document: Document) -> None:
    # Here: it is wanted where overlays are written, and not in the image of the steps.
    import kubernetes_validate  # type: ignore[import-untyped]

    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except kubernetes_validate.SchemaNotFoundError as error:
        raise ConfigError(
            f"{folder}: {name_of(document)}: apiVersion = {document['apiVersion']!r}, expected a "
            f"kind of Kubernetes {KUBERNETES}: a custom one cannot be checked here"
        ) from error
    except kubernetes_validate.ValidationError as error:
        raise ConfigError(f"{folder}: {name_of(document)}: {_told(error)}") from error


def _told(error: Any) -> str:
    """Field, value and what was expected, of a schema's complaint."""
    field = _dotted(error.path)
    if error.validator == "additionalProperties":
        unknown = min(set(error.instance) - set(error.schema.get("properties", {})))
        return f"{_dotted([*error.path, unknown])}: unknown field, expected {_names(error.schema)}"
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return f"{_dotted([*error.path, missing])}: missing, expected a value"
    if error.validator == "enum":
        return (
            f"{field} = {error.instance!r}, expected {' or '.join(map(str, error.schema['enum']))}"
        )
    if error.validator in ("type", "oneOf"):
        return f"{field} = {error.instance!r}, expected {_types(error.schema)}"
    return f"{field}: {error.message}"


def _dotted(path: Any) -> str:
    """`spec.containers[0].image`."""
    told = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return told.removeprefix(".") or "the object"


def _names(schema: Document) -> str:
    return "one of " + ", ".join(sorted(schema.get("properties", {})))


def _types(schema: Document) -> str:
    """`integer or string`, of a type or of alternatives. null counts as left out."""
    alternatives = schema.get("oneOf", [schema])
    found = [each.get("type", "object") for each in alternatives]
    flat = [name for each in found for name in ([each] if isinstance(each, str) else each)]
    return " or ".join(sorted(set(flat) - {"null"}))


def _refuse_unpinned(folder: Path, document: Document, image: str) -> None:
    if not _PINNED.fullmatch(image):
        raise ConfigError(
            f"{folder}: {name_of(document)}: image = {image!r}, expected one by digest: "
            "NAME@sha256:..."
        )
    if image.endswith(NO_IMAGE):
        raise ConfigError(
            f"{folder}: {name_of(document)}: image = {image!r}, expected a digest that your "
            "registry holds: this one names no image"
        )
