"""A run on a server: submitted, forecast, followed, looked at, ended."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bonexray.errors import ConfigError
from pipeline import runs
from pipeline.versions import code_commit, submitted_commit
from tests.pipeline.cluster_desk import COMMIT, Drive
from tests.pipeline.kfp_server import NOW, KfpServer, cached, nodes_of_argo, task

pytest_plugins = ["tests.pipeline.cluster_desk"]

ROOT = Path(__file__).parents[2]
ENDED = {"state": "SUCCEEDED", "finished_at": NOW.replace(hour=1).isoformat()}
TRAINED = ENDED | {
    "run_details": {
        "task_details": [
            *nodes_of_argo(),
            task("ingest", "SUCCEEDED", 10, 300),
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
    assert f"commit     {COMMIT}, data simulated" in said


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
    assert "at a cost of at most 7.00 for the training nodes" in said


@pytest.mark.parametrize("price", ["", "much", "nan", "-3", "inf"])
def test_a_price_that_is_none_is_refused_before_anything_is_uploaded(
    refused: Drive, server: KfpServer, monkeypatch: pytest.MonkeyPatch, price: str
) -> None:
    monkeypatch.setenv("PRICE_PER_HOUR", price)
    assert f"PRICE_PER_HOUR = {price!r} in the environment, expected a number" in refused("submit")
    assert not server.versions


def test_a_number_that_was_text_is_a_number_in_the_run(drive: Drive, server: KfpServer) -> None:
    drive("submit", "--no-wait", "--set", 'train.epochs="7"', "--set", "train.learning_rate=1e-3")
    (run,) = server.runs.values()
    train = run["runtime_config"]["parameters"]["train"]
    assert (train["epochs"], train["learning_rate"]) == (7, 0.001)


def test_the_next_is_forecast_by_the_pace_of_the_runs_before(
    drive: Drive, server: KfpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.played = [TRAINED]  # one hour, of which two epochs of one network took 20 minutes
    drive("submit")
    monkeypatch.setenv("PRICE_PER_HOUR", "3")
    said = drive("submit", "--no-wait", "--set", "train.epochs=6")
    assert "about 1 h 40 min at a cost of 3.00 for the training nodes, by the pace of 1 run" in said


def test_a_training_out_of_the_cache_is_no_pace(drive: Drive, server: KfpServer) -> None:
    server.played = [TRAINED]
    drive("submit")
    server.played = [ENDED | {"run_details": {"task_details": cached("train", 5)}}]
    drive("submit")
    assert "about 1 h 0 min, by the pace of 1 run before" in drive("submit", "--no-wait")


def test_a_forecast_goes_by_runs_of_like_inputs_while_there_are_any(
    drive: Drive, server: KfpServer
) -> None:
    both = ["--set", "networks.archs=[resnet18, resnet50]"]
    longer = [task("train", "SUCCEEDED", 0, 1200), task("train", "SUCCEEDED", 600, 3000)]
    server.played = [ENDED | {"run_details": {"task_details": longer}}]
    drive("submit", *both)
    server.played = [TRAINED]
    said = drive("submit")
    assert "about 1 h 0 min, a rough guess by 1 run before of other data, networks" in said
    for _ in range(5):
        drive("submit")
    said = drive("submit", "--no-wait", *both, "--set", "train.epochs=4")
    assert "about 1 h 40 min, by the pace of 1 run before, all networks at once" in said


def test_it_is_followed_task_by_task_without_kubeflows_own(drive: Drive, server: KfpServer) -> None:
    begun = [*cached("simulate", 1), task("gate", "SUCCEEDED", 4, 5), task("train", "RUNNING", 6)]
    running = [*nodes_of_argo(), *begun, task("train", "PENDING", 5)]
    ended = [task("train", "SUCCEEDED", 5, 1036), task("train", "FAILED", 6, 7300)]
    done = [*nodes_of_argo(), *ended, task("evaluate", "RUNTIME_STATE_UNSPECIFIED", 7300, 7300)]
    server.played = [
        {"state": "RUNNING", "run_details": {"task_details": running}},
        ENDED | {"run_details": {"task_details": done}},
    ]
    said = drive("submit")
    lines = [line.split(maxsplit=1)[1] for line in said.splitlines() if line[2:3] == ":"]
    assert [" ".join(line.split()) for line in lines] == [
        "Simulate an archive from the cache",
        "Gate of the validation succeeded after 1 s",
        "Train a network pending",
        "Train a network running",
        "Train a network succeeded after 17 min 11 s",
        "Train a network failed after 2 h 1 min",
        "Evaluate not run",
    ]


@pytest.mark.parametrize(
    ("failed", "said"),
    [
        (
            "gate-2",
            "'Gate of the evaluation' failed: its reason is in its log, its report on the page "
            "that `close` left: http://",
        ),
        ("ingest", "'Ingest it' failed: see its log: http://"),
        ("train-driver", "'Train a network' failed before it started: see the log of its driver"),
    ],
)
def test_a_failed_run_names_the_task_and_where_the_reason_is(
    refused: Drive, server: KfpServer, failed: str, said: str
) -> None:
    tasks = [*nodes_of_argo(), task(failed, "FAILED", 3, 9), task("close", "SUCCEEDED", 9, 12)]
    server.played = [ENDED | {"state": "FAILED", "run_details": {"task_details": tasks}}]
    assert said in refused("submit")


def test_status_shows_a_run_or_the_newest_and_the_schedules(
    drive: Drive, server: KfpServer
) -> None:
    assert "no runs yet in experiment tiny" in drive("status")
    server.played = [TRAINED]
    drive("submit")
    (run_id,) = server.runs
    drive("schedule", "--cron", "0 2 * * 0")
    server.runs["another's"] = server.runs[run_id] | {"run_id": "another's", "experiment_id": "x"}
    said = drive("status")
    assert run_id in said
    assert "another's" not in said
    assert "schedule bonexray: 0 0 2 * * 0 (enable)" in said
    said = drive("status", run_id)
    assert "Train a network          succeeded after 20 min 0 s" in said
    assert server.url in said
    server.versions.clear()  # and with them the names
    assert "train                    succeeded after 20 min 0 s" in drive("status", run_id)


def test_cancel_ends_a_run_that_runs(drive: Drive, refused: Drive, server: KfpServer) -> None:
    server.played = [{"state": "RUNNING"}]
    drive("submit", "--no-wait")
    (run_id,) = server.runs
    assert "was running, and is being ended" in drive("cancel", run_id)
    assert server.runs[run_id]["state"] == "CANCELING"
    assert "is being ended already" in drive("cancel", run_id)
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
        (["--set", "kubeflow.node_selector.pool=gpu"], {}, "kubeflow.node_selector is set as a wh"),
        (["--set", "train.epochs.first=1"], {}, "train.epochs is set as a whole"),
        (["--set", "train.seed=2026-01-01"], {}, "holds what is no plain value"),
        (["--set", "kubeflow.node_selector=&a {x: *a}"], {}, "holds what is no plain value"),
        (["--set", f"train.seed={'[' * 2000}"], {}, "the value is no YAML"),
        (["--set", "networks.archs=[resnet18, resnet18]"], {}, "archs name a network twice"),
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


def test_a_count_of_gpus_that_an_old_server_drops_is_refused(
    drive: Drive, refused: Drive, server: KfpServer
) -> None:
    server.version = "2.15.2"
    three = {"kubeflow": {"gpus": 3}, "train": {"processes": 3}}
    assert "kubeflow.gpus = 3 on a server of version 2.15.2" in refused("submit", **three)
    for version, said in (("2.17.0", False), ("unknown", True)):
        server.version = version
        hint = "does not tell its version; before 2.16 it drops 3 GPUs"
        assert (hint in drive("submit", "--no-wait", **three)) is said


def test_new_data_under_dvc_is_no_change_of_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    pointer, code = tmp_path / "data/MURA-v1.1.zip.dvc", tmp_path / "step.py"
    for path in (pointer, code, tmp_path / "params.yaml"):
        path.write_text("old")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "all"]):
        subprocess.run([*git, *words], check=True)
    pointer.write_text("new")
    assert submitted_commit(None) == code_commit()
    code.write_text("new")
    with pytest.raises(ConfigError, match="files differ from HEAD"):
        submitted_commit(None)


def test_leaving_a_run_lets_it_go_on_and_is_no_success(
    drive: Drive,
    server: KfpServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def leave(_: float) -> None:
        raise KeyboardInterrupt

    server.played = [{"state": "RUNNING"}]
    monkeypatch.setattr(runs.time, "sleep", leave)
    with pytest.raises(SystemExit, match="130"):
        drive("submit")
    (run_id,) = server.runs
    assert f"`status {run_id}` shows it, `cancel {run_id}` ends it" in capsys.readouterr().out
    assert server.runs[run_id]["state"] == "RUNNING"


def test_the_command_as_a_process_says_the_same(server: KfpServer, tiny_params: Path) -> None:
    command = [sys.executable, "-m", "pipeline", "submit", "--params", str(tiny_params)]
    environment = dict(os.environ) | {"KF_PIPELINES_ENDPOINT": server.url}
    done = subprocess.run(
        [*command, "--commit", COMMIT], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1].startswith("pipeline: run ")
