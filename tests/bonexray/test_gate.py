import numpy as np
import pandas as pd
import pytest

from bonexray.config import Rule
from bonexray.errors import ConfigError
from bonexray.gate import broken_rules, judge
from bonexray.scoring import figures_of
from components.choice import lead_over

FLOOR = Rule(figure="test/study/auroc_low", at_least=0.75, severity="critical")


def rule(figure: str, severity: str = "critical", **bound: float) -> Rule:
    return Rule.model_validate({"figure": figure, "severity": severity} | bound)


def studies(seed: int, sharpness: float, count: int = 300) -> pd.DataFrame:
    """Studies of a model that is right with sharpness; at 0 it answers at random."""
    generator = np.random.default_rng(seed)
    label = generator.integers(0, 2, count)
    logit = generator.normal((2 * label - 1) * sharpness, 1)
    patient = [f"patient{number // 2}" for number in range(count)]
    probability = 1 / (1 + np.exp(-logit))
    return pd.DataFrame({"patient": patient, "label": label, "probability": probability})


def test_the_bounds_themselves_pass() -> None:
    gate = judge({"a": 1.0}, [rule("a", at_least=1), rule("a", at_most=1)])
    assert gate["passed"] is True
    assert [rule["outcome"] for rule in gate["rules"]] == ["passed", "passed"]


@pytest.mark.parametrize(
    ("severity", "passed", "warnings"),
    [("critical", False, 0), ("warning", True, 1), ("info", True, 0)],
)
def test_a_broken_rule_does_what_its_severity_says(
    severity: str, passed: bool, warnings: int
) -> None:
    gate = judge({"a": {"b": 0.5}}, [rule("a/b", severity, at_least=0.6)])
    assert (gate["passed"], gate["warnings"]) == (passed, warnings)
    assert broken_rules(gate, severity) == ["a/b is 0.5, expected at least 0.6"]


def test_an_undefined_figure_breaks_its_rule() -> None:
    gate = judge({"a": None}, [rule("a", at_most=1)])
    assert gate["passed"] is False
    assert broken_rules(gate, "critical") == ["a is undefined, expected at most 1"]


def test_a_group_that_could_not_be_taken_says_why() -> None:
    skipped = judge({"champion": {"skipped": "no champion yet"}}, [rule("champion/x", at_least=0)])
    assert skipped["passed"] is True
    assert skipped["rules"][0]["note"] == "no champion yet"
    failed = judge({"champion": {"failed": "it is altered"}}, [rule("champion/x", at_least=0)])
    assert failed["passed"] is False
    assert broken_rules(failed, "critical") == ["champion/x is it is altered, expected at least 0"]


@pytest.mark.parametrize("figure", ["b", "a/b/c", "a"])
def test_a_rule_about_no_figure_is_refused_by_its_number(figure: str) -> None:
    with pytest.raises(ConfigError, match=r"evaluate\.gate\.1\.figure = "):
        judge({"a": {"b": 1.0}}, [rule("a/b", at_least=0), rule(figure, at_least=0)])


@pytest.mark.parametrize("bound", [{}, {"at_least": 0.1, "at_most": 0.9}])
def test_a_rule_has_one_bound(bound: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected one of at_least and at_most"):
        rule("a", **bound)


def test_a_model_that_answers_at_random_fails_in_a_hundred_of_a_hundred() -> None:
    for seed in range(100):
        figures = {"test": {"study": figures_of(studies(seed, 0.0), draws=100, seed=0)}}
        assert judge(figures, [FLOOR])["passed"] is False, seed


def test_a_test_set_of_one_label_fails() -> None:
    table = studies(0, 2.0).assign(label=1)
    figures = {"test": {"study": figures_of(table, draws=50, seed=0)}}
    gate = judge(figures, [FLOOR])
    assert gate["passed"] is False
    assert gate["rules"][0]["note"] == "undefined"


def test_a_copy_of_the_champion_is_not_inferior_in_ninety_five_of_a_hundred() -> None:
    not_inferior = rule("champion/lead_low", at_least=-0.03)
    passed = 0
    for seed in range(100):
        champion = studies(seed, 1.0, count=600)
        # Trained again on other threads: its logits are not quite the same.
        noise = np.random.default_rng(seed + 1000).normal(0, 0.2, len(champion))
        logit = np.log(champion["probability"] / (1 - champion["probability"])) + noise
        copy = champion.assign(probability=1 / (1 + np.exp(-logit)))
        lead = lead_over(copy, champion, draws=200, seed=0)
        passed += judge({"champion": {"lead_low": lead["low"]}}, [not_inferior])["passed"]
    assert passed >= 95


def test_a_worse_model_than_the_champion_is_inferior() -> None:
    champion, worse = studies(0, 1.0, count=600), studies(0, 0.5, count=600)
    lead = lead_over(worse, champion, draws=200, seed=0)
    gate = judge(
        {"champion": {"lead_low": lead["low"]}}, [rule("champion/lead_low", at_least=-0.03)]
    )
    assert gate["passed"] is False
