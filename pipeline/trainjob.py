"""The train step on several nodes at once: a manifest for Kubeflow Trainer (v2.3, `TrainJob`).

Its runtime `torch-distributed` gives torchrun the nodes' addresses; the step is the one that
`dvc repro` runs. Inputs and output lie on a volume that every node mounts, laid out as in dvc.yaml.
"""

import json
import os
from pathlib import Path
from typing import Any

import yaml

from bonexray.artifacts import whole_file
from bonexray.config import Arch, TrainConfig, read_section
from bonexray.errors import ConfigError

_MOUNT = "/flow"
_CONTAINER = "node"  # of the runtime, and of its job


def render_trainjob(
    params: Path, arch: Arch, nodes: int, image: str, claim: str, out: Path
) -> None:
    """Write the manifest.

    Args:
        params: params.yaml; its `train.processes` are spread over the nodes, one a GPU.
        arch: the network.
        nodes: how many.
        image: of the steps, best by digest.
        claim: PersistentVolumeClaim of the volume, ReadWriteMany.
        out: YAML file to write.

    Raises:
        ConfigError: the processes cannot be spread evenly.
    """
    config = read_section(str(params), TrainConfig)
    per_node, left_over = divmod(config.processes, nodes) if nodes > 0 else (0, 1)
    if left_over or not per_node:
        raise ConfigError(
            f"{params}: train.processes = {config.processes}, of all nodes together, on --nodes "
            f"{nodes}; expected the same number on each node, at least one"
        )
    if not claim:
        raise ConfigError("--claim is empty, expected the name of a PersistentVolumeClaim")
    manifest = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": f"bonexray-{arch}"},
        "spec": {
            "runtimeRef": {"name": "torch-distributed"},
            "trainer": {
                "image": image,
                "command": ["torchrun"],
                "args": ["-m", "components.train", *_flags(config, arch)],
                "numNodes": nodes,
                "numProcPerNode": per_node,
                "resourcesPerNode": {"limits": {"nvidia.com/gpu": per_node}},
                "env": _environment(),
            },
            "runtimePatches": [
                {"manager": "bonexray", "trainingRuntimeSpec": _with_pod(_pod(claim))}
            ],
        },
    }
    with whole_file(out) as partial:
        partial.write_text(yaml.safe_dump(manifest, sort_keys=False), encoding="utf-8")
    print(f"pipeline: {arch} in {config.processes} processes on {nodes} nodes -> {out}")


def _flags(config: TrainConfig, arch: Arch) -> list[str]:
    return [
        *("--params", json.dumps(config.model_dump())),
        *("--arch", arch),
        *("--dataset", f"{_MOUNT}/data/dataset"),
        *("--validated", f"{_MOUNT}/data/validated"),
        *("--policy", f"{_MOUNT}/data/policy"),
        *("--out", f"{_MOUNT}/models/{arch}"),
    ]


def _environment() -> list[dict[str, str]]:
    """Where the nodes find start weights, and the registry that is set here."""
    places = {"TORCH_HOME": f"{_MOUNT}/torch"}
    if registry := os.environ.get("MLFLOW_TRACKING_URI"):
        places["MLFLOW_TRACKING_URI"] = registry
    return [{"name": name, "value": value} for name, value in places.items()]


def _with_pod(pod: dict[str, Any]) -> dict[str, Any]:
    """The runtime's spec with a pod in the place where a TrainJob may patch it."""
    job = {"name": _CONTAINER, "template": {"spec": {"template": {"spec": pod}}}}
    return {"template": {"spec": {"replicatedJobs": [job]}}}


def _pod(claim: str) -> dict[str, Any]:
    mounts = [
        {"name": "flow", "mountPath": _MOUNT},
        {"name": "shared-memory", "mountPath": "/dev/shm"},
    ]
    return {
        "volumes": [
            {"name": "flow", "persistentVolumeClaim": {"claimName": claim}},
            # The GPUs of one node pass gradients through it; a container's own is 64 MB.
            {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
        ],
        "containers": [{"name": _CONTAINER, "volumeMounts": mounts}],
    }
