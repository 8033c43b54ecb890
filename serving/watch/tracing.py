"""W3C trace context: a request's ids, and its spans where a collector is named.

`OTEL_EXPORTER_OTLP_ENDPOINT` names it, and the other variables of OpenTelemetry are heeded. Without
it there are ids and no spans. The client's `tracestate` is not taken over: nothing is called from
here that it would be handed to, its values are free text, and a span would carry them out.
"""

import os
import random
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from serving.watch.fields import STAGES, clean

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MAX_TRACEPARENT = 512
_FLUSH_S = 3.0
"""What was not exported in this time at the end is lost: a pod has few seconds to stop in."""


def parse_traceparent(header: str | None) -> SpanContext | None:
    """Read a `traceparent` header; None when there is none or it is not valid.

    W3C Trace Context, level 1, section 3.2: of a later version what version 00 knows is read.

    Args:
        header: None as well when the client sent several.
    """
    if header is None or len(header) > _MAX_TRACEPARENT:
        return None
    found = _TRACEPARENT.fullmatch(header)
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == "ff" or (version == "00" and rest is not None):
        return None
    sampled = TraceFlags(int(flags, 16) & TraceFlags.SAMPLED)
    context = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=sampled)
    return context if context.is_valid else None


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One request's place in a trace."""

    context: SpanContext
    span: Span | None
    """None where no collector is named."""
    tracer: Tracer | None

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""
        return f"{self.context.trace_id:032x}"

    @property
    def span_id(self) -> str:
        """Of the request's span: 16 hexadecimal digits."""
        return f"{self.context.span_id:016x}"

    @property
    def traceparent(self) -> str:
        """The header for the answer."""
        return f"00-{self.trace_id}-{self.span_id}-{self.context.trace_flags:02x}"

    def stage(self, name: str, start_ns: int, end_ns: int) -> None:
        """Add the span of a stage of the request.

        Args:
            name: one of `STAGES`.
            start_ns: when it began, as `time.time_ns` has it.
            end_ns: when it ended.
        """
        if self.tracer is None or self.span is None or name not in STAGES:
            return
        within = set_span_in_context(self.span)
        self.tracer.start_span(name, within, start_time=start_ns).end(end_ns)

    def end(self, fields: Mapping[str, object], failed: bool) -> None:
        """End the request's span.

        Args:
            fields: its attributes, as in `serving.watch.fields`.
            failed: whether the request failed by a fault of the server.
        """
        if self.span is None:
            return
        self.span.set_attributes(clean(fields))
        if failed:
            self.span.set_status(StatusCode.ERROR)
        self.span.end()


class Tracing:
    """Where requests get their ids, and their spans go."""

    def __init__(self, version: str) -> None:
        """Export to the collector that the environment names, if it does.

        Args:
            version: of the model that is served.
        """
        self._provider: TracerProvider | None = None
        self._tracer: Tracer | None = None
        if not os.environ.get(ENDPOINT):
            return
        named = clean({"version": version})
        resource = Resource.create(
            {"service.name": "bonexray"} | {"service.version": str(named.get("version", ""))}
        )
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("bonexray")

    def begin(self, traceparent: str | None) -> Trace:
        """Begin a request's span, in the client's trace or, if it names none, in a new one."""
        parent = parse_traceparent(traceparent)
        if self._tracer is None:
            return Trace(context=_own_context(parent), span=None, tracer=None)
        within = set_span_in_context(NonRecordingSpan(parent)) if parent else None
        span = self._tracer.start_span("request", within, kind=SpanKind.SERVER)
        return Trace(context=span.get_span_context(), span=span, tracer=self._tracer)

    def close(self) -> None:
        """Export what waits, as far as the collector takes it at once."""
        if self._provider is not None:
            flush = threading.Thread(target=self._provider.shutdown, daemon=True)
            flush.start()
            flush.join(_FLUSH_S)


def _own_context(parent: SpanContext | None) -> SpanContext:
    # A new trace is not sampled, since nothing records it.
    return SpanContext(
        parent.trace_id if parent else random.getrandbits(128) or 1,
        random.getrandbits(64) or 1,
        is_remote=False,
        trace_flags=parent.trace_flags if parent else TraceFlags(TraceFlags.DEFAULT),
    )
