"""From an answer back to code and data: every link holds, or the first that does not is named."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from bonexray.bundle import open_bundle
from bonexray.sealed import seal
from serving import release
from serving.trace import dvc_hash
from tests.serving.conftest import approve, candidate


@dataclass(frozen=True, kw_only=True)
class Released:
    """A version that was registered and approved in a git checkout."""

    folder: Path
    client: MlflowClient
    digest: str


@pytest.fixture
def released(
    checkout: Path,
    other_evaluation: Path,
    tiny_params: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Released:
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(checkout), str(folder)], check=True)
    monkeypatch.chdir(folder)
    uri = f"sqlite:///{folder}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("BONEXRAY_RUN", "0f9e8d7c")  # as in a pod of Kubeflow
    shutil.copyfile(tiny_params, "params.yaml")
    bundle, report = other_evaluation / "bundle", other_evaluation / "report"
    outs = {"bundle": bundle, "reports/evaluation": report}
    written = [{"path": path, "md5": dvc_hash(folder)} for path, folder in outs.items()]
    written.append({"path": "data/dataset", "md5": "0123.dir"})
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": {"evaluate": {"outs": written}}}))
    release.main(["keys"])
    candidate(tiny_params, bundle, report)
    approve("1")
    return Released(folder=folder, client=MlflowClient(uri), digest=open_bundle(bundle).digest)


def test_dvc_calls_a_folder_what_we_call_it(tiny_workspace: Path) -> None:
    lock = yaml.safe_load((tiny_workspace / "dvc.lock").read_text())
    for out in lock["stages"]["evaluate"]["outs"]:
        assert dvc_hash(tiny_workspace / out["path"]) == out["md5"]


def test_an_answer_is_traced_to_model_run_settings_code_and_data(
    released: Released, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = f"{released.digest[:16]}-{'0' * 32}"
    for subject in ("1", "champion", released.digest, released.digest[:12], answer):
        capsys.readouterr()
        release.main(["trace", subject])
        said = capsys.readouterr().out
        for link in ("approval", "signature", "bundle", "weights", "pack", "settings", "run",
                     "training", "pipeline", "hardware", "code", "packages", "DVC",
                     "data"):  # fmt: skip
            assert f"\n  {link} " in said
        assert "every link of bonexray version 1 holds" in said


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        ("7", "no version '7' of 'bonexray'"),
        ("f" * 64, "no version of bonexray has a bundle of that digest"),
        (f"{'f' * 16}-{'0' * 32}", "no bundle ffffffffffffffff... was ever approved here"),
    ],
)
@pytest.mark.usefixtures("released")
def test_what_is_nobodys_is_said_to_be(
    capsys: pytest.CaptureFixture[str], subject: str, message: str
) -> None:
    assert message in broken(capsys, subject)


def alter_record(released: Released) -> None:
    path = Path("release/records.jsonl")
    path.write_text(path.read_text().replace("A. Reader", "B. Reader").replace("}\n", "}\n{}\n"))


def swap_signature(released: Released) -> None:
    Path(f"release/signatures/{released.digest}.sig").write_text("{}")


def alter_store(released: Released) -> None:
    Path(f"release/bundles/{released.digest}/bundle.json").write_text("{}")


def alter_registry(released: Released) -> None:
    (model,) = released.folder.rglob("models/*/artifacts/model.onnx")
    model.write_bytes(b"another graph")


def retag(name: str, value: str) -> Callable[[Released], None]:
    def spoil(released: Released) -> None:
        released.client.set_model_version_tag("bonexray", "1", f"bonexray.{name}", value)

    return spoil


def alter_report(released: Released) -> None:
    (card,) = released.folder.rglob("report/model_card.md")
    card.write_text("nothing to see here")
    seal(card.parent)


def alter_run(released: Released) -> None:
    run_id = released.client.get_model_version("bonexray", "1").run_id
    released.client.set_tag(run_id, "bonexray.hardware", "an abacus")


def lose_run(released: Released) -> None:
    released.client.set_tag(
        released.client.get_model_version("bonexray", "1").run_id, "bonexray.parent_run", "f" * 32
    )
    retag("parent_run", "f" * 32)(released)


def lose_commit(released: Released) -> None:
    shutil.rmtree(".git")
    subprocess.run(["git", "init", "--quiet"], check=True)


def other_outs(released: Released) -> None:
    outs = json.dumps({"bundle": "0.dir", "reports/evaluation": "0.dir"})
    retag("dvc_outs", outs)(released)
    run_id = released.client.get_model_version("bonexray", "1").run_id
    released.client.set_tag(run_id, "bonexray.dvc_outs", outs)


def other_lock(released: Released) -> None:
    retag("environment_lock_sha256", "0" * 64)(released)
    run_id = released.client.get_model_version("bonexray", "1").run_id
    released.client.set_tag(run_id, "bonexray.environment_lock_sha256", "0" * 64)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (alter_record, "records.jsonl, line 2"),
        (swap_signature, ".sig: "),
        (alter_store, "bundle.json: SHA-256 is"),
        (alter_registry, "model.onnx: SHA-256 is"),
        (retag("bundle_digest", "0" * 64), "record 1, bundle_digest is"),
        (retag("pack_sha256", "0" * 64), "record 1, pack_sha256 is"),
        (retag("dataset_sha256", "0" * 64), "bundle.json, dataset_sha256 is"),
        (retag("weights_sha256", "0" * 64), "bundle.json, weights_sha256 is"),
        (retag("params_sha256", "0" * 64), "params.json is"),
        (alter_report, "its release pack is"),
        (alter_run, "bonexray.hardware is an abacus"),
        (lose_run, "no run 'ffff"),
        (lose_commit, "is not in this repository; git fetch it"),
        (other_lock, "requirements.lock of that commit is"),
        (other_outs, "DVC's hash of bundle is 0.dir"),
    ],
)
def test_the_first_link_that_does_not_hold_is_named(
    released: Released,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Released], None],
    message: str,
) -> None:
    spoil(released)
    assert message in broken(capsys, "1")


def broken(capsys: pytest.CaptureFixture[str], subject: str) -> str:
    """The one line that a trace ends with."""
    capsys.readouterr()
    with pytest.raises(SystemExit, match="1"):
        release.main(["trace", subject])
    captured = capsys.readouterr()
    assert "holds" not in captured.out
    assert captured.err.count("\n") == 1
    return captured.err
