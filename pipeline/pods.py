"""What the pod of a task gets: an image, room, a GPU, the names of secrets."""

from typing import Any

from kfp import kubernetes
from kfp.dsl import PipelineTask

from bonexray.kubeflow_config import KubeflowConfig
from bonexray.registry import PIPELINE_RUN
from pipeline.inside import VOLUME

USER = 10001
"""Of the images."""
PLACES = ("MLFLOW_TRACKING_URI", "MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL",
          "AWS_DEFAULT_REGION", "PRICE_PER_HOUR")  # fmt: skip
"""Keys of the ConfigMap `kubeflow.config_map`, each optional: environment variables of a step."""
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
        "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")  # fmt: skip
"""Keys of the Secret `kubeflow.secret`, each optional."""

_RUN_LABEL = "metadata.labels['pipeline/runid']"


def settle(task: PipelineTask, name: str, image: str, config: KubeflowConfig) -> PipelineTask:
    """Give a task what every task gets.

    Args:
        task: of the pipeline.
        name: for the Kubeflow UI.
        image: that it runs in.
        config: of the cluster.
    """
    task.set_display_name(name).set_container_image(image)
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    kubernetes.set_timeout(task, config.timeout_hours * 3600)
    return task


def give_room(task: PipelineTask, config: KubeflowConfig) -> None:
    """For a task that reads or computes much."""
    task.set_cpu_request(str(config.cpu))
    task.set_memory_request(f"{config.memory_gib}Gi").set_memory_limit(f"{config.memory_gib}Gi")


def give_gpus(
    task: PipelineTask, gpu_type: Any, gpus: Any, node_selector: Any, tolerations: Any
) -> None:
    """For a training. All are inputs of the pipeline."""
    # The server reads the number as text alone: of a number it makes no GPU, and says nothing.
    task.set_accelerator_type(gpu_type).set_accelerator_limit(gpus)
    kubernetes.add_node_selector_json(task, node_selector)
    kubernetes.add_toleration_json(task, tolerations)


def share_memory(task: PipelineTask, config: KubeflowConfig) -> None:
    """A container's own /dev/shm is 64 MB, which data workers and GPUs outgrow."""
    kubernetes.empty_dir_mount(
        task,
        volume_name="shared-memory",
        mount_path="/dev/shm",
        medium="Memory",
        size_limit=f"{config.shared_memory_gib}Gi",
    )


def mount_volume(task: PipelineTask, config: KubeflowConfig) -> None:
    """Where start weights and checkpoints lie, if the cluster has such a place."""
    if config.volume:
        kubernetes.mount_pvc(task, pvc_name=config.volume, mount_path=str(VOLUME))
        task.set_env_variable("TORCH_HOME", str(VOLUME / "torch"))
        tell_run(task)


def tell_places(task: PipelineTask, config: KubeflowConfig) -> None:
    """For a task that speaks to the registry: by name alone, the cluster keeps what they hold."""
    kubernetes.use_config_map_as_env(
        task, config.config_map, {name: name for name in PLACES}, optional=True
    )
    kubernetes.use_secret_as_env(task, config.secret, {name: name for name in KEYS}, optional=True)


def try_again(task: PipelineTask, config: KubeflowConfig) -> None:
    """For a task whose failure may be the cluster's: a lost node, a store that does not answer."""
    if config.retries:
        task.set_retry(
            config.retries, backoff_duration="60s", backoff_factor=2, backoff_max_duration="900s"
        )


def name_itself(task: PipelineTask) -> None:
    """Tell a task its own pod, so that what it starts is the pod's and goes with it."""
    for name in ("name", "namespace", "uid"):
        kubernetes.use_field_path_as_env(task, f"POD_{name.upper()}", f"metadata.{name}")
    tell_run(task)


def tell_run(task: PipelineTask) -> None:
    """The id of its run, from the pod: as an input it would be in the cache's key."""
    kubernetes.use_field_path_as_env(task, PIPELINE_RUN, _RUN_LABEL)
