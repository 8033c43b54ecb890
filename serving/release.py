"""A person's decision on a candidate: approve it, and it is what serving loads.

    python -m serving.release verify reports/evaluation
    python -m serving.release approve candidate --by NAME --reason TEXT

The only module of serving that knows the registry. The order of the writes makes every kill
harmless: bundle, record, aliases, pointer. Approving again finishes what was cut off.
"""

import argparse
import json
import logging
import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bonexray.bundle import verify_bundle
from bonexray.command import run_or_exit
from bonexray.errors import BundleError, ConfigError, GateError, RegistryError
from bonexray.registry import (
    BUNDLE_DIGEST_TAG,
    CANDIDATE,
    CHAMPION,
    GATE_PASSED,
    GATE_SHA256_TAG,
    GATE_TAG,
    GATE_WARNINGS_TAG,
    PREVIOUS,
    tracking_uri,
)
from bonexray.store import BundleStore, Champion
from serving.pack import verify_pack

# Set before MLflow is imported: it draws a bar per file, and would unpickle what it loads.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"

import mlflow  # noqa: E402  (after the settings above)
from mlflow import MlflowClient  # noqa: E402
from mlflow.entities.model_registry import ModelVersion  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402

RECORDS_FILE = "records.jsonl"


def approve(
    client: MlflowClient,
    model_name: str,
    wanted: str,
    by: str,
    reason: str,
    override: str,
    store: BundleStore,
) -> None:
    """Make a version the champion: in the store, in the registry's aliases and on record.

    Args:
        client: the registry.
        model_name: the model's name in it.
        wanted: a version number or an alias.
        by: who decides.
        reason: why, in words.
        override: why the gate's warnings do not matter, in words; empty when there are none.
        store: where serving looks.

    Raises:
        ConfigError: nobody or no reason was named.
        RegistryError: there is no such version, it has no lineage of ours, or the records are torn.
        GateError: its gate did not pass, or passed with warnings that nobody overrides.
        BundleError: the registry's files are not the bundle that was registered.
    """
    if not by.strip() or not reason.strip():
        raise ConfigError("--by and --reason must say who approves and why, found an empty text")
    version = find_version(client, model_name, wanted)
    if version.tags.get(GATE_TAG) != GATE_PASSED:
        raise GateError(f"{model_name} version {version.version} did not pass the gate")
    warnings = version.tags.get(GATE_WARNINGS_TAG, "unknown")
    if warnings != "0" and not override.strip():
        raise GateError(
            f"{model_name} version {version.version} passed the gate with {warnings} warnings; "
            "read its report, and say in --override why they do not matter"
        )
    digest = _fetch(version, store)
    champion = _version_under(client, model_name, CHAMPION)
    _record(store.root / RECORDS_FILE, version, champion, by, reason, override)
    if champion is not None and champion.version != version.version:
        client.set_registered_model_alias(model_name, PREVIOUS, champion.version)
    client.set_registered_model_alias(model_name, CHAMPION, version.version)
    store.set_champion(Champion(model_name=model_name, version=str(version.version), digest=digest))
    print(
        f"release: {model_name} version {version.version} ({digest[:12]}) is the champion; "
        f"approved by {by}"
    )


def find_version(client: MlflowClient, model_name: str, wanted: str) -> ModelVersion:
    """A version by its number or by an alias. Raises RegistryError."""
    try:
        if wanted.isdecimal():
            return client.get_model_version(model_name, wanted)
        return client.get_model_version_by_alias(model_name, wanted)
    except MlflowException as error:
        raise RegistryError(
            f"{tracking_uri()}: no version {wanted!r} of {model_name!r}: {error.message}"
        ) from error


def _version_under(client: MlflowClient, model_name: str, alias: str) -> ModelVersion | None:
    aliases = client.get_registered_model(model_name).aliases
    return client.get_model_version(model_name, aliases[alias]) if alias in aliases else None


def _fetch(version: ModelVersion, store: BundleStore) -> str:
    """Copy a version's bundle into the store; trust its registered digest, not its source."""
    expected = version.tags.get(BUNDLE_DIGEST_TAG)
    if expected is None:
        raise RegistryError(f"version {version.version} carries no tag {BUNDLE_DIGEST_TAG}")
    with tempfile.TemporaryDirectory() as folder:
        try:
            bundle = Path(
                mlflow.artifacts.download_artifacts(
                    f"models:/{version.name}/{version.version}", dst_path=folder
                )
            )
        except (MlflowException, OSError) as error:
            raise RegistryError(
                f"{tracking_uri()}: version {version.version} cannot be fetched: {error}"
            ) from error
        digest = verify_bundle(bundle)
        if digest != expected:
            raise BundleError(
                f"version {version.version}: the registry's files are bundle {digest}, "
                f"registered was {expected}"
            )
        return store.add(bundle)


def _record(
    path: Path,
    version: ModelVersion,
    champion: ModelVersion | None,
    by: str,
    reason: str,
    override: str,
) -> None:
    """Append the decision, unless it is the last one on record: then this run finishes it."""
    decision = {
        "action": "approve",
        "by": by,
        "reason": reason,
        "override": override,
        "model_name": version.name,
        "version": str(version.version),
        "bundle_digest": version.tags[BUNDLE_DIGEST_TAG],
        "gate_sha256": version.tags.get(GATE_SHA256_TAG, ""),
    }
    if decision.items() <= _last_record(path).items():
        return
    record = decision | {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "previous_version": str(champion.version) if champion else "",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    # A record that lost its line's end must not swallow this one.
    gap = "\n" if path.exists() and path.read_bytes()[-1:] not in (b"", b"\n") else ""
    with path.open("a", encoding="utf-8") as file:
        file.write(gap + json.dumps(record, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _last_record(path: Path) -> dict[str, Any]:
    lines = path.read_bytes().splitlines() if path.exists() else []
    if not lines:
        return {}
    try:
        return dict(json.loads(lines[-1]))
    except (ValueError, TypeError) as error:
        raise RegistryError(f"{path}, line {len(lines)}: not a record: {error}") from error


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m serving.release", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    check = commands.add_parser("verify", help="check a release pack: digests, figures, verdict")
    check.add_argument("pack", type=Path, help="folder that evaluate wrote as its report")
    command = commands.add_parser("approve", help="make a version the champion")
    command.add_argument("version", help=f"version number, or an alias such as {CANDIDATE}")
    command.add_argument("--by", required=True, help="who approves")
    command.add_argument("--reason", required=True, help="why")
    command.add_argument(
        "--override", default="", help="why the gate's warnings do not matter, if there are any"
    )
    command.add_argument("--model-name", default="bonexray", help="name in the registry")
    command.add_argument(
        "--store", type=Path, default=Path("release"), help="folder that serving reads"
    )
    args = parser.parse_args(argv)
    if args.command == "verify":
        run_or_exit("release", lambda: print(f"release: {verify_pack(args.pack)}"))
        return
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(tracking_uri())
    run_or_exit(
        "release",
        lambda: approve(
            MlflowClient(),
            args.model_name,
            args.version,
            args.by,
            args.reason,
            args.override,
            BundleStore(args.store),
        ),
    )


if __name__ == "__main__":
    main()
