import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from bonexray.artifacts import sha256_file
from bonexray.bundle import open_bundle
from bonexray.sealed import seal
from components.register import main


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """An empty registry of the test's own, in its working directory."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    return MlflowClient(uri)


@pytest.fixture
def flags(tiny_workspace: Path, tiny_params: Path, tmp_path: Path) -> list[str]:
    return (
        ["--params", str(tiny_params), "--bundle", str(tiny_workspace / "bundle")]
        + ["--report", str(tiny_workspace / "reports/evaluation")]
        + ["--out", str(tmp_path / "registration")]
    )


@pytest.fixture
def tiny_registry(tiny_workspace: Path) -> MlflowClient:
    """The registry that the tiny `dvc repro` wrote."""
    return MlflowClient(f"sqlite:///{tiny_workspace}/mlflow.db")


def test_the_candidate_carries_its_whole_lineage(
    tiny_workspace: Path, tiny_registry: MlflowClient
) -> None:
    bundle = open_bundle(tiny_workspace / "bundle")
    version = tiny_registry.get_model_version_by_alias("bonexray", "candidate")
    assert version.tags["bonexray.bundle_digest"] == bundle.digest
    assert version.tags["bonexray.gate"] == "passed"
    assert version.tags["bonexray.gate_warnings"] == "0"
    provenance = bundle.info.provenance
    for name in ("dataset_sha256", "manifest_sha256", "code_commit"):
        assert version.tags[f"bonexray.{name}"] == getattr(provenance, name)
    for name, value in provenance.networks[0].model_dump().items():
        assert version.tags[f"bonexray.{name}"] == value
    report = tiny_workspace / "reports/evaluation"
    assert version.tags["bonexray.params_sha256"] == sha256_file(report / "params.json")
    assert version.tags["bonexray.pack_sha256"] == sha256_file(report / "manifest.json")
    assert version.tags["bonexray.compared_with"] == "none"
    lock = sha256_file(tiny_workspace / "requirements.lock")
    assert version.tags["bonexray.environment_lock_sha256"] == lock


def test_the_candidate_names_the_training_run_its_hardware_and_what_dvc_wrote(
    tiny_workspace: Path, tiny_registry: MlflowClient
) -> None:
    tags = tiny_registry.get_model_version_by_alias("bonexray", "candidate").tags
    run = tiny_registry.get_run(tags["bonexray.parent_run"])
    assert run.data.params["arch"] == "resnet18"
    assert run.data.tags["bonexray.hardware"] == tags["bonexray.hardware"]
    assert "cores" in tags["bonexray.hardware"]
    outs = json.loads(tags["bonexray.dvc_outs"])
    stages = yaml.safe_load((tiny_workspace / "dvc.lock").read_text())["stages"]
    assert outs["bundle"] == stages["evaluate"]["outs"][0]["md5"]
    assert {"data/dataset", "models/resnet18", "reports/evaluation"} <= set(outs)


def test_a_bundle_that_was_judged_anew_is_another_version(
    registry: MlflowClient, flags: list[str], tiny_workspace: Path, tmp_path: Path
) -> None:
    main(flags)
    again = tmp_path / "again"
    shutil.copytree(tiny_workspace / "reports/evaluation", again)
    (again / "model_card.md").write_text("seen by another eye\n")
    seal(again)
    main([*flags, "--report", str(again)])
    versions = registry.search_model_versions("name = 'bonexray'")
    assert {int(version.version) for version in versions} == {1, 2}
    for version in versions:
        registry.list_artifacts(version.run_id, "report")
        assert registry.get_run(version.run_id).info.lifecycle_stage == "active"


def test_the_run_shows_dataset_figures_curves_and_report(
    tiny_workspace: Path, tiny_registry: MlflowClient
) -> None:
    metrics = json.loads((tiny_workspace / "reports/evaluation/metrics.json").read_text())
    version = tiny_registry.get_model_version_by_alias("bonexray", "candidate")
    run = tiny_registry.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/study/auroc"] == pytest.approx(metrics["test"]["study"]["auroc"])
    assert run.data.params["arch"] == "resnet18"
    assert run.data.params["train.epochs"] == "2"
    (dataset,) = run.inputs.dataset_inputs
    assert version.tags["bonexray.dataset_sha256"].startswith(dataset.dataset.digest)
    history = tiny_registry.get_metric_history(version.run_id, "epoch/resnet18/val_loss")
    assert [point.step for point in history] == [1, 2]
    listed = {file.path for file in tiny_registry.list_artifacts(version.run_id, "report")}
    assert {"report/report.html", "report/metrics.json", "report/gate.json"} <= listed


def test_registering_the_same_bundle_again_finds_its_version(
    registry: MlflowClient, flags: list[str]
) -> None:
    main(flags)
    main(flags)
    assert len(registry.search_model_versions("name = 'bonexray'")) == 1
    experiment = registry.get_experiment_by_name("tiny")
    assert len(registry.search_runs([experiment.experiment_id])) == 1


KILLED_BEFORE_THE_VERSION = """
import os, signal, sys
from components import register
register._create_version = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
register.main(sys.argv[1:])
"""


def test_a_killed_registration_leaves_no_version_and_a_rerun_leaves_one_run(
    registry: MlflowClient, flags: list[str], tmp_path: Path
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_BEFORE_THE_VERSION, *flags], env=dict(os.environ)
    )
    assert killed.returncode == -signal.SIGKILL
    assert not registry.search_model_versions("name = 'bonexray'")
    assert not (tmp_path / "registration").exists()
    main(flags)
    assert registry.get_model_version_by_alias("bonexray", "candidate").version == 1
    experiment = registry.get_experiment_by_name("tiny")
    assert len(registry.search_runs([experiment.experiment_id])) == 1


def test_a_run_that_kubeflow_opened_is_joined(
    registry: MlflowClient, flags: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened = registry.create_run(registry.create_experiment("kubeflow")).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", opened)
    main(flags)
    registration = json.loads((tmp_path / "registration/registration.json").read_text())
    assert registration["run_id"] == opened
    assert registry.get_experiment_by_name("tiny") is None


def test_a_version_names_the_kubeflow_run_that_registered_it(
    registry: MlflowClient, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BONEXRAY_RUN", "0f9e8d7c")
    main(flags)
    version = registry.get_model_version_by_alias("bonexray", "candidate")
    assert version.tags["bonexray.pipeline_run"] == "0f9e8d7c"


def test_an_altered_bundle_is_refused(
    registry: MlflowClient,
    flags: list[str],
    tiny_workspace: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(tiny_workspace / "bundle", tmp_path / "altered")
    (tmp_path / "altered/model.onnx").write_bytes(b"altered")
    flags[flags.index("--bundle") + 1] = str(tmp_path / "altered")
    with pytest.raises(SystemExit, match="1"):
        main(flags)
    assert "model.onnx: SHA-256 is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("metrics.json", {"bundle_digest": "0" * 64}, "judges bundle 0000"),
        ("gate.json", {"passed": False}, "the gate refused this bundle"),
    ],
)
def test_a_report_that_does_not_let_the_bundle_pass_stops_it(
    registry: MlflowClient,
    flags: list[str],
    tiny_workspace: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    change: dict[str, object],
    message: str,
) -> None:
    shutil.copytree(tiny_workspace / "reports/evaluation", tmp_path / "report")
    content = json.loads((tmp_path / "report" / file).read_text()) | change
    (tmp_path / "report" / file).write_text(json.dumps(content))
    seal(tmp_path / "report")
    flags[flags.index("--report") + 1] = str(tmp_path / "report")
    with pytest.raises(SystemExit, match="1"):
        main(flags)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_registry_that_cannot_be_used_is_named(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///nowhere/mlruns")
    with pytest.raises(SystemExit, match="1"):
        main(flags)
    assert "file:///nowhere/mlruns" in capsys.readouterr().err


def test_a_report_that_was_changed_after_it_was_sealed_is_refused(
    registry: MlflowClient,
    flags: list[str],
    tiny_workspace: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(tiny_workspace / "reports/evaluation", tmp_path / "report")
    (tmp_path / "report/model_card.md").write_text("All is well.")
    flags[flags.index("--report") + 1] = str(tmp_path / "report")
    with pytest.raises(SystemExit, match="1"):
        main(flags)
    assert "report was changed after evaluate wrote it" in capsys.readouterr().err
    assert registry.search_registered_models() == []
