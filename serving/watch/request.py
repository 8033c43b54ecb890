"""One request, watched from its first byte to its answer: its metrics, its spans, its one log line.

REST and gRPC both make a `Watch` for each request, tell it what happens, and end it once.
"""

import logging
import time
from collections import Counter
from collections.abc import Sequence

from serving.watch.fields import STAGES
from serving.watch.logs import tell, tell_defect
from serving.watch.metrics import Metrics
from serving.watch.tracing import Tracing

_SERVERS_FAULT = {"INTERNAL", "UNKNOWN", "DATA_LOSS", "UNAVAILABLE", "DEADLINE_EXCEEDED"}


class Watch:
    """What is known of one request. Used by one thread at a time, until it is ended."""

    def __init__(
        self,
        metrics: Metrics,
        tracing: Tracing,
        *,
        protocol: str,
        route: str,
        traceparent: str | None,
    ) -> None:
        """A request begins.

        Args:
            metrics: where it is counted.
            tracing: where it gets its ids.
            protocol: one of `serving.watch.fields.PROTOCOLS`.
            route: the route's template, or the name of the gRPC method.
            traceparent: the client's header; None when there is none, or more than one.
        """
        self._metrics = metrics
        self._start_ns = time.time_ns()
        self._start_s = time.perf_counter()
        self._protocol, self._route = protocol, route
        self._fields: dict[str, object] = {"protocol": protocol, "route": route}
        self._counts = Counter[str]()
        self.trace = tracing.begin(traceparent)
        metrics.begin()

    def note(self, **fields: object) -> None:
        """Note what the log line and the span tell, as in `serving.watch.fields`."""
        self._fields |= fields

    def stage(self, name: str, start_s: float, end_s: float) -> None:
        """A stage of the request is over.

        Args:
            name: one of `STAGES`.
            start_s: when it began, as `time.perf_counter` has it.
            end_s: when it ended.
        """
        self._metrics.stage(name, end_s - start_s)
        if name in STAGES:
            self._fields[f"{name}_ms"] = _milliseconds(end_s - start_s)
            self.trace.stage(name, self._wall_ns(start_s), self._wall_ns(end_s))

    def read(self, num_bytes: int) -> None:
        """The body of a request for a study to be read has arrived."""
        self._metrics.read(num_bytes=num_bytes)
        self._fields["bytes"] = num_bytes

    def judge(self, *, verdict: str, refusals: Sequence[str]) -> None:
        """One study of the request was judged; see `Metrics.judge`."""
        self._metrics.judge(verdict=verdict, refusals=refusals)
        self._counts.update(
            {"studies": 1, "views": len(refusals), "refused_views": sum(map(bool, refusals))}
        )
        self._counts[verdict] += 1

    def turn_away(self, reason: str) -> None:
        """The request is turned away for one of `serving.watch.fields.REASONS`."""
        self._metrics.turn_away(reason)
        self._fields["reason"] = reason

    def fail(self, code: str) -> None:
        """The request is answered with an error of this code."""
        self._metrics.fail(code)
        self._fields["code"] = code

    def defect(self, error: BaseException) -> None:
        """The request failed by a defect of ours, which is logged at once."""
        self.fail("internal")
        tell_defect(error, route=self._route, **self._ids())

    def end(self, status: int | str) -> None:
        """The request was answered, or its client left.

        Args:
            status: of HTTP as a number, of gRPC by name.
        """
        seconds = time.perf_counter() - self._start_s
        self._metrics.end(protocol=self._protocol, route=self._route, status=status)
        if "bytes" in self._fields:  # all others are answered at once, and would hide a slow one
            self._metrics.stage("total", seconds)
        self.note(status=status, total_ms=_milliseconds(seconds), **self._counts)
        failed = status >= 500 if isinstance(status, int) else status in _SERVERS_FAULT
        fields = dict(self._fields)  # of a client that left, the answer may still be in the making
        self.trace.end(fields, failed)
        tell("request", logging.ERROR if failed else logging.INFO, **self._ids(), **fields)

    def _ids(self) -> dict[str, str]:
        return {"trace_id": self.trace.trace_id, "span_id": self.trace.span_id}

    def _wall_ns(self, moment_s: float) -> int:
        return self._start_ns + round((moment_s - self._start_s) * 1e9)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
