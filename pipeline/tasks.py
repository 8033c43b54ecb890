"""The tasks of a run, as a server tells them: those of our pipeline among all nodes of Argo's.

A server of 2.17 tells every node of the workflow: the workflow itself, drivers, tries, groups. A
result from the cache is a success beside an `executor` that was skipped; what a failure left undone
has a state without a name. Why a task failed, and which item of a loop it had, it does not tell.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_OURS = re.compile(
    r"((importer|simulate|ingest|validate|gate|augment|train|train-on-nodes|evaluate|register|close)"
    r"(-\d+)?)(-driver)?"
)
_NO_POD_S = 2
"""None starts, works and ends within it."""
_NAMED = {"RUNTIME_STATE_UNSPECIFIED": "NOT RUN", "CACHED": "FROM THE CACHE"}
_WIDTH = 24
"""Of the longest name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One task."""

    id: str
    kind: str
    """Its component: gates, and trainings, are of the same kind."""
    name: str
    """For a person."""
    state: str
    """As Kubeflow names it: PENDING, RUNNING, SUCCEEDED, FAILED and others; or CACHED."""
    seconds: float | None
    """From start to end; None before the end."""
    by_driver: bool
    """Whether it failed before it started: Kubeflow's own driver of it did."""

    def line(self) -> str:
        """For a person."""
        timed = self.seconds is not None and self.state not in _NAMED
        took = f" after {span(self.seconds or 0)}" if timed else ""
        return f"{self.name:<{_WIDTH}} {_NAMED.get(self.state, self.state).lower()}{took}"

    def why(self) -> str:
        """Where the reason of its failure is, for a person."""
        if self.by_driver:
            return f"{self.name!r} failed before it started: see the log of its driver"
        if self.kind == "gate":
            return (
                f"{self.name!r} failed: its reason is in its log, its report on the page that "
                "`close` left"
            )
        return f"{self.name!r} failed: see its log"


def names_of(spec: Mapping[str, Any]) -> dict[str, str]:
    """What people call the tasks, by their keys.

    Args:
        spec: a compiled pipeline as a server gives it, with that of the platform or alone; or
            nothing.
    """
    compiled = spec.get("pipeline_spec", spec)
    parts = [compiled.get("root", {}), *compiled.get("components", {}).values()]
    return {
        key: task["taskInfo"]["name"]
        for part in parts
        for key, task in part.get("dag", {}).get("tasks", {}).items()
    }


def tasks_of(run: Any, names: Mapping[str, str]) -> list[Task]:
    """The tasks of a run (V2beta1Run), in the order in which they started.

    Args:
        run: as the server tells it.
        names: by key; a key without one stands for itself.
    """
    details = [detail for detail in (run.run_details and run.run_details.task_details) or []]
    details = sorted(filter(None, details), key=lambda detail: str(detail.start_time))
    skipped = [
        detail.start_time
        for detail in details
        if detail.display_name == "executor" and detail.state == "SKIPPED"
    ]
    tasks = (_task(detail, names, skipped) for detail in details)
    return [task for task in tasks if task is not None]


def seconds_between(start: Any, end: Any) -> float | None:
    """None when it has not ended: a server says the year 1 or 1970 then."""
    if not start or not end or end < start:
        return None
    return float((end - start).total_seconds())


def span(seconds: float) -> str:
    """For a person."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"


def _task(detail: Any, names: Mapping[str, str], skipped: list[Any]) -> Task | None:
    match = _OURS.fullmatch(detail.display_name or "")
    by_driver = match is not None and match[4] is not None
    if match is None or (by_driver and detail.state != "FAILED"):
        return None
    seconds = seconds_between(detail.start_time, detail.end_time)
    cached = (
        detail.state == "SUCCEEDED"
        and seconds is not None
        and seconds <= _NO_POD_S
        and any(detail.start_time <= moment <= detail.end_time for moment in skipped)
    )
    return Task(
        id=str(detail.task_id or detail.pod_name),
        kind=match[2],
        name=names.get(match[1], match[1]),
        state="CACHED" if cached else str(detail.state),
        seconds=seconds,
        by_driver=by_driver,
    )
