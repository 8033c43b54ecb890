"""The containers of a pod as `serving.pods` has them, run one after the other as a node runs them.

What stands in the manifest is translated to Docker word for word; a field that is not known here
fails the test.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bonexray.release_config import ClusterConfig
from bonexray.serve_config import ServeConfig
from bonexray.store import BundleStore
from serving.fetch import publish
from serving.pods import PORTS, pod
from tests.conftest import TINY
from tests.containers.running import open_to_all, told, wait_for
from tests.servers import s3_server
from tests.serving.live import INFER, STUDY
from tests.serving.object_store import BUCKET, URL, bucket_at, champion, digest_of, signed_release

pytestmark = pytest.mark.containers

KEYS = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
CONFINED = {
    "allowPrivilegeEscalation": ["--security-opt=no-new-privileges"],
    "readOnlyRootFilesystem": ["--read-only"],
    "capabilities": ["--cap-drop=ALL"],
}


@pytest.fixture
def team(tmp_path: Path, bundle_folder: Path) -> BundleStore:
    """A signed release folder; what verifies it lies beside it."""
    (tmp_path / "team").mkdir()
    return signed_release(tmp_path / "team", bundle_folder)


@pytest.fixture
def bucket_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_server(tmp_path, BUCKET) as url:
        bucket_at(url, monkeypatch)
        yield URL


Spec = dict[str, Any]


def rendered(team: BundleStore, store: str) -> Spec:
    cluster = ClusterConfig.model_validate(TINY["release"]["cluster"] | {"store": store})
    serve = ServeConfig.model_validate(TINY["serve"])
    return pod(champion(digest_of(team)), cluster, serve)


def flags(spec: Spec, container: Spec, places: dict[str, Path]) -> list[str]:
    """Docker's flags for what the manifest says of a container."""
    user = spec["securityContext"]
    words = [f"--user={user['runAsUser']}:{user['runAsGroup']}"]
    for field in container["securityContext"]:
        words += CONFINED[field]
    for mount in container["volumeMounts"]:
        if mount["name"] in ("tmp", "audit"):
            words.append(f"--tmpfs={mount['mountPath']}:mode=1777")
            continue
        mode = "ro" if mount.get("readOnly") else "rw"
        words.append(f"--volume={places[mount['name']]}:{mount['mountPath']}:{mode}")
    # What a node fills in itself is the pod's name.
    words += [f"--env={item['name']}={item.get('value', 'pod')}" for item in container["env"]]
    if "envFrom" in container:  # the Secret with the store's keys
        words += [f"--env={name}={os.environ[name]}" for name in KEYS]
    limits = container["resources"]["limits"]
    words += [f"--cpus={limits['cpu']}", f"--memory={limits['memory'].removesuffix('i')}"]
    return [*words, f"--entrypoint={container['command'][0]}"]


def start(image: str, spec: Spec, container: Spec, places: dict[str, Path], *more: str) -> str:
    command = [*container["command"][1:], *container["args"]]
    return told("run", "--detach", *more, *flags(spec, container, places), image, *command)


@pytest.fixture
def run_pod(
    images: dict[str, str], tmp_path: Path
) -> Iterator[Callable[[Spec, dict[str, Path]], str]]:
    """Run the first container to its end, then the second; the second's address, once it serves."""
    started: list[str] = []

    def call(spec: Spec, places: dict[str, Path]) -> str:
        image = images["bonexray-serving"]
        (first,), (second,) = spec["initContainers"], spec["containers"]
        started.append(start(image, spec, first, places, "--network=host"))
        assert told("wait", started[-1]) == "0", told("logs", started[-1])
        started.append(start(image, spec, second, places, f"--publish=127.0.0.1:0:{PORTS['http']}"))
        port = told("port", started[-1], str(PORTS["http"])).rpartition(":")[2]
        probe = second["startupProbe"]
        limit = time.monotonic() + probe["periodSeconds"] * probe["failureThreshold"]
        address = f"http://127.0.0.1:{port}"
        while not ready(address + probe["httpGet"]["path"]):
            assert time.monotonic() < limit, told("logs", started[-1])
            time.sleep(0.3)
        assert ready(address + second["livenessProbe"]["httpGet"]["path"])
        return address

    yield call
    for container in started:
        subprocess.run(["docker", "rm", "--force", container], stdout=subprocess.DEVNULL)


def ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def places_of(team: BundleStore, tmp_path: Path) -> dict[str, Path]:
    """What a node mounts: an empty volume for the images' user, the key, the team's store."""
    trust = tmp_path / "trust"
    trust.mkdir()
    (trust / "release.pub").write_bytes((team.root.parent / "release.pub").read_bytes())
    open_to_all(team.root)
    open_to_all(trust)
    empty = tmp_path / "empty"
    empty.mkdir()
    empty.chmod(0o777)
    return {"release": empty, "trust": trust, "store": team.root.parent}


def test_a_pod_fetches_from_a_volume_and_serves(
    team: BundleStore, tmp_path: Path, run_pod: Callable[[Spec, dict[str, Path]], str]
) -> None:
    spec = rendered(team, "pvc://bonexray/release")
    address = run_pod(spec, places_of(team, tmp_path))
    answer = httpx.post(address + INFER, json=STUDY, trust_env=False).json()
    assert answer["parameters"]["bundle_digest"] == digest_of(team)


def test_a_pod_fetches_from_an_object_store_and_serves(
    team: BundleStore,
    bucket_url: str,
    tmp_path: Path,
    run_pod: Callable[[Spec, dict[str, Path]], str],
) -> None:
    publish(team, digest_of(team), bucket_url)
    spec = rendered(team, bucket_url)
    address = run_pod(spec, places_of(team, tmp_path))
    answer = httpx.post(address + INFER, json=STUDY, trust_env=False).json()
    assert answer["parameters"]["bundle_digest"] == digest_of(team)


def test_a_pod_that_is_to_serve_another_digest_never_starts_to(
    images: dict[str, str], team: BundleStore, tmp_path: Path
) -> None:
    spec, places = rendered(team, "pvc://bonexray/release"), places_of(team, tmp_path)
    (first,) = spec["initContainers"]
    first["args"][first["args"].index("--digest") + 1] = "0" * 64
    container = start(images["bonexray-serving"], spec, first, places, "--network=none")
    try:
        wait_for(container, "Status", "exited")
        assert told("wait", container) == "1"
        assert len(told("logs", container).splitlines()) == 1
        assert list(places["release"].iterdir()) == []
    finally:
        told("rm", "--force", container)
