"""The compiled pipeline on this machine, by kfp's own runners, in processes or in containers.

kfp takes a container that is gone before it is asked for done. So what a run left is looked at.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
from kfp import components, local

from bonexray.artifacts import remove
from bonexray.errors import ConfigError, KubeflowError
from pipeline.compiling import RELEASE, compile_pipeline, documents_of
from pipeline.pods import KEYS, PLACES, USER
from pipeline.sources import local_sources

_PASSED_ON = (*PLACES, *KEYS, "OMP_NUM_THREADS")
_FAILED = re.compile(r"Inner task failed: \S*?'([^']+)'")
_VANISHED = re.compile(r"Tried to get output '[^']+' from task '([^']+)'")
_WITHOUT_FILE = ("system.Metrics", "system.ClassificationMetrics")
_DONE = "executor_output.json"
"""What kfp's executor writes last in a task's folder."""


def run_locally(params: dict[str, Any], commit: str, image: str | None, out: Path) -> None:
    """Compile and run the whole flow.

    Args:
        params: params.yaml as read and checked.
        commit: of the code.
        image: of the steps, by a name that the Docker engine here knows; None runs them in this
            environment.
        out: folder for `pipeline.yaml`, `outputs` and `workspace`; what it holds of them is
            replaced.

    Raises:
        ConfigError: `out` holds what no run left; in containers, MLFLOW_TRACKING_URI names no
            server, or no Docker engine answers.
        KubeflowError: a task failed, or what it should have written is not there.
    """
    out = out.absolute()
    _refuse_lost_registry(image)
    _refuse_foreign(out)
    runner = _in_containers() if image else local.SubprocessRunner(use_venv=False)
    for name in ("outputs", "workspace"):
        remove(out / name)
        (out / name).mkdir(parents=True)
        (out / name).chmod(0o777)  # for the user of the image

    bring = _into(out / "outputs/given") if image else Path.absolute
    sources = local_sources(params["data"]["archive"], RELEASE, bring)
    name = image or params["kubeflow"]["image"]
    compile_pipeline(params, name, out / "pipeline.yaml", sources)
    os.umask(0)  # kfp makes the folders that the containers write to
    local.init(
        runner=runner,
        pipeline_root=str(out / "outputs"),
        workspace_root=str(out / "workspace"),
    )
    failed = ""
    try:
        components.load_component_from_file(str(out / "pipeline.yaml"))(commit=commit)
    except ValueError as error:  # it looks for an output of which it was sure
        vanished = _VANISHED.search(str(error))
        raise KubeflowError(_gone(vanished[1]) if vanished else str(error)) from error
    except RuntimeError as error:
        found = _FAILED.search(str(error))
        failed = found[1] if found else str(error)
    compiled = documents_of(out / "pipeline.yaml")[0]
    for problem in lost(compiled, out / "outputs", failed):
        raise KubeflowError(problem)
    if failed:
        raise KubeflowError(f"task {failed} failed: its log is above, reports are in {out}/outputs")


def _into(given: Path) -> Callable[[Path], Path]:
    """Copy what a run starts from to where a container can see it."""

    def bring(path: Path) -> Path:
        given.mkdir(exist_ok=True)
        copy = shutil.copytree if path.is_dir() else shutil.copyfile
        return Path(copy(path, given / path.name))

    return bring


def lost(compiled: dict[str, Any], outputs: Path, failed: str) -> Iterator[str]:
    """What tasks that count as done did not write, a sentence each.

    Args:
        compiled: the pipeline.
        outputs: folder of its runs.
        failed: the task that failed by its own exit status; none when the run succeeded.
    """
    for name, component in compiled["components"].items():
        task = name.removeprefix("comp-")
        declared = [
            artifact
            for artifact, defined in component.get("outputDefinitions", {})
            .get("artifacts", {})
            .items()
            if defined["artifactType"]["schemaTitle"] not in _WITHOUT_FILE
        ]
        if "executorLabel" not in component or task == failed:
            continue
        for folder in sorted([*outputs.glob(f"*/{task}"), *outputs.glob(f"*/for-loop-*/{task}")]):
            if not (folder / _DONE).exists():
                yield _gone(task)
            for artifact in () if failed else sorted(declared):
                if not (folder / artifact).exists():
                    yield f"task {task}: its output {artifact!r} is missing: {folder / artifact}"


def _gone(task: str) -> str:
    return (
        f"task {task}: it wrote no {_DONE}, and kfp took it for done: its container was lost "
        "(killed, out of memory?)"
    )


def _in_containers() -> local.DockerRunner:
    """As a cluster runs them: another user, a root that is read-only, no rights."""
    try:
        docker.from_env().ping()
    except docker.errors.DockerException as error:
        raise ConfigError(f"--image: no Docker engine answers: {error}") from error
    user = os.getuid() or USER
    return local.DockerRunner(
        user=f"{user}:{user}",
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        tmpfs={"/tmp": "mode=1777"},
        shm_size="1g",
        network_mode="host",  # to reach a registry on loopback
        environment={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
    )


def _refuse_foreign(out: Path) -> None:
    """Outputs are replaced: those of a run, which lie beside its pipeline."""
    for name in ("outputs", "workspace"):
        if (out / name).exists() and not (out / "pipeline.yaml").is_file():
            raise ConfigError(f"--out {out}: holds {name}/ of no run, expected another place")


def _refuse_lost_registry(image: str | None) -> None:
    registry = os.environ.get("MLFLOW_TRACKING_URI", "")
    if image and not registry.startswith("http"):
        raise ConfigError(
            f"MLFLOW_TRACKING_URI = {registry!r}: a container's own file would be lost with it, "
            "expected the address of a server (mlflow server)"
        )
