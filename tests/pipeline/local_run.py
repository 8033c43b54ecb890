"""The compiled pipeline, run whole on this machine by kfp's subprocess runner."""

import os
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

from pipeline.__main__ import main

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SAME = [
    ("data/dataset", "images.npy"),
    ("data/dataset", "index.parquet"),
    ("data/validated", "manifest.parquet"),
    ("data/policy", "policy.json"),
    ("models/resnet18", "weights.safetensors"),
    ("models/resnet18", "history.csv"),
    ("bundle", "model.onnx"),
]
"""What must be the same bytes, wherever the flow runs: where DVC has it, and the file."""
_RUN = """
import sys
from kfp import components, local
local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root="outputs",
           workspace_root="workspace", enable_caching=True, cache_root="cache")
components.load_component_from_file("pipeline.yaml")(commit=sys.argv[1])
"""


def run_pipeline(
    folder: Path, params: Path, caches: bool = False
) -> subprocess.CompletedProcess[str]:
    """Compile and run, in a process of its own with its own registry: `python -m pipeline run`.

    Args:
        folder: gets `outputs`, `workspace` and the registry.
        params: params.yaml.
        caches: whether a task with known inputs is taken from an earlier run in that folder.
    """
    if caches:
        with chdir(folder):  # where nobody was made champion
            main(["compile", "--params", str(params), "--out", "pipeline.yaml"])
    command = ["-m", "pipeline", "run", "--params", str(params), "--commit", COMMIT, "--out", "."]
    environment = dict(os.environ) | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        [sys.executable, *(["-c", _RUN, COMMIT] if caches else command)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
