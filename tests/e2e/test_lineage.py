"""A version of a real flow in a real repository: traced to its commit, and made from it again."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import TINY, child_environment

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def run(command: str, folder: Path, fails: bool = False) -> str:
    program, *rest = shlex.split(command)
    found = {"python": sys.executable}.get(program, program)
    done = subprocess.run(
        [found, *rest], cwd=folder, env=child_environment(), capture_output=True, text=True
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose flow was run on a clean commit, and whose candidate was approved."""
    folder = tmp_path_factory.mktemp("lineage") / "project"
    kept = shutil.ignore_patterns("__pycache__")
    for package in ("bonexray", "components", "pipeline", "serving"):
        shutil.copytree(ROOT / package, folder / package, ignore=kept)
    (folder / "data").mkdir()
    for file in ("data/splits.csv", "dvc.yaml", "requirements.lock", ".gitignore"):
        shutil.copyfile(ROOT / file, folder / file)
    (folder / "params.yaml").write_text(yaml.safe_dump(TINY))
    for command in (
        "git init --quiet",
        "dvc init --quiet",
        "git add .",
        "git -c user.name=t -c user.email=t@example.org commit --quiet -m flow",
        "dvc repro",
        "python -m serving.release keys",
        "python -m serving.release approve candidate --by 'A. Reader' --reason seen --yes",
    ):
        run(command, folder)
    return folder


def test_a_version_is_traced_to_a_clean_commit_and_data_in_the_cache(flow: Path) -> None:
    said = run("python -m serving.release trace champion", flow)
    assert "nothing changed beside it" in said
    assert "requirements.lock" in said
    assert "in DVC's cache" in said
    assert "MLflow was not told" not in said
    assert "every link of bonexray version 1 holds" in said


def test_a_version_is_made_again_from_its_commit_with_the_same_digests(flow: Path) -> None:
    params = (flow / "params.yaml").read_text()
    (flow / "params.yaml").write_text(params.replace("epochs: 2", "epochs: 1"))  # since then
    said = run("python -m serving.release rebuild 1", flow)
    (flow / "params.yaml").write_text(params)
    for out in ("bundle", "data/dataset", "models/resnet18"):
        assert f"the same    {out}\n" in said
    assert "version 1 came out the same, bundle included" in said


def test_a_version_that_comes_out_otherwise_is_told(flow: Path) -> None:
    python = "from mlflow import MlflowClient; import json;"
    python += "c=MlflowClient('sqlite:///mlflow.db');"
    python += "o=json.loads(c.get_model_version('bonexray','1').tags['bonexray.dvc_outs']);"
    python += "o['bundle']='0.dir';"
    python += "c.set_model_version_tag('bonexray','1','bonexray.dvc_outs',json.dumps(o))"
    subprocess.run([sys.executable, "-c", python], cwd=flow, env=child_environment(), check=True)
    said = run("python -m serving.release rebuild 1", flow, fails=True)
    assert "OTHER       bundle" in said
    assert "version 1: came out otherwise: bundle" in said
