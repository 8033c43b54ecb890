"""kfp takes a container that vanished for done: what a run left is looked at."""

from pathlib import Path
from typing import Any

import pytest

from bonexray.errors import ConfigError
from pipeline.local import lost, run_locally

FILE = {"artifactType": {"schemaTitle": "system.Artifact"}}
FIGURES = {"artifactType": {"schemaTitle": "system.Metrics"}}  # no file of its own
COMPILED: dict[str, Any] = {
    "components": {
        "comp-ingest": {
            "executorLabel": "exec-ingest",
            "outputDefinitions": {"artifacts": {"out": FILE, "figures": FIGURES}},
        },
        "comp-train": {
            "executorLabel": "exec-train",
            "outputDefinitions": {"artifacts": {"out": FILE, "figures": FIGURES}},
        },
        "comp-for-loop-1": {"dag": {}},
    }
}


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """What a run of two tasks left, the second in a loop."""
    for task in ("run/ingest", "run/for-loop-1-iteration-0/train"):
        (tmp_path / task).mkdir(parents=True)
        (tmp_path / task / "executor_output.json").write_text("{}")
        (tmp_path / task / "out").write_text("bytes")
    return tmp_path


def test_a_whole_run_lost_nothing(outputs: Path) -> None:
    assert list(lost(COMPILED, outputs, failed="")) == []


def test_an_output_that_is_missing_is_named_with_its_task(outputs: Path) -> None:
    (outputs / "run/for-loop-1-iteration-0/train/out").unlink()
    (problem,) = lost(COMPILED, outputs, failed="")
    assert problem.startswith("task train: its output 'out' is missing: ")


def test_a_container_that_vanished_is_named_and_not_the_task_that_missed_its_output(
    outputs: Path,
) -> None:
    for file in ("out", "executor_output.json"):
        (outputs / "run/ingest" / file).unlink()
    (outputs / "run/for-loop-1-iteration-0/train/executor_output.json").unlink()
    (problem,) = lost(COMPILED, outputs, failed="train")
    assert problem.startswith("task ingest: it wrote no executor_output.json")


def test_a_task_that_a_gate_stopped_need_not_have_written_all(outputs: Path) -> None:
    (outputs / "run/ingest/out").unlink()
    assert list(lost(COMPILED, outputs, failed="gate")) == []


def test_outputs_of_no_run_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs/mine.txt").write_text("precious")
    with pytest.raises(ConfigError, match="holds outputs/ of no run"):
        run_locally({}, "0" * 40, None, tmp_path)
    assert (tmp_path / "outputs/mine.txt").exists()


def test_containers_without_an_engine_are_refused_and_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    (tmp_path / "pipeline.yaml").touch()
    (tmp_path / "outputs").mkdir()
    with pytest.raises(ConfigError, match="no Docker engine answers"):
        run_locally({}, "0" * 40, "bonexray-components", tmp_path)
    assert (tmp_path / "outputs").exists()


@pytest.mark.parametrize("registry", ["", "sqlite:///mlflow.db"])
def test_a_registry_that_a_container_would_lose_is_refused(
    registry: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI = "):
        run_locally({}, "0" * 40, "bonexray-components", tmp_path)
    assert not list(tmp_path.iterdir())
