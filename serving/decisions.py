"""Approve, reject, roll back: what a person decides of a version, and what follows from it.

A decision's record is its moment. Signature, pointer, manifests and the registry's aliases are made
from the last record of a champion, so what a killed run left undone is done by `status`, or made
needless by the next approval or rollback. What serving reads comes first, the registry last: a
registry that is down delays its aliases, not a rollback.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from bonexray.artifacts import whole_file
from bonexray.errors import ConfigError, RegistryError
from bonexray.registry import GATE_SHA256_TAG, PACK_SHA256_TAG
from bonexray.release_config import ReleaseConfig
from bonexray.serve_config import ServeConfig
from bonexray.store import BundleStore, Champion
from serving.evidence import Evidence, read_evidence, render_difference, render_verdict
from serving.manifests import render, write
from serving.objections import refuse_by_gate, refuse_stale, refuse_stranger
from serving.records import Decision, Record, Records
from serving.registry import Registry, digest_of
from serving.signature import sign_bundle, verify_signature

MANIFESTS = "manifests"
"""Folder of the champion's manifests, beside the records."""
Ask = Callable[[str], bool]
"""Shows a text and asks whether to go on."""


class Board:
    """Who decides on the versions of one registered model, and where that shows."""

    def __init__(
        self, registry: Registry, store: BundleStore, config: ReleaseConfig, serve: ServeConfig
    ) -> None:
        """Bring together what decisions are made of.

        Args:
            registry: holds the versions.
            store: where serving looks.
            config: the section `release`.
            serve: the section `serve`.
        """
        self._registry, self._store, self._config = registry, store, config
        self._serve = serve
        self.records = Records(store.root)

    def approve(self, wanted: str, *, by: str, reason: str, override: str, ask: Ask) -> Record:
        """Make a version the champion.

        Args:
            wanted: a version number or an alias.
            by: who decides.
            reason: why, in words.
            override: why the gate's warnings do not matter, in words; empty when there are none.
            ask: is shown the verdict and the difference to the champion.

        Raises:
            ConfigError: nobody, a stranger or no reason was named, or the answer was no.
            RecordsError: the records are not as they were written, or another decision is under
                way.
            RegistryError: there is no such version, or it has no lineage of ours.
            GateError: its gate did not pass, or passed with warnings that nobody overrides, or
                newer evidence speaks.
            PackError, BundleError: the registry's files are not those that were registered.
            SignatureError: the bundle cannot be signed, or not by a key that serving trusts.
        """
        refuse_stranger(by, reason, self._config.approvers)
        with self.records.held():
            version = self._registry.version(wanted)
            champion = standing(self.records.read())
            again = champion is not None and champion.version == str(version.version)
            refuse_by_gate(version, override)
            if not again:
                refuse_stale(version, self._registry.versions(), champion, override)
            if not ask(self._shown(version, champion)):
                raise ConfigError(f"version {version.version} was not approved; nothing is changed")
            self._registry.refuse_reader(version)
            digest = self._registry.fetch(version, self._store)
            signature = self._signed(self._store.folder(digest))
            decision = Decision(
                action="approve",
                by=by,
                reason=reason,
                override=override,
                model_name=self._registry.model_name,
                version=str(version.version),
                bundle_digest=digest,
                gate_sha256=version.tags.get(GATE_SHA256_TAG, ""),
                pack_sha256=version.tags.get(PACK_SHA256_TAG, ""),
                previous_version=_before(champion, str(version.version)),
                signature=signature,
            )
            return self._decide(decision)

    def reject(self, wanted: str, *, by: str, reason: str) -> Record:
        """Put on record that a version is not wanted. The champion stays. Raises as `approve`."""
        refuse_stranger(by, reason, self._config.approvers)
        with self.records.held():
            version = self._registry.version(wanted)
            number = str(version.version)
            champion = standing(self.records.read())
            if champion is not None and champion.version == number:
                raise RegistryError(f"version {number} is the champion: roll back instead")
            decision = Decision(
                action="reject",
                by=by,
                reason=reason,
                override="",
                model_name=self._registry.model_name,
                version=number,
                bundle_digest=digest_of(version),
                gate_sha256=version.tags.get(GATE_SHA256_TAG, ""),
                pack_sha256=version.tags.get(PACK_SHA256_TAG, ""),
                previous_version="",
                signature="",
            )
            return self._decide(decision)

    def rollback(self, *, by: str, reason: str) -> Record:
        """Make the champion before this one the champion again.

        Its bundle lies in the store and its approval on record, so the registry is not needed; its
        aliases follow when it can be reached.

        Raises:
            ConfigError: nobody, a stranger or no reason was named.
            RecordsError: as `approve`.
            RegistryError: there is none before; or the aliases could not follow.
            BundleError: the store does not hold its bundle any more, or it was altered.
            SignatureError: serving does not trust the key any more that signed it.
        """
        refuse_stranger(by, reason, self._config.approvers)
        with self.records.held():
            past = self.records.read()
            champion = standing(past)
            if champion is None or not champion.previous_version:
                raise RegistryError(f"{self.records.path}: no champion before this one to go to")
            before = next(
                record
                for record in reversed(past)
                if record.signature and record.version == champion.previous_version
            )
            self._store.open(before.bundle_digest)
            self._verify(self._store.folder(before.bundle_digest), before.signature)
            kept = before.model_dump(include=set(Decision.model_fields))
            changed = {
                "action": "rollback",
                "by": by,
                "reason": reason,
                "override": "",
                "previous_version": champion.version,
            }
            return self._decide(Decision(**kept | changed))

    def settle(self) -> bool:
        """Let all that follows from the last decision follow; return whether anything had to.

        Raises:
            RecordsError: the records are not as they were written.
            BundleError: the store does not hold the champion's bundle, or it was altered.
            RegistryError: the aliases cannot be moved.
        """
        champion = standing(self.records.read())
        if champion is None:
            return False
        pointer = Champion(
            model_name=champion.model_name,
            version=champion.version,
            digest=champion.bundle_digest,
        )
        signature = self._store.signature(pointer.digest)
        moved = self._store.champion() != pointer
        if not signature.is_file() or signature.read_text(encoding="utf-8") != champion.signature:
            with whole_file(signature) as partial:
                partial.write_text(champion.signature, encoding="utf-8")
            moved = True
        if moved:
            self._store.set_champion(pointer)
        documents = render(pointer, self._config.cluster, self._serve)
        write(self._store.root / MANIFESTS, documents)
        try:
            follows = self._registry.point(
                champion.version, champion.previous_version, champion.signature
            )
        except RegistryError as error:
            raise RegistryError(
                f"version {champion.version} is the champion, on record and for serving; but "
                f"{error}; `status` tries again when that is mended"
            ) from error
        return moved or follows

    def _decide(self, decision: Decision) -> Record:
        """Put a decision on record, unless it is the last one there, and let follow what does."""
        past = self.records.read()
        # Two signatures of the same bundle differ.
        said = past[-1].model_copy(update={"signature": decision.signature}) if past else None
        same = said and said.model_dump(include=set(Decision.model_fields)) == decision.model_dump()
        record = past[-1] if same else self.records.append(decision)
        if decision.signature:
            self.settle()
        return record

    def _shown(self, version: ModelVersion, champion: Record | None) -> str:
        """What the approver should have seen."""
        own = read_evidence(self._registry, version)
        title = f"{version.name} version {version.version}, bundle {digest_of(version)}"
        parts = [title, render_verdict(own)]
        if champion is not None and champion.version != own.version:
            parts.append(self._difference(champion, own))
        return "\n".join(parts)

    def _difference(self, champion: Record, own: Evidence) -> str:
        try:
            now = read_evidence(self._registry, self._registry.version(champion.version))
        except RegistryError as error:  # deleted since; its successor need not wait for it
            return f"the champion's own figures cannot be shown: {error}"
        return render_difference(now, own)

    def _signed(self, folder: Path) -> str:
        key = Path(self._config.signing_key)
        signature = sign_bundle(folder, key, [Path(path) for path in self._config.certificates])
        self._verify(folder, signature)
        return signature

    def _verify(self, folder: Path, signature: str) -> None:
        """Make sure that those who serve a bundle will take its signature."""
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "signature"
            file.write_text(signature, encoding="utf-8")
            verify_signature(folder, file, Path(self._config.trust))


def standing(records: list[Record]) -> Record | None:
    """The record that made the champion; None when there is none."""
    moves = [record for record in records if record.action != "reject"]
    return moves[-1] if moves else None


def _before(champion: Record | None, number: str) -> str:
    """The champion before, once `number` is it: approving it again does not make it its own."""
    if champion is None:
        return ""
    return champion.previous_version if champion.version == number else champion.version
