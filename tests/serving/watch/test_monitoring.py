import json
import re
import shutil
import subprocess

import pytest
import yaml

from bonexray.config import read_section
from bonexray.release_config import ReleaseConfig
from serving.pods import selector
from serving.watch.fields import REASONS, STAGES

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed: apt-get install prometheus"
)
_NAME = re.compile(r"\b(?:bonexray|process)_[a-z_]+")


@pytest.fixture(scope="module")
def folder(repository):
    return repository / "serving" / "monitoring"


@pytest.fixture(scope="module")
def rules(folder):
    (group,) = yaml.safe_load((folder / "alerts.yaml").read_text())["groups"]
    return group["rules"]


@pytest.fixture(scope="module")
def panels(folder):
    panels = json.loads((folder / "dashboard.json").read_text())["panels"]
    return [panel for panel in panels if panel["type"] != "row"]


@pytest.fixture(scope="module")
def expressions(folder, rules, panels):
    drawn = [target["expr"] for panel in panels for target in panel["targets"]]
    noted = json.loads((folder / "dashboard.json").read_text())["annotations"]["list"]
    return [rule["expr"] for rule in rules] + drawn + [entry["expr"] for entry in noted]


def test_every_metric_that_is_drawn_or_watched_is_told(expressions, metrics):
    told = {sample.name for family in metrics.registry.collect() for sample in family.samples} | {
        family.name + "_total" for family in metrics.registry.collect()
    }
    told |= {"bonexray_model_info"}  # which has no sample before a model is served
    named = {name for expression in expressions for name in _NAME.findall(expression)}
    assert named - told == set()


def test_every_metric_of_ours_is_drawn_or_watched(expressions, metrics):
    families = {family.name for family in metrics.registry.collect()}
    ours = {name for name in families if name.startswith("bonexray_")}
    drawn = " ".join(expressions)
    assert {name for name in ours if name not in drawn} == set()


def test_every_recorded_name_that_is_used_is_recorded(expressions, rules):
    recorded = {rule["record"] for rule in rules if "record" in rule}
    used = {name for text in expressions for name in re.findall(r"bonexray:[a-z_0-9:]+", text)}
    assert used == recorded


def test_every_value_of_a_closed_label_is_one_that_is_told(expressions):
    text = " ".join(expressions)
    assert set(re.findall(r'stage!?="([a-z]+)"', text)) <= set(STAGES)
    assert set(re.findall(r'reason="([a-z]+)"', text)) <= set(REASONS)


def test_each_alert_says_what_is_wrong_and_what_to_do(rules):
    alerts = [rule for rule in rules if "alert" in rule]
    assert len(alerts) == 8
    for alert in alerts:
        assert alert["labels"]["severity"] in ("warning", "critical")
        assert len(alert["annotations"]["summary"]) > 20
        assert len(alert["annotations"]["action"]) > 40


def test_the_dashboard_asks_the_source_that_is_chosen_and_its_panels_do_not_overlap(folder, panels):
    document = json.loads((folder / "dashboard.json").read_text())
    assert document["templating"]["list"][0]["type"] == "datasource"
    rows = [panel["title"] for panel in document["panels"] if panel["type"] == "row"]
    assert rows == [
        *("Traffic", "Errors", "Latency by stage", "Saturation", "Verdicts and refusals"),
        "Version",
    ]
    cells = set()
    for panel in document["panels"]:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not own & cells
        cells |= own
    for panel in panels:
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
    identifiers = [panel["id"] for panel in document["panels"]]
    assert len(set(identifiers)) == len(identifiers)


def test_the_pod_monitor_finds_the_pods_of_the_service(folder, repository):
    cluster = read_section(str(repository / "params.yaml"), ReleaseConfig).cluster
    monitor = yaml.safe_load((folder / "podmonitor.yaml").read_text())
    assert monitor["spec"]["selector"]["matchLabels"] == selector(cluster)
    assert monitor["spec"]["podMetricsEndpoints"][0]["port"] == "metrics"


