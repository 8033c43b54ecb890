"""The gate: may this model become a candidate? Rules are data; each names a figure and a bound."""

from collections.abc import Mapping, Sequence
from typing import Any

from bonexray.config import Rule
from bonexray.errors import ConfigError

SKIPPED, FAILED = "skipped", "failed"
"""Keys of a group of figures that could not be taken, each with the reason in words: `skipped`
where its rules do not apply, `failed` where they count as broken."""


def judge(figures: Mapping[str, Any], rules: Sequence[Rule]) -> dict[str, Any]:
    """Hold figures against rules.

    A figure that is undefined breaks its rule: what was not shown is not true.

    Args:
        figures: metrics.json, nested.
        rules: of params.yaml.

    Returns:
        `passed`, whether no critical rule is broken; `warnings`, how many rules of that severity
        are; `rules`, each with its `value`, its `outcome` (passed, failed or skipped) and a `note`.

    Raises:
        ConfigError: a rule names a figure that there is not.
    """
    judged = [_judge(figures, rule, number) for number, rule in enumerate(rules)]
    broken = [rule["severity"] for rule in judged if rule["outcome"] == "failed"]
    return {
        "passed": "critical" not in broken,
        "warnings": broken.count("warning"),
        "rules": judged,
    }


def _judge(figures: Mapping[str, Any], rule: Rule, number: int) -> dict[str, Any]:
    judged = {
        "figure": rule.figure,
        "severity": rule.severity,
        "bound": f"at least {rule.at_least:g}"
        if rule.at_least is not None
        else f"at most {rule.at_most:g}",
    }
    at: Any = figures
    for key in rule.figure.split("/"):
        if isinstance(at, Mapping):
            for reason, outcome in ((SKIPPED, "skipped"), (FAILED, "failed")):
                if reason in at:
                    return judged | {"value": None, "outcome": outcome, "note": at[reason]}
        if not isinstance(at, Mapping) or key not in at:
            raise ConfigError(f"evaluate.gate.{number}.figure = {rule.figure!r}: no such figure")
        at = at[key]
    if at is not None and not isinstance(at, int | float):
        raise ConfigError(f"evaluate.gate.{number}.figure = {rule.figure!r}: is no number")
    if at is None:
        return judged | {"value": None, "outcome": "failed", "note": "undefined"}
    held = (rule.at_least is None or at >= rule.at_least) and (
        rule.at_most is None or at <= rule.at_most
    )
    return judged | {"value": at, "outcome": "passed" if held else "failed", "note": ""}


def broken_rules(gate: Mapping[str, Any], severity: str) -> list[str]:
    """The broken rules of one severity, in words."""
    return [
        f"{rule['figure']} is {rule['note'] or rule['value']}, expected {rule['bound']}"
        for rule in gate["rules"]
        if rule["severity"] == severity and rule["outcome"] == "failed"
    ]
