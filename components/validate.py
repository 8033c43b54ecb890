"""Index -> manifest of accepted views with split and fold, quarantine with reasons, Data Docs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bonexray.artifacts import refuse_overlap, remove, whole_folder, write_json
from bonexray.bundle import PROFILE_FILE
from bonexray.command import run_or_exit, step_parser
from bonexray.config import ValidateConfig, read_section
from bonexray.dataset import open_images, read_origin
from bonexray.errors import DataError, GateError
from bonexray.images import Pixels
from bonexray.tables import MANIFEST_COLUMNS, MANIFEST_FILE, read_index
from components import mura
from components.archive import SIMULATED
from components.drift import Profile, profile, within
from components.duplicates import copies_elsewhere, copies_of_own, near_pairs, partners
from components.index import IndexRow
from components.splits import Assignment, assign, read_pins, strata
from components.totals import totals
from components.validation_report import DATA_DOCS, REPORT_FILE, summarise, write_report

if TYPE_CHECKING:
    from components.gx import Finding, Validation

_MAX_SHOWN = 5


def with_derived_columns(index: pd.DataFrame, images: Pixels) -> pd.DataFrame:
    """The index with what its expectations look at beside its own columns.

    Copies are sought among the listed, readable files alone: a stray copy makes no file suspect.
    """
    usable = index["listed"] & index["problem"].isna()
    digests = index["sha256"].where(usable)
    # Pictures without detail are all alike; a rule of their own names them.
    rows = np.flatnonzero(usable & (index["pixel_std"] > 1)).astype(np.int64)
    groups = np.asarray(index["patient"].astype("category").cat.codes, np.int64)
    pairs = rows[near_pairs(images[rows], groups[rows])] if len(rows) else rows.reshape(0, 2)
    near = partners(pairs, list(index["path"]))
    known = index[index["listed"] & (index["patient"] != "")]
    sides = index[["width", "height"]]
    return index.assign(
        row=range(len(index)),
        aspect_ratio=sides.max(axis=1) / sides.min(axis=1),
        copied_elsewhere=copies_elsewhere(digests, index["patient"]),
        repeats_own=copies_of_own(digests, index["patient"]),
        near_duplicate_of=pd.Series(near, dtype=object).reindex(range(len(index))),
        mura_splits_of_patient=index["patient"].map(
            known.groupby("patient")["mura_split"].nunique()
        ),
    )


def reasons_by_path(findings: "list[Finding]") -> dict[str, list[str]]:
    """Path -> the rules of severity `warning` that its row failed, in suite order."""
    reasons: dict[str, list[str]] = {}
    for finding in findings:
        for path in finding.paths if finding.severity == "warning" else ():
            reasons.setdefault(path, []).append(finding.rule)
    return reasons


def split_patients(index: pd.DataFrame, pinned: Assignment, config: ValidateConfig) -> Assignment:
    """Split and fold of every listed patient; one in quarantine keeps its place for later."""
    listed = index[index["listed"] & (index["patient"] != "")]
    tested = listed.loc[listed["mura_split"] == "valid", "patient"]
    return assign(strata(listed, label="csv_label"), tested, pinned, config)


def divide(
    table: pd.DataFrame, reasons: dict[str, list[str]], assignment: Assignment
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Divide the index into the manifest of accepted views and the quarantine."""
    rules = table["path"].map(lambda path: ", ".join(reasons.get(path, [])))
    quarantine = table.assign(rules=rules)[rules != ""].reset_index(drop=True)
    accepted = table[rules == ""].rename(columns={"folder_label": "label"})
    places = [assignment[patient] for patient in accepted["patient"]]
    accepted["split"] = [split for split, _ in places]
    accepted["fold"] = np.array([fold for _, fold in places], dtype=np.int64)
    return accepted[MANIFEST_COLUMNS].reset_index(drop=True), quarantine


