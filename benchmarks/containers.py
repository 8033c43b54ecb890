"""What the images and the flow in containers cost, where a Docker engine answers.

serving_image_mb             all layers of the serving image, unpacked, MB
rebuild_seconds              `make images` after one line of code changed, what was built being kept
container_overhead_seconds   the step augment in a container less the same step outside, medians
container_vs_repro           `python -m pipeline run --image` over `dvc repro`, both from nothing,
                             median over pairs; on a small simulated set, one thread

Works in clones of the committed tree. The base image must be on the engine or be pulled by it;
PIP_INDEX_URL and PIP_CERT name another index and its certificates. Takes ten minutes on two cores
once the packages' layers are built.
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from benchmarks.demo import clone
from pipeline.images import IMAGES, size_mb
from pipeline.overrides import override

_STEPS_IMAGE, _SERVING_IMAGE = "bonexray-components", "bonexray-serving"
_GATE = "{figure: test/study/auroc_low, at_least: 0, severity: critical}"
_SMALL = ("simulate.scale=0.003", "ingest.image_size=32", "validate.val_fraction=0.35",
          "validate.max_quarantine_fraction=0.0", "train.epochs=2", "train.batch_size=16",
          "train.start=random", "train.threads=1", "evaluate.threads=1",
          "evaluate.bootstrap_draws=50", f"evaluate.gate=[{_GATE}]")  # fmt: skip
_REPEATS = 3
_PATIENCE_S = 120


def measure() -> dict[str, float]:
    """Build, run and time. Needs a Docker engine; what it built of its own commit is removed."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        root.chmod(0o755)  # the images' user goes through it
        checkout = clone(root / "checkout")
        built = build_images(checkout)
        figures = {"serving_image_mb": size_mb(built[_SERVING_IMAGE])}
        figures["rebuild_seconds"] = rebuild_seconds(clone(root / "changed"))
        with registry(root) as url:
            environment = surroundings(url)
            workspace = small_workspace(root / "workspace")
            timed(["dvc", "repro"], workspace, environment)
            image = built[_STEPS_IMAGE]
            figures["container_overhead_seconds"] = overhead_seconds(workspace, image, environment)
            figures["container_vs_repro"] = versus_repro(root, image, environment)
    return figures


def build_images(checkout: Path) -> dict[str, str]:
    """`make images` without its installing; name -> name and tag."""
    command = [sys.executable, "-m", "pipeline.images"]
    if index := os.environ.get("PIP_INDEX_URL"):
        command += ["--index-url", index]
    if certificates := os.environ.get("PIP_CERT"):
        command += ["--ca-bundle", certificates]
    timed(command, checkout)
    head = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(head, cwd=checkout, capture_output=True, text=True, check=True).stdout
    return {name: f"{name}:{commit[:12]}" for name in IMAGES}


def rebuild_seconds(checkout: Path) -> float:
    """One line added to a module of both images, and committed."""
    with (checkout / "bonexray/errors.py").open("a", encoding="utf-8") as module:
        module.write(f"# changed at {time.time_ns()}\n")
    author = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost"]
    timed(["git", *author, "commit", "--quiet", "--all", "--message=A line"], checkout)
    start = time.perf_counter()
    built = build_images(checkout)
    taken = time.perf_counter() - start
    timed(["docker", "image", "rm", *built.values()], checkout)
    return taken


def overhead_seconds(workspace: Path, image: str, environment: dict[str, str]) -> float:
    """What a container adds to a step, in which it reads and writes the same workspace."""
    step = ["python", "-m", "components.augment", f"--params={workspace}/params.yaml"]
    step += [f"--dataset={workspace}/data/dataset", f"--validated={workspace}/data/validated"]
    user = os.getuid()
    container = ["docker", "run", "--rm", "--read-only", "--cap-drop=ALL", "--network=none",
                 "--security-opt=no-new-privileges", "--tmpfs=/tmp:mode=1777",
                 f"--user={user}:{user}", "--env=OMP_NUM_THREADS=1",
                 f"--volume={workspace}:{workspace}", image]  # fmt: skip
    inside, outside = [], []
    for _ in range(_REPEATS):
        out = f"--out={workspace}/policy"
        outside.append(timed([*step, out], workspace, environment))
        inside.append(timed([*container, *step, out], workspace, environment))
    return statistics.median(inside) - statistics.median(outside)


def versus_repro(root: Path, image: str, environment: dict[str, str]) -> float:
    """Seconds of the compiled flow in containers over those of `dvc repro`."""
    ratios = []
    for index in range(_REPEATS):
        workspace = small_workspace(root / f"repro{index}")
        command = [sys.executable, "-m", "pipeline", "run", "--image", image, "--out", "run"]
        ratios.append(
            timed(command, workspace, environment) / timed(["dvc", "repro"], workspace, environment)
        )
    return statistics.median(ratios)


def small_workspace(folder: Path) -> Path:
    """A fresh clone with settings of a set on which the whole flow takes less than a minute."""
    clone(folder)
    params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    text = yaml.safe_dump(override(params, _SMALL))
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    return folder


def surroundings(url: str) -> dict[str, str]:
    """Environment variables of every run: this environment's Python, one thread, the registry."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return dict(os.environ) | {
        "PATH": path,
        "OMP_NUM_THREADS": "1",
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_TRACKING_URI": url,
    }


@contextmanager
def registry(root: Path) -> Iterator[str]:
    """An MLflow server on loopback, whose address containers on the host's network reach too."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}",
               "--workers=1", f"--backend-store-uri=sqlite:///{root}/mlflow.db",
               f"--artifacts-destination={root}/artifacts"]  # fmt: skip
    with (root / "mlflow.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        limit = time.monotonic() + _PATIENCE_S
        while not _answers(f"{url}/health"):
            if server.poll() is not None or time.monotonic() > limit:
                raise SystemExit("containers: mlflow server does not start")
            time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        server.wait()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True


def timed(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> float:
    """Seconds that a command takes in a folder; its output goes to stderr."""
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=sys.stderr)
    return time.perf_counter() - start
