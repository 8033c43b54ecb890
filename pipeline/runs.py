"""Runs on a server: submit one, follow it, look at it, end it, repeat it by the clock."""

import hashlib
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import kfp_server_api as api
import yaml

from bonexray.errors import ConfigError, KubeflowError
from bonexray.kubeflow_config import NO_IMAGE
from pipeline.compiling import compile_pipeline
from pipeline.forecast import forecast, price_per_hour, span
from pipeline.server import Server
from pipeline.tasks import seconds_between, tasks_of
from pipeline.training import PIPELINE

POLL_S = 10.0
"""Between two looks at a run that is followed."""
_PATIENCE = 30
"""Looks in a row that may fail."""
_ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
_PINNED = re.compile(r"\S+@sha256:[0-9a-f]{64}")
_OLD = (2, 16)
"""Servers before it know GPU counts of 0 and the powers of two up to 16, and drop others."""
_OLD_COUNTS = ("0", "1", "2", "4", "8", "16")


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What is run: settings, the code that the image holds, the image."""

    params: dict[str, Any]
    commit: str
    image: str


def submit(server: Server, submission: Submission) -> str:
    """Upload the pipeline as a version of its own, start a run, and return the run's id.

    Raises:
        ConfigError: the image is no pinned one, or the settings do not fit the server.
        KubeflowError: the server cannot be used.
    """
    price_per_hour()  # one that is none is told before anything is uploaded
    _refuse_unfit(server, submission)
    pipeline_id, version_id, version, inputs = _upload(server, submission)
    print(f"version    {version}, data {inputs['data']}")
    print(f"forecast   {forecast(_of_pipeline(server, pipeline_id), submission.params)}")
    run = api.V2beta1Run(
        experiment_id=server.experiment(submission.params["register"]["experiment"]),
        display_name=f"{version} {uuid4().hex[:6]}",
        pipeline_version_reference=_reference(pipeline_id, version_id),
        runtime_config=api.V2beta1RuntimeConfig(parameters=inputs),
        service_account=submission.params["kubeflow"]["service_account"],
    )
    run_id = str(server.start(run).run_id)
    print(f"run        {run_id}\n           {server.wire.link(run_id)}", flush=True)
    return run_id


def follow(server: Server, run_id: str) -> str:
    """Tell of each task that changes its state, until the run has ended; return how it ended.

    Raises:
        KubeflowError: the run failed or was ended, or is not to be seen any more.
    """
    told: dict[str, str] = {}
    failures = 0
    while True:
        try:
            run = server.run(run_id)
            failures = 0
        except KubeflowError as error:
            failures += 1
            if failures >= _PATIENCE or "there is none" in str(error):
                raise
            print(f"{time.strftime('%H:%M:%S')}   {error}", flush=True)
            time.sleep(POLL_S)
            continue
        for task in tasks_of(run):
            if told.get(task.id) != task.state:
                told[task.id] = task.state
                print(f"{time.strftime('%H:%M:%S')}   {task.line()}", flush=True)
        if run.state in _ENDED:
            return _ending(run)
        time.sleep(POLL_S)


def status(server: Server, run_id: str | None) -> list[str]:
    """A run's tasks, or the newest runs and the schedules, one line each. Raises KubeflowError."""
    if run_id is not None:
        run = server.run(run_id)
        lines = [task.line() for task in tasks_of(run)]
        return [_head(run), *lines, server.wire.link(run_id)]
    runs = [_head(run) for run in server.runs()[:10]] or ["no runs yet"]
    return runs + [_schedule_line(schedule) for schedule in server.schedules()]


def cancel(server: Server, run_id: str) -> str:
    """End a run. Raises KubeflowError: there is none, or it has ended."""
    state = server.run(run_id).state
    if state == "CANCELING":
        return f"run {run_id} is being ended already"
    if state in _ENDED:
        raise KubeflowError(f"run {run_id} has ended already: {state.lower()}")
    server.terminate(run_id)
    return f"run {run_id} was {str(state).lower()}, and is being ended; its closing may still run"


