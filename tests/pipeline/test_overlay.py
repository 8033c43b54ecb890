import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bonexray.errors import ConfigError
from bonexray.kubeflow_config import NO_IMAGE
from pipeline import overlay
from pipeline.overlay import _read_strictly, build, check_overlay, images_of

MANIFESTS = Path(overlay.__file__).parent / "manifests"
REGISTRY = "bonexray-registry"
DIGEST = f"sha256:{'5' * 64}"

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is not installed: it builds the overlays"
)


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Path]:
    """The manifests with one text in the place of another; returns the overlay's folder."""

    def edit(overlay: str, file: str, old: str, new: str) -> Path:
        copy = tmp_path / "manifests"
        if not copy.exists():
            shutil.copytree(MANIFESTS, copy)
        text = (copy / file).read_text()
        assert old in text
        (copy / file).write_text(text.replace(old, new))
        return copy / "overlays" / overlay

    return edit


def said_of(folder: Path, pinned: bool = False) -> str:
    with pytest.raises(ConfigError) as caught:
        check_overlay(folder, pinned)
    said = str(caught.value)
    assert said.startswith(f"{folder}: ")
    assert "\n" not in said
    return said.removeprefix(f"{folder}: ")


def test_production_passes_once_its_digests_are_real(edited: Callable[..., Path]) -> None:
    folder = edited("production", "overlays/production/kustomization.yaml", NO_IMAGE, DIGEST)
    assert check_overlay(folder, pinned=True).endswith("2 images by digest")


@pytest.mark.parametrize("name", ["standalone", "multi-user", "production"])
def test_no_overlay_but_a_team_s_own_is_pinned(name: str) -> None:
    said = said_of(MANIFESTS / "overlays" / name, pinned=True)
    if name == "production":
        assert said == (
            f"Deployment {REGISTRY}/mlflow: image = 'ghcr.io/mlflow/mlflow@{NO_IMAGE}', expected "
            "a digest that your registry holds: this one names no image"
        )
    else:
        assert said == (
            f"Deployment {REGISTRY}/mlflow: image = 'ghcr.io/mlflow/mlflow:v3.17.2-full', "
            "expected one by digest: NAME@sha256:..."
        )


