"""Index -> manifest of accepted views with their split, quarantine with reasons, Data Docs."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from bonexray.artifacts import remove, whole_folder, write_json
from bonexray.command import run_or_exit, step_parser
from bonexray.config import ValidateConfig, read_section
from bonexray.dataset import MANIFEST_COLUMNS, MANIFEST_FILE, read_index
from bonexray.errors import DataError, GateError

if TYPE_CHECKING:
    from components.expectations import Finding

QUARANTINE_FILE = "quarantine.parquet"
REPORT_FILE = "report.json"
DATA_DOCS = "data_docs"
_MAX_SHOWN = 5


def split_of(patient: str, mura_split: str, config: ValidateConfig) -> str:
    """The split of a patient: MURA's valid set is `test`; `val` is carved from its train set.

    The draw is a hash of seed and patient, so a patient keeps its split when others are added.
    """
    if mura_split == "valid":
        return "test"
    drawn = hashlib.sha256(f"{config.seed}/{patient}".encode()).digest()[:8]
    share = int.from_bytes(drawn, "big") / 2**64
    return "val" if share < config.val_fraction else "train"


def reasons_by_path(findings: "list[Finding]") -> dict[str, list[str]]:
    """Path -> the rules that its row failed, in suite order."""
    reasons: dict[str, list[str]] = {}
    for finding in findings:
        for path in finding.paths:
            reasons.setdefault(path, []).append(finding.rule)
    return reasons


def divide(
    index: pd.DataFrame, reasons: dict[str, list[str]], config: ValidateConfig
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Divide the index into the manifest of accepted views and the quarantine."""
    table = index.assign(row=range(len(index)))
    rules = table["path"].map(lambda path: ", ".join(reasons.get(path, [])))
    quarantine = table.assign(rules=rules)[rules != ""].reset_index(drop=True)
    accepted = table[rules == ""].rename(columns={"folder_label": "label"})
    accepted["split"] = [
        split_of(patient, mura_split, config)
        for patient, mura_split in zip(accepted["patient"], accepted["mura_split"], strict=True)
    ]
    return accepted[MANIFEST_COLUMNS].reset_index(drop=True), quarantine


def with_derived_columns(manifest: pd.DataFrame) -> pd.DataFrame:
    """The manifest with what its expectations look at beside its own columns."""
    return manifest.assign(
        splits_of_patient=manifest.groupby("patient")["split"].transform("nunique"),
        split_label=manifest["split"] + "/" + manifest["label"].astype(str),
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
        if not finding.passed and (finding.severity == "critical" or not finding.paths):
            found.append(f"{finding.rule} does not hold: {finding.problem}{_first(finding)}")
    return found


def _first(finding: "Finding") -> str:
    return f"; first at {finding.paths[0]}" if finding.paths else ""


def summarise(
    manifest: pd.DataFrame,
    quarantine: pd.DataFrame,
    findings: "list[Finding]",
    stopped_by: list[str],
) -> dict[str, Any]:
    """The content of report.json."""
    per_split = manifest.groupby("split").agg(
        views=("path", "size"), studies=("study", "nunique"), patients=("patient", "nunique")
    )
    abnormal = manifest[manifest["label"] == 1].groupby("split")["study"].nunique()
    per_split["abnormal_studies"] = abnormal.reindex(per_split.index, fill_value=0)
    return {
        "passed": not stopped_by,
        "stopped_by": stopped_by,
        "splits": per_split.to_dict("index"),
        "quarantined": {
            "files": len(quarantine),
            "by_rule": quarantine["rules"].str.split(", ").explode().value_counts().to_dict(),
        },
        "expectations": [
            {key: value for key, value in asdict(finding).items() if key != "paths"}
            for finding in findings
        ],
    }


def validate(dataset: Path, out: Path, report: Path, config: ValidateConfig) -> None:
    """Check the index; write the report always, the manifest only when the data may pass.

    Raises:
        DataError: the index cannot be read or is empty.
        GateError: a critical expectation failed or too much is in quarantine. The report folder
            then says why, and `out` does not exist.
    """
    # Takes seconds, and only this step needs it.
    from components.expectations import Validation, file_expectations, manifest_expectations

    remove(out)  # an old verdict must not stand for a new one
    index = read_index(dataset)
    if index.empty:
        raise DataError(f"{dataset}: the index has no rows")
    validation = Validation()
    # Great Expectations skips nulls: a file without bytes is no duplicate of another.
    index["sha256"] = index["sha256"].mask(index["sha256"] == "")
    file_findings = validation.check("files", index, file_expectations())
    manifest, quarantine = divide(index, reasons_by_path(file_findings), config)
    findings = file_findings + validation.check(
        "manifest", with_derived_columns(manifest), manifest_expectations()
    )
    stopped_by = problems(findings, quarantine, len(index), config)
    with whole_folder(report) as folder:
        validation.write_data_docs(folder / DATA_DOCS)
        quarantine.to_parquet(folder / QUARANTINE_FILE, index=False)
        write_json(folder / REPORT_FILE, summarise(manifest, quarantine, findings, stopped_by))
    print(f"validate: {len(manifest)} views accepted, {len(quarantine)} quarantined -> {report}")
    if stopped_by:
        raise GateError(f"{'. '.join(stopped_by)}. See {report / REPORT_FILE}")
    with whole_folder(out) as folder:
        manifest.to_parquet(folder / MANIFEST_FILE, index=False)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of the step."""
    parser = step_parser("validate", "Check the index, quarantine bad files, make the splits.")
    parser.add_argument("--dataset", type=Path, required=True, help="folder that ingest wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the manifest")
    parser.add_argument("--report", type=Path, required=True, help="folder for the report")
    args = parser.parse_args(argv)
    run_or_exit(
        "validate",
        lambda: validate(
            args.dataset, args.out, args.report, read_section(args.params, ValidateConfig)
        ),
    )


if __name__ == "__main__":
    main()
