import base64
import json
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.watch.tracing import ENDPOINT, Tracing, parse_traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SOUND = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture(autouse=True)
def no_collector(monkeypatch):
    monkeypatch.delenv(ENDPOINT, raising=False)


def test_a_trace_that_the_client_began_goes_on_under_a_span_of_ours():
    trace = Tracing("3").begin(SOUND)
    assert trace.trace_id == TRACE
    assert trace.span_id not in (SPAN, "0" * 16)
    assert trace.traceparent == f"00-{TRACE}-{trace.span_id}-01"
    again = parse_traceparent(trace.traceparent)
    assert again is not None
    assert f"{again.span_id:016x}" == trace.span_id


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        TRACE,
        f" {SOUND}",
        f"{SOUND} ",
        f"{SOUND}\n",
        f"{SOUND}-more",
        f"{SOUND}, {SOUND}",
        f"ff-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}0-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-0g",
        f"00-{TRACE}-{SPAN}",
        f"01-{TRACE}-{SPAN}-01more",
        f"01-{TRACE}-{SPAN}-01-{'x' * 600}",
        "DOE^JANE",
    ],
)
def test_a_header_that_is_not_valid_begins_a_new_trace(header):
    assert parse_traceparent(header) is None
    one, two = Tracing("3").begin(header), Tracing("3").begin(header)
    assert len({one.trace_id, two.trace_id, TRACE, "0" * 32}) == 4
    assert one.traceparent.endswith("-00")


@pytest.mark.parametrize("rest", ["", "-", "-what comes later"])
def test_of_a_later_version_what_is_known_is_read(rest):
    found = parse_traceparent(f"01-{TRACE}-{SPAN}-ff{rest}")
    assert found is not None
    assert (f"{found.trace_id:032x}", f"{found.span_id:016x}") == (TRACE, SPAN)
    assert found.trace_flags == 1


@given(st.text(alphabet="0123456789abcdef-f", max_size=80))
def test_whatever_is_sent_the_answers_header_is_valid(header):
    assert parse_traceparent(Tracing("3").begin(header).traceparent) is not None


def spans_of(path):
    found = {}
    for line in path.read_text().splitlines():
        for resource in json.loads(line)["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                found |= {span["name"]: span | {"resource": resource} for span in scope["spans"]}
    return found


def attributes(entry):
    return {pair["key"]: next(iter(pair["value"].values())) for pair in entry["attributes"]}


def as_hex(encoded):
    return base64.b64decode(encoded).hex()


def test_spans_reach_a_collector_below_the_clients(collector, monkeypatch):
    url, path = collector
    monkeypatch.setenv(ENDPOINT, url)
    tracing = Tracing("3")
    trace = tracing.begin(SOUND)
    start_ns = time.time_ns()
    for number, stage in enumerate(("decode", "infer", "judge")):
        trace.stage(stage, start_ns + number * 1000, start_ns + number * 1000 + 500)
    trace.end({"route": "ModelInfer", "views": 2, "patient": "DOE^JANE"}, failed=True)
    tracing.close()
    spans = spans_of(path)
    assert sorted(spans) == ["decode", "infer", "judge", "request"]
    request = spans["request"]
    assert as_hex(request["traceId"]) == trace.trace_id == TRACE
    assert as_hex(request["parentSpanId"]) == SPAN
    assert as_hex(request["spanId"]) == trace.span_id
    assert request["kind"] == "SPAN_KIND_SERVER"
    assert request["status"] == {"code": "STATUS_CODE_ERROR"}
    assert attributes(request) == {"route": "ModelInfer", "views": "2"}
    assert attributes(request["resource"]["resource"])["service.name"] == "bonexray"
    assert attributes(request["resource"]["resource"])["service.version"] == "3"
    for name in ("decode", "infer", "judge"):
        assert spans[name]["parentSpanId"] == request["spanId"]
        assert int(spans[name]["endTimeUnixNano"]) - int(spans[name]["startTimeUnixNano"]) == 500


def test_what_the_client_does_not_sample_is_not_exported(collector, monkeypatch):
    url, path = collector
    monkeypatch.setenv(ENDPOINT, url)
    tracing = Tracing("3")
    for _ in range(3):
        trace = tracing.begin(f"00-{TRACE}-{SPAN}-00")
        trace.stage("decode", 1, 2)
        trace.end({}, failed=False)
        assert trace.traceparent == f"00-{TRACE}-{trace.span_id}-00"
    tracing.begin(None).end({}, failed=False)
    tracing.close()
    (span,) = spans_of(path).values()
    assert "parentSpanId" not in span


_LOST = """
import sys, time
from serving.watch.logs import configure_logs
from serving.watch.tracing import Tracing
configure_logs(sys.stderr)
tracing = Tracing("3")
for _ in range(10):
    tracing.begin(None).end({}, failed=False)
tracing.close()
"""


@pytest.mark.slow
def test_a_collector_that_is_away_neither_holds_up_the_end_nor_is_named_in_the_log(repository):
    done = subprocess.run(
        [sys.executable, "-c", _LOST],
        cwd=repository,
        env={ENDPOINT: "http://127.0.0.1:9/DOE"},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert told
    assert {line["event"] for line in told} == {"library"}
    assert "DOE" not in done.stderr
