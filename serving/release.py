"""A person's decision on a version: approve it, and it is what serving loads.

python -m serving.release keys                             a pair of keys, once
python -m serving.release verify reports/evaluation
python -m serving.release diff champion candidate
python -m serving.release approve candidate --by NAME --reason TEXT
python -m serving.release rollback --by NAME --reason TEXT
python -m serving.release reject VERSION --by NAME --reason TEXT
python -m serving.release status | history
python -m serving.release trace VERSION|DIGEST|ANSWER_ID
python -m serving.release rebuild VERSION
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from bonexray.command import run_or_exit
from bonexray.config import read_section
from bonexray.errors import ConfigError
from bonexray.registry import CANDIDATE
from bonexray.release_config import ReleaseConfig
from bonexray.serve_config import ServeConfig
from bonexray.store import BundleStore
from serving.decisions import Board, standing
from serving.evidence import read_evidence, render_difference
from serving.pack import verify_pack
from serving.rebuild import rebuild
from serving.records import Record, Records
from serving.registry import Registry
from serving.signature import make_keys
from serving.trace import trace

_DID = {"approve": "is the champion; approved by", "rollback": "is the champion again; by",
        "reject": "is rejected by"}  # fmt: skip


def told(record: Record) -> str:
    """A decision in a line."""
    name = f"{record.model_name} version {record.version} ({record.bundle_digest[:12]})"
    return f"{name} {_DID[record.action]} {record.by}"


def confirmed(text: str) -> bool:
    """Show a text and ask. Raises ConfigError when nobody can answer."""
    print(text)
    if not sys.stdin.isatty():
        raise ConfigError("nobody to ask: say --yes to approve without being asked")
    return input("\nApprove? [y/N] ").strip().lower() in ("y", "yes")


def shown(text: str) -> bool:
    """Show a text and go on."""
    print(text)
    return True


def show_status(board: Board, store: BundleStore) -> None:
    """Print what is served and since when; finish what a killed decision left.

    Raises:
        RecordsError: the records are not as they were written.
        BundleError: the champion's bundle is not in the store any more, or was altered.
        RegistryError: the aliases cannot be moved.
    """
    with board.records.held():
        unfinished = board.settle()
    champion = standing(board.records.read())
    if champion is None:
        print(f"release: no champion in {store.root}/")
        return
    before = champion.previous_version or "none"
    print(f"release: {told(champion)} at {champion.at}: {champion.reason}; before it: {before}")
    if unfinished:
        print("release: its decision had been cut off; it is finished now")


def show_history(records: Records) -> None:
    """Print every decision, oldest first, once their chain is verified. Raises RecordsError."""
    decisions = records.read()
    for record in decisions:
        override = f"; override: {record.override}" if record.override else ""
        print(f"{record.number:>4}  {record.at}  {told(record)}: {record.reason}{override}")
    print(f"release: {records.path} holds {len(decisions)} decisions, none altered")


def show_difference(registry: Registry, before: str, after: str) -> None:
    """Print two versions side by side. Raises RegistryError, PackError."""
    sides = [read_evidence(registry, registry.version(wanted)) for wanted in (before, after)]
    print(render_difference(*sides))


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    args = _parser().parse_args(argv)
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # its errors are raised too
    run_or_exit("release", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    if args.command == "verify":
        print(f"release: {verify_pack(args.pack)}")
    elif args.command == "history":
        show_history(Records(args.store))
    elif args.command == "diff":
        show_difference(Registry(args.model_name), args.before, args.after)
    elif args.command == "rebuild":
        rebuild(Registry(args.model_name), args.version)
    else:
        _run_with_settings(args)


def _run_with_settings(args: argparse.Namespace) -> None:
    config = read_section(str(args.params), ReleaseConfig)
    if args.command == "keys":
        make_keys(Path(config.signing_key), Path(config.trust))
        print(f"release: signs with {config.signing_key}, verifies with {config.trust}")
        return
    store, registry = BundleStore(args.store), Registry(args.model_name)
    if args.command == "trace":
        trace(registry, store, Path(config.trust), args.subject)
        return
    serve = read_section(str(args.params), ServeConfig)
    board = Board(registry, store, config, serve)
    if args.command == "status":
        show_status(board, store)
        return
    why = {"by": args.by, "reason": args.reason}
    if args.command == "approve":
        ask = shown if args.yes else confirmed
        record = board.approve(args.version, override=args.override, ask=ask, **why)
    elif args.command == "reject":
        record = board.reject(args.version, **why)
    else:
        record = board.rollback(**why)
    print(f"release: {told(record)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.release",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, dest="command")
    for name, help_text in (
        ("keys", "make the pair of keys that params.yaml names"),
        ("verify", "check a release pack: digests, figures, verdict"),
        ("diff", "two versions side by side: figures, data, settings"),
        ("approve", "make a version the champion"),
        ("reject", "put on record that a version is not wanted"),
        ("rollback", "make the champion before this one the champion again"),
        ("status", "what is served, and what a killed decision left"),
        ("history", "every decision, its chain verified"),
        ("trace", "from a served answer to model, run, settings, data and code; each link checked"),
        ("rebuild", "run the flow of a version again from its commit, and compare digests"),
    ):
        _add_flags(commands.add_parser(name, help=help_text), name)
    return parser


def _add_flags(command: argparse.ArgumentParser, name: str) -> None:
    if name == "verify":
        command.add_argument("pack", type=Path, help="folder that evaluate wrote as its report")
        return
    for position in {"diff": ("before", "after"), "trace": ("subject",)}.get(name, ()):
        command.add_argument(
            position, help="version, alias" + ", digest, answer" * (name != "diff")
        )
    if name in ("approve", "reject", "rebuild"):
        command.add_argument("version", help=f"number, or an alias such as {CANDIDATE}")
    if name not in ("history", "diff", "rebuild"):
        command.add_argument(
            "--params",
            type=Path,
            default=Path("params.yaml"),
            help="whose sections release and serve they are",
        )
    if name not in ("keys", "diff", "rebuild"):
        command.add_argument(
            "--store", type=Path, default=Path("release"), help="folder that serving reads"
        )
    if name not in ("keys", "history"):
        command.add_argument("--model-name", default="bonexray", help="name in the registry")
    if name in ("approve", "reject", "rollback"):
        command.add_argument("--by", required=True, help="who decides")
        command.add_argument("--reason", required=True, help="why")
    if name == "approve":
        command.add_argument("--override", default="", help="why the gate's warnings do not matter")
        command.add_argument("--yes", action="store_true", help="do not ask")


if __name__ == "__main__":
    main()
