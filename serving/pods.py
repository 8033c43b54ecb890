"""The pod of one version: what fetches its bundle, what serves it, and what neither may do."""

import math
from typing import Any

from bonexray.release_config import ClusterConfig
from bonexray.serve_config import ServeConfig
from bonexray.store import Champion

PORTS = {"http": 8080, "grpc": 8081, "metrics": 8082}
KEY = "release.pub"
_USER = 10001
_RELEASE = {"name": "release", "mountPath": "/release"}
_TRUST = {"name": "trust", "mountPath": "/trust", "readOnly": True}
_TMP = {"name": "tmp", "mountPath": "/tmp"}
_SOURCE = {"name": "store", "mountPath": "/store", "readOnly": True}
_AUDIT = {"name": "audit", "mountPath": "/audit"}
_CLIENTS = {"name": "clients", "mountPath": "/clients", "readOnly": True}
_TLS = {"name": "tls", "mountPath": "/tls", "readOnly": True}
_MOST_DRAINING_S = 60
"""What a pod takes, told to stop, after its lame-duck phase."""


def selector(cluster: ClusterConfig) -> dict[str, str]:
    """Labels by which KServe marks the pods of this service, the canary's too."""
    return {"serving.kserve.io/inferenceservice": cluster.name, "component": "predictor"}


def pod(champion: Champion, cluster: ClusterConfig, serve: ServeConfig) -> dict[str, Any]:
    """The fields of a pod that serves this version."""
    return {
        "serviceAccountName": cluster.name,
        "automountServiceAccountToken": False,
        # Between being told to stop and being stopped: requests that were accepted are answered.
        "terminationGracePeriodSeconds": _MOST_DRAINING_S + math.ceil(serve.lame_duck_s),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector(cluster)},
            }
        ],
        "initContainers": [_fetching(champion, cluster)],
        "containers": [_serving(champion, cluster, serve)],
        "volumes": _volumes(cluster),
    }


def _fetching(champion: Champion, cluster: ClusterConfig) -> dict[str, Any]:
    container = {
        # KServe adds no init container of its own where one has this name. It would add it after
        # ours, so that what verifies a bundle would run before it was there.
        "name": "storage-initializer",
        "image": cluster.image,
        "command": ["python", "-m", "serving.fetch"],
        "args": [
            *("--source", _source(cluster)),
            *("--digest", champion.digest),
            *("--version", champion.version),
            *("--model-name", champion.model_name),
            *("--trust", f"/trust/{KEY}"),
            *("--out", "/release"),
        ],
        "env": [{"name": "HOME", "value": "/tmp"}],
        "resources": _resources(cluster),
        "securityContext": _confined(),
        "volumeMounts": [_RELEASE, _TRUST, _TMP],
    }
    if cluster.store.startswith("s3://"):
        # Keys of the object store, and its AWS_ENDPOINT_URL where it is not Amazon's; none where
        # the service account itself may read.
        secret = {"name": f"{cluster.name}-store", "optional": True}
        container["envFrom"] = [{"secretRef": secret}]
    else:
        container["volumeMounts"] = [_RELEASE, _TRUST, _TMP, _SOURCE]
    return container


def _serving(champion: Champion, cluster: ClusterConfig, serve: ServeConfig) -> dict[str, Any]:
    scheme = "HTTPS" if cluster.tls_secret else "HTTP"
    return {
        "name": "kserve-container",
        "image": cluster.image,
        "command": ["python", "-m", "serving"],
        "args": [
            *("--store", "/release"),
            *("--trust", f"/trust/{KEY}"),
            *("--host", "0.0.0.0"),
            *("--threads", str(cluster.cpu)),
            *("--params", serve.model_dump_json()),
            *("--audit", "/audit/$(POD_NAME)"),  # one chain of records for each pod
            *(("--clients", "/clients/clients.json") if cluster.clients_secret else ()),
            *(("--certificate", "/tls/tls.crt") if cluster.tls_secret else ()),
            *(("--key", "/tls/tls.key") if cluster.tls_secret else ()),
        ],
        "env": [
            {"name": "HOME", "value": "/tmp"},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "PROTOCOL", "value": "v2"},
            # For KServe alone, which lets no service without it have a canary.
            {"name": "STORAGE_URI", "value": f"{cluster.store}/bundles/{champion.digest}"},
        ],
        "ports": [
            {"name": name, "containerPort": port, "protocol": "TCP"} for name, port in PORTS.items()
        ],
        "resources": _resources(cluster),
        "securityContext": _confined(),
        # Two minutes to load and warm up, then restarted only when it answers nothing at all.
        "startupProbe": _probe("/v2/health/ready", scheme, period_s=2, failures=60),
        "readinessProbe": _probe("/v2/health/ready", scheme, period_s=2, failures=2),
        "livenessProbe": _probe("/v2/health/live", scheme, period_s=10, failures=6),
        "volumeMounts": [
            *({**_RELEASE, "readOnly": True}, _TRUST, _TMP, _AUDIT),
            *([_CLIENTS] if cluster.clients_secret else []),
            *([_TLS] if cluster.tls_secret else []),
        ],
    }


def _volumes(cluster: ClusterConfig) -> list[dict[str, Any]]:
    items = [{"key": KEY, "path": KEY}]
    volumes: list[dict[str, Any]] = [
        # Twice the largest bundle, which is verified before it is copied to its place.
        {"name": "release", "emptyDir": {"sizeLimit": "5Gi"}},
        {"name": "trust", "configMap": {"name": cluster.trust_config_map, "items": items}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
    ]
    for name, secret in (("clients", cluster.clients_secret), ("tls", cluster.tls_secret)):
        if secret:
            volumes.append({"name": name, "secret": {"secretName": secret}})
    if cluster.audit_claim:
        kept = {"persistentVolumeClaim": {"claimName": cluster.audit_claim}}
        volumes.append({"name": "audit", **kept})
    else:
        volumes.append({"name": "audit", "emptyDir": {"sizeLimit": "5Gi"}})
    if cluster.store.startswith("pvc://"):
        claim = cluster.store.removeprefix("pvc://").partition("/")[0]
        source = {"claimName": claim, "readOnly": True}
        volumes.append({"name": "store", "persistentVolumeClaim": source})
    return volumes


def _source(cluster: ClusterConfig) -> str:
    if cluster.store.startswith("s3://"):
        return cluster.store
    folder = cluster.store.removeprefix("pvc://").partition("/")[2]
    return f"/store/{folder}".rstrip("/")


def _resources(cluster: ClusterConfig) -> dict[str, dict[str, str]]:
    """Requests are limits: what a pod was promised is not taken from it under load."""
    amount = {"cpu": str(cluster.cpu), "memory": f"{cluster.memory_gib}Gi"}
    return {"requests": amount, "limits": amount}


def _confined() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _probe(path: str, scheme: str, period_s: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": PORTS["http"], "scheme": scheme},
        "periodSeconds": period_s,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
