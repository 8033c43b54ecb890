"""The train step on several nodes at once: a manifest for Kubeflow Trainer (v2.3, `TrainJob`).

Its runtime `torch-distributed` gives torchrun the nodes' addresses; the step is the one that
`dvc repro` runs. Inputs and output lie on a volume that every node mounts, laid out as in dvc.yaml.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from bonexray.artifacts import whole_file
from bonexray.config import Arch, TrainConfig, read_section
from bonexray.errors import ConfigError
from bonexray.kubeflow_config import KubeflowConfig
from pipeline.pods import KEYS, PLACES, USER

DATASET, VALIDATED, POLICY = "data/dataset", "data/validated", "data/policy"
"""Where the nodes read, below the folder of the volume."""
MODELS = "models"
"""Where they write, each network in a folder of its own."""
API_VERSION = "trainer.kubeflow.org/v1alpha1"
_FLOW, _VOLUME = "/flow", "/volume"
_CONTAINER = "node"  # of the runtime, and of its job


def render_trainjob(params: Path, arch: Arch, cluster: KubeflowConfig, out: Path) -> str:
    """Write the manifest of a training on data that lies at the volume's root, and say so.

    Args:
        params: params.yaml; its `train.processes` are spread over the nodes, one a GPU.
        arch: the network.
        cluster: how many nodes, and what they mount.
        out: YAML file to write.

    Raises:
        ConfigError: the processes cannot be spread evenly, or there is no volume.
    """
    config = read_section(str(params), TrainConfig)
    if not cluster.volume:
        raise ConfigError("kubeflow.volume is empty, expected the name of a PersistentVolumeClaim")
    manifest = train_job(config, arch, cluster, f"bonexray-{arch}", "")
    with whole_file(out) as partial:
        partial.write_text(yaml.safe_dump(manifest, sort_keys=False), encoding="utf-8")
    return f"{arch} in {config.processes} processes on {cluster.nodes} nodes -> {out}"


def train_job(
    config: TrainConfig, arch: Arch, cluster: KubeflowConfig, name: str, folder: str
) -> dict[str, Any]:
    """The manifest.

    Args:
        config: of the training.
        arch: the network.
        cluster: how many nodes, and what they mount.
        name: of the job.
        folder: of the volume, laid out as in dvc.yaml.

    Raises:
        ConfigError: the processes cannot be spread evenly.
    """
    per_node, left_over = divmod(config.processes, cluster.nodes)
    if left_over or not per_node:
        raise ConfigError(
            f"train.processes = {config.processes}, of all nodes together, on {cluster.nodes} "
            "nodes; expected the same number on each node, at least one"
        )
    return {
        "apiVersion": API_VERSION,
        "kind": "TrainJob",
        "metadata": {"name": name},
        "spec": {
            "runtimeRef": {"name": "torch-distributed"},
            "trainer": {
                "image": cluster.image,
                "command": ["torchrun"],
                "args": ["-m", "components.train", *_flags(config, arch)],
                "numNodes": cluster.nodes,
                "numProcPerNode": per_node,
                "resourcesPerNode": {"limits": {cluster.gpu_type: per_node}},
                "env": _environment(cluster),
            },
            "runtimePatches": [
                {
                    "manager": "bonexray",
                    "trainingRuntimeSpec": _with_pod(_pod(cluster, folder)),
                }
            ],
        },
    }


def _flags(config: TrainConfig, arch: Arch) -> list[str]:
    return [
        *("--params", json.dumps(config.model_dump())),
        *("--arch", arch),
        *("--dataset", f"{_FLOW}/{DATASET}"),
        *("--validated", f"{_FLOW}/{VALIDATED}"),
        *("--policy", f"{_FLOW}/{POLICY}"),
        *("--out", f"{_FLOW}/{MODELS}/{arch}"),
    ]


def _environment(cluster: KubeflowConfig) -> list[dict[str, Any]]:
    """Where the nodes find start weights and the registry, and with which keys."""
    start: list[dict[str, Any]] = [{"name": "TORCH_HOME", "value": f"{_VOLUME}/torch"}]
    references = [("configMapKeyRef", cluster.config_map, key) for key in PLACES]
    references += [("secretKeyRef", cluster.secret, key) for key in KEYS]
    return start + [
        {"name": key, "valueFrom": {kind: {"name": name, "key": key, "optional": True}}}
        for kind, name, key in references
    ]


def _with_pod(pod: dict[str, Any]) -> dict[str, Any]:
    """The runtime's spec with a pod in the place where a TrainJob may patch it."""
    job = {"name": _CONTAINER, "template": {"spec": {"template": {"spec": pod}}}}
    return {"template": {"spec": {"replicatedJobs": [job]}}}


def _pod(cluster: KubeflowConfig, folder: str) -> dict[str, Any]:
    flow = {"name": "volume", "mountPath": _FLOW} | ({"subPath": folder} if folder else {})
    mounts = [
        flow,
        {"name": "volume", "mountPath": _VOLUME},
        {"name": "shared-memory", "mountPath": "/dev/shm"},
    ]
    memory = {"medium": "Memory", "sizeLimit": f"{cluster.shared_memory_gib}Gi"}
    return {
        "nodeSelector": dict(cluster.node_selector),
        "tolerations": list(cluster.tolerations),
        "securityContext": {
            "runAsUser": USER,
            "runAsGroup": USER,
            "runAsNonRoot": True,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": [
            {"name": "volume", "persistentVolumeClaim": {"claimName": cluster.volume}},
            # The GPUs of one node pass gradients through it; a container's own is 64 MB.
            {"name": "shared-memory", "emptyDir": memory},
        ],
        "containers": [
            {
                "name": _CONTAINER,
                "volumeMounts": mounts,
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
    }
