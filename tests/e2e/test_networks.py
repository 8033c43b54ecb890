"""Two networks through the whole flow: trained, compared with their ensemble, registered."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from bonexray.bundle import open_bundle
from serving.pack import verify_pack


@pytest.mark.slow
def test_two_networks_and_their_ensemble_are_compared_and_one_is_registered(
    tiny_workspace: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    project = shutil.copytree(tiny_workspace, tmp_path / "project", symlinks=True)
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["networks"]["archs"] = ["resnet18", "resnet50"]
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    subprocess.run(["dvc", "repro", "--quiet"], cwd=project, env=environment, check=True)
    report = project / "reports/evaluation"
    metrics = json.loads((report / "metrics.json").read_text())
    assert set(metrics["networks"]) == {"resnet18", "resnet50", "resnet18+resnet50"}
    chosen = metrics["network"]
    assert chosen in metrics["networks"]
    quick, slow = (metrics["networks"][name]["ms_per_view"] for name in ("resnet18", "resnet50"))
    assert metrics["networks"]["resnet18+resnet50"]["ms_per_view"] == pytest.approx(quick + slow)
    assert "Network beside network" in (report / "report.html").read_text()
    assert "figures recomputed" in verify_pack(report)
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    version = client.get_model_version_by_alias("bonexray", "candidate")
    assert version.tags["bonexray.bundle_digest"] == open_bundle(project / "bundle").digest
    assert version.tags["bonexray.arch"] == chosen
