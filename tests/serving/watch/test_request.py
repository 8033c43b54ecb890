import json
import time

import pytest
from prometheus_client import generate_latest

from serving.watch.request import Watch
from serving.watch.tracing import ENDPOINT, Tracing

ROUTE = "/v2/models/{model_name}/infer"
DIGEST = "0123456789abcdef" * 4
ANSWER = f"{DIGEST[:16]}-{DIGEST[:32]}"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PHI = ("DOE^JANE", "PATIENT-ID-4711", "19700131", "bonexray_c2VjcmV0")


@pytest.fixture
def watch_one(metrics, monkeypatch):
    monkeypatch.delenv(ENDPOINT, raising=False)
    tracing = Tracing("3")

    def begin(traceparent=TRACEPARENT, protocol="rest", route=ROUTE):
        return Watch(metrics, tracing, protocol=protocol, route=route, traceparent=traceparent)

    return begin


def requests_told(log_text):
    told = [json.loads(line) for line in log_text().splitlines()]
    return [line for line in told if line["event"] == "request"]


def counted(metrics, name):
    lines = generate_latest(metrics.registry).decode().splitlines()
    return [line.rpartition(" ")[2] for line in lines if line.startswith(name)]


def test_a_study_that_is_answered_leaves_one_line(watch_one, log_text, metrics):
    watch = watch_one()
    watch.note(client="pacs")
    watch.read(120_000)
    now_s = time.perf_counter()
    watch.stage("decode", now_s - 0.02, now_s - 0.01)
    watch.stage("infer", now_s - 0.01, now_s)
    watch.judge(verdict="positive", refusals=["", "unlike"])
    watch.judge(verdict="negative", refusals=[""])
    watch.note(answer_id=ANSWER, version="3", digest=DIGEST)
    watch.end(200)
    (line,) = requests_told(log_text)
    assert 0 < line.pop("total_ms") < 10_000
    line.pop("time")
    assert line == {
        "level": "INFO",
        "event": "request",
        "trace_id": watch.trace.trace_id,
        "span_id": watch.trace.span_id,
        "protocol": "rest",
        "route": ROUTE,
        "client": "pacs",
        "bytes": 120_000,
        "decode_ms": 10.0,
        "infer_ms": 10.0,
        "answer_id": ANSWER,
        "version": "3",
        "digest": DIGEST,
        "status": "200",
        "studies": 2,
        "views": 3,
        "refused_views": 1,
        "positive": 1,
        "negative": 1,
    }
    assert counted(metrics, "bonexray_requests_in_flight ") == ["0.0"]
    assert counted(metrics, 'bonexray_stage_seconds_count{stage="total"}') == ["1.0"]


def test_a_request_that_is_turned_away_says_why_and_does_not_hide_slow_studies(
    watch_one, log_text, metrics
):
    watch = watch_one()
    watch.turn_away("rate")
    watch.fail("busy")
    watch.end(429)
    (line,) = requests_told(log_text)
    assert (line["status"], line["reason"], line["code"]) == ("429", "rate", "busy")
    assert counted(metrics, 'bonexray_refused_requests_total{reason="rate"}') == ["1.0"]
    assert counted(metrics, 'bonexray_stage_seconds_count{stage="total"}') == ["0.0"]


@pytest.mark.parametrize(
    ("status", "level"),
    [
        *((200, "INFO"), (404, "INFO"), (499, "INFO"), ("OK", "INFO"), ("NOT_FOUND", "INFO")),
        *((500, "ERROR"), (503, "ERROR"), ("INTERNAL", "ERROR"), ("UNAVAILABLE", "ERROR")),
    ],
)
def test_only_a_fault_of_the_server_is_an_error(watch_one, log_text, status, level):
    watch_one().end(status)
    assert requests_told(log_text)[0]["level"] == level


def test_a_defect_is_told_beside_its_request_with_the_same_ids(watch_one, log_text):
    watch = watch_one(protocol="grpc", route="ModelInfer")
    try:
        raise ValueError(" ".join(PHI))
    except ValueError as error:
        watch.defect(error)
    watch.end("INTERNAL")
    defect, request = [json.loads(line) for line in log_text().splitlines()]
    assert defect["exception"] == "ValueError"
    assert defect["frames"]
    assert request["code"] == "internal"
    assert defect["trace_id"] == request["trace_id"]
    assert defect["span_id"] == request["span_id"]


def test_a_patients_data_in_any_text_reaches_neither_log_nor_metrics_nor_spans(
    log_text, metrics, monkeypatch, collector
):
    url, spans = collector
    monkeypatch.setenv(ENDPOINT, url)
    for text in PHI:
        tracing = Tracing(text + "^")
        watch = Watch(metrics, tracing, protocol=text, route=f"/v2/{text}", traceparent=text)
        watch.note(
            **{text: text, "patient": text, "method": text, "answer_id": text, "digest": text}
        )
        watch.judge(verdict=text, refusals=[text])
        watch.stage(text, 0, 1)
        watch.turn_away(text)
        watch.fail(text)
        watch.defect(RuntimeError(text))
        watch.end(text)
        tracing.close()
    told = {
        "log": log_text().encode(),
        "metrics": generate_latest(metrics.registry),
        "spans": spans.with_suffix(".bytes").read_bytes(),
    }
    assert all(told.values())
    hits = [(text, place) for text in PHI for place, said in told.items() if text.encode() in said]
    assert hits == []
    assert len(requests_told(log_text)) == len(PHI)
