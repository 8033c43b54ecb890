"""The section `kubeflow` of params.yaml: where the pipeline runs, and what room its steps get."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from bonexray.section import DNS_LABEL, Positive, Section

NO_IMAGE = f"sha256:{'0' * 64}"
"""The digest that params.yaml holds until a team puts its own."""


class KubeflowConfig(Section):
    """One cluster's share of the flow. What a run may vary is an input of the pipeline too."""

    image: Annotated[str, Field(pattern=r"^\S+@sha256:[0-9a-f]{64}$")]
    """Of every step, by digest: Kubeflow's cache takes a moved tag for the same code."""
    namespace: Annotated[str, Field(pattern=DNS_LABEL)]
    service_account: Annotated[str, Field(pattern=DNS_LABEL)]
    """What the steps' pods run as."""
    config_map: Annotated[str, Field(pattern=DNS_LABEL)]
    """ConfigMap of places: MLFLOW_TRACKING_URI, AWS_ENDPOINT_URL and such."""
    secret: Annotated[str, Field(pattern=DNS_LABEL)]
    """Secret of the keys to them."""
    volume: Annotated[str, Field(pattern=rf"^$|{DNS_LABEL}")]
    """PersistentVolumeClaim for start weights, checkpoints and the data of several nodes; empty:
    none, and a training that is retried begins anew."""
    gpu_type: Annotated[str, Field(min_length=1)]
    """Name of the GPU as a resource of the cluster."""
    gpus: Annotated[int, Field(ge=0, le=64)]
    """Of each training, on each node. 0 trains on the CPU."""
    nodes: Positive
    """Of each training. More than one train as a TrainJob and need `volume`, ReadWriteMany."""
    node_selector: dict[str, str]
    """Labels of the nodes that may train."""
    tolerations: tuple[dict[str, Any], ...]
    """Of the taints of those nodes."""
    cpu: Positive
    """Cores that each training, ingest, validate and evaluate ask for."""
    memory_gib: Positive
    """The same steps may use."""
    shared_memory_gib: Positive
    """/dev/shm of a training: its data workers and GPUs hand each other tensors through it."""
    workspace_gib: Positive
    """Volume of one run, for the reports that outlive a failure."""
    retries: Annotated[int, Field(ge=0, le=10)]
    """Of the steps whose failure may be the cluster's."""
    timeout_hours: Positive
    """Of each step. A run that a step's timeout ends is closed with its reports."""
    deadline_hours: Positive
    """Of a whole run, after which nothing of it runs, its closing neither."""
    keep_days: Positive
    """A finished run's pods and its volume; its artefacts stay."""

    @model_validator(mode="after")
    def _nodes_share_a_volume(self) -> "KubeflowConfig":
        if self.nodes > 1 and not (self.volume and self.gpus):
            raise ValueError(f"nodes = {self.nodes} without a volume that they share, and gpus")
        return self

    @model_validator(mode="after")
    def _a_step_ends_before_its_run(self) -> "KubeflowConfig":
        if self.deadline_hours <= self.timeout_hours:
            raise ValueError(f"deadline_hours not above timeout_hours = {self.timeout_hours}")
        return self