@needs_promtool
def test_every_expression_is_promql(expressions, tmp_path):
    text = [expression.replace("$__rate_interval", "5m") for expression in expressions]
    rules = [{"record": f"drawn:{number}", "expr": expr} for number, expr in enumerate(text)]
    path = tmp_path / "drawn.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "drawn", "rules": rules}]}))
    done = subprocess.run(
        [PROMTOOL, "check", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


ERROR_SERIES = (
    'bonexray_requests_total{route="/v2/models/{model_name}/infer",protocol="rest",status='
)
STUDIES, VIEWS = 'bonexray_verdicts_total{verdict="', "bonexray_views_total"
WEEK = 7 * 24 * 12  # samples, one in five minutes


def traffic(faults, good=100):
    return {f'{ERROR_SERIES}"200"}}': f"0+{good}x600", f'{ERROR_SERIES}"503"}}': f"0+{faults}x600"}


def shares(positive_then, positive_now):
    """A week of 10 studies in five minutes, then a day, of so many positives."""
    return {
        f'{STUDIES}positive"}}': f"0+{positive_then}x{WEEK} "
        f"{WEEK * positive_then}+{positive_now}x288",
        f'{STUDIES}negative"}}': f"0+{10 - positive_then}x{WEEK} "
        f"{WEEK * (10 - positive_then)}+{10 - positive_now}x288",
    }


def refused(then, now):
    return {
        VIEWS: f"0+20x{WEEK} {WEEK * 20}+20x288",
        'bonexray_refusals_total{code="unlike"}': f"0+{then}x{WEEK} {WEEK * then}+{now}x288",
    }


def slow(bucket):
    """All studies fall below `bucket` seconds, none below the one before."""
    limits = ("0.1", "5", "10", "30", "+Inf")
    counts = [100 if limits.index(limit) >= limits.index(bucket) else 0 for limit in limits]
    named = zip(limits, counts, strict=True)
    return {
        "bonexray_deadline_seconds": "10x600",
        **{
            f'bonexray_stage_seconds_bucket{{stage="total",le="{limit}"}}': f"0+{count}x600"
            for limit, count in named
        },
    }


READY, WAIT = "bonexray_ready", "bonexray_queue_wait_seconds"
LIMIT, RESTARTS = {"bonexray_queue_wait_limit_seconds": "5x600"}, "bonexray_worker_restarts_total"
CASES = [
    ("BonexrayErrors", traffic(2), "1m", "30m", True),
    ("BonexrayErrors", traffic(0), "1m", "30m", False),
    ("BonexraySlow", slow("30"), "1m", "30m", True),
    ("BonexraySlow", slow("5"), "1m", "30m", False),
    ("BonexrayQueueFull", {WAIT: "4.5x600", **LIMIT}, "1m", "30m", True),
    ("BonexrayQueueFull", {WAIT: "1x600", **LIMIT}, "1m", "30m", False),
    ("BonexrayNotReady", {READY: "1x5 0x600"}, "1m", "30m", True),
    ("BonexrayNotReady", {"up": "0x600"}, "1m", "30m", True),
    ("BonexrayNotReady", {'bonexray_ready{pod="a"}': "0x600", READY: "1x600"}, "1m", "30m", False),
    ("BonexrayRestarts", {RESTARTS: "0x20 1 2 3 4 4x600"}, "1m", "40m", True),
    ("BonexrayRestarts", {RESTARTS: "0x20 1 1x600"}, "1m", "40m", False),
    ("BonexrayNoTraffic", {f'{ERROR_SERIES}"200"}}': f"0+10x{WEEK} _x100"}, "5m", "172h", True),
    ("BonexrayNoTraffic", {f'{ERROR_SERIES}"200"}}': f"0+10x{WEEK + 100}"}, "5m", "172h", False),
    ("BonexrayPositivesDrift", shares(2, 5), "5m", "192h", True),
    ("BonexrayPositivesDrift", shares(2, 2), "5m", "192h", False),
    ("BonexrayRefusalsDrift", refused(1, 6), "5m", "192h", True),
    ("BonexrayRefusalsDrift", refused(1, 1), "5m", "192h", False),
]


@needs_promtool
@pytest.mark.parametrize(
    ("interval", "evaluated"), [("1m", "1m"), pytest.param("5m", "30m", marks=pytest.mark.slow)]
)
def test_each_alert_fires_when_it_should_and_not_else(folder, tmp_path, interval, evaluated):
    cases = [promtool_case(*case) for case in CASES if case[2] == interval]
    shutil.copy(folder / "alerts.yaml", tmp_path)
    document = {
        "rule_files": ["alerts.yaml"],
        "evaluation_interval": evaluated,
        "tests": cases,
    }
    (tmp_path / "fires.yaml").write_text(yaml.safe_dump(document))
    done = subprocess.run(
        [PROMTOOL, "test", "rules", str(tmp_path / "fires.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def promtool_case(alert, series, interval, at, fires):
    """Whether an alert stands at a moment: promtool's own test would compare its texts too."""
    count = [{"labels": "{}", "value": 1}] if fires else []
    expr = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})'
    return {
        "name": f"{alert} {fires}",
        "interval": interval,
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": expr, "eval_time": at, "exp_samples": count}],
    }


def test_the_cases_hold_each_alert_both_ways(rules):
    alerts = {rule["alert"] for rule in rules if "alert" in rule}
    assert {(alert, fires) for alert, *_, fires in CASES} == {
        (alert, fires) for alert in alerts for fires in (True, False)
    }
