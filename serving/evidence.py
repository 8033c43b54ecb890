"""What speaks for a version: its release pack, read from the registry, and two of them compared."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersion

from bonexray.errors import BonexrayError, PackError
from bonexray.evaluation import (
    DATA_FILE,
    GATE_FILE,
    METRICS_FILE,
    PARAMS_FILE,
    read_gate,
    read_metrics,
    read_object,
    read_training,
)
from bonexray.gate import SKIPPED, broken_rules
from bonexray.registry import BUNDLE_DIGEST_TAG, PACK_SHA256_TAG, TAG_PREFIX
from bonexray.sealed import verify_seal
from bonexray.trained import TrainingRecord
from serving.registry import Registry

_FIGURES = ("auroc", "accuracy", "kappa", "sensitivity", "specificity", "ece_debiased")
_LEVELS = ("val/study", "test/study")
_TAGS = ("code_commit", "environment_lock_sha256", "dataset_sha256", "manifest_sha256",
         "start_weights", "hardware")  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """A version's release pack, its seal verified."""

    version: str
    tags: dict[str, str]
    gate: dict[str, Any]
    metrics: dict[str, Any]
    params: dict[str, Any]
    data: dict[str, Any]
    trainings: list[TrainingRecord]


def read_evidence(registry: Registry, version: ModelVersion) -> Evidence:
    """Fetch a version's release pack and verify it.

    Raises:
        RegistryError: it cannot be had.
        PackError: it is not the one that was registered.
    """
    with tempfile.TemporaryDirectory() as scratch:
        return check_evidence(registry.report(version, Path(scratch)), version)


def check_evidence(report: Path, version: ModelVersion) -> Evidence:
    """Verify a release pack that was fetched, and read it. Raises PackError as `read_evidence`."""
    number = str(version.version)
    try:
        digest = verify_seal(report, {METRICS_FILE, GATE_FILE, PARAMS_FILE, DATA_FILE})
        evidence = Evidence(
            version=number,
            tags=dict(version.tags),
            gate=read_gate(report),
            metrics=read_metrics(report),
            params=read_object(report / PARAMS_FILE),
            data=read_object(report / DATA_FILE),
            trainings=read_training(report),
        )
    except BonexrayError as error:
        reason = str(error).replace(f"{report}/", "").replace(str(report), "its folder")
        raise PackError(f"version {number}: its release pack: {reason}") from error
    expected = version.tags.get(PACK_SHA256_TAG)
    if digest != expected:
        raise PackError(
            f"version {number}: its release pack is {digest}, registered was {expected}"
        )
    if evidence.metrics.get("bundle_digest") != version.tags.get(BUNDLE_DIGEST_TAG):
        raise PackError(f"version {number}: its release pack judges another bundle")
    return evidence


def render_verdict(evidence: Evidence) -> str:
    """The gate's verdict, its broken rules, and how the version did beside the champion."""
    gate, champion = evidence.gate, evidence.metrics.get("champion", {})
    counted = f"{gate['warnings']} warning" + ("" if gate["warnings"] == 1 else "s")
    lines = [f"gate: {'passed' if gate['passed'] else 'REFUSED'}, {counted}"]
    for severity in ("critical", "warning", "info"):
        lines += [f"  {severity}: {rule}" for rule in broken_rules(gate, severity)]
    if "lead" in champion:
        lines.append(
            f"on the champion's studies: AUROC {_signed(champion['lead'])} "
            f"[{_signed(champion['lead_low'])}, {_signed(champion['lead_high'])}] against "
            f"version {champion['version']}"
        )
    else:
        why = champion.get(SKIPPED) or champion.get("failed") or "its report does not say why"
        lines.append(f"held against no champion: {why}")
    return "\n".join(lines)


def render_difference(before: Evidence, after: Evidence) -> str:
    """Two versions side by side: figures with their intervals, data, settings, lineage."""
    rows = [("", f"version {before.version}", f"version {after.version}")]
    rows += _figures(before, after)
    sides = dict(_flat(before.params)), dict(_flat(after.params))
    data = dict(_flat(before.data)), dict(_flat(after.data))
    tags = [{name: e.tags.get(TAG_PREFIX + name, "") for name in _TAGS} for e in (before, after)]
    for title, (old, new) in (("data", data), ("settings", sides), ("lineage", tags)):
        changed = [name for name in sorted({**old, **new}) if old.get(name) != new.get(name)]
        rows.append((f"{title}: {'' if changed else 'the same'}", "", ""))
        rows += [(f"  {name}", _short(old.get(name)), _short(new.get(name))) for name in changed]
    first, second = (max(len(row[column]) for row in rows) + 2 for column in (0, 1))
    return "\n".join(f"{a:<{first}}{b:<{second}}{c}".rstrip() for a, b, c in rows)


def _figures(before: Evidence, after: Evidence) -> Iterator[tuple[str, str, str]]:
    for level in _LEVELS:
        split, of = level.split("/")
        old, new = (e.metrics.get(split, {}).get(of, {}) for e in (before, after))
        yield f"{level}, studies", str(old.get("count", "")), str(new.get("count", ""))
        for name in _FIGURES:
            if name in old or name in new:
                yield f"  {name}", _with_interval(old, name), _with_interval(new, name)


def _with_interval(figures: Mapping[str, Any], name: str) -> str:
    value, low, high = (figures.get(name + end) for end in ("", "_low", "_high"))
    if value is None:
        return "undefined"
    return f"{value:.3f}" + ("" if low is None or high is None else f" [{low:.3f}, {high:.3f}]")


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _signed(value: float | None) -> str:
    return "undefined" if value is None else f"{value:+.3f}"


def _short(value: Any) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
