import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest

from bonexray.bundle import OUTPUTS, open_bundle
from bonexray.dataset import open_images
from bonexray.images import normalise
from bonexray.metrics import METRICS
from bonexray.store import BundleStore, Champion
from bonexray.verdicts import calibrated_probability
from components.quantise import why_no_int8
from tests.components.conftest import approved, cross_validated, read_json


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


@pytest.mark.slow
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


def test_the_graph_holds_no_path_of_the_machine_it_was_exported_on(tiny_workspace: Path) -> None:
    graph = (tiny_workspace / "bundle/model.onnx").read_bytes()
    for trace in (str(tiny_workspace), sys.prefix, "site-packages", "network.py"):
        assert trace.encode() not in graph


def test_without_a_champion_the_report_and_the_gate_say_so(
    tiny_workspace: Path, metrics: dict[str, Any]
) -> None:
    assert metrics["champion"] == {"skipped": "no champion yet in release/"}
    gate = read_json(tiny_workspace / "reports/evaluation/gate.json")
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
    champion = read_json(tmp_path / "report/metrics.json")["champion"]
    assert champion["version"] == "1"
    assert champion["lead"] == pytest.approx(0, abs=1e-9)
    assert champion["lead_low"] == pytest.approx(0, abs=1e-9)


@pytest.mark.slow
def test_a_champion_that_reads_another_size_is_compared_on_fitted_images(
    evaluate: Callable[..., None], tmp_path: Path, make_bundle: Callable[..., str]
) -> None:
    make_bundle(tmp_path / "small", size=48)
    store = BundleStore(tmp_path / "release")
    digest = store.add(tmp_path / "small")
    store.set_champion(Champion(model_name="bonexray", version="7", digest=digest))
    evaluate()
    champion = read_json(tmp_path / "report/metrics.json")["champion"]
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


def test_the_bundle_holds_an_int8_network_exactly_where_the_figures_say_so(
    tiny_workspace: Path, metrics: dict[str, Any]
) -> None:
    held = open_bundle(tiny_workspace / "bundle").model_int8 is not None
    assert held == metrics["int8"].get("accepted", False)
    reason = why_no_int8(metrics["int8"])
    assert held == (reason == "")
    for file in ("report.html", "model_card.md"):
        told = (tiny_workspace / "reports/evaluation" / file).read_text()
        assert reason in told
        assert ("in FP32" in told) == held


def test_every_kind_of_stranger_has_its_figures(metrics: dict[str, Any]) -> None:
    strangers = metrics["abstention"]["strangers"]
    assert {"of another part", "inverted radiographs", "text pages", "chest radiographs"} <= set(
        strangers
    )
    assert metrics["abstention"]["worst_auroc"] == min(s["auroc"] for s in strangers.values())


def test_the_pack_holds_data_lineage_settings_and_software(tiny_workspace: Path) -> None:
    pack = tiny_workspace / "reports/evaluation"
    data = read_json(pack / "data.json")
    manifest = pd.read_parquet(tiny_workspace / "data/validated/manifest.parquet")
    assert data["origin"] == "simulated"
    for split, own in manifest.groupby("split"):
        assert data["splits"][split]["patients"] == own["patient"].nunique()
        by_part = data["splits"][split]["studies_by_part"].values()
        assert sum(sum(part.values()) for part in by_part) == own["study"].nunique()
    assert read_json(pack / "params.json")["train"]["resnet18"]["epochs"] == 2
    software = {part["name"]: part for part in read_json(pack / "sbom.json")["components"]}
    assert software["torch"]["purl"].startswith("pkg:pypi/torch@")
    assert str(tiny_workspace) not in (pack / "sbom.json").read_text()


@pytest.mark.slow
def test_out_of_fold_figures_are_taken_when_cross_validation_was_run(
    evaluate: Callable[..., None], tiny_workspace: Path, tmp_path: Path
) -> None:
    views = pd.read_parquet(tiny_workspace / "data/validated/manifest.parquet")
    views = views[views["split"] != "test"]
    sure = views.assign(logit=6.0 * views["label"] - 3)
    place = cross_validated(tiny_workspace, tmp_path / "crossval", sure)
    evaluate()
    found = read_json(tmp_path / "report/metrics.json")["out_of_fold"]
    assert found["study"]["auroc"] == 1
    assert found["study"]["count"] == sure["study"].nunique()
    kept = read_json(place / "metrics.json")
    kept["made_from"]["start"] = "other"
    (place / "metrics.json").write_text(json.dumps(kept))
    evaluate()
    found = read_json(tmp_path / "report/metrics.json")["out_of_fold"]
    assert "made from other data or with other settings" in found["skipped"]
