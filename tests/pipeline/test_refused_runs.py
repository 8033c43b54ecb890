"""A run that a gate stops: it fails, registers nothing and leaves its reports all the same."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pipeline.local_run import run_pipeline

pytestmark = pytest.mark.slow

_HARD = [{"figure": "test/study/auroc_low", "at_least": 1.1, "severity": "critical"}]

Done = subprocess.CompletedProcess[str]


def write_params(path: Path, workspace: Path, **sections: dict[str, Any]) -> Path:
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    for name, fields in sections.items():
        params[name] |= fields
    path.write_text(yaml.safe_dump(params))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("refused")


@pytest.fixture(scope="module")
def refused(folder: Path, tiny_workspace: Path) -> Done:
    """A run whose model the gate refuses."""
    params = write_params(folder / "params.yaml", tiny_workspace, evaluate={"gate": _HARD})
    return run_pipeline(folder, params, caches=True)


def test_a_model_that_the_gate_refuses_stops_the_run_and_is_not_registered(
    refused: Done, folder: Path
) -> None:
    assert refused.returncode != 0
    said = refused.stdout + refused.stderr
    assert "evaluation: the gate refused the model: test/study/auroc_low" in said
    assert not list(folder.rglob("registration.json"))


def test_it_leaves_its_reports_and_a_page_that_says_why(refused: Done, folder: Path) -> None:
    (page,) = folder.rglob("close/page")
    assert "Run failed." in page.read_text()
    assert "auroc_low" in page.read_text()
    assert list(folder.rglob("close/reports/evaluation/gate.json"))


def test_the_next_run_with_another_gate_takes_all_before_it_from_the_cache(
    refused: Done, folder: Path, tiny_workspace: Path
) -> None:
    before = set(folder.rglob("executor_output.json"))
    done = run_pipeline(folder, tiny_workspace / "params.yaml", caches=True)
    assert done.returncode == 0, done.stderr[-2000:]
    ran = {path.parent.name for path in set(folder.rglob("executor_output.json")) - before}
    assert {"evaluate", "register", "gate", "gate-2", "close"} <= ran
    assert not {"simulate", "ingest", "validate", "augment", "train"} & ran


def test_data_that_the_gate_refuses_is_not_trained_on_and_its_page_is_left(
    tmp_path: Path, tiny_workspace: Path
) -> None:
    faults = {"scale": 0.003, "faults": {"truncated": 0.2}}
    params = write_params(tmp_path / "params.yaml", tiny_workspace, simulate=faults)
    done = run_pipeline(tmp_path, params)
    assert done.returncode != 0
    assert "files quarantined, more than the share of" in done.stdout + done.stderr
    assert not list(tmp_path.rglob("train"))
    (page,) = tmp_path.rglob("close/page")
    assert "Stopped: nothing may be trained on this." in page.read_text()
    assert "Run failed." in page.read_text()
