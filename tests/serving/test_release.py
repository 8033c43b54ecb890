import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from bonexray.bundle import open_bundle
from bonexray.store import BundleStore
from components import evaluate, register
from serving.records import Records
from serving.release import main

OTHER_COMMIT = "f" * 40


@pytest.fixture
def registry(
    tiny_workspace: Path, tiny_params: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> MlflowClient:
    """A registry of the test's own, whose candidate is the tiny bundle."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    candidate(tiny_params, tiny_workspace / "bundle", tiny_workspace / "reports/evaluation")
    return MlflowClient(uri)


def candidate(params: Path, bundle: Path, report: Path) -> None:
    register.main(
        ["--params", str(params), "--bundle", str(bundle), "--report", str(report)]
        + ["--out", str(params.parent / "registration")]
    )


@pytest.fixture(scope="module")
def other_evaluation(tiny_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another bundle and its report, of another commit."""
    folder, data = tmp_path_factory.mktemp("other"), tiny_workspace / "data"
    evaluate.main(
        ["--params", str(tiny_workspace / "params.yaml"), "--dataset", str(data / "dataset")]
        + ["--validated", str(data / "validated"), "--models", str(tiny_workspace / "models")]
        + ["--archs", "resnet18", "--commit", OTHER_COMMIT]
        + ["--crossval", "none", "--release", "none"]
        + ["--out", str(folder / "bundle"), "--report", str(folder / "report")]
    )
    return folder


@pytest.fixture
def second_candidate(registry: MlflowClient, other_evaluation: Path, tiny_params: Path) -> None:
    """The other bundle as version 2."""
    candidate(tiny_params, other_evaluation / "bundle", other_evaluation / "report")


def approve(version: str = "candidate", by: str = "A. Reader", reason: str = "gate passed") -> None:
    main(["approve", version, "--by", by, "--reason", reason])


def records(folder: Path) -> list[dict[str, str]]:
    return [
        json.loads(line) for line in (folder / "release/records.jsonl").read_text().splitlines()
    ]


def test_the_approved_version_is_what_serving_loads(
    registry: MlflowClient, tiny_workspace: Path, tmp_path: Path
) -> None:
    approve()
    digest = open_bundle(tiny_workspace / "bundle").digest
    store = BundleStore(tmp_path / "release")
    champion = store.champion()
    assert champion is not None
    assert (champion.version, champion.digest) == ("1", digest)
    assert store.open(digest).digest == digest
    assert registry.get_model_version_by_alias("bonexray", "champion").version == 1


def test_the_record_says_who_when_why_and_what(
    registry: MlflowClient, tiny_workspace: Path, tmp_path: Path
) -> None:
    approve()
    (record,) = records(tmp_path)
    assert record["by"] == "A. Reader"
    assert record["reason"] == "gate passed"
    assert record["version"] == "1"
    assert record["bundle_digest"] == open_bundle(tiny_workspace / "bundle").digest
    assert len(record["gate_sha256"]) == 64
    assert record["at"].endswith("+00:00")


@pytest.mark.usefixtures("second_candidate")
def test_the_next_approval_keeps_the_previous_champion(
    registry: MlflowClient, tmp_path: Path
) -> None:
    approve("1")
    approve("candidate", by="B. Reader")
    assert registry.get_model_version_by_alias("bonexray", "champion").version == 2
    assert registry.get_model_version_by_alias("bonexray", "previous").version == 1
    first, second = records(tmp_path)
    assert (first["previous_version"], second["previous_version"]) == ("", "1")
    champion = BundleStore(tmp_path / "release").champion()
    assert champion is not None
    assert champion.version == "2"


def test_approving_the_champion_again_changes_nothing(
    registry: MlflowClient, tmp_path: Path
) -> None:
    approve()
    approve()
    assert len(records(tmp_path)) == 1
    assert "previous" not in registry.get_registered_model("bonexray").aliases


@pytest.mark.usefixtures("registry")
def test_a_record_that_was_torn_is_set_aside_and_the_next_decision_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    approve()
    whole = (tmp_path / "release/records.jsonl").read_bytes()
    (tmp_path / "release/records.jsonl").write_bytes(whole + whole[:40])
    approve(by="B. Reader")
    assert "its last line was torn; that decision was not made" in capsys.readouterr().out
    assert [record["by"] for record in records(tmp_path)] == ["A. Reader", "B. Reader"]
    assert (tmp_path / "release/records.torn").read_bytes() == whole[:40]


@pytest.mark.usefixtures("registry")
def test_a_record_that_was_altered_stops_every_decision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    approve(by="A. Reader")
    approve(by="B. Reader")
    path = tmp_path / "release/records.jsonl"
    path.write_text(path.read_text().replace("A. Reader", "Z. Reader"))
    for command in (["approve", "1", "--by", "A", "--reason", "b"], ["history"], ["status"]):
        with pytest.raises(SystemExit, match="1"):
            main(command)
        assert "records.jsonl, line 2: it is not what followed" in capsys.readouterr().err


@pytest.mark.usefixtures("second_candidate")
def test_a_rollback_brings_the_champion_before_back_and_can_be_taken_back(
    registry: MlflowClient, tmp_path: Path
) -> None:
    approve("1")
    approve("2")
    why = ["--by", "B. Reader", "--reason", "reads shoulders wrongly"]
    main(["rollback", *why])
    champion = BundleStore(tmp_path / "release").champion()
    assert champion is not None
    assert champion.version == "1"
    assert registry.get_model_version_by_alias("bonexray", "champion").version == 1
    assert registry.get_model_version_by_alias("bonexray", "previous").version == 2
    assert [record["action"] for record in records(tmp_path)] == ["approve", "approve", "rollback"]
    main(["rollback", *why])
    assert registry.get_model_version_by_alias("bonexray", "champion").version == 2


@pytest.mark.usefixtures("second_candidate")
def test_a_rollback_to_an_altered_bundle_is_refused_and_leaves_no_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    approve("1")
    approve("2")
    digest = records(tmp_path)[0]["bundle_digest"]
    (tmp_path / f"release/bundles/{digest}/model.onnx").write_bytes(b"another graph")
    with pytest.raises(SystemExit, match="1"):
        main(["rollback", "--by", "B", "--reason", "c"])
    assert "model.onnx: SHA-256 is" in capsys.readouterr().err
    assert len(records(tmp_path)) == 2


@pytest.mark.usefixtures("registry")
def test_there_is_no_going_back_from_the_first_champion(
    capsys: pytest.CaptureFixture[str],
) -> None:
    approve()
    with pytest.raises(SystemExit, match="1"):
        main(["rollback", "--by", "B", "--reason", "c"])
    assert "no champion before this one" in capsys.readouterr().err


@pytest.mark.usefixtures("second_candidate")
def test_a_rejection_is_on_record_and_leaves_the_champion(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    approve("1")
    main(["reject", "2", "--by", "B. Reader", "--reason", "shortcut on markers"])
    champion = BundleStore(tmp_path / "release").champion()
    assert champion is not None
    assert champion.version == "1"
    main(["history"])
    said = capsys.readouterr().out
    assert "version 2" in said
    assert "is rejected by B. Reader: shortcut on markers" in said
    assert "holds 2 decisions, none altered" in said
    with pytest.raises(SystemExit, match="1"):
        main(["reject", "1", "--by", "B", "--reason", "c"])
    assert "roll back, in place of reject" in capsys.readouterr().err


@pytest.mark.usefixtures("registry")
def test_two_decisions_at_once_cannot_both_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Records(tmp_path / "release").held(), pytest.raises(SystemExit, match="1"):
        approve()
    assert "another decision is under way" in capsys.readouterr().err
    approve()
    assert len(records(tmp_path)) == 1


@pytest.mark.usefixtures("registry")
def test_another_approver_of_the_champion_is_on_record_too(tmp_path: Path) -> None:
    approve(by="A. Reader")
    approve(by="B. Reader")
    assert [record["by"] for record in records(tmp_path)] == ["A. Reader", "B. Reader"]


KILLED_AFTER_THE_RECORD = """
import os, signal, sys
from serving import records, release
append = records.Records.append
def append_and_die(*arguments):
    append(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
records.Records.append = append_and_die
release.main(sys.argv[1:])
"""


@pytest.mark.usefixtures("second_candidate")
def test_an_approval_that_was_killed_is_finished_by_the_next(
    registry: MlflowClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    approve("1")
    flags = ["approve", "2", "--by", "A. Reader", "--reason", "gate passed"]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AFTER_THE_RECORD, *flags], env=dict(os.environ)
    )
    assert killed.returncode == -signal.SIGKILL
    champion = BundleStore(tmp_path / "release").champion()
    assert champion is not None
    assert champion.version == "1"
    main(["status"])
    assert "its decision had been cut off; it is finished now" in capsys.readouterr().out
    main(flags)
    assert [record["version"] for record in records(tmp_path)] == ["1", "2"]
    assert registry.get_model_version_by_alias("bonexray", "previous").version == 1
    champion = BundleStore(tmp_path / "release").champion()
    assert champion is not None
    assert champion.version == "2"


def altered_in_the_registry(registry: MlflowClient, tmp_path: Path) -> None:
    (model,) = (tmp_path / "mlruns").rglob("models/*/artifacts/model.onnx")
    model.write_bytes(b"altered")


def resealed_in_the_registry(registry: MlflowClient, tmp_path: Path) -> None:
    (info,) = (tmp_path / "mlruns").rglob("models/*/artifacts/bundle.json")
    manifest = info.with_name("manifest.json")
    altered_in_the_registry(registry, tmp_path)
    from bonexray.sealed import seal

    manifest.unlink()
    seal(info.parent)


def refused_by_its_gate(registry: MlflowClient, tmp_path: Path) -> None:
    registry.set_model_version_tag("bonexray", "1", "bonexray.gate", "refused")


def passed_with_warnings(registry: MlflowClient, tmp_path: Path) -> None:
    registry.set_model_version_tag("bonexray", "1", "bonexray.gate_warnings", "2")


def without_lineage(registry: MlflowClient, tmp_path: Path) -> None:
    registry.delete_model_version_tag("bonexray", "1", "bonexray.bundle_digest")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (altered_in_the_registry, "model.onnx: SHA-256 is"),
        (resealed_in_the_registry, "registered was"),
        (refused_by_its_gate, "version 1 did not pass the gate"),
        (passed_with_warnings, "passed the gate with 2 warnings; read its report"),
        (without_lineage, "carries no tag bonexray.bundle_digest"),
    ],
)
def test_a_version_that_is_not_what_was_registered_is_refused(
    registry: MlflowClient,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[MlflowClient, Path], None],
    message: str,
) -> None:
    spoil(registry, tmp_path)
    with pytest.raises(SystemExit, match="1"):
        approve()
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert BundleStore(tmp_path / "release").champion() is None
    assert "champion" not in registry.get_registered_model("bonexray").aliases
    assert not (tmp_path / "release/records.jsonl").exists()


def test_warnings_are_overridden_in_writing(registry: MlflowClient, tmp_path: Path) -> None:
    passed_with_warnings(registry, tmp_path)
    why = ["--by", "A. Reader", "--reason", "sheets seen", "--override", "val is small, known"]
    main(["approve", "1", *why])
    (record,) = records(tmp_path)
    assert record["override"] == "val is small, known"
    assert registry.get_model_version_by_alias("bonexray", "champion").version == 1


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("version", "by", "reason", "message"),
    [
        ("9", "A", "b", "no version '9' of 'bonexray'"),
        ("champion", "A", "b", "no version 'champion' of 'bonexray'"),
        ("1", " ", "b", "who decides and why"),
        ("1", "A", "", "who decides and why"),
    ],
)
def test_an_approval_of_nothing_by_nobody_or_for_no_reason_is_refused(
    capsys: pytest.CaptureFixture[str], version: str, by: str, reason: str, message: str
) -> None:
    with pytest.raises(SystemExit, match="1"):
        approve(version, by, reason)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_empty_registry_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(SystemExit, match="1"):
        approve()
    error = capsys.readouterr().err
    assert "no version 'candidate' of 'bonexray'" in error
    assert error.count("\n") == 1
