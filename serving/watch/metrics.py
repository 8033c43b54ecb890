"""What Prometheus reads. Every label's values are few and our own: never a path or a client's text.

A registry for each app. `serving/monitoring/` draws and watches what stands here.
"""

from collections.abc import Callable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from serving.watch.fields import (
    CODE,
    OTHER,
    PROTOCOLS,
    REASONS,
    STAGES,
    VERDICTS,
    clean,
    route_of,
    status_of,
)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BYTES = tuple(4**power for power in range(5, 16))  # 1 KiB to 1 GiB
_MAX_CODES = 60
"""Different codes in a label; all further ones become `other`."""


class Metrics:
    """Counts, times and states of one serving process."""

    def __init__(
        self,
        *,
        waiting_views: Callable[[], float],
        wait_s: Callable[[], float],
        max_wait_s: float,
        deadline_s: float,
        ready: Callable[[], bool],
        leaving: Callable[[], bool],
        restarts: int,
    ) -> None:
        """Begin at nothing.

        Args:
            waiting_views: how many views wait or are read, asked whenever metrics are read.
            wait_s: how long one more view would wait, asked likewise.
            max_wait_s: from which wait on requests are turned away.
            deadline_s: in how many seconds a request is answered or given up.
            ready: whether requests are answered and this process is to stay, asked likewise.
            leaving: whether it is about to end, asked likewise.
            restarts: how often a process before this one died while it served.
        """
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._codes: dict[str, set[str]] = {}
        self._make_traffic()
        self._make_studies()
        self._make_states()
        self._gauge("queue_views", "Views that wait or are read").set_function(waiting_views)
        self._gauge("queue_wait_seconds", "Wait of one more view").set_function(wait_s)
        self._gauge("queue_wait_limit_seconds", "Wait that is accepted").set(max_wait_s)
        self._gauge("deadline_seconds", "When a request is given up").set(deadline_s)
        self._gauge("ready", "1 when requests are answered").set_function(ready)
        self._gauge("draining", "1 when the process is about to end").set_function(leaving)
        self._counter("worker_restarts", "Serving processes that died").inc(restarts)

    def begin(self) -> None:
        """A request has begun."""
        self._in_flight.inc()

    def end(self, *, protocol: str, route: str, status: int | str) -> None:
        """A request has ended.

        Args:
            protocol: one of `PROTOCOLS`.
            route: the route's template, or the name of the gRPC method.
            status: of HTTP as a number, of gRPC by name.
        """
        self._in_flight.dec()
        protocol = protocol if protocol in PROTOCOLS else OTHER
        self._requests.labels(route_of(route), protocol, status_of(status)).inc()

    def stage(self, name: str, seconds: float) -> None:
        """A stage of a request took this long; one that is none of `STAGES` is not counted."""
        if name in STAGES:
            self._stages.labels(name).observe(seconds)

    def read(self, *, num_bytes: int) -> None:
        """The body of a request that asks for a study to be read has this many bytes."""
        self._bytes.observe(num_bytes)

    def judge(self, *, verdict: str, refusals: Sequence[str]) -> None:
        """A study was judged.

        Args:
            verdict: one of `VERDICTS`.
            refusals: of each view the code of why it was refused, `""` when it was read.
        """
        self._studies.inc()
        self._views.inc(len(refusals))
        self._verdicts.labels(verdict if verdict in VERDICTS else OTHER).inc()
        for code in filter(None, refusals):
            self._refusals.labels(self._code("refusals", code)).inc()

    def turn_away(self, reason: str) -> None:
        """A request was turned away for one of `REASONS`."""
        self._turned_away.labels(reason if reason in REASONS else OTHER).inc()

    def fail(self, code: str) -> None:
        """A request was answered with an error of this code."""
        self._errors.labels(self._code("errors", code)).inc()

    def serve(self, *, version: str, digest: str, precision: str) -> None:
        """This model is served from now on."""
        model = clean({"version": version, "digest": digest, "precision": precision})
        self._model.clear()
        self._model.labels(*(model.get(k, OTHER) for k in ("version", "digest", "precision"))).set(
            1
        )

    def _make_traffic(self) -> None:
        self._requests = self._counter("requests", "Requests", "route", "protocol", "status")
        self._errors = self._counter("errors", "Requests answered with an error", "code")
        self._turned_away = self._counter("refused_requests", "Requests turned away", "reason")
        self._in_flight = self._gauge("requests_in_flight", "Requests being answered")
        self._stages = Histogram(
            "bonexray_stage_seconds",
            "Time of a stage",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._bytes = Histogram(
            "bonexray_request_bytes", "Size of a body", buckets=_BYTES, registry=self.registry
        )
        # From the start, or the first of its kind would be no rise.
        for reason in REASONS:
            self._turned_away.labels(reason)
        for stage in STAGES:
            self._stages.labels(stage)

    def _make_studies(self) -> None:
        self._studies = self._counter("studies", "Studies judged")
        self._views = self._counter("views", "Views of the judged studies")
        self._verdicts = self._counter("verdicts", "Studies by verdict", "verdict")
        self._refusals = self._counter("refusals", "Views that were not analysed", "code")
        for verdict in VERDICTS:
            self._verdicts.labels(verdict)

    def _make_states(self) -> None:
        self._model = self._gauge("model_info", "What is served", "version", "digest", "precision")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"bonexray_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"bonexray_{name}", text, labels, registry=self.registry)

    def _code(self, metric: str, code: str) -> str:
        known = self._codes.setdefault(metric, set())
        if code not in known:
            if len(known) == _MAX_CODES or not CODE.fullmatch(code):
                return OTHER
            known.add(code)
        return code
