"""The compiled pipeline in containers, from the archive to a candidate in an MLflow server."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from bonexray.artifacts import sha256_file
from bonexray.bundle import open_bundle
from bonexray.store import BundleStore, Champion
from tests.containers.conftest import ROOT
from tests.pipeline.local_run import COMMIT, SAME
from tests.servers import Server, answers, free_port

pytestmark = pytest.mark.containers


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server on loopback."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}",
               f"--backend-store-uri=sqlite:///{folder}/mlflow.db",
               f"--artifacts-destination={folder}/artifacts"]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    server = Server(command, environment, lambda: answers(f"{url}/health"), folder / "log")
    server.start()
    yield url
    server.stop()


@pytest.fixture(scope="module")
def ran(
    images: dict[str, str],
    registry: str,
    tiny_workspace: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """What `python -m pipeline run` left of the tiny set."""
    folder = tmp_path_factory.mktemp("containers")
    for path in (folder, folder.parent, folder.parent.parent):
        path.chmod(0o755)  # the images' user goes through them
    store = BundleStore(folder / "release")  # somebody is champion already
    digest = store.add(tiny_workspace / "bundle")
    store.set_champion(Champion(model_name="bonexray", version="1", digest=digest))
    command = [sys.executable, "-m", "pipeline", "run", "--out", str(folder), "--commit", COMMIT]
    command += ["--params", str(tiny_workspace / "params.yaml")]
    command += ["--image", images["bonexray-components"]]
    environment = dict(os.environ) | {"MLFLOW_TRACKING_URI": registry, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "outputs"


@pytest.mark.parametrize(("output", "file"), SAME)
def test_the_digests_are_those_of_dvc_repro(
    ran: Path, tiny_workspace: Path, output: str, file: str
) -> None:
    (ours,) = ran.rglob(f"out/{file}")
    assert sha256_file(ours) == sha256_file(tiny_workspace / output / file)


def test_it_ends_in_a_candidate_that_was_held_against_the_champion(
    ran: Path, registry: str, tiny_workspace: Path
) -> None:
    version = MlflowClient(registry).get_model_version_by_alias("bonexray", "candidate")
    assert version.tags["bonexray.gate"] == "passed"
    assert version.tags["bonexray.code_commit"] == COMMIT
    champion = open_bundle(tiny_workspace / "bundle").digest
    assert version.tags["bonexray.compared_with"] == champion
    assert version.tags["bonexray.environment_lock_sha256"] == sha256_file(
        ROOT / "requirements.lock"
    )


def test_every_file_is_the_users_of_the_image(ran: Path) -> None:
    (weights,) = ran.rglob("weights.safetensors")
    assert weights.stat().st_uid == (os.getuid() or 10001)


def test_a_container_that_is_killed_is_named_in_a_line(
    images: dict[str, str], registry: str, tiny_workspace: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "pipeline", "run", "--out", str(tmp_path)]
    command += ["--params", str(tiny_workspace / "params.yaml")]
    command += ["--image", images["bonexray-components"]]
    environment = dict(os.environ) | {"MLFLOW_TRACKING_URI": registry}
    for path in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        path.chmod(0o755)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)
    killed = ""
    while not killed and running.poll() is None:
        listed = subprocess.run(
            ["docker", "ps", "--quiet", f"--filter=ancestor={images['bonexray-components']}"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        killed = listed.stdout.strip()
    subprocess.run(["docker", "kill", *killed.split()], stdout=subprocess.DEVNULL)
    _, said = running.communicate(timeout=120)
    assert running.returncode == 1
    assert said.splitlines()[-1].startswith("pipeline: task simulate"), said[-2000:]
