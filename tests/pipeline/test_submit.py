"""A run on a server: submitted, forecast, followed, looked at, ended."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.cluster_desk import COMMIT, Drive
from tests.pipeline.kfp_server import NOW, KfpServer, task

pytest_plugins = ["tests.pipeline.cluster_desk"]

ROOT = Path(__file__).parents[2]
ENDED = {"state": "SUCCEEDED", "finished_at": NOW.replace(hour=1).isoformat()}
TRAINED = ENDED | {
    "run_details": {
        "task_details": [
            task("root", "SUCCEEDED", 0, 3600),
            task("ingest-driver", "SUCCEEDED", 0, 5),
            task("ingest", "SKIPPED", 0, 0),
            task("train", "SUCCEEDED", 600, 1800),
        ]
    }
}


def test_the_version_is_named_by_commit_and_package_and_the_run_by_the_version(
    drive: Drive, server: KfpServer
) -> None:
    said = drive("submit")
    (version,) = server.versions.values()
    assert version["display_name"].startswith(f"bonexray-{COMMIT[:12]}-")
    (run,) = server.runs.values()
    assert run["display_name"].startswith(version["display_name"])
    assert run["pipeline_version_reference"]["pipeline_version_id"] in server.versions
    assert run["service_account"] == "bonexray-steps"
    assert f"{server.url}/#/runs/details/{run['run_id']}" in said
    assert "succeeded" in said.splitlines()[-1]


def test_a_run_states_every_input_the_commit_and_the_data_among_them(
    drive: Drive, server: KfpServer
) -> None:
    said = drive("submit", "--set", "train.epochs=7", "--set", "kubeflow.gpus=0")
    (run,) = server.runs.values()
    inputs = run["runtime_config"]["parameters"]
    assert inputs["commit"] == COMMIT
    assert inputs["data"] == "simulated"
    assert inputs["train"]["epochs"] == 7
    assert inputs["gpus"] == "0"
    assert "data simulated" in said


def test_what_is_there_already_is_used_again(drive: Drive, server: KfpServer) -> None:
    for _ in range(2):
        drive("submit", "--no-wait")
    assert len(server.pipelines) == len(server.versions) == len(server.experiments) == 1
    assert len(server.runs) == 2
    drive("submit", "--no-wait", train={"epochs": 9})
    assert len(server.versions) == 2


def test_a_server_of_several_users_is_told_the_namespace(drive: Drive, server: KfpServer) -> None:
    server.multi_user = True
    drive("submit", "--no-wait")
    (experiment,) = server.experiments.values()
    assert experiment["namespace"] == "bonexray"


def test_the_first_run_has_no_forecast_but_a_bound(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRICE_PER_HOUR", "3.5")
    said = drive("submit", "--no-wait")
    assert "no run of this pipeline on the server has trained yet" in said
    assert "ends after 2 h at the latest" in said
    assert "at a cost of 7.00" in said


def test_the_next_is_forecast_by_the_pace_of_the_runs_before(
    drive: Drive, server: KfpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.played = [TRAINED]  # one hour, of which two epochs of one network took 20 minutes
    drive("submit")
    monkeypatch.setenv("PRICE_PER_HOUR", "3")
    said = drive("submit", "--no-wait", "--set", "train.epochs=6")
    assert "about 1 h 40 min at a cost of 3.00 for the training nodes, by the pace of 1 run" in said


def test_it_is_followed_task_by_task_without_kubeflows_own(drive: Drive, server: KfpServer) -> None:
    running = [task("train-driver", "SUCCEEDED", 0, 3), task("train", "RUNNING", 5)]
    done = [task("ingest", "SKIPPED", 0, 1), task("train", "SUCCEEDED", 5, 65)]
    server.played = [
        {"state": "RUNNING", "run_details": {"task_details": running}},
        ENDED | {"run_details": {"task_details": done}},
    ]
    said = drive("submit")
    assert "driver" not in said
    lines = [line.split(maxsplit=1)[1] for line in said.splitlines() if line[2:3] == ":"]
    assert [" ".join(line.split()) for line in lines] == [
        "train running", "ingest from the cache after 1 s", "train succeeded after 60 s",
    ]  # fmt: skip


def test_a_failed_run_names_the_task_and_why(
    drive: Drive, refused: Drive, server: KfpServer
) -> None:
    why = {"code": 2, "message": "evaluation: the gate refused\nthe model"}
    failed = [task("gate-2", "FAILED", 0, 4, error=why)]
    server.played = [ENDED | {"state": "FAILED", "run_details": {"task_details": failed}}]
    assert "gate failed: evaluation: the gate refused the model" in refused("submit")


def test_status_shows_a_run_or_the_newest_and_the_schedules(
    drive: Drive, server: KfpServer
) -> None:
    assert "no runs yet" in drive("status")
    server.played = [TRAINED]
    drive("submit")
    (run_id,) = server.runs
    drive("schedule", "--cron", "0 2 * * 0")
    said = drive("status")
    assert run_id in said
    assert "schedule bonexray: 0 0 2 * * 0 (enable)" in said
    said = drive("status", run_id)
    assert "train            succeeded after 1200 s" in said
    assert server.url in said


def test_cancel_ends_a_run_that_runs(drive: Drive, refused: Drive, server: KfpServer) -> None:
    server.played = [{"state": "RUNNING"}]
    drive("submit", "--no-wait")
    (run_id,) = server.runs
    assert "was running, and is being ended" in drive("cancel", run_id)
    assert server.runs[run_id]["state"] == "CANCELING"
    server.runs[run_id]["state"] = "CANCELED"
    assert "has ended already: canceled" in refused("cancel", run_id)


@pytest.mark.parametrize(
    ("flags", "sections", "said"),
    [
        (
            ["--set", "train.epoch=3"],
            {},
            "--set train.epoch: train has no 'epoch', expected one of",
        ),
        (["--set", "nosuch.field=3"], {}, "params.yaml has no 'nosuch', expected one of"),
        (["--set", "train.epochs=many"], {}, "train.epochs = 'many'"),
        (["--set", "train.epochs"], {}, "expected SECTION.FIELD=VALUE"),
        (["--image", "bonexray-components:latest"], {}, "expected one by its digest"),
        (["--image", f"x@sha256:{'0' * 64}"], {}, "expected one by its digest"),
        (["--commit", "main"], {}, "--commit 'main', expected 40 hexadecimal digits"),
        ([], {"data": {"archive": "data/MURA-v1.1.zip"}}, "data.archive = 'data/MURA-v1.1.zip'"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_uploaded(
    refused: Drive, server: KfpServer, flags: list[str], sections: dict, said: str
) -> None:
    assert said in refused("submit", *flags, **sections)
    assert not server.versions
    assert not server.runs


@pytest.mark.parametrize(("version", "refuses"), [("2.15.2", True), ("2.17.0", False)])
def test_a_count_of_gpus_that_an_old_server_drops_is_refused(
    drive: Drive, refused: Drive, server: KfpServer, version: str, refuses: bool
) -> None:
    server.version = version
    cluster = {"kubeflow": {"gpus": 3}, "train": {"processes": 3}}
    if refuses:
        assert "kubeflow.gpus = 3 on a server of version 2.15.2" in refused("submit", **cluster)
    else:
        drive("submit", "--no-wait", **cluster)


def test_the_command_as_a_process_says_the_same(server: KfpServer, tiny_params: Path) -> None:
    command = [sys.executable, "-m", "pipeline", "submit", "--params", str(tiny_params)]
    environment = dict(os.environ) | {"KF_PIPELINES_ENDPOINT": server.url}
    done = subprocess.run(
        [*command, "--commit", COMMIT], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1].startswith("pipeline: run ")
