from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from bonexray.config import TrainConfig
from bonexray.policy import Policy
from bonexray.trained import TrainingRecord
from components.tracking import EXPERIMENT, TrackedRun, tracked_training


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """Of a registry of its own."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return MlflowClient(uri)


@pytest.fixture
def record(policy: Policy, train_config: TrainConfig) -> TrainingRecord:
    return TrainingRecord(
        arch="resnet18",
        dataset_sha256="d" * 64,
        manifest_sha256="e" * 64,
        start="random",
        policy=policy,
        config=train_config,
    )


def epoch(number: int) -> dict[str, float]:
    return {"epoch": number, "train_loss": 1 / number, "val_auroc": 0.5 + number / 10}


def runs(client: MlflowClient) -> list[mlflow.entities.Run]:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return client.search_runs([experiment.experiment_id])


def test_a_run_holds_settings_each_epochs_figures_and_the_datas_digest(
    client: MlflowClient, record: TrainingRecord
) -> None:
    with tracked_training("resnet18", "two cores")(record) as tell:
        tell(epoch(1))
        tell(epoch(2))
    (run,) = runs(client)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.learning_rate"] == "0.001"
    assert run.data.params["augment.rotate_degrees"] == "5.0"
    assert run.data.params["start_weights"] == "random"
    steps = client.get_metric_history(run.info.run_id, "train_loss")
    assert [(metric.step, metric.value) for metric in steps] == [(1, 1.0), (2, 0.5)]
    (data,) = run.inputs.dataset_inputs
    assert data.dataset.digest == "d" * 36


def test_a_run_that_was_cut_off_goes_on_and_a_finished_one_does_not(
    client: MlflowClient, record: TrainingRecord
) -> None:
    cut_off = tracked_training("one", "two cores")(record)
    cut_off.__enter__()
    cut_off(epoch(1))
    cut_off.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert [run.info.status for run in runs(client)] == ["FAILED"]
    with tracked_training("one", "two cores")(record) as tell:
        tell(epoch(2))
    (run,) = runs(client)
    assert run.info.status == "FINISHED"
    assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 2
    with tracked_training("one", "two cores")(record):
        pass
    assert len(runs(client)) == 2


def test_runs_that_are_opened_within_one_stand_under_it(
    client: MlflowClient, record: TrainingRecord
) -> None:
    with TrackedRun("search", "f" * 64, {"trials": 1}) as whole:
        with tracked_training("trial 0", "two cores")(record) as tell:
            tell(epoch(1))
        whole.log({"best": 0.6})
    by_name = {run.info.run_name: run for run in runs(client)}
    parent = by_name["trial 0"].data.tags["mlflow.parentRunId"]
    assert parent == by_name["search"].info.run_id
    assert by_name["search"].data.metrics == {"best": 0.6}


def test_a_server_that_is_not_there_stops_no_training(
    monkeypatch: pytest.MonkeyPatch, record: TrainingRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with tracked_training("resnet18", "two cores")(record) as tell:
        tell(epoch(1))
    said = capsys.readouterr().out
    assert "MLflow at http://127.0.0.1:1 is told no more of this run" in said
    assert said.count("\n") == 1