FAULTS = {
    "an unknown field, at depth": (
        "registry/mlflow.yaml",
        "readOnlyRootFilesystem",
        "readOnlyRootFileSystem",
        r"Deployment bonexray-registry/mlflow: "
        r"spec\.template\.spec\.containers\[0\]\.securityContext\.readOnlyRootFileSystem: "
        r"unknown field, expected one of .*readOnlyRootFilesystem.*",
    ),
    "an unknown field of a policy": (
        "steps/network.yaml",
        "  ingress: []",
        "  ingres: []",
        r"NetworkPolicy bonexray/bonexray-steps: spec\.ingres: unknown field, expected one of "
        r"egress, ingress, podSelector, policyTypes",
    ),
    "a text for a number": (
        "registry/postgresql.yaml",
        "replicas: 1",
        'replicas: "1"',
        r"StatefulSet bonexray-registry/postgresql: spec\.replicas = '1', expected integer",
    ),
    "a number for a text": (
        "steps/places.yaml",
        "AWS_DEFAULT_REGION: us-east-1",
        "AWS_DEFAULT_REGION: 1",
        r"ConfigMap bonexray/bonexray-places: data\.AWS_DEFAULT_REGION = 1, expected string",
    ),
    "no quantity": (
        "namespace/room.yaml",
        'pods: "100"',
        "pods: [100]",
        r"ResourceQuota bonexray/bonexray: spec\.hard\.pods = \[100\], expected .*string",
    ),
    "a missing field": (
        "registry/mlflow.yaml",
        "  selector:\n    matchLabels:\n      app.kubernetes.io/name: mlflow\n  template",
        "  template",
        r"Deployment bonexray-registry/mlflow: spec\.selector: missing, expected a value",
    ),
    "a kind of nobody": (
        "namespace/network.yaml",
        "networking.k8s.io/v1",
        "networking.k8s.io/v9",
        r"NetworkPolicy bonexray/default-deny: apiVersion = 'networking\.k8s\.io/v9', expected a "
        r"kind of Kubernetes 1\.33: a custom one cannot be checked here",
    ),
    "no name": (
        "steps/account.yaml",
        "kind: ServiceAccount\nmetadata:\n  name: bonexray-steps",
        "kind: ServiceAccount\nmetadata:\n  labels: {}",
        r".*missing metadata\.name in object.*",
    ),
    "a key twice": (
        "registry/places.yaml",
        "  AWS_DEFAULT_REGION: us-east-1",
        "  AWS_DEFAULT_REGION: us-east-1\n  AWS_DEFAULT_REGION: eu-west-1",
        r'.*mapping key "AWS_DEFAULT_REGION" already defined at line \d+',
    ),
    "a key twice, in a patch": (
        "components/passwords/mlflow.yaml",
        "        - {name: passwords, mountPath: /etc/mlflow, readOnly: true}",
        "        - {name: passwords, mountPath: /etc/mlflow, mountPath: /etc}",
        r'.*mapping key "mountPath" already defined.*',
    ),
    "a file that is not there": (
        "registry/kustomization.yaml",
        "- network.yaml",
        "- networks.yaml",
        r"accumulating resources.*networks\.yaml.*",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_in_one_line(edited: Callable[..., Path], fault: str) -> None:
    file, old, new, line = FAULTS[fault]
    assert re.fullmatch(line, said_of(edited("production", file, old, new)))


def test_an_unknown_field_is_found_wherever_it_stands() -> None:
    kinds = {document["kind"]: document for document in build(MANIFESTS / "overlays/production")}
    places = 0
    for document in kinds.values():
        for place in closed_places(document):
            place["unheard"] = 1
            with pytest.raises(ConfigError, match=r"\bunheard: unknown field"):
                _read_strictly(MANIFESTS, document)
            del place["unheard"]
            places += 1
    assert places > 100


def closed_places(value: Any, key: str = "") -> Iterator[dict[str, Any]]:
    """The mappings of an object but those whose keys its author chooses."""
    if isinstance(value, list):
        for inner in value:
            yield from closed_places(inner, key)
    elif isinstance(value, dict):
        free = {"data", "labels", "matchLabels", "hard", "requests", "limits", "defaultRequest"}
        if key not in free and not (key == "selector" and not value.keys() & {"matchLabels"}):
            yield value
        for name, inner in value.items():
            yield from closed_places(inner, name)


def test_an_image_without_a_digest_is_told_beside_those_that_have_one(
    edited: Callable[..., Path],
) -> None:
    file = "overlays/production/kustomization.yaml"
    edited("production", file, NO_IMAGE, DIGEST)
    folder = edited(
        "production",
        file,
        f"- name: docker.io/library/postgres\n  digest: {DIGEST}",
        "- name: docker.io/library/postgres\n  newTag: '18'",
    )
    assert said_of(folder, pinned=True) == (
        f"StatefulSet {REGISTRY}/postgresql: image = 'docker.io/library/postgres:18', expected "
        "one by digest: NAME@sha256:..."
    )


def test_an_image_of_an_init_container_and_of_a_volume_counts() -> None:
    pod = {
        "initContainers": [{"image": "a"}],
        "containers": [{"image": "b"}],
        "volumes": [{"image": {"reference": "c"}}],
    }
    assert list(images_of({"kind": "Pod", "spec": pod})) == ["a", "b", "c"]
    assert list(images_of({"kind": "ConfigMap", "data": {"image": "d"}})) == []


def test_no_kubectl_no_folder_and_no_end_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "not a valid directory" in said_of(tmp_path / "nowhere")
    monkeypatch.setattr(overlay, "_PATIENCE_S", 0.0)
    assert "expected an overlay that fetches nothing" in said_of(MANIFESTS / "overlays/standalone")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "kubectl is not to be found" in said_of(MANIFESTS / "overlays/standalone")
