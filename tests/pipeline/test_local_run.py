"""The compiled graph, run whole on this machine, ends where `dvc repro` ends."""

import json
from pathlib import Path

import pytest
import yaml

from bonexray.artifacts import sha256_file
from bonexray.bundle import open_bundle
from bonexray.store import BundleStore, Champion
from tests.pipeline.local_run import SAME, run_pipeline


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory, tiny_workspace: Path) -> Path:
    """What the pipeline's steps wrote."""
    folder = tmp_path_factory.mktemp("kubeflow")
    store = BundleStore(folder / "release")  # somebody is champion already
    digest = store.add(tiny_workspace / "bundle")
    store.set_champion(Champion(model_name="bonexray", version="1", digest=digest))
    done = run_pipeline(folder, tiny_workspace / "params.yaml")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "outputs"


@pytest.mark.parametrize(("output", "file"), SAME)
def test_the_digests_are_those_of_dvc_repro(
    outputs: Path, tiny_workspace: Path, output: str, file: str
) -> None:
    (ours,) = outputs.rglob(f"out/{file}")
    assert sha256_file(ours) == sha256_file(tiny_workspace / output / file)


def test_the_pipeline_ends_in_a_registered_candidate(outputs: Path) -> None:
    (registration,) = outputs.rglob("registration.json")
    assert yaml.safe_load(registration.read_text())["version"] == "1"


def test_the_kubeflow_ui_gets_the_report_its_figures_and_a_confusion_matrix(
    outputs: Path, tiny_workspace: Path
) -> None:
    (page,) = outputs.rglob("evaluate/page")
    assert page.read_text().startswith("<!doctype html>")
    (report,) = outputs.rglob("evaluate/report")
    assert page.read_bytes() == (report / "report.html").read_bytes()
    (told,) = outputs.rglob("evaluate/executor_output.json")
    artefacts = json.loads(told.read_text())["artifacts"]
    study = json.loads((report / "metrics.json").read_text())["test"]["study"]
    (figures,) = artefacts["figures"]["artifacts"]
    assert figures["metadata"]["test_study_auroc"] == pytest.approx(study["auroc"])
    (confusion,) = artefacts["confusion"]["artifacts"]
    rows = [row["row"] for row in confusion["metadata"]["confusionMatrix"]["rows"]]
    assert sum(map(sum, rows)) == study["count"]
    assert sum(rows[1]) == study["abnormal"]


def test_the_run_leaves_the_reports_of_its_gates_and_a_page(outputs: Path) -> None:
    (page,) = outputs.rglob("close/page")
    assert "Run succeeded." in page.read_text()
    (reports,) = outputs.rglob("close/reports")
    (report,) = outputs.rglob("evaluate/report")
    assert (reports / "evaluation/gate.json").read_bytes() == (report / "gate.json").read_bytes()
    assert (reports / "validation/report.json").exists()


def test_the_candidate_was_held_against_the_champion(outputs: Path, tiny_workspace: Path) -> None:
    (report,) = outputs.rglob("evaluate/report")
    champion = json.loads((report / "metrics.json").read_text())["champion"]
    assert champion["digest"] == open_bundle(tiny_workspace / "bundle").digest
    assert champion["lead"] == 0


def test_the_kubeflow_ui_gets_validations_page_in_one_file(outputs: Path) -> None:
    (page,) = outputs.rglob("validate/page")
    text = page.read_text()
    assert "Validation of the data" in text
    assert 'src="data:image/png;base64,' in text
    assert "../sheets" not in text
