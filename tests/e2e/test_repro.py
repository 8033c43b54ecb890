"""`dvc repro` as a DVC user knows it, on the tiny set."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture
def dvc(environment: dict[str, str]) -> Callable[..., str]:
    """Run a DVC command in a project and return what it printed."""

    def run(project: Path, *command: str) -> str:
        done = subprocess.run(
            ["dvc", *command], cwd=project, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def project(tiny_workspace: Path, tmp_path: Path) -> Path:
    """A copy of the tiny project after its run, to change at will."""
    return shutil.copytree(tiny_workspace, tmp_path / "project", symlinks=True)


def test_a_second_run_does_nothing(tiny_workspace: Path, dvc: Callable[..., str]) -> None:
    assert "Running stage" not in dvc(tiny_workspace, "repro")


def test_the_metrics_are_shown(tiny_workspace: Path, dvc: Callable[..., str]) -> None:
    shown = json.loads(dvc(tiny_workspace, "metrics", "show", "--json"))
    files = {name: file["data"] for name, file in shown[""]["data"].items()}
    assert 0 <= files["reports/evaluation/headline.json"]["test_study"]["auroc"] <= 1
    assert files["reports/validation/counts.json"]["splits"]["test"]["views"] > 0


def test_the_plots_are_shown(tiny_workspace: Path, dvc: Callable[..., str], tmp_path: Path) -> None:
    dvc(tiny_workspace, "plots", "show", "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots/index.html").read_text()
    for title in ("Loss by epoch", "Accuracy by epoch", "ROC curve, test studies"):
        assert title in page


def changed(project: Path, section: str, **fields: Any) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text())
    params[section] |= fields
    (project / "params.yaml").write_text(yaml.safe_dump(params))


def stages_to_run(printed: str) -> list[str]:
    return [line.split("'")[1] for line in printed.splitlines() if "Running stage" in line]


@pytest.mark.parametrize(
    ("section", "change", "first"),
    [
        ("register", {"experiment": "other"}, "register"),
        ("evaluate", {"bootstrap_draws": 60}, "evaluate"),
        ("train", {"epochs": 3}, "train@resnet18"),
        ("augment", {"rotate_degrees": 5.0}, "augment"),
        ("validate", {"val_fraction": 0.3}, "validate"),
    ],
)
def test_a_changed_setting_reruns_from_its_step_on_and_nothing_before(
    project: Path,
    dvc: Callable[..., str],
    section: str,
    change: dict[str, Any],
    first: str,
) -> None:
    changed(project, section, **change)
    # A dry run does not change outputs, so it sees the first stage alone.
    assert stages_to_run(dvc(project, "repro", "--dry")) == [first]


def test_another_network_is_a_stage_of_its_own(project: Path, dvc: Callable[..., str]) -> None:
    changed(project, "networks", archs=["resnet50"])
    assert stages_to_run(dvc(project, "repro", "--dry")) == ["train@resnet50", "evaluate"]


def test_the_real_archive_takes_the_place_of_the_simulated_one(
    project: Path, dvc: Callable[..., str]
) -> None:
    shutil.copyfile(project / "data/MURA-sim.zip", project / "data/MURA-v1.1.zip")
    dvc(project, "add", "data/MURA-v1.1.zip")
    changed(project, "data", archive="data/MURA-v1.1.zip")
    assert "ingest" in stages_to_run(dvc(project, "repro", "--dry"))
    graph = dvc(project, "dag", "--mermaid")
    assert "MURA-v1.1.zip.dvc" in graph


def test_a_null_stops_the_flow_at_its_step_with_the_field(
    project: Path, environment: dict[str, str]
) -> None:
    changed(project, "register", experiment=None)
    done = subprocess.run(
        ["dvc", "repro"], cwd=project, env=environment, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "register.experiment = None" in done.stderr