def described(manifest: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The manifest with what its expectations look at beside its own columns."""
    mura_split = table["mura_split"].to_numpy(dtype=str)[manifest["row"].astype(int)]
    label = manifest["label"].astype(str)
    return manifest.assign(
        splits_of_patient=manifest.groupby("patient")["split"].transform("nunique"),
        split_label=manifest["split"].astype(str) + "/" + label,
        stratum=mura_split.astype(object) + "/" + manifest["body_part"].astype(str) + "/" + label,
        views_in_study=manifest.groupby("study")["path"].transform("size"),
    )


def problems(
    findings: "list[Finding]", quarantine: pd.DataFrame, num_rows: int, config: ValidateConfig
) -> list[str]:
    """What stops the flow, a sentence each; empty when nothing does."""
    found = []
    share = len(quarantine) / num_rows
    if share > config.max_quarantine_fraction:
        shown = "; ".join(
            f"{row['path']} ({row['rules']}{': ' if row['error'] else ''}{row['error']})"
            for row in quarantine.head(_MAX_SHOWN).to_dict("records")
        )
        more = f"; and {len(quarantine) - _MAX_SHOWN} more" if len(quarantine) > _MAX_SHOWN else ""
        found.append(
            f"{len(quarantine)} of {num_rows} files quarantined, more than the share of "
            f"{config.max_quarantine_fraction} that validate.max_quarantine_fraction allows: "
            f"{shown}{more}"
        )
    for finding in findings:
        # A row rule that failed without naming rows could not be computed: nothing was checked.
        uncomputed = finding.severity == "warning" and not finding.paths
        if not finding.passed and (finding.severity == "critical" or uncomputed):
            failed = f"{len(finding.paths)} rows, first {finding.paths[0]}" if finding.paths else ""
            found.append(f"{finding.rule} does not hold: {failed or finding.problem}")
    return found


def read_reference(path: Path) -> Profile:
    """The champion's training images in numbers; empty when there is no champion yet."""
    try:
        reference: Profile = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as a profile: {error}") from error
    return reference


def validate(
    dataset: Path,
    splits: Path,
    reference: Path,
    out: Path,
    report: Path,
    config: ValidateConfig,
) -> None:
    """Check the index; write the report always, the manifest only when the data may pass.

    Args:
        dataset: what ingest wrote.
        splits: pinned splits of real patients; need not exist. Simulated ones are never pinned.
        reference: profile of the champion's training images; need not exist.
        out: folder of the manifest and of the training images' own profile.
        report: folder of the report.
        config: the section `validate`.

    Raises:
        DataError: an input cannot be read, or the index has no rows.
        GateError: a critical expectation failed or too much is in quarantine. The report folder
            then says why, and `out` does not exist.
    """
    # Takes seconds, and only this step needs it.
    from components.gx import Validation

    refuse_overlap([out, report], [dataset, splits, reference])
    remove(out)  # an old verdict must not stand for a new one
    index, images, origin = _read(dataset)
    pinned = {} if origin == SIMULATED else read_pins(splits, origin, config.folds)
    champion = read_reference(reference)
    validation, table = Validation(), with_derived_columns(index, images)
    findings, manifest, quarantine = _judge(validation, table, pinned, config)
    accepted = table.iloc[manifest.loc[manifest["split"] != "test", "row"]]
    findings += _compare(validation, table, accepted, origin, champion)
    stopped_by = problems(findings, quarantine, len(index), config)
    with whole_folder(report) as folder:
        validation.write_data_docs(folder / DATA_DOCS)
        summary = summarise(origin, manifest, quarantine, findings, stopped_by)
        write_report(folder, images, manifest, quarantine, summary)
    if stopped_by:
        raise GateError(f"{'. '.join(stopped_by)}. See {report / REPORT_FILE}")
    print(f"validate: {len(manifest)} views accepted, {len(quarantine)} quarantined -> {report}")
    with whole_folder(out) as folder:
        write_json(folder / PROFILE_FILE, profile(accepted))
        manifest.to_parquet(folder / MANIFEST_FILE, index=False)


def _judge(
    validation: "Validation", table: pd.DataFrame, pinned: Assignment, config: ValidateConfig
) -> "tuple[list[Finding], pd.DataFrame, pd.DataFrame]":
    """What was found of files and manifest, the manifest, the quarantine."""
    from components import expectations

    findings = validation.check("files", table, expectations.file_expectations(config))
    assignment = split_patients(table, pinned, config)
    manifest, quarantine = divide(table, reasons_by_path(findings), assignment)
    findings += validation.check(
        "manifest", described(manifest, table), expectations.manifest_expectations()
    )
    return findings, manifest, quarantine


def _compare(
    validation: "Validation",
    table: pd.DataFrame,
    accepted: pd.DataFrame,
    origin: str,
    champion: Profile,
) -> "list[Finding]":
    """What was found beside the published totals and the champion's training images."""
    from components import expectations

    findings: list[Finding] = []
    if origin == mura.ROOT:
        findings += validation.check("totals", totals(table), expectations.totals_expectations())
    if champion:
        drift = expectations.drift_expectations(champion)
        findings += validation.check("drift", within(accepted, champion), drift)
    return findings


def _read(dataset: Path) -> tuple[pd.DataFrame, Pixels, str]:
    index, images, origin = read_index(dataset), open_images(dataset), read_origin(dataset)
    if index.empty:
        raise DataError(f"{dataset}: the index has no rows")
    if len(index) != len(images):
        raise DataError(f"{dataset}: {len(index)} rows in the index, {len(images)} packed images")
    missing = set(IndexRow.__annotations__) - set(index.columns)
    if missing:
        raise DataError(f"{dataset}: the index lacks the columns {sorted(missing)}")
    return index, images, origin.origin


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of the step."""
    parser = step_parser("validate", "Check the index, quarantine bad files, make the splits.")
    parser.add_argument("--dataset", type=Path, required=True, help="folder that ingest wrote")
    parser.add_argument("--splits", type=Path, required=True, help="pinned splits, if there")
    parser.add_argument(
        "--reference", type=Path, required=True, help="champion's profile, if there"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the manifest")
    parser.add_argument("--report", type=Path, required=True, help="folder for the report")
    args = parser.parse_args(argv)
    run_or_exit(
        "validate",
        lambda: validate(
            args.dataset,
            args.splits,
            args.reference,
            args.out,
            args.report,
            read_section(args.params, ValidateConfig),
        ),
    )


if __name__ == "__main__":
    main()
