"""What is in the images, and what is not."""

import hashlib
import json
import subprocess
import tarfile
import tomllib

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.images import IMAGES, bill_of, size_mb
from tests.containers.conftest import ROOT, Run, index_url

pytestmark = pytest.mark.containers

BOTH = pytest.mark.parametrize("name", IMAGES)


def inspect(image: str) -> dict:
    told = subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=True)
    return json.loads(told.stdout)[0]


@BOTH
def test_it_runs_as_a_fixed_user_on_a_root_that_it_cannot_write(run: Run, name: str) -> None:
    done = run(name, "sh", "-c", "id -u; touch /app/x || touch /opt/bonexray/x || echo refused")
    assert done.stdout.split() == ["10001", "refused"]


@BOTH
def test_nothing_that_only_a_build_needs_is_left(run: Run, name: str) -> None:
    tools = "gcc cc make git curl pip pip3 wheel"
    found = run(name, "sh", "-c", f"command -v {tools}; ls /build /root/.cache").stdout
    assert found == ""
    places = "/opt/bonexray/bin/python /usr/bin/python3 /usr/local/bin/python3"
    for python in run(name, "sh", "-c", f"ls {places}").stdout.split():  # the base's, too
        assert "No module named pip" in run(name, python, "-m", "pip").stderr


@BOTH
def test_its_labels_name_the_commit_and_the_lock(images: dict[str, str], name: str) -> None:
    labels = inspect(images[name])["Config"]["Labels"]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    assert labels["org.opencontainers.image.revision"].startswith(head.stdout.strip())
    lock = (ROOT / IMAGES[name] / "requirements.lock").read_bytes()
    assert labels["org.bonexray.lock-sha256"] == hashlib.sha256(lock).hexdigest()


def test_the_serving_image_holds_no_training_code_and_stays_small(
    run: Run, images: dict[str, str]
) -> None:
    for module in ("torch", "torchvision", "mlflow", "kfp", "components", "pipeline"):
        assert (
            "No module named" in run("bonexray-serving", "python", "-c", f"import {module}").stderr
        )
    assert size_mb(images["bonexray-serving"]) <= 600


def test_the_steps_image_runs_kfps_executor_and_every_step(run: Run) -> None:
    steps = ["simulate", "ingest", "validate", "augment", "train", "evaluate", "register"]
    code = "import kfp.dsl.executor_main, " + ", ".join(f"components.{step}" for step in steps)
    done = run("bonexray-components", "python", "-c", code)
    assert done.returncode == 0, done.stderr


@BOTH
def test_its_bill_of_materials_is_valid_and_holds_the_lock_and_debians_packages(
    images: dict[str, str], name: str
) -> None:
    bill = bill_of(images[name])
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
    listed = {component["purl"] for component in json.loads(bill)["components"]}
    for line in (ROOT / IMAGES[name] / "requirements.lock").read_text().splitlines():
        if "==" not in line or line.startswith((" ", "#")):
            continue
        wanted = Requirement(line.removesuffix("\\").strip())
        if wanted.marker is None or wanted.marker.evaluate({"python_full_version": "3.11.2"}):
            version = str(wanted.specifier).removeprefix("==")
            assert f"pkg:pypi/{canonicalize_name(wanted.name)}@{version}" in listed
    assert any(purl.startswith("pkg:deb/debian/libc6@") for purl in listed)


def files_of(image: str) -> dict[str, tuple[float, int, int, bytes]]:
    """Every file that we put into an image: its time, mode, owner and digest."""
    created = subprocess.run(
        ["docker", "create", image, "true"], capture_output=True, text=True, check=True
    )
    container = created.stdout.strip()
    exported = subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE)
    found = {}
    with tarfile.open(fileobj=exported.stdout, mode="r|") as tar:
        for member in tar:
            if content := tar.extractfile(member) if member.isfile() else None:
                digest = hashlib.file_digest(content, "sha256").digest()
                found[member.name] = (member.mtime, member.mode, member.uid, digest)
    exported.wait()
    subprocess.run(["docker", "rm", container], stdout=subprocess.DEVNULL, check=True)
    return {name: told for name, told in found.items() if name.startswith(("opt/", "app/"))}


def files_of_a_stage_built_anew(stage: str) -> dict[str, object]:
    """Without what the engine kept, of the same base and index; nothing is left of it."""
    command = ["docker", "build", "--quiet", "--no-cache", "--network=host", f"--target={stage}"]
    command += ["--file=serving/Dockerfile", f"--build-arg=INDEX_URL={index_url()}", "."]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    stage_image = built.stdout.split()[-1]
    files = files_of(stage_image)
    subprocess.run(["docker", "image", "rm", stage_image], stdout=subprocess.DEVNULL, check=True)
    return files


def test_the_same_lock_and_code_make_the_same_files(images: dict[str, str]) -> None:
    """Times of the folders above them differ, and what Debian's packages say of their install."""
    again = {}
    for stage in ("packages", "code"):
        again |= files_of_a_stage_built_anew(stage)
    assert len(again) > 10_000
    assert again == files_of(images["bonexray-serving"])


def test_the_version_in_the_labels_is_the_projects(images: dict[str, str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    labels = inspect(images["bonexray-serving"])["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == project["version"]


def test_a_step_with_bad_input_ends_with_one_line(run: Run) -> None:
    done = run("bonexray-components", "python", "-m", "components.ingest", "--params",
               '{"image_size": 96, "archive_sha256": ""}', "--archive", "/none.zip",
               "--out", "/tmp/out")  # fmt: skip
    assert done.returncode == 1
    assert (
        done.stderr.strip()
        == "ingest: /none.zip: no such archive; expected a MURA .zip or an unpacked folder"
    )
