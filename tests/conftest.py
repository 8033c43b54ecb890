"""Small real data for the tests: a simulated archive and the flow's outputs on it."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

# Before torch is imported, here and in child processes: on images this small more threads only
# wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

pytest_plugins = ["tests.small_bundle"]

ROOT = Path(__file__).parent.parent

TINY: dict[str, Any] = {
    "data": {"archive": "data/MURA-sim.zip"},
    "simulate": {"seed": 3, "scale": 0.003, "difficulty": 0.3, "faults": {}},
    "ingest": {"image_size": 32, "archive_sha256": ""},
    "validate": {
        "seed": 3,
        "val_fraction": 0.35,
        "folds": 3,
        "colour_modes": ["L"],
        "max_quarantine_fraction": 0.0,
    },
    "augment": {
        "seed": 3,
        "flip_probability": 0.5,
        "rotate_degrees": 15.0,
        "translate_fraction": 0.05,
        "scale_fraction": 0.1,
        "brightness_fraction": 0.1,
        "contrast_fraction": 0.2,
    },
    "networks": {"archs": ["resnet18"]},
    "train": {
        "seed": 3,
        "epochs": 2,
        "batch_size": 16,
        "start": "random",
        "learning_rate": 0.001,
        "weight_decay": 0.0,
        "schedule": "plateau",
        "plateau_patience": 0,
        "plateau_factor": 0.5,
        "weighting": "none",
        "label_smoothing": 0.0,
        "mixup_alpha": 0.0,
        "ema_decay": 0.0,
        "first_size_fraction": 1.0,
        "part_loss_weight": 0.3,
        "threads": 1,
        "processes": 1,
    },
    "search": {
        "seed": 3,
        "trials": 3,
        "fields": {
            "learning_rate": {"low": 0.0001, "high": 0.01, "log": True},
            "schedule": {"choices": ["cosine", "one_cycle"]},
        },
    },
    "evaluate": {
        "seed": 3,
        "batch_size": 32,
        "threads": 1,
        "test_time_flip": False,
        "bootstrap_draws": 50,
        "sensitivity": 0.9,
        "specificity": 0.9,
        "refused_fraction": 0.02,
        "int8_max_auroc_lost": 0.002,
        "gate": [
            {"figure": "test/study/auroc_low", "at_least": 0.0, "severity": "critical"},
            {"figure": "champion/lead_low", "at_least": -1.0, "severity": "critical"},
        ],
    },
    "register": {"experiment": "tiny", "model_name": "bonexray"},
    "kubeflow": {
        "image": f"registry.example.org/bonexray-components@sha256:{'b' * 64}",
        "namespace": "bonexray",
        "service_account": "bonexray-steps",
        "config_map": "bonexray-places",
        "secret": "bonexray-keys",
        "volume": "",
        "gpu_type": "nvidia.com/gpu",
        "gpus": 0,
        "nodes": 1,
        "node_selector": {},
        "tolerations": [],
        "cpu": 1,
        "memory_gib": 2,
        "shared_memory_gib": 1,
        "workspace_gib": 1,
        "retries": 0,
        "timeout_hours": 1,
        "deadline_hours": 2,
        "keep_days": 1,
    },
    "serve": {
        "precision": "int8",
        "max_body_mib": 32,
        "max_views": 16,
        "deadline_s": 10,
        "lame_duck_s": 0,
        "requests_per_minute": 1_000_000,
    },
    "release": {
        "approvers": ["A. Reader", "B. Reader"],
        "signing_key": "keys/release.key",
        "certificates": [],
        "trust": "keys/release.pub",
        "cluster": {
            "name": "bonexray",
            "namespace": "radiology",
            "image": f"registry.example.org/bonexray-serving@sha256:{'a' * 64}",
            "store": "s3://bonexray/release",
            "trust_config_map": "bonexray-trust",
            "canary_percent": 10,
            "min_replicas": 2,
            "max_replicas": 4,
            "cpu": 2,
            "memory_gib": 4,
            "audit_claim": "",
            "clients_secret": "",
            "tls_secret": "",
        },
    },
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker makes the tiny set, while the other runs what does not need it."""
    needing = {item.path for item in items if "tiny_workspace" in getattr(item, "fixturenames", [])}
    first = next((item.path for item in items if item.path in needing), None)
    items.sort(key=lambda item: 0 if item.path == first else 1 + (item.path in needing))


@pytest.fixture(scope="session")
def tiny_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project on the tiny set, after one `dvc repro`. Read it; never write into it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, done = shared / "tiny", shared / "tiny.done"
    with FileLock(shared / "tiny.lock"):
        if not done.exists():
            repro(project_copy(folder, TINY))
            done.touch()
    return folder


@pytest.fixture(scope="session", autouse=True)
def _a_registry_of_the_tests_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """For what is called in this process; a child process has its own folder's."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path_factory.mktemp('registry')}/mlflow.db"


@pytest.fixture
def tiny_params(tmp_path: Path) -> Path:
    """A params.yaml of the tiny set."""
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture(scope="session")
def repository() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """What a child process needs to find this environment's python and no one's registry."""
    return child_environment()


def project_copy(folder: Path, params: dict[str, Any]) -> Path:
    """A copy of the flow with its own DVC, as a user who has no git would have it."""
    ignore = shutil.ignore_patterns("__pycache__")
    (folder / "data").mkdir(parents=True)
    shutil.copyfile(ROOT / "data/splits.csv", folder / "data/splits.csv")
    for package in ("bonexray", "components", "pipeline", "serving"):
        shutil.copytree(ROOT / package, folder / package, ignore=ignore)
    for file in ("dvc.yaml", "requirements.lock"):
        shutil.copyfile(ROOT / file, folder / file)
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    subprocess.run(
        ["dvc", "init", "--quiet", "--no-scm"], cwd=folder, env=child_environment(), check=True
    )
    return folder


def repro(folder: Path) -> Path:
    """Run `dvc repro` and fail with its output when it fails."""
    done = subprocess.run(
        ["dvc", "repro"], cwd=folder, env=child_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def child_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return kept | {"PATH": path, "DVC_NO_ANALYTICS": "1"}


@pytest.fixture
def altered_archive(tiny_workspace: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write the tiny archive again with some entries replaced, added, or (None) left out."""

    def alter(changes: dict[str, bytes | None]) -> Path:
        target = tmp_path / "altered.zip"
        with (
            zipfile.ZipFile(tiny_workspace / "data/MURA-sim.zip") as source,
            zipfile.ZipFile(target, "w") as altered,
        ):
            entries = {name: source.read(name) for name in source.namelist()} | {
                f"MURA-v1.1/{name}": data for name, data in changes.items()
            }
            for name, data in entries.items():
                if data is not None:
                    altered.writestr(name, data)
        return target

    return alter


@pytest.fixture
def tiny_entry(tiny_workspace: Path) -> Callable[[str], bytes]:
    """Read a file of the tiny archive by its path below MURA's root."""

    def read(name: str) -> bytes:
        with zipfile.ZipFile(tiny_workspace / "data/MURA-sim.zip") as archive:
            return archive.read(f"MURA-v1.1/{name}")

    return read
