"""Why a decision may not be made: by whom, after what verdict, on what evidence."""

from collections.abc import Sequence

from mlflow.entities.model_registry import ModelVersion

from bonexray.errors import ConfigError, GateError
from bonexray.registry import (
    BUNDLE_DIGEST_TAG,
    COMPARED_TAG,
    GATE_PASSED,
    GATE_TAG,
    GATE_WARNINGS_TAG,
    NONE,
)
from serving.records import Record
from serving.registry import digest_of


def refuse_stranger(by: str, reason: str, approvers: Sequence[str]) -> None:
    """Refuse who is not on the list, and whoever says nothing. Raises ConfigError."""
    if not by.strip() or not reason.strip():
        raise ConfigError("--by and --reason must say who decides and why, found an empty text")
    if by not in approvers:
        raise ConfigError(f"--by {by!r} is not among release.approvers: {', '.join(approvers)}")


def refuse_by_gate(version: ModelVersion, override: str) -> None:
    """Refuse what the gate stopped, and what it warned of unless that is overridden in words.

    Raises:
        GateError: says which.
    """
    name = f"{version.name} version {version.version}"
    if version.tags.get(GATE_TAG) != GATE_PASSED:
        raise GateError(f"{name} did not pass the gate")
    warnings = version.tags.get(GATE_WARNINGS_TAG, "unknown")
    if warnings != "0" and not override.strip():
        raise GateError(
            f"{name} passed the gate with {warnings} warnings; read its report, and say in "
            "--override why they do not matter"
        )


def refuse_stale(
    version: ModelVersion, versions: Sequence[ModelVersion], champion: Record | None, override: str
) -> None:
    """Refuse what was judged before the champion became it, or was judged again since.

    Args:
        version: to be approved.
        versions: every one, the newest first.
        champion: the record that made it; None when there is none.
        override: why it does not matter that the version was held against no champion.

    Raises:
        GateError: says which evidence is newer.
        RegistryError: the version has no lineage of ours.
    """
    name, digest = f"{version.name} version {version.version}", digest_of(version)
    newest = next((v for v in versions if v.tags.get(BUNDLE_DIGEST_TAG) == digest), version)
    if str(newest.version) != str(version.version):
        raise GateError(
            f"{name} is not the newest evidence: version {newest.version} is the same bundle, "
            "judged again"
        )
    compared = version.tags.get(COMPARED_TAG, NONE)
    if champion is None or compared == champion.bundle_digest:
        return
    if compared != NONE:
        raise GateError(
            f"{name} is not the newest evidence: it was held against bundle {compared[:12]}, and "
            f"the champion is {champion.bundle_digest[:12]} now; evaluate it again: "
            "dvc repro --single-item --force evaluate, then dvc repro"
        )
    if not override.strip():
        raise GateError(
            f"{name} was held against no champion; evaluate it again beside version "
            f"{champion.version}, or say in --override why that does not matter"
        )
