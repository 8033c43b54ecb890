"""A training on several nodes, against an API that plays the nodes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import nodes
from tests.conftest import TINY
from tests.pipeline.trainer_server import (
    COMPLETE,
    FAILED,
    RUNNING,
    TrainerServer,
    trainer,
)
from tests.serving.kubernetes_server import write_kubeconfig

RUN = "0f9e8d7c"
NAME = f"bonexray-{RUN}-resnet18"
CLUSTER = TINY["kubeflow"] | {"nodes": 2.0, "gpus": "1", "volume": "flow"}


@pytest.fixture
def server() -> Iterator[TrainerServer]:
    with trainer() as running:
        yield running


@pytest.fixture
def volume(server: TrainerServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The mounted volume, of a pod that may speak to the server."""
    write_kubeconfig(tmp_path / "kubeconfig", server.url)
    for name, value in {
        "KUBECONFIG": str(tmp_path / "kubeconfig"),
        "POD_NAMESPACE": "radiology",
        "POD_NAME": "train-1",
        "POD_UID": "11111111-2222-3333-4444-555555555555",
        "BONEXRAY_RUN": RUN,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(nodes, "VOLUME", tmp_path / "volume")
    monkeypatch.setattr(nodes, "POLL_S", 0.01)
    return tmp_path / "volume"


@pytest.fixture
def train(volume: Path, tmp_path: Path) -> Callable[[], Path]:
    """Train on two nodes, which have written their network before they are asked."""
    inputs = {}
    for name in ("dataset", "validated", "policy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
        inputs[name] = str(tmp_path / name)

    def call() -> Path:
        written = volume / f"runs/{RUN}/resnet18/models/resnet18"
        written.mkdir(parents=True, exist_ok=True)
        (written / "weights.safetensors").write_text("weights")
        params = TINY["train"] | {"processes": 2.0}
        nodes.train_on_nodes(params, "resnet18", dict(CLUSTER), inputs, str(tmp_path / "out"))
        return tmp_path / "out"

    return call


def test_the_network_of_the_nodes_is_the_output_of_the_task(
    train: Callable[[], Path], server: TrainerServer, volume: Path
) -> None:
    server.states = [{}, RUNNING, COMPLETE]
    assert (train() / "weights.safetensors").read_text() == "weights"
    assert server.deleted == [NAME]
    assert not (volume / f"runs/{RUN}/resnet18").exists()


def test_the_job_is_the_pods_and_reads_what_the_task_was_given(
    train: Callable[[], Path], server: TrainerServer
) -> None:
    server.states = [COMPLETE]
    train()
    (job,) = server.created
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("Pod", "train-1")
    pod = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"][
        "replicatedJobs"
    ][0]["template"]["spec"]["template"]["spec"]
    flow = pod["containers"][0]["volumeMounts"][0]
    assert (flow["mountPath"], flow["subPath"]) == ("/flow", f"runs/{RUN}/resnet18")
    assert job["spec"]["trainer"]["numNodes"] == 2


def test_a_task_that_is_tried_again_finds_its_job(
    train: Callable[[], Path], server: TrainerServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.jobs[NAME] = {"metadata": {"name": NAME}}
    server.states = [COMPLETE]
    train()
    assert not server.created
    assert "was started before, and goes on" in capsys.readouterr().out


def test_an_api_that_is_away_for_a_while_ends_no_training(
    train: Callable[[], Path], server: TrainerServer
) -> None:
    server.states = [RUNNING, 500, 503, 429, RUNNING, COMPLETE]
    assert (train() / "weights.safetensors").exists()


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ([RUNNING, FAILED], f"TrainJob {NAME} failed: node-1 ran out of memory"),
        ([RUNNING, 404], f"TrainJob {NAME} was deleted while it ran"),
        ([RUNNING, 500], f"TrainJob {NAME}: not to be seen"),
    ],
)
def test_a_job_that_ends_otherwise_fails_the_task_with_a_line(
    train: Callable[[], Path],
    server: TrainerServer,
    states: list[dict[str, Any] | int],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.states = states
    with pytest.raises(SystemExit, match="1"):
        train()
    assert said in capsys.readouterr().err
    assert server.deleted == [NAME]


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ((403, "trainjobs is forbidden"), "trainjobs is forbidden"),
        ((404, "the server could not find the requested resource"), "could not find"),
    ],
)
def test_a_cluster_that_takes_no_job_fails_the_task_with_a_line(
    train: Callable[[], Path],
    server: TrainerServer,
    refusal: tuple[int, str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.refusal = refusal
    with pytest.raises(SystemExit, match="1"):
        train()
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_task_that_is_stopped_stops_its_nodes(
    server: TrainerServer, volume: Path, tmp_path: Path
) -> None:
    for name in ("dataset", "validated", "policy"):
        (tmp_path / name).mkdir()
    inputs = {name: str(tmp_path / name) for name in ("dataset", "validated", "policy")}
    arguments = json.dumps([TINY["train"] | {"processes": 2}, CLUSTER, inputs])
    code = f"""
import json, sys
from pathlib import Path
from pipeline import nodes
nodes.VOLUME, nodes.POLL_S = Path({str(volume)!r}), 0.05
params, cluster, inputs = json.loads(sys.argv[1])
nodes.train_on_nodes(params, "resnet18", cluster, inputs, {str(tmp_path / "out")!r})
"""
    running = subprocess.Popen(
        [sys.executable, "-c", code, arguments], env=dict(os.environ), cwd=Path(__file__).parents[2]
    )
    deadline = time.monotonic() + 30
    while NAME not in server.jobs and time.monotonic() < deadline:
        time.sleep(0.05)
    running.terminate()
    assert running.wait(timeout=20) == 143
    assert server.deleted == [NAME]
