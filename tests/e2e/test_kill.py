"""A step killed with SIGKILL and run again ends in the bytes of one that was left alone."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bonexray.artifacts import scratch_path, sha256_file

pytestmark = pytest.mark.slow

# Step -> its flags, with {w} the tiny workspace and {t} the test's folder; what it writes; and the
# files of that which do not hold times or random names.
STEPS: dict[str, tuple[str, dict[str, str], list[str]]] = {
    "simulate": ("--out {t}/archive.zip", {"archive.zip": "data/MURA-sim.zip"}, []),
    "ingest": (
        "--archive {w}/data/MURA-sim.zip --out {t}/dataset",
        {"dataset": "data/dataset"},
        ["images.npy", "index.parquet"],
    ),
    "validate": (
        "--dataset {w}/data/dataset --splits {w}/data/splits.csv --reference {t}/none"
        " --out {t}/validated --report {t}/report",
        {"validated": "data/validated", "report": "reports/validation"},
        ["manifest.parquet", "report.json"],
    ),
    "augment": (
        "--dataset {w}/data/dataset --validated {w}/data/validated --out {t}/policy",
        {"policy": "data/policy"},
        ["policy.json", "preview.png"],
    ),
    "train": (
        "--arch resnet18 --dataset {w}/data/dataset --validated {w}/data/validated"
        " --policy {w}/data/policy --out {t}/resnet18",
        {"resnet18": "models/resnet18"},
        ["weights.safetensors", "history.csv", "training.json"],
    ),
    "evaluate": (
        "--dataset {w}/data/dataset --validated {w}/data/validated --models {w}/models"
        " --archs resnet18 --commit HEAD --crossval none --release none"
        " --out {t}/bundle --report {t}/evaluation",
        {"bundle": "bundle", "evaluation": "reports/evaluation"},
        # The report's other files hold milliseconds, which no two runs share.
        ["model.onnx", "bundle.json", "typical.npz", "predictions.parquet"],
    ),
}


def begun(folder: Path, targets: list[str]) -> bool:
    """Whether the step has begun to write: its hidden files are there."""
    hidden = [
        scratch_path(folder / target, purpose)
        for target in targets
        for purpose in ("partial", "checkpoint")
    ]
    return any(path.exists() for path in hidden)


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_step_leaves_nothing_whole_and_its_rerun_the_same_bytes(
    step: str, tiny_workspace: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    flags, targets, files = STEPS[step]
    command = [sys.executable, "-m", f"components.{step}"]
    command += ["--params", str(tiny_workspace / "params.yaml")]
    command += flags.format(w=tiny_workspace, t=tmp_path).split()
    where = {"cwd": tiny_workspace, "env": environment}
    process = subprocess.Popen(command, start_new_session=True, **where)  # type: ignore[call-overload]
    while not begun(tmp_path, list(targets)):
        assert process.poll() is None, "the step ended before it was seen to write"
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    # The report may be whole already: it is written before what it lets pass.
    first = tmp_path / next(iter(targets))
    assert not first.exists()
    subprocess.run(command, check=True, **where)  # type: ignore[call-overload]
    for target, place in targets.items():
        for file in files or [""]:
            ours, theirs = tmp_path / target / file, tiny_workspace / place / file
            if theirs.exists():
                assert sha256_file(ours) == sha256_file(theirs), file
    assert not begun(tmp_path, list(targets))


def test_a_flow_killed_in_training_goes_on_by_repro_again(
    tiny_workspace: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    project = shutil.copytree(tiny_workspace, tmp_path / "project", symlinks=True)
    shutil.rmtree(project / "models")
    shutil.rmtree(project / ".dvc/cache")  # else DVC takes the weights from there
    process = subprocess.Popen(
        ["dvc", "repro", "train@resnet18"], cwd=project, env=environment, start_new_session=True
    )
    while not scratch_path(project / "models/resnet18", "checkpoint").exists():
        assert process.poll() is None, "training ended before it was seen to write"
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (project / "models/resnet18").exists()
    done = subprocess.run(
        ["dvc", "repro", "train@resnet18"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "continuing after epoch 1" in done.stdout
    weights = "models/resnet18/weights.safetensors"
    assert sha256_file(project / weights) == sha256_file(tiny_workspace / weights)
