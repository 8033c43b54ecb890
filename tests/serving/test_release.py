from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from bonexray.bundle import open_bundle
from bonexray.store import BundleStore
from serving.release import main
from tests.serving.conftest import approve, records


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
def test_another_approver_of_the_champion_is_on_record_too(tmp_path: Path) -> None:
    approve(by="A. Reader")
    approve(by="B. Reader")
    assert [record["by"] for record in records(tmp_path)] == ["A. Reader", "B. Reader"]


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
    main(["approve", "1", *why, "--yes"])
    (record,) = records(tmp_path)
    assert record["override"] == "val is small, known"
    assert registry.get_model_version_by_alias("bonexray", "champion").version == 1


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("version", "by", "reason", "message"),
    [
        ("9", "A. Reader", "b", "no version '9' of 'bonexray'"),
        ("champion", "A. Reader", "b", "no version 'champion' of 'bonexray'"),
        ("1", " ", "b", "who decides and why"),
        ("1", "Z. Stranger", "b", "'Z. Stranger' is not among release.approvers: A. Reader, B."),
        ("1", "A. Reader", "", "who decides and why"),
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


@pytest.mark.usefixtures("tiny_params")
def test_an_empty_registry_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)  # whose release/ is not a user's
    with pytest.raises(SystemExit, match="1"):
        approve()
    error = capsys.readouterr().err
    assert "no version 'candidate' of 'bonexray'" in error
    assert error.count("\n") == 1
