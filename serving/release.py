"""A person's decision on a version: approve it, and it is what serving loads.

python -m serving.release verify reports/evaluation
python -m serving.release approve candidate --by NAME --reason TEXT
python -m serving.release rollback --by NAME --reason TEXT
python -m serving.release reject VERSION --by NAME --reason TEXT
python -m serving.release status | history
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from bonexray.command import run_or_exit
from bonexray.registry import CANDIDATE
from bonexray.store import BundleStore
from serving.decisions import approve, reject, rollback, settle, standing
from serving.pack import verify_pack
from serving.records import Record, Records
from serving.registry import Registry

_DID = {"approve": "is the champion; approved by", "rollback": "is the champion again; by",
        "reject": "is rejected by"}  # fmt: skip


def told(record: Record) -> str:
    """A decision in a line."""
    name = f"{record.model_name} version {record.version} ({record.bundle_digest[:12]})"
    return f"{name} {_DID[record.action]} {record.by}"


def show_status(registry: Registry, store: BundleStore) -> None:
    """Print what is served and since when; finish what a killed decision left.

    Raises:
        RecordsError: the records are not as they were written.
        RegistryError: the aliases cannot be moved.
    """
    records = Records(store.root)
    with records.held():
        unfinished = settle(registry, store, records)
    champion = standing(records.read())
    if champion is None:
        print(f"release: no champion in {store.root}/")
        return
    before = champion.previous_version or "none"
    print(f"release: {told(champion)} at {champion.at}: {champion.reason}; before it: {before}")
    if unfinished:
        print("release: its decision had been cut off; it is finished now")


def show_history(store: BundleStore) -> None:
    """Print every decision, oldest first, once their chain is verified. Raises RecordsError."""
    records = Records(store.root)
    for record in records.read():
        override = f"; override: {record.override}" if record.override else ""
        print(f"{record.number:>4}  {record.at}  {told(record)}: {record.reason}{override}")
    print(f"release: {records.path} holds {len(records.read())} decisions, none altered")


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    args = _parser().parse_args(argv)
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)

    def run() -> None:
        if args.command == "verify":
            print(f"release: {verify_pack(args.pack)}")
            return
        store = BundleStore(args.store)
        if args.command == "history":
            show_history(store)
            return
        registry = Registry(args.model_name)
        if args.command == "status":
            show_status(registry, store)
            return
        why = {"by": args.by, "reason": args.reason}
        if args.command == "approve":
            record = approve(registry, store, args.version, override=args.override, **why)
        elif args.command == "reject":
            record = reject(registry, store, args.version, **why)
        else:
            record = rollback(registry, store, **why)
        print(f"release: {told(record)}")

    run_or_exit("release", run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.release",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, dest="command")
    check = commands.add_parser("verify", help="check a release pack: digests, figures, verdict")
    check.add_argument("pack", type=Path, help="folder that evaluate wrote as its report")
    for name, help_text in (
        ("approve", "make a version the champion"),
        ("reject", "put on record that a version is not wanted"),
        ("rollback", "make the champion before this one the champion again"),
        ("status", "what is served, and what a killed decision left"),
        ("history", "every decision, its chain verified"),
    ):
        command = commands.add_parser(name, help=help_text)
        command.add_argument(
            "--store", type=Path, default=Path("release"), help="folder that serving reads"
        )
        if name != "history":
            command.add_argument("--model-name", default="bonexray", help="name in the registry")
        if name in ("approve", "reject"):
            command.add_argument("version", help=f"number, or an alias such as {CANDIDATE}")
        if name in ("approve", "reject", "rollback"):
            command.add_argument("--by", required=True, help="who decides")
            command.add_argument("--reason", required=True, help="why")
        if name == "approve":
            command.add_argument(
                "--override", default="", help="why the gate's warnings do not matter"
            )
    return parser


if __name__ == "__main__":
    main()
