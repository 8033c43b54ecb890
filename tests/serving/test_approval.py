"""What an approver is shown and asked, and what is not approved."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from bonexray.sealed import seal
from serving import release
from tests.serving.conftest import approve, candidate, records

WHY = ["--by", "A. Reader", "--reason", "gate passed"]


def refused(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    """The one line that a command ends with."""
    capsys.readouterr()
    with pytest.raises(SystemExit, match="1"):
        release.main(list(command))
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.usefixtures("second_candidate")
def test_an_approver_sees_verdict_lead_and_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    approve("1")
    capsys.readouterr()
    approve("2")
    shown = capsys.readouterr().out
    assert "gate: passed, 0 warnings" in shown
    assert "on the champion's studies: AUROC +0.000 [+0.000, +0.000] against version 1" in shown
    assert "version 1" in shown
    assert "test/study" in shown
    assert "  auroc" in shown
    assert "settings: the same" in shown
    assert "  code_commit" in shown


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("answer", "approved"), [("y", True), ("yes", True), ("", False), ("n", False)]
)
def test_an_approver_at_a_terminal_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, approved: bool
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    if approved:
        release.main(["approve", "1", *WHY])
    else:
        with pytest.raises(SystemExit, match="1"):
            release.main(["approve", "1", *WHY])
    assert (tmp_path / "release/records.jsonl").exists() == approved
    assert (tmp_path / "release/champion.json").exists() == approved


@pytest.mark.usefixtures("registry")
def test_a_script_that_does_not_say_yes_approves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "say --yes" in refused(capsys, "approve", "1", *WHY)
    assert not (tmp_path / "release/champion.json").exists()


@pytest.mark.usefixtures("second_candidate")
def test_a_version_that_was_held_against_an_earlier_champion_is_stale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    approve("1")
    approve("2")
    release.main(["rollback", *WHY])
    approve("2")  # held against version 1, which is the champion again
    refusal = refused(capsys, "approve", "1", *WHY, "--yes")
    assert "version 1 was held against no champion" in refusal
    release.main(["approve", "1", *WHY, "--yes", "--override", "it served for a year"])
    assert records(tmp_path)[-1]["override"] == "it served for a year"


@pytest.mark.usefixtures("second_candidate")
def test_a_version_that_was_held_against_another_bundle_is_refused_whatever_is_said(
    registry: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    approve("1")
    registry.set_model_version_tag("bonexray", "2", "bonexray.compared_with", "0" * 64)
    refusal = refused(capsys, "approve", "2", *WHY, "--yes", "--override", "in a hurry")
    assert "version 2 is not the newest evidence: it was held against bundle 000000" in refusal


@pytest.mark.usefixtures("registry")
def test_a_bundle_that_was_judged_again_speaks_by_its_newest_version(
    tiny_workspace: Path, tiny_params: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again"
    shutil.copytree(tiny_workspace / "reports/evaluation", again)
    (again / "model_card.md").write_text("seen by another eye\n")
    seal(again)
    candidate(tiny_params, tiny_workspace / "bundle", again)
    refusal = refused(capsys, "approve", "1", *WHY, "--yes")
    assert "version 2 is the same bundle, judged again" in refusal
    approve("2")


@pytest.mark.usefixtures("registry")
def test_a_release_pack_that_was_changed_in_the_registry_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (metrics,) = (tmp_path / "mlruns").rglob("report/metrics.json")
    metrics.write_text(metrics.read_text().replace('"auroc": 0.', '"auroc": 1.'))
    assert "metrics.json: SHA-256 is" in refused(capsys, "approve", "1", *WHY, "--yes")
    seal(metrics.parent)
    assert "registered was" in refused(capsys, "approve", "1", *WHY, "--yes")
    assert not (tmp_path / "release/champion.json").exists()


@pytest.mark.usefixtures("registry")
def test_a_key_that_serving_does_not_trust_approves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "keys/release.key").unlink()
    (tmp_path / "keys/release.pub").rename(tmp_path / "keys/old.pub")
    release.main(["keys"])
    (tmp_path / "keys/old.pub").replace(tmp_path / "keys/release.pub")
    assert "Key mismatch" in refused(capsys, "approve", "1", *WHY, "--yes")
    (tmp_path / "keys/release.key").unlink()
    assert "cannot sign" in refused(capsys, "approve", "1", *WHY, "--yes")
    assert not (tmp_path / "release/records.jsonl").exists()


@pytest.mark.usefixtures("second_candidate")
def test_the_difference_of_any_two_versions_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    release.main(["diff", "1", "candidate"])
    assert "version 2" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.usefixtures("second_candidate")
def test_a_rollback_needs_no_registry_and_its_aliases_follow_later(
    registry: MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    approve("1")
    approve("2")
    with monkeypatch.context() as down:
        down.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        refusal = refused(capsys, "rollback", *WHY)
    assert "version 1 is the champion, on record and for serving; but http://127.0.0.1:9" in refusal
    assert '"version": "1"' in (tmp_path / "release/champion.json").read_text()
    assert registry.get_model_version_by_alias("bonexray", "champion").version == 2
    release.main(["status"])
    assert registry.get_model_version_by_alias("bonexray", "champion").version == 1
    assert registry.get_model_version_by_alias("bonexray", "previous").version == 2


@pytest.mark.usefixtures("registry")
def test_the_signature_stands_on_record_beside_the_bundle_and_in_the_registry(
    registry: MlflowClient, tmp_path: Path
) -> None:
    approve("1")
    (record,) = records(tmp_path)
    signature = tmp_path / f"release/signatures/{record['bundle_digest']}.sig"
    assert signature.read_text() == record["signature"]
    version = registry.get_model_version("bonexray", "1")
    assert version.tags["bonexray.signature"] == record["signature"]
    signature.unlink()
    release.main(["status"])
    assert signature.read_text() == record["signature"]