def schedule(server: Server, submission: Submission, name: str, cron: str) -> str:
    """Repeat the run by the clock, in place of a schedule of that name.

    Args:
        server: that repeats it.
        submission: what is run each time.
        name: of the schedule.
        cron: minute, hour, day, month and weekday, in the server's time; a sixth field in front
            is seconds.

    Raises:
        ConfigError: the expression is none, or as `submit`.
        KubeflowError: the server cannot be used.
    """
    fields = cron.split()
    if len(fields) not in (5, 6):
        raise ConfigError(
            f"--cron {cron!r}: {len(fields)} fields, expected minute hour day month weekday"
        )
    _refuse_unfit(server, submission)
    pipeline_id, version_id, version, inputs = _upload(server, submission)
    before = server.schedules(name)
    server.schedule(
        api.V2beta1RecurringRun(
            experiment_id=server.experiment(submission.params["register"]["experiment"]),
            display_name=name,
            description=f"{version}, data {inputs['data']}",
            pipeline_version_reference=_reference(pipeline_id, version_id),
            runtime_config=api.V2beta1RuntimeConfig(parameters=inputs),
            service_account=submission.params["kubeflow"]["service_account"],
            trigger=api.V2beta1Trigger(
                cron_schedule=api.V2beta1CronSchedule(
                    cron=" ".join(["0"][: 6 - len(fields)] + fields)
                )
            ),
            mode=api.RecurringRunMode.ENABLE,
            max_concurrency="1",
            no_catchup=True,
        ),
        {old.recurring_run_id for old in before},
    )
    for old in before:  # the new one is there: nothing is left out between them
        server.unschedule(old.recurring_run_id)
    replaced = ", in place of the one before" if before else ""
    return f"schedule {name}: {version} at {cron!r}{replaced}"


def unschedule(server: Server, name: str) -> str:
    """Remove a schedule; its runs stay. Raises KubeflowError: there is none of that name."""
    found = server.schedules(name)
    if not found:
        known = ", ".join(str(old.display_name) for old in server.schedules()) or "none"
        raise KubeflowError(f"no schedule {name!r}, expected one of: {known}")
    for old in found:
        server.unschedule(old.recurring_run_id)
    return f"schedule {name}: removed"


def _upload(server: Server, submission: Submission) -> tuple[str, str, str, dict[str, Any]]:
    """Ids of pipeline and version, its name, and the inputs of a run."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "pipeline.yaml"
        compile_pipeline(submission.params, submission.image, package)
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        version = f"{PIPELINE}-{submission.commit[:12]}-{digest[:8]}"
        compiled = next(yaml.safe_load_all(package.read_text(encoding="utf-8")))
        about = f"commit {submission.commit}, image {submission.image}"
        ids = server.upload(PIPELINE, version, package, about)
    # All of them, for whoever looks at the run later: a default is nowhere on the run itself.
    declared = compiled["root"]["inputDefinitions"]["parameters"]
    inputs = {name: said["defaultValue"] for name, said in declared.items() if name != "commit"}
    return *ids, version, inputs | {"commit": submission.commit}


def _refuse_unfit(server: Server, submission: Submission) -> None:
    if not _PINNED.fullmatch(submission.image) or NO_IMAGE in submission.image:
        raise ConfigError(
            f"image {submission.image}: expected one by its digest (name@sha256:...), as a push "
            "tells it; `make images` builds it, kubeflow.image or --image names it"
        )
    gpus = str(submission.params["kubeflow"]["gpus"])
    version = server.wire.health.version
    known = re.match(r"(\d+)\.(\d+)", version)
    if known and (int(known[1]), int(known[2])) < _OLD and gpus not in _OLD_COUNTS:
        raise ConfigError(
            f"kubeflow.gpus = {gpus} on a server of version {version}, which would drop it: "
            f"expected one of {', '.join(_OLD_COUNTS)}, or a server of 2.16 or later"
        )


def _of_pipeline(server: Server, pipeline_id: str) -> list[Any]:
    """Earlier runs of it, with their tasks."""
    ended = [
        run
        for run in server.runs()
        if run.state == "SUCCEEDED"
        and run.pipeline_version_reference
        and run.pipeline_version_reference.pipeline_id == pipeline_id
    ]
    return [server.run(run.run_id) for run in ended[:5]]


def _reference(pipeline_id: str, version_id: str) -> Any:
    return api.V2beta1PipelineVersionReference(
        pipeline_id=pipeline_id, pipeline_version_id=version_id
    )


def _ending(run: Any) -> str:
    seconds = seconds_between(run.created_at, run.finished_at)
    took = "?" if seconds is None else span(seconds)
    if run.state in ("SUCCEEDED", "SKIPPED"):
        return f"run {run.run_id} succeeded after {took}"
    failed = [task.kind for task in tasks_of(run) if task.state == "FAILED"]
    where = "its reason is in its log, its report on the page that `close` left"
    why = (
        f": {failed[0]} failed: {where if failed[0] == 'gate' else 'see its log'}" if failed else ""
    )
    raise KubeflowError(f"run {run.run_id} {run.state.lower()} after {took}{why}")


def _head(run: Any) -> str:
    made = f"{run.created_at:%Y-%m-%d %H:%M}" if run.created_at else "?"
    return f"{made}  {str(run.state).lower():<10} {run.run_id}  {run.display_name}"


def _schedule_line(schedule: Any) -> str:
    cron = schedule.trigger and schedule.trigger.cron_schedule
    when = f"{cron.cron if cron else '?'} ({str(schedule.mode or '').lower()})"
    return f"schedule {schedule.display_name}: {when}, {schedule.description}"
