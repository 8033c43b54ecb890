"""Decisions one after the other: their records, going back, kills."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from bonexray.store import BundleStore
from serving.records import Records
from serving.release import main
from tests.serving.conftest import approve, records

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
    for command in (
        ["approve", "1", "--by", "A. Reader", "--reason", "b", "--yes"],
        ["history"],
        ["status"],
    ):
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
    manifests = (tmp_path / "release/manifests").glob("*.yaml")
    assert champion.digest in "".join(path.read_text() for path in manifests)
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
        main(["rollback", "--by", "B. Reader", "--reason", "c"])
    assert "model.onnx: SHA-256 is" in capsys.readouterr().err
    assert len(records(tmp_path)) == 2


@pytest.mark.usefixtures("second_candidate")
def test_a_rollback_to_what_a_key_of_before_signed_is_refused_and_leaves_no_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    approve("1")
    shutil.rmtree(tmp_path / "keys")
    main(["keys"])
    approve("2")
    with pytest.raises(SystemExit, match="1"):
        main(["rollback", "--by", "B. Reader", "--reason", "c"])
    assert "Key mismatch" in capsys.readouterr().err
    assert len(records(tmp_path)) == 2
    champion = BundleStore(tmp_path / "release").champion()
    assert champion is not None
    assert champion.version == "2"


@pytest.mark.usefixtures("registry")
def test_there_is_no_going_back_from_the_first_champion(
    capsys: pytest.CaptureFixture[str],
) -> None:
    approve()
    with pytest.raises(SystemExit, match="1"):
        main(["rollback", "--by", "B. Reader", "--reason", "c"])
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
        main(["reject", "1", "--by", "B. Reader", "--reason", "c"])
    assert "roll back instead" in capsys.readouterr().err


@pytest.mark.usefixtures("registry")
def test_two_decisions_at_once_cannot_both_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Records(tmp_path / "release").held(), pytest.raises(SystemExit, match="1"):
        approve()
    assert "another decision is under way" in capsys.readouterr().err
    approve()
    assert len(records(tmp_path)) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("second_candidate")
def test_an_approval_that_was_killed_is_finished_by_the_next(
    registry: MlflowClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    approve("1")
    flags = ["approve", "2", "--by", "A. Reader", "--reason", "gate passed", "--yes"]
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


@pytest.mark.usefixtures("second_candidate")
def test_a_champion_whose_bundle_was_damaged_does_not_stand_in_its_successors_way(
    tmp_path: Path,
) -> None:
    approve("1")
    (champion,) = records(tmp_path)
    (tmp_path / f"release/bundles/{champion['bundle_digest']}/model.onnx").write_bytes(b"damaged")
    (tmp_path / "release/champion.json").unlink()  # as evaluate's report advises
    approve("2")
    pointer = BundleStore(tmp_path / "release").champion()
    assert pointer is not None
    assert pointer.version == "2"


@pytest.mark.slow
@pytest.mark.usefixtures("second_candidate")
def test_an_approval_that_was_killed_is_made_needless_by_the_next(
    registry: MlflowClient, tmp_path: Path
) -> None:
    flags = ["approve", "1", "--by", "A. Reader", "--reason", "gate passed", "--yes"]
    subprocess.run([sys.executable, "-c", KILLED_AFTER_THE_RECORD, *flags], env=dict(os.environ))
    assert BundleStore(tmp_path / "release").champion() is None
    approve("2")
    assert registry.get_model_version_by_alias("bonexray", "champion").version == 2
    assert registry.get_model_version_by_alias("bonexray", "previous").version == 1
