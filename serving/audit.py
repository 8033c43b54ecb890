"""Check the records of answers, and give an answer again from the same bytes.

python -m serving.audit verify [--audit FOLDER]
python -m serving.audit replay ANSWER_ID VIEW [VIEW ...] [--audit FOLDER] [--store FOLDER]
"""

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

from bonexray.command import run_or_exit
from bonexray.errors import LineageError, RecordsError
from bonexray.images import PREPROCESSING
from bonexray.store import BundleStore
from serving.answer_records import AuditRecord, read_audit
from serving.engine import Engine
from serving.judging import judge
from serving.studies import AskedStudies, AskedView, ToldStudy, ToldView

_TOLERANCE = 1e-6


def find_record(folder: Path, answer_id: str) -> AuditRecord:
    """The record of one answer, after the whole chain was verified.

    Raises:
        RecordsError: there is none, or the records are not as they were written.
    """
    for record in read_audit(folder):
        if record.answer_id == answer_id:
            return record
    raise RecordsError(f"{folder}: no answer {answer_id}")


def replay(record: AuditRecord, views: Sequence[bytes], store: BundleStore) -> str:
    """Read the same bytes with the same bundle, and compare what comes out.

    Args:
        record: of the answer.
        views: the files of the request, in any order.
        store: holds the bundle.

    Returns:
        What was compared, in a line.

    Raises:
        BundleError: the bundle is not in the store, or was altered.
        LineageError: the files are others, or the answer is another.
    """
    by_digest = {hashlib.sha256(data).hexdigest(): data for data in views}
    missing = [view.sha256[:12] for view in record.views if view.sha256 not in by_digest]
    if missing:
        raise LineageError(f"{record.answer_id}: no file given has the SHA-256 {missing[0]}...")
    if record.preprocessing != PREPROCESSING:
        raise LineageError(
            f"{record.answer_id}: preprocessing {record.preprocessing}, this code has "
            f"{PREPROCESSING}: check out the commit that answered"
        )
    bundle = store.open(record.bundle_digest)
    engine = Engine(bundle, 1, record.precision)
    if engine.precision != record.precision:
        raise LineageError(
            f"{record.answer_id}: was answered in {record.precision}, which this CPU does not do"
        )
    # A claim of the file's own is in the record, and is found again.
    asked = AskedStudies(
        views=tuple(
            AskedView(data=by_digest[view.sha256], claimed_part=view.claimed_part)
            for view in record.views
        ),
        study_of=tuple(view.study for view in record.views),
    )
    read = engine.read_now(asked.views)
    studies, told = judge(asked, read, bundle, engine.map_shape, with_heatmaps=False)
    _compare(record, studies, told)
    first = record.studies[0]
    return (
        f"{record.answer_id}: studies {len(studies)}, views {len(told)}, all told as on "
        f"{record.at}: {first.verdict}, {first.probability:.6f}"
    )


def _compare(record: AuditRecord, studies: list[ToldStudy], views: list[ToldView]) -> None:
    then = [(study.probability, study.refusal) for study in record.studies]
    then += [(view.probability, view.refusal) for view in record.views]
    now = [(study.probability, study.refusal) for study in studies]
    now += [(view.probability, view.refusal) for view in views]
    for (before, reason), (again, other) in zip(then, now, strict=True):
        if abs(before - again) > _TOLERANCE or reason != other:
            raise LineageError(
                f"{record.answer_id}: told {before:.6f} {reason} then, {again:.6f} {other} now"
            )


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m serving.audit", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    verify = commands.add_parser("verify", help="check that no record was altered or left out")
    again = commands.add_parser("replay", help="give an answer again from the same bytes")
    again.add_argument("answer_id", metavar="ANSWER_ID")
    again.add_argument("views", type=Path, nargs="+", metavar="VIEW", help="files of the request")
    again.add_argument("--store", type=Path, default=Path("release"), help="holds the bundle")
    for command in (verify, again):
        command.add_argument(
            "--audit", type=Path, default=Path("audit"), help="folder that the server wrote"
        )
    args = parser.parse_args(argv)

    def run() -> None:
        if args.command == "verify":
            records = read_audit(args.audit)
            print(
                f"audit: {len(records)} answers from {records[0].at} to {records[-1].at}, "
                "each followed by the next"
            )
            return
        record = find_record(args.audit, args.answer_id)
        views = [path.read_bytes() for path in args.views]
        print(f"audit: {replay(record, views, BundleStore(args.store))}")

    run_or_exit("audit", run)


if __name__ == "__main__":
    main()
