"""From a served answer back to model, run, settings, data and code, each link checked."""

import hashlib
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from bonexray.artifacts import sha256_json
from bonexray.bundle import Bundle, TrainedNetwork, open_bundle
from bonexray.errors import BonexrayError, LineageError
from bonexray.registry import (
    BUNDLE_DIGEST_TAG,
    DVC_OUTS_TAG,
    GATE_SHA256_TAG,
    HARDWARE_TAG,
    LOCK_SHA256_TAG,
    NONE,
    PACK_SHA256_TAG,
    PARAMS_SHA256_TAG,
    PARENT_RUN_TAG,
    PIPELINE_RUN_TAG,
    SIGNATURE_TAG,
    TAG_PREFIX,
    TRAINING_SHA256_TAG,
    UNKNOWN,
)
from bonexray.sealed import MANIFEST_FILE, Manifest
from bonexray.store import BundleStore
from serving.evidence import Evidence, check_evidence
from serving.records import Record, Records
from serving.registry import Registry
from serving.signature import open_signed

_ANSWER_ID = re.compile(r"([0-9a-f]{16})-[0-9a-f]{32}")
_DIGEST = re.compile(r"[0-9a-f]{12,64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LOCK = "requirements.lock"


def trace(registry: Registry, store: BundleStore, trust: Path, subject: str) -> None:
    """Print every link from a version, a bundle or an answer to code and data.

    Args:
        registry: holds versions and runs.
        store: what serving reads, and the records.
        trust: what signatures are verified with.
        subject: a version or alias; a bundle's digest, or 12 digits or more of it; an answer's id.

    Raises:
        LineageError: the first link that does not hold.
        RecordsError: the records are not as they were written.
        RegistryError: there is no such version.
    """
    records = Records(store.root).read()
    version, found = _find(registry, records, subject)
    print(f"  {found}")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            for link in _links(registry, store, trust, version, records, Path(scratch)):
                print(f"  {link}", flush=True)
        except LineageError:
            raise
        except BonexrayError as error:
            raise LineageError(str(error)) from error
    print(f"release: every link of {version.name} version {version.version} holds")


def _find(registry: Registry, records: list[Record], subject: str) -> tuple[ModelVersion, str]:
    """The version that a subject means, and how it was found."""
    answer = _ANSWER_ID.fullmatch(subject)
    if not answer and not _DIGEST.fullmatch(subject):
        version = registry.version(subject)
        return version, f"{subject}: {version.name} version {version.version}"
    start = answer[1] if answer else subject
    served = {r.version for r in records if r.signature and r.bundle_digest.startswith(start)}
    if served:
        number = max(served, key=int)
        kind = "answered by" if answer else "is"
        return registry.version(number), f"{subject}: {kind} {registry.model_name} version {number}"
    if answer:
        raise LineageError(f"{subject}: no bundle {start}... was ever approved here to answer")
    for version in registry.versions():
        if version.tags.get(BUNDLE_DIGEST_TAG, "").startswith(start):
            return version, f"{subject}: is {version.name} version {version.version}"
    raise LineageError(
        f"{subject}: no version of {registry.model_name} has a bundle of that digest"
    )


def _links(
    registry: Registry,
    store: BundleStore,
    trust: Path,
    version: ModelVersion,
    records: list[Record],
    scratch: Path,
) -> Iterator[str]:
    yield from _approval(store, trust, version, records)
    bundle_folder = registry.bundle(version, scratch / "bundle")
    bundle = open_bundle(bundle_folder)
    yield from _bundle(bundle, version)
    report = registry.report(version, scratch)
    evidence = check_evidence(report, version)
    yield from _evidence(evidence, report, version)
    yield from _runs(registry, evidence, version)
    yield from _code(bundle.info.provenance.code_commit, version)
    yield from _dvc(version, {"bundle": bundle_folder, "reports/evaluation": report})


def _approval(
    store: BundleStore, trust: Path, version: ModelVersion, records: list[Record]
) -> Iterator[str]:
    own = [r for r in records if r.signature and r.version == str(version.version)]
    if not own:
        yield "approval   none: it was never the champion"
        return
    record = own[-1]
    for name, tag in (
        ("bundle_digest", BUNDLE_DIGEST_TAG),
        ("gate_sha256", GATE_SHA256_TAG),
        ("pack_sha256", PACK_SHA256_TAG),
    ):
        _same(f"record {record.number}, {name}", getattr(record, name), tag, version)
    yield f"approval   record {record.number} of {len(records)}, by {record.by}, {record.at}"
    open_signed(store, record.bundle_digest, trust)
    yield f"signature  verified with {trust}, over every file that is served"


def _bundle(bundle: Bundle, version: ModelVersion) -> Iterator[str]:
    provenance = bundle.info.provenance
    for name in ("dataset_sha256", "manifest_sha256", "code_commit"):
        _same(f"bundle.json, {name}", getattr(provenance, name), TAG_PREFIX + name, version)
    for name in TrainedNetwork.model_fields:
        values = "+".join(str(getattr(network, name)) for network in provenance.networks)
        _same(f"bundle.json, {name}", values, TAG_PREFIX + name, version)
    yield f"bundle     {bundle.digest}, its files in the registry as they were sealed"
    weights = ", ".join(network.weights_sha256[:12] for network in provenance.networks)
    yield f"weights    {weights}, from {', '.join(n.start_weights for n in provenance.networks)}"


def _evidence(evidence: Evidence, report: Path, version: ModelVersion) -> Iterator[str]:
    digests = Manifest.model_validate_json((report / MANIFEST_FILE).read_bytes()).sha256
    _same("gate.json", digests["gate.json"], GATE_SHA256_TAG, version)
    _same("params.json", digests["params.json"], PARAMS_SHA256_TAG, version)
    warnings = evidence.gate["warnings"]
    yield f"pack       {version.tags[PACK_SHA256_TAG][:12]}, gate passed with {warnings} warnings"
    yield f"settings   {digests['params.json'][:12]}"


def _runs(registry: Registry, evidence: Evidence, version: ModelVersion) -> Iterator[str]:
    run = registry.run(version.run_id or "")
    for name in version.tags:
        if name.startswith(TAG_PREFIX) and name != SIGNATURE_TAG:
            _same(f"run {version.run_id}, {name}", run.data.tags.get(name), name, version)
    yield f"run        {version.run_id}"
    if (pipeline_run := version.tags.get(PIPELINE_RUN_TAG, NONE)) != NONE:
        yield f"pipeline   Kubeflow run {pipeline_run}"
    parents = version.tags.get(PARENT_RUN_TAG, UNKNOWN).split("+")
    for record, parent in zip(evidence.trainings, parents, strict=False):
        if parent == UNKNOWN:
            yield f"training   {record.arch}: MLflow was not told of it"
            continue
        said = registry.run(parent).data.tags.get(TRAINING_SHA256_TAG)
        if said != sha256_json(record.model_dump()):
            raise LineageError(f"training run {parent} is not that of {record.arch} in the pack")
        yield f"training   {record.arch}: run {parent}"
    yield f"hardware   {version.tags.get(HARDWARE_TAG, UNKNOWN)}"


def _code(commit: str, version: ModelVersion) -> Iterator[str]:
    if not _COMMIT.fullmatch(commit):
        raise LineageError(f"code commit is {commit!r}: what made the bundle is in no commit")
    if _git("cat-file", "-e", f"{commit}^{{commit}}") is None:
        raise LineageError(f"code commit {commit} is not in this repository; git fetch it")
    yield f"code       commit {commit}, nothing changed beside it"
    lock = version.tags.get(LOCK_SHA256_TAG, NONE)
    if lock == NONE:
        yield "packages   registered where there was no lock file"
        return
    locked = _git("show", f"{commit}:{_LOCK}")
    found = None if locked is None else hashlib.sha256(locked).hexdigest()
    _same(f"{_LOCK} of that commit", found, LOCK_SHA256_TAG, version)
    yield f"packages   {_LOCK} {lock[:12]}, as of that commit"


def _dvc(version: ModelVersion, folders: dict[str, Path]) -> Iterator[str]:
    told = version.tags.get(DVC_OUTS_TAG, NONE)
    if told == NONE:
        yield "DVC        registered outside of `dvc repro`"
        return
    outs = json.loads(told)
    for name, folder in folders.items():
        found = dvc_hash(folder)
        if outs.get(name) != found:
            raise LineageError(f"DVC's hash of {name} is {outs.get(name)}, the registry's {found}")
    yield f"DVC        {len(outs)} outputs named; bundle and report are those of the registry"
    dataset = outs.get("data/dataset", "")
    cached = Path(".dvc/cache/files/md5") / dataset[:2] / dataset[2:]
    where = "in DVC's cache" if cached.exists() else "not in DVC's cache here: dvc pull"
    yield f"data       {version.tags[TAG_PREFIX + 'dataset_sha256'][:12]}, {where}"


def dvc_hash(folder: Path) -> str:
    """What DVC calls a folder: the MD5 of the list of its files and theirs."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = [
        {
            "md5": hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest(),
            "relpath": path.relative_to(folder).as_posix(),
        }
        for path in files
    ]
    listed.sort(key=lambda entry: entry["relpath"])
    text = json.dumps(listed, sort_keys=True).encode()
    return f"{hashlib.md5(text, usedforsecurity=False).hexdigest()}.dir"


def _same(name: str, found: str | None, tag: str, version: ModelVersion) -> None:
    if found != version.tags.get(tag):
        raise LineageError(
            f"{name} is {found}; version {version.version} was registered with {tag} = "
            f"{version.tags.get(tag)}"
        )


def _git(*arguments: str) -> bytes | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
