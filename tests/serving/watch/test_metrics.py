import math

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from serving.watch.metrics import Metrics

PHI = ("DOE^JANE", "PATIENT-ID-4711", "19700131", "bonexray_c2VjcmV0")
ROUTE = "/v2/models/{model_name}/infer"


def samples(metrics):
    text = generate_latest(metrics.registry).decode()
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_request_is_in_flight_until_it_ends_and_is_counted_by_route_protocol_and_status(metrics):
    metrics.begin()
    metrics.begin()
    metrics.end(protocol="rest", route=ROUTE, status=200)
    found = samples(metrics)
    assert found["bonexray_requests_in_flight",] == 1
    assert found["bonexray_requests_total", ROUTE, "200", "rest"] == 1


def test_a_study_counts_its_views_verdict_and_refusals(metrics):
    metrics.judge(verdict="positive", refusals=["", "unlike", "other_part"])
    metrics.judge(verdict="not_analysed", refusals=["unlike"])
    found = samples(metrics)
    assert found["bonexray_studies_total",] == 2
    assert found["bonexray_views_total",] == 4
    assert found["bonexray_verdicts_total", "positive"] == 1
    assert found["bonexray_verdicts_total", "negative"] == 0
    assert found["bonexray_refusals_total", "unlike"] == 2


def test_what_the_server_knows_is_asked_when_metrics_are_read(metrics):
    views, state = [3], {"ready": True, "leaving": False}
    asked = Metrics(
        waiting_views=lambda: views[0],
        wait_s=lambda: 0,
        max_wait_s=5,
        deadline_s=10,
        ready=lambda: state["ready"],
        leaving=lambda: state["leaving"],
        restarts=0,
    )
    names = ("queue_views", "ready", "draining")

    def told():
        found = samples(asked)
        return [found[f"bonexray_{name}",] for name in names]

    assert told() == [3, 1, 0]
    views[0], state["ready"], state["leaving"] = 7, False, True
    assert told() == [7, 0, 1]
    assert samples(metrics)["bonexray_worker_restarts_total",] == 2
    assert samples(metrics)["bonexray_deadline_seconds",] == 10


def test_stages_are_histograms_in_seconds(metrics):
    metrics.stage("decode", 0.03)
    metrics.stage("no_stage", 0.03)
    found = samples(metrics)
    assert found["bonexray_stage_seconds_count", "decode"] == 1
    assert found["bonexray_stage_seconds_sum", "decode"] == pytest.approx(0.03)
    assert found["bonexray_stage_seconds_bucket", "0.05", "decode"] == 1
    assert found["bonexray_stage_seconds_bucket", "0.025", "decode"] == 0
    assert "no_stage" not in str(found)


def test_only_the_model_that_is_served_now_is_told(metrics):
    metrics.serve(version="3", digest="ab" * 32, precision="fp32")
    metrics.serve(version="4", digest="cd" * 32, precision="int8")
    models = [key for key in samples(metrics) if key[0] == "bonexray_model_info"]
    assert models == [("bonexray_model_info", "4", "cd" * 32, "int8")]


@pytest.mark.parametrize("text", PHI)
def test_no_label_repeats_a_text_from_outside(metrics, text):
    metrics.begin()
    metrics.end(protocol=text, route=f"/v2/models/{text}/infer", status=text)
    metrics.judge(verdict=text, refusals=[text, "unlike"])
    metrics.turn_away(text)
    metrics.fail(text)
    metrics.stage(text, 1)
    metrics.serve(version=text + "^", digest=text, precision=text + "^")
    told = generate_latest(metrics.registry).decode()
    assert text not in told
    assert samples(metrics)["bonexray_requests_total", "other", "other", "other"] == 1
    assert samples(metrics)["bonexray_errors_total", "other"] == 1


def test_a_flood_of_codes_and_paths_ends_in_other(metrics):
    for number in range(1000):
        code = "code_" + "".join("abcdefghij"[int(digit)] for digit in str(number))
        metrics.fail(code)
        metrics.judge(verdict="negative", refusals=[code])
        metrics.begin()
        metrics.end(protocol="rest", route=f"/{number}", status=number)
    found = samples(metrics)
    assert len(found) < 1000
    assert found["bonexray_errors_total", "other"] == 940
    assert found["bonexray_refusals_total", "other"] == 940
    assert found["bonexray_errors_total", "code_b"] == 1


def test_two_apps_of_a_process_count_apart(metrics):
    other = Metrics(
        waiting_views=lambda: 0,
        wait_s=lambda: 0,
        max_wait_s=5,
        deadline_s=10,
        ready=lambda: True,
        leaving=lambda: False,
        restarts=0,
    )
    metrics.turn_away("rate")
    assert samples(metrics)["bonexray_refused_requests_total", "rate"] == 1
    assert samples(other)["bonexray_refused_requests_total", "rate"] == 0


def test_the_process_is_told_as_well(metrics):
    found = samples(metrics)
    assert found["process_resident_memory_bytes",] > 1e6
    assert found["process_cpu_seconds_total",] > 0
    assert not any(math.isnan(value) for value in found.values())
