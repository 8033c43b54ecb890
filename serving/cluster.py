"""The Kubernetes API, as a rollout needs it: read an object, apply one, say what went wrong.

Applying is server-side: the API server keeps which fields are ours, removes those that we no longer
name, and refuses those that somebody else has set.
"""

import json
import os
import time
from typing import Any

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from bonexray.errors import BonexrayError, ClusterError, ConfigError

MANAGER = "bonexray"
_PLURALS = {
    "InferenceService": "inferenceservices",
    "NetworkPolicy": "networkpolicies",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "ServiceAccount": "serviceaccounts",
}
_APPLY = "application/apply-patch+yaml"
_PAUSES_S = (0.2, 1.0, 3.0)
"""Before each further try of what failed within the cluster; both calls may be repeated."""

Document = dict[str, Any]


class Cluster:
    """One cluster: that of the kubeconfig, or the one that this runs in."""

    def __init__(self, context: str | None, timeout_s: float) -> None:
        """Read the configuration; nothing is asked yet.

        Args:
            context: of the kubeconfig; None for its current one.
            timeout_s: for each answer.

        Raises:
            ConfigError: there is no configuration, or it cannot be used.
        """
        settings = client.Configuration()
        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
                config.load_incluster_config(client_configuration=settings)
            else:
                config.load_kube_config(
                    config_file=os.environ.get("KUBECONFIG"),
                    context=context,
                    client_configuration=settings,
                )
        except (ConfigException, OSError, TypeError, ValueError, yaml.YAMLError) as error:
            raise ConfigError(f"no cluster to roll out to: {_line(str(error))}") from error
        settings.retries = False
        self.host = str(settings.host)
        self._client = client.ApiClient(settings)
        self._timeout_s = timeout_s

    def read(self, document: Document) -> Document | None:
        """An object as it is on the cluster, by its kind, namespace and name; None without one.

        Raises:
            ClusterError: the cluster cannot be reached, or refuses.
        """
        try:
            return self._ask("GET", document)
        except _NotThereError:
            return None

    def apply(self, document: Document) -> Document:
        """Make the fields of an object so, and return the object.

        Raises:
            ClusterError: the cluster cannot be reached, or refuses.
        """
        try:
            return self._ask("PATCH", document)
        except _NotThereError as error:
            namespace = document["metadata"]["namespace"]
            raise ClusterError(
                f"{self._named(document)}: there is no namespace {namespace!r}: {error}"
            ) from error

    def _ask(self, method: str, document: Document) -> Document:
        for pause_s in (*_PAUSES_S, None):
            try:
                return self._once(method, document)
            except ApiException as error:
                if pause_s is None or not 500 <= error.status < 600:
                    raise self._explained(error, document) from error
                time.sleep(pause_s)
            except urllib3.exceptions.HTTPError as error:
                raise self._unreached(error) from error
        raise AssertionError("the last try returns or raises")

    def _once(self, method: str, document: Document) -> Document:
        applies = method == "PATCH"
        # Strict: a field that the server does not know is an error, not dropped in silence.
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict"} if applies else {}
        answer = self._client.call_api(
            _path(document),
            method,
            query_params=list(query.items()),
            header_params={"Accept": "application/json"}
            | ({"Content-Type": _APPLY} if applies else {}),
            body=document if applies else None,
            response_type="object",
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
            _request_timeout=(self._timeout_s, self._timeout_s),
        )
        if not isinstance(answer, dict):
            raise ClusterError(f"{self.host}: answered no JSON object; is it a Kubernetes API?")
        return answer

    def _explained(self, error: ApiException, document: Document) -> BonexrayError:
        said, reason = _status(error)
        name = self._named(document)
        if not error.status:  # no answer at all: a certificate that does not hold
            return ClusterError(f"{self.host}: cannot be trusted or reached: {said}")
        if error.status == 404 and reason == "NotFound":
            return _NotThereError(said)
        failed = f"it failed with {error.status}, {len(_PAUSES_S) + 1} times"
        expected = {
            401: "it does not know you: the kubeconfig's credentials are missing or have expired",
            403: "it does not let you",
            404: "it knows no such kind of object: KServe (0.20 or later) is not installed",
            409: "another field manager has set what a rollout sets",
            422: "it refuses the object",
            400: "it refuses the object",
        }.get(error.status, failed if error.status >= 500 else f"it refuses with {error.status}")
        if "admission webhook" in said:  # KServe's own check, which comes as a 403
            expected = "it refuses the object"
        return ClusterError(f"{name}: {expected}: {said}")

    def _unreached(self, error: urllib3.exceptions.HTTPError) -> ClusterError:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, urllib3.exceptions.NewConnectionError):
            return ClusterError(f"{self.host}: cannot be reached: {_line(str(reason))}")
        if isinstance(reason, urllib3.exceptions.TimeoutError):
            return ClusterError(f"{self.host}: no answer in {self._timeout_s:g} s (--timeout)")
        return ClusterError(f"{self.host}: {_line(str(reason))}")

    def _named(self, document: Document) -> str:
        place = document["metadata"]
        return f"{self.host}: {document['kind']} {place['namespace']}/{place['name']}"


class _NotThereError(ClusterError):
    """The kind of object is known, this one is not there."""


def _path(document: Document) -> str:
    version, place = document["apiVersion"], document["metadata"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    plural = _PLURALS[document["kind"]]
    return f"{root}/namespaces/{place['namespace']}/{plural}/{place['name']}"


def _status(error: ApiException) -> tuple[str, str]:
    """Message and reason of the Status that the API sends; a gateway before it may send none."""
    try:
        status = json.loads(error.body)
        return _line(status["message"]), str(status.get("reason", ""))
    except (KeyError, TypeError, ValueError, AttributeError):
        return _line(str(error.reason or error.body or "no reason given")), ""


def _line(text: str) -> str:
    return " ".join(text.split())[:2000]
