"""Approve, reject, roll back: what a person decides of a version, and what follows from it.

A decision's record is its moment. The registry's aliases and the pointer that serving follows are
made from the last record of a champion, so what a killed run left undone is done by `status`, or
made needless by the next approval or rollback.
"""

from bonexray.errors import ConfigError, GateError, RegistryError
from bonexray.registry import (
    BUNDLE_DIGEST_TAG,
    GATE_PASSED,
    GATE_SHA256_TAG,
    GATE_TAG,
    GATE_WARNINGS_TAG,
    PACK_SHA256_TAG,
)
from bonexray.store import BundleStore, Champion
from serving.records import Action, Decision, Record, Records
from serving.registry import Registry


def approve(
    registry: Registry,
    store: BundleStore,
    wanted: str,
    *,
    by: str,
    reason: str,
    override: str,
) -> Record:
    """Make a version the champion.

    Args:
        registry: holds it.
        store: where serving looks.
        wanted: a version number or an alias.
        by: who decides.
        reason: why, in words.
        override: why the gate's warnings do not matter, in words; empty when there are none.

    Raises:
        ConfigError: nobody or no reason was named.
        RecordsError: the records are not as they were written, or another decision is under way.
        RegistryError: there is no such version, or it has no lineage of ours.
        GateError: its gate did not pass, or passed with warnings that nobody overrides.
        BundleError: the registry's files are not the bundle that was registered.
    """
    records = Records(store.root)
    _refuse_nobody(by, reason)
    with records.held():
        version = registry.version(wanted)
        number = str(version.version)
        if version.tags.get(GATE_TAG) != GATE_PASSED:
            raise GateError(f"{registry.model_name} version {number} did not pass the gate")
        warnings = version.tags.get(GATE_WARNINGS_TAG, "unknown")
        if warnings != "0" and not override.strip():
            raise GateError(
                f"{registry.model_name} version {number} passed the gate with {warnings} warnings; "
                "read its report, and say in --override why they do not matter"
            )
        registry.fetch(version, store)
        return _decide(registry, store, records, "approve", number, by, reason, override)


def reject(registry: Registry, store: BundleStore, wanted: str, *, by: str, reason: str) -> Record:
    """Put on record that a version is not wanted. The champion stays. Raises as `approve`."""
    records = Records(store.root)
    _refuse_nobody(by, reason)
    with records.held():
        number = str(registry.version(wanted).version)
        champion = standing(records.read())
        if champion is not None and champion.version == number:
            raise RegistryError(f"version {number} is the champion: roll back, in place of reject")
        return _decide(registry, store, records, "reject", number, by, reason, "")


def rollback(registry: Registry, store: BundleStore, *, by: str, reason: str) -> Record:
    """Make the champion before this one the champion again.

    Its bundle lies in the store since it was approved, so the registry's files are not needed.

    Raises:
        ConfigError: nobody or no reason was named.
        RecordsError: as `approve`.
        RegistryError: there is none before, or the registry cannot be reached.
        BundleError: the store does not hold its bundle any more, or it was altered.
    """
    records = Records(store.root)
    _refuse_nobody(by, reason)
    with records.held():
        champion = standing(records.read())
        if champion is None or not champion.previous_version:
            raise RegistryError(f"{records.path}: no champion before this one to go back to")
        number = champion.previous_version
        store.open(registry.version(number).tags.get(BUNDLE_DIGEST_TAG, ""))
        return _decide(registry, store, records, "rollback", number, by, reason, "")


def settle(registry: Registry, store: BundleStore, records: Records) -> bool:
    """Let aliases and pointer follow the last decision; return whether there was anything to do.

    Raises:
        RecordsError: the records are not as they were written.
        RegistryError: the aliases cannot be moved.
        BundleError: the store does not hold the champion's bundle, or it was altered.
    """
    champion = standing(records.read())
    if champion is None:
        return False
    pointer = Champion(
        model_name=champion.model_name, version=champion.version, digest=champion.bundle_digest
    )
    registry.point(champion.version, champion.previous_version)
    if store.champion() == pointer:
        return False
    store.set_champion(pointer)
    return True


def standing(records: list[Record]) -> Record | None:
    """The record that made the champion; None when there is none."""
    moves = [record for record in records if record.action != "reject"]
    return moves[-1] if moves else None


def _decide(
    registry: Registry,
    store: BundleStore,
    records: Records,
    action: Action,
    number: str,
    by: str,
    reason: str,
    override: str,
) -> Record:
    """Put a decision on record, unless it is the last one there, and do what follows from it."""
    version, past = registry.version(number), records.read()
    champion = standing(past)
    decision = Decision(
        action=action,
        by=by,
        reason=reason,
        override=override,
        model_name=registry.model_name,
        version=number,
        bundle_digest=version.tags[BUNDLE_DIGEST_TAG],
        gate_sha256=version.tags.get(GATE_SHA256_TAG, ""),
        pack_sha256=version.tags.get(PACK_SHA256_TAG, ""),
        previous_version="" if action == "reject" else _before(champion, number),
    )
    said = past[-1].model_dump(include=set(Decision.model_fields)) if past else None
    record = past[-1] if said == decision.model_dump() else records.append(decision)
    if action != "reject":
        settle(registry, store, records)
    return record


def _before(champion: Record | None, number: str) -> str:
    """The champion before, once `number` is it: approving it again does not make it its own."""
    if champion is None:
        return ""
    return champion.previous_version if champion.version == number else champion.version


def _refuse_nobody(by: str, reason: str) -> None:
    if not by.strip() or not reason.strip():
        raise ConfigError("--by and --reason must say who decides and why, found an empty text")
