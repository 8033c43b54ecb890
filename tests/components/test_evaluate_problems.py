"""What stops an evaluation, or makes it say that something could not be had."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from bonexray.artifacts import sha256_file
from tests.components.conftest import approved, cross_validated, read_json


@pytest.mark.slow
def test_a_refused_model_leaves_its_report_and_no_bundle(
    evaluate: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bundle").mkdir()
    with pytest.raises(SystemExit, match="1"):
        evaluate(gate=[{"figure": "test/study/auroc_low", "at_least": 1.0, "severity": "critical"}])
    error = capsys.readouterr().err
    assert "the gate refused the model" in error
    assert "test/study/auroc_low is" in error
    assert "expected at least 1" in error
    assert error.count("\n") == 1
    assert json.loads((tmp_path / "report/gate.json").read_text())["passed"] is False
    assert "Refused" in (tmp_path / "report/report.html").read_text()
    assert not (tmp_path / "bundle").exists()


def test_a_network_that_was_not_trained_is_named_with_those_that_were(
    evaluate: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"):
        evaluate(arch="resnet50")
    assert "no trained resnet50 there, found ['resnet18']" in capsys.readouterr().err


def test_a_network_trained_on_other_data_is_refused(
    evaluate: Callable[..., None],
    tiny_workspace: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = tmp_path / "data"
    (data / "validated").mkdir(parents=True)
    (data / "dataset").symlink_to(tiny_workspace / "data/dataset")
    manifest = pd.read_parquet(tiny_workspace / "data/validated/manifest.parquet")
    manifest.iloc[1:].to_parquet(data / "validated/manifest.parquet")
    with pytest.raises(SystemExit, match="1"):
        evaluate(data=data)
    assert "this resnet18 was trained on other data" in capsys.readouterr().err


def test_weights_that_are_torn_are_refused(
    evaluate: Callable[..., None],
    tiny_workspace: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torn = tmp_path / "models/resnet18"
    torn.mkdir(parents=True)
    for path in (tiny_workspace / "models/resnet18").iterdir():
        data = path.read_bytes()
        cut = len(data) // 2 if path.suffix == ".safetensors" else len(data)
        (torn / path.name).write_bytes(data[:cut])
    with pytest.raises(SystemExit, match="1"):
        evaluate(models=tmp_path / "models")
    assert "weights.safetensors: not the weights of a resnet18" in capsys.readouterr().err


@pytest.mark.slow
def test_a_champion_whose_bundle_no_longer_verifies_stops_the_model_in_plain_words(
    evaluate: Callable[..., None],
    tiny_workspace: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = approved(tiny_workspace, tmp_path / "release")
    (bundle / "model.onnx").write_bytes(b"another graph")
    with pytest.raises(SystemExit, match="1"):
        evaluate()
    assert "champion/lead_low is the champion cannot be read" in capsys.readouterr().err
    assert "cannot be read" in (tmp_path / "report/report.html").read_text()


@pytest.mark.slow
def test_a_val_that_is_too_small_to_calibrate_on_is_told_and_warns(
    evaluate: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = {"figure": "calibration/val_studies", "at_least": 50, "severity": "warning"}
    evaluate(gate=[rule])
    assert "warning: calibration/val_studies is 0, expected at least 50" in capsys.readouterr().out
    gate = read_json(tmp_path / "report/gate.json")
    assert (gate["passed"], gate["warnings"]) == (True, 1)
    page = (tmp_path / "report/report.html").read_text()
    assert "Not calibrated:" in page
    assert "Passed with 1 warning" in page
    assert (tmp_path / "bundle").exists()


@pytest.mark.slow
def test_a_gate_about_no_figure_leaves_neither_bundle_nor_report(
    evaluate: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"):
        evaluate(gate=[{"figure": "test/study/auc", "at_least": 0.5, "severity": "critical"}])
    assert "evaluate.gate.0.figure = 'test/study/auc': no such figure" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
def test_out_of_fold_predictions_of_unknown_studies_are_refused(
    evaluate: Callable[..., None],
    tiny_workspace: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = pd.read_parquet(tiny_workspace / "data/validated/manifest.parquet")
    strange = manifest.assign(logit=1.0, study="train/XR_HAND/patient99999/study1_positive")
    cross_validated(tiny_workspace, tmp_path / "crossval", strange)
    with pytest.raises(SystemExit, match="1"):
        evaluate()
    assert "patient99999/study1_positive is not in the manifest" in capsys.readouterr().err


@pytest.mark.slow
def test_a_test_set_of_one_label_is_refused_with_a_report_that_says_what_is_undefined(
    evaluate: Callable[..., None],
    tiny_workspace: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, model = tmp_path / "data", tmp_path / "models/resnet18"
    (data / "validated").mkdir(parents=True)
    (data / "dataset").symlink_to(tiny_workspace / "data/dataset")
    validated = tiny_workspace / "data/validated"
    shutil.copyfile(validated / "profile.json", data / "validated/profile.json")
    manifest = pd.read_parquet(validated / "manifest.parquet")
    kept = (manifest["split"] != "test") | (manifest["label"] == 0)
    manifest[kept].to_parquet(data / "validated/manifest.parquet")
    shutil.copytree(tiny_workspace / "models/resnet18", model)
    record = read_json(model / "training.json")
    record["manifest_sha256"] = sha256_file(data / "validated/manifest.parquet")
    (model / "training.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit, match="1"):
        evaluate(data=data, models=tmp_path / "models")
    assert "test/study/auroc_low is undefined, expected at least 0" in capsys.readouterr().err
    page = (tmp_path / "report/report.html").read_text()
    assert "is undefined, expected at least" in page
    assert read_json(tmp_path / "report/metrics.json")["test"]["study"]["auroc"] is None
    assert read_json(tmp_path / "report/metrics.json")["largest_gap"]["skipped"]
