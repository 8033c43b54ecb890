"""What stands on a cluster: the champion as a KServe InferenceService, and what protects it.

Pure: from the section `release.cluster` and versions to objects, and from objects to files. The
main container is ours and so is the one before it, which fetches one signed bundle by its digest.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bonexray.artifacts import whole_folder
from bonexray.errors import ConfigError
from bonexray.release_config import ClusterConfig
from bonexray.serve_config import ServeConfig
from bonexray.store import Champion
from serving import pods

Document = dict[str, Any]

CANARY_NAME = "canary"
VERSION = "bonexray/version"
DIGEST = "bonexray/bundle-digest"
MODEL = "bonexray/model-name"
_POLICY = "networking.k8s.io/v1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Canary:
    """A version beside the stable one, with its own bundle and so its own signature."""

    champion: Champion
    percent: int
    """Of the requests."""


def render(
    stable: Champion,
    cluster: ClusterConfig,
    serve: ServeConfig,
    canary: Canary | None = None,
    standing: Document | None = None,
) -> list[Document]:
    """Make the objects, in the order in which they are applied: the service last.

    Args:
        stable: the version that answers.
        cluster: where, and how much room it has.
        serve: how it answers.
        canary: a version that gets a share of the requests.
        standing: the stable predictor as it is on the cluster, when it is to stay as it is.

    Raises:
        ConfigError: the canary's share is not 0 to 99, or the canary is the stable version.
    """
    if canary is not None and not 0 <= canary.percent <= 99:
        raise ConfigError(f"a canary of {canary.percent} %, expected 0 to 99")
    if canary is not None and canary.champion == stable:
        raise ConfigError(f"version {stable.version} cannot be the canary beside itself")
    return [
        _service_account(cluster),
        _network_policy(cluster),
        _disruption_budget(cluster),
        _service(stable, cluster, serve, canary, standing),
    ]


def write(folder: Path, documents: list[Document]) -> None:
    """Write one YAML file for each object and kustomization.yaml, whole or not at all.

    Args:
        folder: is replaced.
        documents: as `render` makes them.

    Raises:
        ConfigError: the folder cannot be replaced, or holds what was not rendered.
    """
    known = {"kustomization.yaml", *(_file_of(document) for document in documents)}
    strangers = sorted(path.name for path in folder.glob("*") if path.name not in known)
    if strangers:
        raise ConfigError(f"{folder}: holds {strangers}, expected a place of its own")
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [_file_of(document) for document in documents],
    }
    with whole_folder(folder) as partial:
        for document in documents:
            (partial / _file_of(document)).write_text(_text(document), encoding="utf-8")
        (partial / "kustomization.yaml").write_text(_text(kustomization), encoding="utf-8")


def service(cluster: ClusterConfig) -> Document:
    """The InferenceService by its name alone, to read it."""
    return _head("serving.kserve.io/v1beta1", "InferenceService", cluster)


def champion_of(predictor: Document) -> Champion:
    """Read back the version that a predictor of ours serves. Raises ConfigError."""
    annotations = predictor.get("annotations") or {}
    try:
        return Champion(
            model_name=annotations[MODEL],
            version=annotations[VERSION],
            digest=annotations[DIGEST],
        )
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"a predictor with the annotations {annotations}, expected {MODEL}, {VERSION} and "
            f"{DIGEST}: it was not put there by `python -m serving.rollout`"
        ) from error


def _service(
    stable: Champion,
    cluster: ClusterConfig,
    serve: ServeConfig,
    canary: Canary | None,
    standing: Document | None,
) -> Document:
    spec: Document = {
        "predictor": standing
        or {
            "annotations": _annotations(stable),
            "minReplicas": cluster.min_replicas,
            "maxReplicas": cluster.max_replicas,
            # A replica of the new version is ready before one of the old version goes.
            "deploymentStrategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
            },
            **pods.pod(stable, cluster, serve),
        }
    }
    if canary is not None:
        # Fixed replicas: KServe refuses autoscaling here. Without their number a canary of 0 %
        # would get none.
        predictor = {
            "name": CANARY_NAME,
            "annotations": _annotations(canary.champion),
            "minReplicas": 1,
            **pods.pod(canary.champion, cluster, serve),
        }
        spec["canary"] = [{"trafficPercent": canary.percent, "predictor": predictor}]
    # The share of a canary is KServe's own in the mode Standard alone, which is not its default.
    annotations = {
        "serving.kserve.io/deploymentMode": "Standard",
        "serving.kserve.io/autoscalerClass": "hpa",
    }
    head = service(cluster)
    head["metadata"]["annotations"] = annotations
    return {**head, "spec": spec}


def _service_account(cluster: ClusterConfig) -> Document:
    """Without a token: a predictor has nothing to ask the cluster."""
    head = _head("v1", "ServiceAccount", cluster)
    return {**head, "automountServiceAccountToken": False}


def _network_policy(cluster: ClusterConfig) -> Document:
    """In: the cluster's pods, to the ports that answer. Out: names and the object store alone.

    Which namespace the gateway lives in is the cluster's affair, so any may ask; nothing outside
    can. Nor are the addresses of the name server (which may be the node's) and the object store
    known, so it is their ports, 53 and 443, that are open, and only if there is an object store.
    One on another port needs a policy beside this one.
    """
    names = {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}
    store = {"ports": [{"protocol": "TCP", "port": 443}]}
    return {
        **_head(_POLICY, "NetworkPolicy", cluster),
        "spec": {
            "podSelector": {"matchLabels": pods.selector(cluster)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {
                    "from": [{"namespaceSelector": {}}],
                    "ports": [{"protocol": "TCP", "port": port} for port in pods.PORTS.values()],
                }
            ],
            "egress": [names, store] if cluster.store.startswith("s3://") else [],
        },
    }


def _disruption_budget(cluster: ClusterConfig) -> Document:
    """One replica at a time: a share would block the drain of a node where there is one."""
    return {
        **_head("policy/v1", "PodDisruptionBudget", cluster),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": pods.selector(cluster)}},
    }


def _head(api_version: str, kind: str, cluster: ClusterConfig) -> Document:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": cluster.name,
            "namespace": cluster.namespace,
            "labels": {
                "app.kubernetes.io/name": "bonexray",
                "app.kubernetes.io/instance": cluster.name,
                "app.kubernetes.io/component": "predictor",
                "app.kubernetes.io/managed-by": "bonexray",
            },
        },
    }


def _annotations(champion: Champion) -> dict[str, str]:
    return {
        MODEL: champion.model_name,
        VERSION: champion.version,
        DIGEST: champion.digest,
    }


def _file_of(document: Document) -> str:
    return f"{document['kind'].lower()}.yaml"


class _Dumper(yaml.SafeDumper):
    """Without anchors: a person reads the files, and edits none."""

    def ignore_aliases(self, _: object) -> bool:
        """Write each value where it stands."""
        return True


def _text(document: Document) -> str:
    text = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100)
    return f"# Rendered by `python -m serving.rollout render`: change params.yaml instead.\n{text}"
