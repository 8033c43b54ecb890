"""What MLflow is told: of a training while it lasts, and of the data that a model comes from."""

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Any, Self

import mlflow
from mlflow import MlflowClient
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from tqdm import tqdm

from bonexray.artifacts import sha256_json
from bonexray.registry import HARDWARE_TAG, TRAINING_SHA256_TAG, UNKNOWN, tracking_uri
from bonexray.trained import TrainingRecord

EXPERIMENT = "bonexray-training"
_DATA_DIGEST_LENGTH = 36  # MLflow keeps no more


def connect() -> MlflowClient:
    """The client of the registry that is set, without its notes on creating its tables."""
    # MLflow's own would hold up a step for minutes when the server is gone.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    mlflow.set_tracking_uri(tracking_uri())
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # its errors are raised too
    return MlflowClient(tracking_uri())


def dataset_of(dataset_sha256: str, source: Mapping[str, str]) -> MetaDataset:
    """The packed images as MLflow names data.

    Args:
        dataset_sha256: digest of the pixels.
        source: where they come from.
    """
    return MetaDataset(  # type: ignore[abstract]  # its abstract `profile` is never asked for
        CodeDatasetSource(dict(source)),
        name="packed images",
        digest=dataset_sha256[:_DATA_DIGEST_LENGTH],
    )


class TrackedRun(AbstractContextManager["TrackedRun"]):
    """A run in MLflow, under the one that is open if one is. Calling it logs an epoch.

    Whatever ails the tracking, the training goes on: it says so once and tells no more.
    """

    def __init__(
        self,
        name: str,
        digest: str,
        params: Mapping[str, Any],
        data: MetaDataset | None = None,
        hardware: str = UNKNOWN,
    ) -> None:
        """Describe the run.

        Args:
            name: for people.
            digest: of what is run.
            params: what it runs with.
            data: what it runs on.
            hardware: in words.
        """
        self._name, self._digest, self._params, self._data = name, digest, params, data
        self._hardware = hardware
        self._opened = self._lost = False

    def __enter__(self) -> Self:
        """Open the run, or one of the same digest that did not finish."""
        self._tell(self._open)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the run, as failed when an exception leaves it."""
        if self._opened:
            with suppress(Exception):  # a lost run is ended too, or the next would stand under it
                mlflow.end_run("FAILED" if kind else "FINISHED")

    def __call__(self, epoch: Mapping[str, float]) -> None:
        """Log an epoch's figures."""
        step = int(epoch["epoch"])
        self._tell(lambda: mlflow.log_metrics(dict(epoch), step=step))

    def log(self, figures: Mapping[str, float]) -> None:
        """Log figures of the whole run."""
        self._tell(lambda: mlflow.log_metrics(dict(figures)))

    def _open(self) -> None:
        client = connect()
        experiment = mlflow.set_experiment(EXPERIMENT).experiment_id
        same = (
            f"tags.`{TRAINING_SHA256_TAG}` = '{self._digest}' and attributes.status != 'FINISHED'"
        )
        found = client.search_runs([experiment], same, max_results=1)
        above = mlflow.active_run()
        parent = above.info.run_id if above else os.environ.get("MLFLOW_RUN_ID")
        tags = {TRAINING_SHA256_TAG: self._digest} | (
            {MLFLOW_PARENT_RUN_ID: parent} if parent else {}
        )
        run = found[0] if found else client.create_run(experiment, run_name=self._name, tags=tags)
        mlflow.start_run(run.info.run_id, nested=above is not None, log_system_metrics=True)
        self._opened = True
        mlflow.set_tag(HARDWARE_TAG, self._hardware)
        mlflow.log_params(dict(self._params))
        if self._data:
            mlflow.log_input(self._data, context="training")

    def _tell(self, call: Callable[[], object]) -> None:
        if self._lost:
            return
        try:
            call()
        except Exception as error:
            self._lost = True
            reason = " ".join(str(error).split())[:200]
            tqdm.write(f"train: MLflow at {tracking_uri()} is told no more of this run: {reason}")


def tracked_training(name: str, hardware: str) -> Callable[[TrainingRecord], TrackedRun]:
    """What opens the run of one training. Args: name: of the run, and `hardware`: for people."""

    def open_run(record: TrainingRecord) -> TrackedRun:
        sections = {"train": record.config, "augment": record.policy.augment}
        settings = {
            f"{section}.{name}": value
            for section, config in sections.items()
            for name, value in config.model_dump().items()
        }
        params = {"arch": record.arch, "fold": record.fold, "start_weights": record.start}
        data = dataset_of(record.dataset_sha256, {"manifest_sha256": record.manifest_sha256})
        return TrackedRun(name, sha256_json(record.model_dump()), params | settings, data, hardware)

    return open_run
