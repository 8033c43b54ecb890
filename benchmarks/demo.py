"""`python -m benchmarks.demo`: the figures of the demonstration, from fresh clones.

Clones the committed tree twice into a temporary folder and lets both clones use this environment,
so that installing is not timed. Takes some twelve minutes on two cores.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bonexray.artifacts import sha256_file

ROOT = Path(__file__).parents[1]
COMPARED = (
    "data/dataset/images.npy",
    "data/dataset/index.parquet",
    "models/resnet18/weights.safetensors",
    "bundle/model.onnx",
)


def clone(folder: Path) -> Path:
    """A fresh clone that finds this environment as its own."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    return folder


def timed(command: Sequence[str], folder: Path) -> float:
    """Seconds that a command takes; its output goes to ours."""
    environment = dict(os.environ) | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    }
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=sys.stderr)
    return time.perf_counter() - start


def make(target: str) -> list[str]:
    """The make command that does not install again."""
    return ["make", "--old-file=.venv/installed", target]


def main() -> None:
    """Measure and print one line a figure."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        first, second = clone(Path(scratch) / "first"), clone(Path(scratch) / "second")
        figures["demo_seconds"] = timed(make("demo"), first)
        study = json.loads((first / "reports/evaluation/metrics.json").read_text())["test"]["study"]
        figures["demo_study_auroc"] = study["auroc"]
        figures["demo_study_auroc_low"] = study["auroc_low"]
        figures["demo_test_studies"] = study["count"]
        figures["noop_repro_seconds"] = timed(["dvc", "repro"], first)
        figures["demo_again_seconds"] = timed(make("demo"), first)
        timed(["dvc", "repro"], second)
        figures["same_digests"] = all(
            sha256_file(first / file) == sha256_file(second / file) for file in COMPARED
        )
        figures["test_seconds"] = timed(make("test"), first)
    for name, value in figures.items():
        print(f"figure {name} {value:.4g}")


if __name__ == "__main__":
    main()
