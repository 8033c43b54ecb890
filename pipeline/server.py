"""What a Kubeflow Pipelines server keeps for us: versions of the pipeline, runs, schedules."""

import functools
import json
from collections.abc import Container
from pathlib import Path
from typing import Any

import kfp_server_api as api

from bonexray.errors import KubeflowError
from pipeline.wire import FinalError, Wire

_PAGE = 50


class Server:
    """One server, through a wire."""

    def __init__(self, wire: Wire) -> None:
        """Nothing is asked yet."""
        self.wire = wire
        self._runs = api.RunServiceApi(wire.client)
        self._experiments = api.ExperimentServiceApi(wire.client)
        self._pipelines = api.PipelineServiceApi(wire.client)
        self._uploads = api.PipelineUploadServiceApi(wire.client)
        self._recurring = api.RecurringRunServiceApi(wire.client)

    def upload(
        self, pipeline: str, version: str, package: Path, description: str
    ) -> tuple[str, str]:
        """Make sure that a version of a pipeline is there.

        Args:
            pipeline: its name.
            version: its name: the same name is the same package.
            package: compiled YAML.
            description: for people.

        Returns:
            Ids of the pipeline and of the version.

        Raises:
            KubeflowError: the server does not take it.
        """
        found = self._find_version(pipeline, version)
        if found is None:
            pipeline_id = self._pipeline_id(pipeline)
            what = f"version {version} of {pipeline}"
            if pipeline_id is None:
                # Uploading a pipeline would make a version too, of the pipeline's name.
                body = api.V2beta1Pipeline(
                    name=pipeline, display_name=pipeline, **self.wire.place()
                )
                create = functools.partial(self._pipelines.pipeline_service_create_pipeline, body)
                self.wire.make(f"pipeline {pipeline}", create, lambda: self._pipeline_id(pipeline))
                pipeline_id = self._pipeline_id(pipeline)
            add = functools.partial(
                self._uploads.upload_pipeline_version,
                str(package),
                name=version,
                pipelineid=pipeline_id,
                description=description,
            )
            self.wire.make(what, add, lambda: self._find_version(pipeline, version))
            found = self._find_version(pipeline, version)
        if found is None:
            raise KubeflowError(
                f"{self.wire.host}: took version {version} of {pipeline} and lost it"
            )
        return found

    def experiment(self, name: str) -> str:
        """Id of an experiment, which is made if it is missing. Raises KubeflowError."""
        find = functools.partial(self._experiment_id, name)
        body = api.V2beta1Experiment(display_name=name, **self.wire.place())
        if (found := find()) is None:
            create = functools.partial(self._experiments.experiment_service_create_experiment, body)
            self.wire.make(f"experiment {name}", create, find)
            found = find()
        if found is None:
            raise KubeflowError(f"{self.wire.host}: made experiment {name} and lost it")
        return found

    def start(self, run: Any) -> Any:
        """Create a run (V2beta1Run), whose display name is its own. Raises KubeflowError."""
        name = run.display_name

        def find() -> Any:
            return next(iter(self._list_runs(filter=_named(name))), None)

        create = functools.partial(self._runs.run_service_create_run, run)
        started = self.wire.make(f"run {name}", create, find)
        if not started.run_id:
            raise KubeflowError(f"{self.wire.host}: run {name}: answers without its id")
        return started

    def run(self, run_id: str) -> Any:
        """A run (V2beta1Run) as it stands. Raises KubeflowError."""
        found = self.wire.read(f"run {run_id}", self._runs.run_service_get_run, run_id)
        if found.run_id != run_id:
            raise KubeflowError(f"{self.wire.host}: run {run_id}: answers with another")
        return found

    def runs(self, experiment: str) -> list[Any]:
        """The newest runs (V2beta1Run) of an experiment, newest first. Raises KubeflowError."""
        experiment_id = self._experiment_id(experiment)
        if experiment_id is None:
            return []
        return self._list_runs(experiment_id=experiment_id, sort_by="created_at desc")

    def spec(self, run: Any) -> dict[str, Any]:
        """The compiled pipeline of a run (V2beta1Run), empty when gone. Raises KubeflowError."""
        of = run.pipeline_version_reference
        try:
            found = of and self.wire.read(
                f"version {of.pipeline_version_id}",
                self._pipelines.pipeline_service_get_pipeline_version,
                of.pipeline_id,
                of.pipeline_version_id,
            )
        except FinalError:
            return {}
        return (found and found.pipeline_spec) or {}

    def terminate(self, run_id: str) -> None:
        """End a run. Raises KubeflowError: it goes on."""

        def find() -> Any:
            run = self.run(run_id)
            return None if run.state in ("PENDING", "RUNNING", "PAUSED") else run

        end = functools.partial(self._runs.run_service_terminate_run, run_id)
        self.wire.make(f"the end of run {run_id}", end, find)

    def schedules(self, pipeline: str, name: str | None = None) -> list[Any]:
        """Recurring runs (V2beta1RecurringRun) of a pipeline, those of a name or all.

        A server of one user gives those of every pipeline, whoever made them.

        Raises:
            KubeflowError: the server cannot be used.
        """
        pipeline_id = self._pipeline_id(pipeline)
        listed = self.wire.read(
            "schedules",
            self._recurring.recurring_run_service_list_recurring_runs,
            page_size=_PAGE,
            **({"filter": _named(name)} if name else {}),
            **self.wire.place(),
        )
        return [found for found in listed.recurring_runs or [] if is_of(found, pipeline_id)]

    def schedule(self, pipeline: str, recurring: Any, before: Container[str]) -> Any:
        """Create a recurring run (V2beta1RecurringRun).

        Args:
            pipeline: its name.
            recurring: to create.
            before: ids of those that have its name already.

        Raises:
            KubeflowError: the server does not take it.
        """
        name = recurring.display_name

        def find() -> Any:
            found = self.schedules(pipeline, name)
            return next((each for each in found if each.recurring_run_id not in before), None)

        create = functools.partial(
            self._recurring.recurring_run_service_create_recurring_run, recurring
        )
        return self.wire.make(f"schedule {name}", create, find)

    def unschedule(self, pipeline: str, recurring_run_id: str) -> None:
        """Delete a recurring run; its runs stay. Raises KubeflowError: it goes on."""

        def find() -> Any:
            left = [found.recurring_run_id for found in self.schedules(pipeline)]
            return None if recurring_run_id in left else True

        delete = functools.partial(
            self._recurring.recurring_run_service_delete_recurring_run, recurring_run_id
        )
        self.wire.make(f"the end of schedule {recurring_run_id}", delete, find)

    def _list_runs(self, **which: Any) -> list[Any]:
        list_runs = self._runs.run_service_list_runs
        listed = self.wire.read("runs", list_runs, page_size=_PAGE, **which, **self.wire.place())
        return listed.runs or []

    def _experiment_id(self, name: str) -> str | None:
        listed = self.wire.read(
            f"experiment {name}",
            self._experiments.experiment_service_list_experiments,
            filter=_named(name),
            **self.wire.place(),
        )
        return next((found.experiment_id for found in listed.experiments or []), None)

    def _pipeline_id(self, name: str) -> str | None:
        listed = self.wire.read(
            f"pipeline {name}",
            self._pipelines.pipeline_service_list_pipelines,
            filter=_named(name),
            **self.wire.place(),
        )
        return next((found.pipeline_id for found in listed.pipelines or []), None)

    def _find_version(self, pipeline: str, version: str) -> tuple[str, str] | None:
        pipeline_id = self._pipeline_id(pipeline)
        if pipeline_id is None:
            return None
        listed = self.wire.read(
            f"version {version} of {pipeline}",
            self._pipelines.pipeline_service_list_pipeline_versions,
            pipeline_id,
            filter=_named(version),
        )
        found = next(iter(listed.pipeline_versions or []), None)
        return found and (pipeline_id, found.pipeline_version_id)


def is_of(made: Any, pipeline_id: str | None) -> bool:
    """Whether a run or a recurring run is of that pipeline."""
    reference = made.pipeline_version_reference
    return reference is not None and reference.pipeline_id == pipeline_id


def _named(name: str) -> str:
    """A filter of the server's, as JSON."""
    predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    return json.dumps({"predicates": [predicate]})
