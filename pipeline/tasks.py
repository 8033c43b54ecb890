"""The tasks of a run, as a server tells them: those of our pipeline among all nodes of Argo's.

A server tells every node of the workflow: the workflow itself, drivers, tries, groups. What it
does not tell is why a task failed, and which took its outputs from the cache.
"""

import re
from dataclasses import dataclass
from typing import Any

_OURS = re.compile(
    r"(importer|simulate|ingest|validate|gate|augment|train|train-on-nodes|evaluate|register|close)"
    r"(-\d+)?"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One task."""

    id: str
    kind: str
    """Its component: gates, and trainings, are of the same kind."""
    state: str
    """As Kubeflow names it: PENDING, RUNNING, SUCCEEDED, FAILED and others."""
    seconds: float | None
    """From start to end; None before the end."""

    def line(self) -> str:
        """For a person."""
        took = "" if self.seconds is None else f" after {round(self.seconds)} s"
        return f"{self.kind:<16} {self.state.lower()}{took}"


def tasks_of(run: Any) -> list[Task]:
    """The tasks of a run (V2beta1Run), in the order in which they started."""
    details = (run.run_details and run.run_details.task_details) or []
    ours = [detail for detail in details if detail and _OURS.fullmatch(detail.display_name or "")]
    return [_task(detail) for detail in sorted(ours, key=lambda detail: str(detail.start_time))]


def seconds_between(start: Any, end: Any) -> float | None:
    """None when it has not ended: a server says the year 1 or 1970 then."""
    if not start or not end or end < start:
        return None
    return float((end - start).total_seconds())


def _task(detail: Any) -> Task:
    match = _OURS.fullmatch(detail.display_name)
    assert match is not None
    return Task(
        id=str(detail.task_id or detail.pod_name),
        kind=match[1],
        state=str(detail.state),
        seconds=seconds_between(detail.start_time, detail.end_time),
    )
