"""The tasks of a run, as a server tells them, without those that Kubeflow adds of its own."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_OWN = re.compile(r"(root|.*-driver|executor|for-loop-\d+.*|iteration.*|exit-handler-\d+|.*-dag)")
_NUMBERED = re.compile(r"(gate)-\d+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One task."""

    id: str
    kind: str
    """Its component: one of several gates, or trainings, is of the same kind."""
    state: str
    """As Kubeflow names it: PENDING, RUNNING, SUCCEEDED, SKIPPED (from the cache), FAILED ..."""
    seconds: float | None
    """From start to end; None before either."""
    message: str
    """Of a failure."""

    def line(self) -> str:
        """For a person."""
        took = "" if self.seconds is None else f" after {round(self.seconds)} s"
        why = f": {self.message}" if self.message else ""
        state = {"SKIPPED": "from the cache"}.get(self.state, self.state.lower())
        return f"{self.kind:<16} {state}{took if self.state != 'RUNNING' else ''}{why}"


def tasks_of(run: Any) -> Iterator[Task]:
    """The tasks of a run (V2beta1Run), in the order in which they were made."""
    details = (run.run_details and run.run_details.task_details) or []
    for detail in sorted(details, key=lambda detail: str(detail.create_time or "")):
        name = str(detail.display_name or "")
        if not name or _OWN.fullmatch(name) or not detail.state:
            continue
        ended = detail.end_time if detail.start_time else None
        message = (detail.error and detail.error.message) or ""
        yield Task(
            id=str(detail.task_id),
            kind=_NUMBERED.sub(r"\1", name),
            state=str(detail.state),
            seconds=(ended - detail.start_time).total_seconds() if ended else None,
            message=" ".join(message.split())[:300],
        )
