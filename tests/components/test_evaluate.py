import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import yaml

from bonexray.artifacts import sha256_file
from bonexray.bundle import OUTPUTS, open_bundle
from bonexray.dataset import open_images
from bonexray.images import normalise
from bonexray.metrics import METRICS
from bonexray.store import BundleStore, Champion
from bonexray.verdicts import calibrated_probability
from components.commit import describe_commit
from components.evaluate import main

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def evaluate(tiny_workspace: Path, tiny_params: Path, tmp_path: Path) -> Callable[..., None]:
    def run(
        data: Path = tiny_workspace / "data",
        models: Path = tiny_workspace / "models",
        arch: str = "resnet18",
        release: Path = tmp_path / "release",
        **settings: Any,
    ) -> None:
        params = yaml.safe_load(tiny_params.read_text())
        params["evaluate"] |= settings
        tiny_params.write_text(yaml.safe_dump(params))
        main(
            ["--params", str(tiny_params), "--dataset", str(data / "dataset")]
            + ["--validated", str(data / "validated"), "--models", str(models)]
            + ["--archs", arch, "--commit", COMMIT]
            + ["--crossval", str(tmp_path / "crossval"), "--release", str(release)]
            + ["--out", str(tmp_path / "bundle"), "--report", str(tmp_path / "report")]
        )

    return run


@pytest.fixture
def metrics(tiny_workspace: Path) -> dict[str, Any]:
    text = (tiny_workspace / "reports/evaluation/metrics.json").read_text()
    return json.loads(text)  # type: ignore[no-any-return]


def test_the_bundle_answers_what_the_report_was_computed_from(tiny_workspace: Path) -> None:
    bundle = open_bundle(tiny_workspace / "bundle")
    predictions = pd.read_parquet(tiny_workspace / "reports/evaluation/predictions.parquet")
    squares = open_images(tiny_workspace / "data/dataset")[predictions["row"].to_numpy()]
    session = onnxruntime.InferenceSession(bundle.model, providers=["CPUExecutionProvider"])
    outputs = dict(
        zip(
            OUTPUTS,
            session.run(list(OUTPUTS), {"image": normalise(squares, bundle.info.image)}),
            strict=True,
        )
    )
    np.testing.assert_allclose(outputs["logit"], predictions["logit"], atol=1e-4)
    np.testing.assert_allclose(
        calibrated_probability(outputs["logit"], bundle.info.calibration.view),
        predictions["probability"],
        atol=1e-4,
    )


def test_a_bundle_that_reads_both_ways_answers_a_mirror_image_alike(
    evaluate: Callable[..., None], tmp_path: Path
) -> None:
    evaluate(test_time_flip=True)
    bundle = open_bundle(tmp_path / "bundle")
    session = onnxruntime.InferenceSession(bundle.model, providers=["CPUExecutionProvider"])
    size = bundle.info.image.size
    views = np.random.default_rng(0).normal(size=(3, 1, size, size)).astype(np.float32)
    logit, cam = session.run(["logit", "cam"], {"image": views})
    mirrored_logit, mirrored_cam = session.run(["logit", "cam"], {"image": views[..., ::-1]})
    np.testing.assert_allclose(logit, mirrored_logit, atol=1e-4)
    np.testing.assert_allclose(cam, mirrored_cam[..., ::-1], atol=1e-4)


def test_every_split_and_level_has_its_figures_and_intervals(metrics: dict[str, Any]) -> None:
    for split in ("train", "val", "test"):
        for level in ("image", "study"):
            for name in METRICS:
                figures = metrics[split][level]
                assert figures[f"{name}_low"] <= figures[name] <= figures[f"{name}_high"]
    assert (
        sum(part["study"]["count"] for part in metrics["test_by_part"].values())
        == (metrics["test"]["study"]["count"])
    )


