"""Make a version again: its commit and settings in a scratch clone, the flow, the same digests?"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from mlflow.entities.model_registry import ModelVersion

from bonexray.artifacts import sha256_file
from bonexray.errors import LineageError
from bonexray.registry import DVC_OUTS_TAG, LOCK_SHA256_TAG, NONE, TAG_PREFIX
from serving.registry import Registry

_STAGE = "evaluate"
_REPORTS = "reports/"
"""Hold hours, milliseconds and the champion of the day: told, and not compared."""
_LOCK = "requirements.lock"


def rebuild(registry: Registry, wanted: str) -> None:
    """Run the flow of a version again in a scratch clone of this checkout, and compare digests.

    Data that is under DVC is taken from this checkout's cache; what steps wrote is not.

    Args:
        registry: holds the version.
        wanted: a version number or an alias.

    Raises:
        RegistryError: there is no such version, or it was registered outside of `dvc repro`.
        LineageError: it is of no commit, the flow does not run, or another digest came out.
    """
    version = registry.version(wanted)
    commit = version.tags.get(f"{TAG_PREFIX}code_commit", "")
    expected: dict[str, str] = yaml.safe_load(version.tags.get(DVC_OUTS_TAG, NONE))
    if not isinstance(expected, dict):
        raise LineageError(f"version {version.version} was registered outside of `dvc repro`")
    with tempfile.TemporaryDirectory(prefix="rebuild-") as scratch:
        clone = Path(scratch) / "clone"
        _check_out(commit, clone)
        _refuse_other_packages(clone, version)
        flow = registry.flow(version, Path(scratch))
        shutil.copyfile(flow / "params.yaml", clone / "params.yaml")
        (clone / "dvc.lock").unlink(missing_ok=True)  # so that nothing counts as done
        print(f"release: rebuilding version {version.version} of commit {commit[:12]}", flush=True)
        _run_flow(clone)
        _compare(clone, expected, version)


def _check_out(commit: str, clone: Path) -> None:
    for command in (
        ["git", "clone", "--quiet", "--no-checkout", str(Path.cwd()), str(clone)],
        ["git", "-C", str(clone), "checkout", "--quiet", "--detach", commit],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            reason = " ".join(done.stderr.split())
            raise LineageError(f"code commit {commit!r} cannot be checked out: {reason}")


def _refuse_other_packages(clone: Path, version: ModelVersion) -> None:
    """Other packages give other weights; say so before the hours are spent."""
    lock = clone / _LOCK
    registered = version.tags.get(LOCK_SHA256_TAG, NONE)
    here = sha256_file(Path(_LOCK)) if Path(_LOCK).is_file() else NONE
    if registered != NONE and lock.is_file() and sha256_file(lock) != registered:
        raise LineageError(f"{_LOCK} of that commit is not the one that was registered")
    if here != registered:
        print(f"release: this environment follows another {_LOCK}; digests may differ")


def _run_flow(clone: Path) -> None:
    cache = _output(["dvc", "cache", "dir"], Path.cwd())
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    registry = f"sqlite:///{clone}/mlflow.db"  # trainings of a rebuild are no team's
    environment = dict(os.environ) | {"PATH": path, "MLFLOW_TRACKING_URI": registry}
    commands = [["dvc", "cache", "dir", "--local", cache]]
    if list(clone.glob("data/*.dvc")):
        commands.append(["dvc", "checkout", "--quiet"])
    commands.append(["dvc", "repro", "--force", "--no-run-cache", _STAGE])
    for command in commands:
        done = subprocess.run(command, cwd=clone, env=environment)
        if done.returncode != 0:
            raise LineageError(f"`{' '.join(command)}` ended with status {done.returncode}")


def _compare(clone: Path, expected: dict[str, str], version: ModelVersion) -> None:
    lock: dict[str, Any] = yaml.safe_load((clone / "dvc.lock").read_text(encoding="utf-8"))
    found = {o["path"]: o["md5"] for stage in lock["stages"].values() for o in stage["outs"]}
    others = []
    for name in sorted(set(expected) & set(found)):
        if name.startswith(_REPORTS):
            print(f"  of its day  {name}")
        elif expected[name] == found[name]:
            print(f"  the same    {name}")
        else:
            print(f"  OTHER       {name}")
            others.append(name)
    if others:
        raise LineageError(f"version {version.version}: came out otherwise: {', '.join(others)}")
    print(f"release: version {version.version} came out the same, bundle included")


def _output(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        reason = " ".join(done.stderr.split())
        raise LineageError(f"`{' '.join(command)}` ended with status {done.returncode}: {reason}")
    return done.stdout.strip()
