"""A training on several nodes, from inside its task: start the TrainJob, wait, take the network.

The task's inputs are copied to the volume that the nodes mount. The job belongs to the task's pod:
it goes with it, and a task that is tried again finds the job of the try before.
"""

import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from shutil import copytree
from types import FrameType
from typing import Any, cast

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from bonexray.artifacts import remove, whole_folder
from bonexray.command import run_or_exit
from bonexray.config import Arch, TrainConfig, read_section
from bonexray.errors import ClusterError
from bonexray.kubeflow_config import KubeflowConfig
from bonexray.registry import PIPELINE_RUN
from pipeline import trainjob
from pipeline.inside import VOLUME

POLL_S = 10.0
"""Between two looks at a job."""
_PATIENCE = 30
"""Looks in a row that may fail: five minutes without an API server end no training."""
_OUTLINE = {"group": trainjob.API_VERSION.split("/")[0], "plural": "trainjobs"} | {
    "version": trainjob.API_VERSION.split("/")[1]
}


def train_on_nodes(
    params: dict[str, Any],
    arch: str,
    cluster: dict[str, Any],
    inputs: Mapping[str, str],
    out: str,
) -> None:
    """Train one network on `kubeflow.nodes`, and exit with a line when that fails.

    Args:
        params: section `train`.
        arch: the network.
        cluster: section `kubeflow`.
        inputs: folders `dataset`, `validated` and `policy`.
        out: folder of the trained network, to write.
    """

    def run() -> None:
        settings = KubeflowConfig.model_validate(cluster)
        training = read_section(json.dumps(params), TrainConfig)
        run_id = os.environ[PIPELINE_RUN]
        folder = f"runs/{run_id}/{arch}"
        place = VOLUME / folder
        _lay_out(inputs, place)
        name = f"bonexray-{run_id}-{arch}"
        job = trainjob.train_job(training, cast(Arch, arch), settings, name, folder)
        TrainJobs(os.environ["POD_NAMESPACE"]).run(job)
        copytree(place / trainjob.MODELS / arch, out, dirs_exist_ok=True)
        remove(place)

    run_or_exit("train", run)


def _lay_out(inputs: Mapping[str, str], place: Path) -> None:
    for name, at in (
        ("dataset", trainjob.DATASET),
        ("validated", trainjob.VALIDATED),
        ("policy", trainjob.POLICY),
    ):
        if not (place / at).exists():
            (place / at).parent.mkdir(parents=True, exist_ok=True)
            with whole_folder(place / at) as partial:
                copytree(inputs[name], partial, dirs_exist_ok=True)


class TrainJobs:
    """The TrainJobs of one namespace, of the cluster that this runs in or KUBECONFIG names."""

    def __init__(self, namespace: str) -> None:
        """Read the credentials; nothing is asked yet.

        Raises:
            ClusterError: there are none.
        """
        settings = client.Configuration()
        try:
            config.load_config(
                config_file=os.environ.get("KUBECONFIG"), client_configuration=settings
            )
        except config.ConfigException as error:
            raise ClusterError(f"no cluster to train on: {error}") from error
        settings.retries = False
        self._api = client.CustomObjectsApi(client.ApiClient(settings))
        self._where = _OUTLINE | {"namespace": namespace}

    def run(self, job: dict[str, Any]) -> None:
        """Start a job, or find it started, and wait until it is complete. It is deleted then.

        Raises:
            ClusterError: it failed, was deleted, or the API does not take it.
        """
        name = job["metadata"]["name"]
        job["metadata"]["ownerReferences"] = [_own_pod()]
        # A pod that is stopped gets SIGTERM: the nodes must not train on for nobody.
        signal.signal(signal.SIGTERM, _stop)
        try:
            self._start(name, job)
            self._wait(name)
        finally:
            self._delete(name)

    def _start(self, name: str, job: dict[str, Any]) -> None:
        try:
            self._api.create_namespaced_custom_object(
                **self._where, body=job, field_validation="Strict"
            )
            print(f"train: TrainJob {name} started", flush=True)
        except ApiException as error:
            if error.status != 409:
                raise ClusterError(f"TrainJob {name}: {_said(error)}") from error
            print(f"train: TrainJob {name} was started before, and goes on", flush=True)
        except urllib3.exceptions.HTTPError as error:
            raise ClusterError(f"TrainJob {name}: the API cannot be reached: {error}") from error

    def _wait(self, name: str) -> None:
        told, failures = "", 0
        while True:
            try:
                found = self._api.get_namespaced_custom_object(**self._where, name=name)
            except (ApiException, urllib3.exceptions.HTTPError) as error:
                failures += 1
                if isinstance(error, ApiException) and error.status == 404:
                    raise ClusterError(f"TrainJob {name} was deleted while it ran") from error
                if failures >= _PATIENCE:
                    raise ClusterError(f"TrainJob {name}: not to be seen: {error}") from error
            else:
                failures = 0
                if _is_complete(name, found):
                    return
                told = _tell(name, found, told)
            time.sleep(POLL_S)

    def _delete(self, name: str) -> None:
        try:
            self._api.delete_namespaced_custom_object(**self._where, name=name)
        except (ApiException, urllib3.exceptions.HTTPError) as error:
            if getattr(error, "status", None) != 404:
                print(f"train: TrainJob {name} goes with its pod: {error}", flush=True)


def _is_complete(name: str, job: dict[str, Any]) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or []
    true = {each.get("type"): each for each in conditions if each.get("status") == "True"}
    if "Failed" in true:
        raise ClusterError(f"TrainJob {name} failed: {true['Failed'].get('message', 'no reason')}")
    return "Complete" in true


def _tell(name: str, job: dict[str, Any], told: str) -> str:
    """Say how many nodes run, when that has changed."""
    nodes = (job.get("status") or {}).get("jobsStatus") or []
    active = sum(status.get("active") or 0 for status in nodes)
    ready = sum(status.get("ready") or 0 for status in nodes)
    line = f"train: TrainJob {name}: {active} active, {ready} ready"
    if line != told:
        print(line, flush=True)
    return line


def _own_pod() -> dict[str, str]:
    return {"apiVersion": "v1", "kind": "Pod"} | {
        "name": os.environ["POD_NAME"],
        "uid": os.environ["POD_UID"],
    }


def _stop(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def _said(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (KeyError, TypeError, ValueError):
        return str(error.reason)
