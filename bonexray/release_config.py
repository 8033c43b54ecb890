"""The section `release` of params.yaml: who decides, with what key, for which cluster."""

from typing import Annotated

from pydantic import Field, model_validator

from bonexray.section import DNS_LABEL, Positive, Section

OPTIONAL_NAME = rf"^$|{DNS_LABEL}"


class ClusterConfig(Section):
    """Where the champion stands on a cluster, and how it is given room there."""

    name: Annotated[str, Field(pattern=DNS_LABEL)]
    """Of the InferenceService and of what stands beside it."""
    namespace: Annotated[str, Field(pattern=DNS_LABEL)]
    image: Annotated[str, Field(pattern=r"^\S+@sha256:[0-9a-f]{64}$")]
    """Of the predictor, by digest: a tag can be moved."""
    store: Annotated[str, Field(pattern=r"^(s3|pvc)://[^/\s]+(/[^/\s]+)*$")]
    """A copy of the release folder: `s3://bucket/prefix`, or `pvc://claim/folder`."""
    trust_config_map: Annotated[str, Field(pattern=DNS_LABEL)]
    """ConfigMap that holds what signatures are verified with, under the key `release.pub`. It is
    made by hand, once: what vouches for a bundle does not come by the bundle's way."""
    canary_percent: Annotated[int, Field(ge=0, le=99)]
    """Of the requests, to a new champion until it is promoted."""
    min_replicas: Positive
    max_replicas: Positive
    cpu: Positive
    """Cores of each replica, and threads of its network."""
    memory_gib: Positive
    audit_claim: Annotated[str, Field(pattern=OPTIONAL_NAME)]
    """PersistentVolumeClaim that every answer is written down on, a folder for each pod; when empty
    the records go with their pod."""
    clients_secret: Annotated[str, Field(pattern=OPTIONAL_NAME)]
    """Secret whose key `clients.json` lists who may ask; when empty everybody may."""
    tls_secret: Annotated[str, Field(pattern=OPTIONAL_NAME)]
    """Secret of the type `kubernetes.io/tls`; when empty the pods speak plain text."""

    @model_validator(mode="after")
    def _replicas_ascend(self) -> "ClusterConfig":
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas below min_replicas = {self.min_replicas}")
        return self


class ReleaseConfig(Section):
    """Who decides on a version, what they sign with, and where it is served."""

    approvers: Annotated[tuple[str, ...], Field(min_length=1)]
    """Who may approve, reject and roll back, as `--by` names them."""
    signing_key: str
    """PEM file of the private key; `python -m serving.release keys` makes one."""
    certificates: tuple[str, ...]
    """PEM files of the signing certificate and its chain; none when the bare key signs."""
    trust: str
    """PEM file that signatures are verified with: a public key, or root certificates."""
    cluster: ClusterConfig