def test_the_report_names_the_bundle_it_judges(
    tiny_workspace: Path, metrics: dict[str, Any]
) -> None:
    digest = open_bundle(tiny_workspace / "bundle").digest
    assert metrics["bundle_digest"] == digest
    page = (tiny_workspace / "reports/evaluation/report.html").read_text()
    assert digest in page
    assert "All radiographs are simulated" in page
    assert "http" not in page.replace("http-equiv", "")  # self-contained: it fetches nothing
    assert digest in (tiny_workspace / "reports/evaluation/model_card.md").read_text()


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


def test_the_graph_holds_no_path_of_the_machine_it_was_exported_on(tiny_workspace: Path) -> None:
    graph = (tiny_workspace / "bundle/model.onnx").read_bytes()
    for trace in (str(tiny_workspace), sys.prefix, "site-packages", "network.py"):
        assert trace.encode() not in graph


def test_a_commit_is_a_full_id_or_the_working_directorys(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert describe_commit(COMMIT) == COMMIT
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run(["git", "init", "--quiet"], check=True)
    (tmp_path / "file").write_text("one")
    subprocess.run(["git", "add", "file"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "one"], check=True)
    clean = describe_commit("HEAD")
    assert len(clean) == 40
    (tmp_path / "file").write_text("two")
    assert describe_commit("HEAD") == f"{clean}-dirty"


def test_a_commit_outside_git_is_said_to_be_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert describe_commit("HEAD") == "unknown"
    assert "not in a git checkout" in capsys.readouterr().out


def test_a_commit_in_words_is_refused(
    evaluate: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Exception, match="--commit 'main', expected HEAD or 40"):
        describe_commit("main")


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def approved(tiny_workspace: Path, release: Path) -> Path:
    """A release folder whose champion is the tiny bundle; returns the bundle's folder there."""
    store = BundleStore(release)
    digest = store.add(tiny_workspace / "bundle")
    store.set_champion(Champion(model_name="bonexray", version="1", digest=digest))
    return release / "bundles" / digest


def test_without_a_champion_the_report_and_the_gate_say_so(
    tiny_workspace: Path, metrics: dict[str, Any]
) -> None:
    assert metrics["champion"] == {"skipped": "no champion yet in release/"}
    gate = read(tiny_workspace / "reports/evaluation/gate.json")
    (rule,) = [rule for rule in gate["rules"] if rule["figure"] == "champion/lead_low"]
    assert (rule["outcome"], rule["note"]) == ("skipped", "no champion yet in release/")
    page = (tiny_workspace / "reports/evaluation/report.html").read_text()
    assert "Not compared: no champion yet" in page


@pytest.mark.slow
def test_a_copy_of_the_champion_is_level_with_it(
    evaluate: Callable[..., None], tiny_workspace: Path, tmp_path: Path
) -> None:
    approved(tiny_workspace, tmp_path / "release")
    evaluate()
    champion = read(tmp_path / "report/metrics.json")["champion"]
    assert champion["version"] == "1"
    assert champion["lead"] == pytest.approx(0, abs=1e-9)
    assert champion["lead_low"] == pytest.approx(0, abs=1e-9)


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
def test_a_champion_that_reads_another_size_is_compared_on_fitted_images(
    evaluate: Callable[..., None], tmp_path: Path, make_bundle: Callable[..., str]
) -> None:
    make_bundle(tmp_path / "small", size=48)
    store = BundleStore(tmp_path / "release")
    digest = store.add(tmp_path / "small")
    store.set_champion(Champion(model_name="bonexray", version="7", digest=digest))
    evaluate()
    champion = read(tmp_path / "report/metrics.json")["champion"]
    assert champion["version"] == "7"
    assert champion["refitted_from_px"] == 32
    assert -1 <= champion["lead_low"] <= champion["lead"] <= champion["lead_high"] <= 1
    assert "those of 32 px" in (tmp_path / "report/report.html").read_text()


def test_the_bundle_answers_without_torch_as_torch_does(metrics: dict[str, Any]) -> None:
    served = metrics["servability"]
    assert served["largest_difference"] < 1e-4
    assert served["verdicts_flipped"] == 0
    assert served["ms_per_view"] > 0
    assert served["studies"] == min(30, metrics["test"]["study"]["count"])


def test_a_val_that_is_too_small_to_calibrate_on_is_told_and_warns(
    evaluate: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = {"figure": "calibration/val_studies", "at_least": 50, "severity": "warning"}
    evaluate(gate=[rule])
    assert "warning: calibration/val_studies is 0, expected at least 50" in capsys.readouterr().out
    gate = read(tmp_path / "report/gate.json")
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


def test_every_kind_of_stranger_has_its_figures(metrics: dict[str, Any]) -> None:
    strangers = metrics["abstention"]["strangers"]
    assert {"of another part", "inverted radiographs", "text pages", "chest radiographs"} <= set(
        strangers
    )
    assert metrics["abstention"]["worst_auroc"] == min(s["auroc"] for s in strangers.values())


def test_the_pack_holds_data_lineage_settings_and_software(tiny_workspace: Path) -> None:
    pack = tiny_workspace / "reports/evaluation"
    data = read(pack / "data.json")
    manifest = pd.read_parquet(tiny_workspace / "data/validated/manifest.parquet")
    assert data["origin"] == "simulated"
    for split, own in manifest.groupby("split"):
        assert data["splits"][split]["patients"] == own["patient"].nunique()
        by_part = data["splits"][split]["studies_by_part"].values()
        assert sum(sum(part.values()) for part in by_part) == own["study"].nunique()
    assert read(pack / "params.json")["train"]["resnet18"]["epochs"] == 2
    software = {part["name"]: part for part in read(pack / "sbom.json")["components"]}
    assert software["torch"]["purl"].startswith("pkg:pypi/torch@")
    assert str(tiny_workspace) not in (pack / "sbom.json").read_text()


@pytest.mark.slow
def test_out_of_fold_figures_are_taken_when_cross_validation_was_run(
    evaluate: Callable[..., None], tiny_workspace: Path, tmp_path: Path
) -> None:
    place = tmp_path / "crossval/resnet18"
    place.mkdir(parents=True)
    (record,) = json.loads((tiny_workspace / "reports/evaluation/training.json").read_text())
    record.pop("fold")
    views = pd.read_parquet(tiny_workspace / "data/validated/manifest.parquet")
    views = views[views["split"] != "test"]
    sure = views.assign(logit=6.0 * views["label"] - 3)
    sure.to_parquet(place / "predictions.parquet")
    (place / "metrics.json").write_text(json.dumps({"made_from": record}))
    evaluate()
    found = read(tmp_path / "report/metrics.json")["out_of_fold"]
    assert found["study"]["auroc"] == 1
    assert found["study"]["count"] == sure["study"].nunique()
    (place / "metrics.json").write_text(json.dumps({"made_from": record | {"start": "other"}}))
    evaluate()
    found = read(tmp_path / "report/metrics.json")["out_of_fold"]
    assert "made from other data or with other settings" in found["skipped"]


@pytest.mark.slow
def test_out_of_fold_predictions_of_unknown_studies_are_refused(
    evaluate: Callable[..., None],
    tiny_workspace: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path / "crossval/resnet18"
    place.mkdir(parents=True)
    (record,) = json.loads((tiny_workspace / "reports/evaluation/training.json").read_text())
    record.pop("fold")
    views = pd.read_parquet(tiny_workspace / "data/validated/manifest.parquet")
    strange = views.assign(logit=1.0, study="train/XR_HAND/patient99999/study1_positive")
    strange.to_parquet(place / "predictions.parquet")
    (place / "metrics.json").write_text(json.dumps({"made_from": record}))
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
    record = read(model / "training.json")
    record["manifest_sha256"] = sha256_file(data / "validated/manifest.parquet")
    (model / "training.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit, match="1"):
        evaluate(data=data, models=tmp_path / "models")
    assert "test/study/auroc_low is undefined, expected at least 0" in capsys.readouterr().err
    page = (tmp_path / "report/report.html").read_text()
    assert "is undefined, expected at least" in page
    assert read(tmp_path / "report/metrics.json")["test"]["study"]["auroc"] is None
    assert read(tmp_path / "report/metrics.json")["largest_gap"]["skipped"]
