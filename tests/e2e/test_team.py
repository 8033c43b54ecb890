"""A team on one S3 bucket: a real server process, real clones."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.servers import KEYS, s3_server

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an S3 server with one bucket, `team`."""
    with s3_server(tmp_path_factory.mktemp("s3"), "team") as url:
        yield url


@pytest.fixture(scope="module")
def shell(environment: dict[str, str], s3: str) -> dict[str, str]:
    """The environment of a member of the team."""
    return environment | KEYS | {"AWS_ENDPOINT_URL": s3, "GIT_CONFIG_GLOBAL": os.devnull}


def run(
    command: str, folder: Path, env: dict[str, str], fails: bool = False
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command.split(), cwd=folder, env=env, capture_output=True, text=True)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def first(
    tiny_workspace: Path, tmp_path_factory: pytest.TempPathFactory, shell: dict[str, str]
) -> Path:
    """A clone with the flow run, its outputs pushed and its lock committed."""
    folder = tmp_path_factory.mktemp("team") / "first"
    shutil.copytree(tiny_workspace, folder, symlinks=True)
    (folder / ".dvc/config").write_text("")
    (folder / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    shutil.copyfile(ROOT / ".gitignore", folder / ".gitignore")
    for command in (
        "git init --quiet --initial-branch main",
        "dvc remote add --default team s3://team/bonexray",
        "git add .",
        "git -c user.name=t -c user.email=t@example.org commit --quiet -m flow",
        "dvc push --quiet",
    ):
        run(command, folder, shell)
    return folder


def test_a_second_clone_pulls_and_recomputes_nothing(first: Path, shell: dict[str, str]) -> None:
    second = first.parent / "second"
    run(f"git clone --quiet {first} {second}", first.parent, shell)
    run("dvc pull --quiet", second, shell)
    said = run("dvc repro", second, shell).stdout
    assert "Running stage" not in said
    assert "up to date" in said
    assert run("git status --porcelain", second, shell).stdout == ""


def test_a_remote_holds_a_handful_of_files_whatever_the_number_of_images(
    first: Path, shell: dict[str, str]
) -> None:
    lock = yaml.safe_load((first / "dvc.lock").read_text())
    images = zipfile.ZipFile(first / "data/MURA-sim.zip").namelist()
    of_data = [
        out
        for stage in ("simulate", "ingest", "validate")
        for out in lock["stages"][stage]["outs"]
        if out["path"].startswith("data/")
    ]
    assert sum(out.get("nfiles", 1) for out in of_data) == 7
    assert len(images) > 100


def test_a_remote_that_is_down_or_refuses_is_an_error_that_says_so(
    first: Path, shell: dict[str, str]
) -> None:
    third = first.parent / "third"
    run(f"git clone --quiet {first} {third}", first.parent, shell)
    down = shell | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    said = run("dvc pull", third, down, fails=True).stderr
    assert "127.0.0.1:9" in said
    run("dvc remote modify team url s3://another/place", third, shell)
    assert "bucket" in run("dvc pull", third, shell, fails=True).stderr.lower()
    assert not (third / "data/dataset").exists()


def test_an_archive_comes_from_s3_as_a_zip_or_as_a_folder(
    first: Path, tmp_path: Path, shell: dict[str, str]
) -> None:
    fourth = first.parent / "fourth"
    run(f"git clone --quiet {first} {fourth}", first.parent, shell)
    with zipfile.ZipFile(first / "data/MURA-sim.zip") as simulated:
        simulated.extractall(tmp_path)
    (tmp_path / "MURA-v1.1").rename(tmp_path / "hospital")
    for listing in (tmp_path / "hospital").glob("*.csv"):
        listing.write_text(listing.read_text().replace("MURA-v1.1/", "hospital/"))
    packed = shutil.make_archive(str(tmp_path / "limbs"), "zip", tmp_path, "hospital")
    run(f"{sys.executable} {ROOT}/tests/e2e/to_s3.py {packed} limbs.zip", tmp_path, shell)
    run(f"{sys.executable} {ROOT}/tests/e2e/to_s3.py hospital hospital", tmp_path, shell)

    adopt = f"{sys.executable} -m components.adopt --archive"
    run(f"{adopt} s3://team/limbs.zip", fourth, shell)
    assert (fourth / "data/limbs.zip").read_bytes() == Path(packed).read_bytes()
    run(f"{adopt} s3://team/hospital", fourth, shell)
    changed = run("git diff --unified=0 params.yaml", fourth, shell).stdout
    assert "+  archive: data/hospital.zip" in changed
    assert changed.count("\n+ ") == 2
    assert "params.yaml" in run("dvc params diff", fourth, shell).stdout
    run("dvc repro validate", fourth, shell)
    differing = run("dvc diff", fourth, shell).stdout
    assert "reports/validation/report.json" in differing
    # The images are the same ones: what is made of them alone has not changed.
    assert "data/validated/manifest.parquet" not in differing
    report = (fourth / "reports/validation/report.json").read_text()
    assert '"origin": "hospital"' in report

    run("git add data params.yaml dvc.lock", fourth, shell)
    run("git -c user.name=t -c user.email=t@example.org commit --quiet -m hospital", fourth, shell)
    run("dvc push --quiet", fourth, shell)
    fifth = first.parent / "fifth"
    run(f"git clone --quiet {fourth} {fifth}", first.parent, shell)
    run("dvc pull --quiet --with-deps validate", fifth, shell)
    archive = Path("data/hospital.zip")
    assert (fifth / archive).read_bytes() == (fourth / archive).read_bytes()
    assert "Running stage" not in run("dvc repro validate", fifth, shell).stdout
