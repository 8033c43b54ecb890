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

from bonexray.errors import ConfigError, KubeflowError
from bonexray.kubeflow_config import NO_IMAGE
from pipeline.compiling import compile_pipeline, documents_of
from pipeline.forecast import forecast, is_alike, price_per_hour
from pipeline.server import Server, is_of
from pipeline.tasks import Task, names_of, seconds_between, span, tasks_of
from pipeline.training import PIPELINE
from pipeline.wire import FinalError

POLL_S = 10.0
"""Between two looks at a run that is followed."""
_PATIENCE = 30
"""Looks in a row that may fail."""
_ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
_COMPARED = 5
"""Runs before, for a forecast."""
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
    print(f"commit     {submission.commit}, data {inputs['data']}\nversion    {version}")
    experiment = submission.params["register"]["experiment"]
    earlier = _earlier(server, experiment, pipeline_id, inputs)
    print(f"forecast   {forecast(earlier, inputs, submission.params)}")
    run = api.V2beta1Run(
        experiment_id=server.experiment(experiment),
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
    names: dict[str, str] | None = None
    failures, complaint = 0, ""
    while True:
        try:
            run = server.run(run_id)
            names = names_of(server.spec(run)) if names is None else names
        except KubeflowError as error:
            failures += 1
            if failures >= _PATIENCE or isinstance(error, FinalError):
                raise KubeflowError(f"run {run_id} is followed no longer: {error}") from error
            if complaint != str(error):
                complaint = str(error)
                _tell(f"{complaint}; asking on")
            time.sleep(POLL_S)
            continue
        failures, complaint = 0, ""
        tasks = tasks_of(run, names)
        for task in tasks:
            if told.get(task.id) != task.state:
                told[task.id] = task.state
                _tell(task.line())
        if run.state in _ENDED:
            return _ending(run, tasks, server.wire.link(run_id))
        time.sleep(POLL_S)


def status(server: Server, run_id: str | None, experiment: str) -> list[str]:
    """A run's tasks, or the newest runs and the schedules, one line each. Raises KubeflowError."""
    if run_id is not None:
        run = server.run(run_id)
        lines = [task.line() for task in tasks_of(run, names_of(server.spec(run)))]
        return [_head(run), *lines, server.wire.link(run_id)]
    runs = [_head(run) for run in server.runs(experiment)[:10]]
    runs = runs or [f"no runs yet in experiment {experiment}"]
    return runs + [_schedule_line(schedule) for schedule in server.schedules(PIPELINE)]


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
    before = server.schedules(PIPELINE, name)
    server.schedule(
        PIPELINE,
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
        server.unschedule(PIPELINE, old.recurring_run_id)
    replaced = ", in place of the one before" if before else ""
    return f"schedule {name}: {version} at {cron!r}, in the server's time{replaced}"


def unschedule(server: Server, name: str) -> str:
    """Remove a schedule; its runs stay. Raises KubeflowError: there is none of that name."""
    found = server.schedules(PIPELINE, name)
    if not found:
        known = ", ".join(str(old.display_name) for old in server.schedules(PIPELINE)) or "none"
        raise KubeflowError(f"no schedule {name!r} of {PIPELINE}, expected one of: {known}")
    for old in found:
        server.unschedule(PIPELINE, old.recurring_run_id)
    return f"schedule {name}: removed"


def _upload(server: Server, submission: Submission) -> tuple[str, str, str, dict[str, Any]]:
    """Ids of pipeline and version, its name, and the inputs of a run."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "pipeline.yaml"
        compile_pipeline(submission.params, submission.image, package)
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        version = f"{PIPELINE}-{submission.commit[:12]}-{digest[:8]}"
        compiled = documents_of(package)[0]
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
    if gpus in _OLD_COUNTS:
        return
    version = server.wire.health.version
    known = re.match(r"v?(\d+)\.(\d+)", version)
    if known is None:
        print(f"note       the server does not tell its version; before 2.16 it drops {gpus} GPUs")
    elif (int(known[1]), int(known[2])) < _OLD:
        raise ConfigError(
            f"kubeflow.gpus = {gpus} on a server of version {version}, which would drop it: "
            f"expected one of {', '.join(_OLD_COUNTS)}, or a server of 2.16 or later"
        )


def _earlier(
    server: Server, experiment: str, pipeline_id: str, inputs: dict[str, Any]
) -> list[Any]:
    """Runs of the pipeline that ended well, with their tasks: those with like inputs first."""
    ended = [
        run
        for run in server.runs(experiment)
        if run.state == "SUCCEEDED" and is_of(run, pipeline_id)
    ]
    ended.sort(key=lambda run: not is_alike(run, inputs))  # stable: newest first
    return [server.run(run.run_id) for run in ended[:_COMPARED]]


def _reference(pipeline_id: str, version_id: str) -> Any:
    return api.V2beta1PipelineVersionReference(
        pipeline_id=pipeline_id, pipeline_version_id=version_id
    )


def _tell(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}   {line}", flush=True)


def _ending(run: Any, tasks: list[Task], link: str) -> str:
    seconds = seconds_between(run.created_at, run.finished_at)
    took = "?" if seconds is None else span(seconds)
    if run.state in ("SUCCEEDED", "SKIPPED"):
        return f"run {run.run_id} succeeded after {took}"
    failed = next((task for task in tasks if task.state == "FAILED"), None)
    why = f": {failed.why()}" if failed else ""
    raise KubeflowError(f"run {run.run_id} {run.state.lower()} after {took}{why}: {link}")


def _head(run: Any) -> str:
    made = f"{run.created_at.astimezone():%Y-%m-%d %H:%M}" if run.created_at else "?"
    return f"{made}  {str(run.state).lower():<10} {run.run_id}  {run.display_name}"


def _schedule_line(schedule: Any) -> str:
    cron = schedule.trigger and schedule.trigger.cron_schedule
    when = f"{cron.cron if cron else '?'} ({str(schedule.mode or '').lower()})"
    return f"schedule {schedule.display_name}: {when}, {schedule.description}"
