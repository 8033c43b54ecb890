"""Trained networks -> figures with intervals, the chosen network's bundle, a report, a verdict.

Everything that is chosen (network, temperature, operating points) is chosen on `val`; `test` is
only reported, and judged by the gate.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import torch

from bonexray.artifacts import (
    refuse_overlap,
    remove,
    sha256_file,
    sha256_json,
    whole_folder,
    write_json,
)
from bonexray.bundle import (
    INFO_FILE,
    MODEL_FILE,
    PROFILE_FILE,
    BundleInfo,
    Provenance,
    seal_bundle,
)
from bonexray.command import run_or_exit, step_parser
from bonexray.config import Arch, EvaluateConfig, read_section
from bonexray.dataset import dataset_digest, open_images
from bonexray.errors import DataError, GateError
from bonexray.evaluation import GATE_FILE, METRICS_FILE, PREDICTIONS_FILE
from bonexray.studies import BODY_PARTS, LABELS
from bonexray.tables import manifest_digest, read_manifest
from bonexray.trained import WEIGHTS_FILE, read_record
from components.candidates import Candidate, assess, compare, find_trained
from components.export import export_onnx
from components.report import write_report
from components.scoring import (
    choose_operating_points,
    figures,
    figures_by_part,
    shares_at,
    studies_of,
)

_COMMIT = re.compile(r"[0-9a-f]{40}")


def write_bundle(
    chosen: Candidate, studies: pd.DataFrame, commit: str, config: EvaluateConfig, folder: Path
) -> tuple[BundleInfo, str]:
    """Write the chosen network's bundle into `folder`; return its info and digest."""
    info = BundleInfo(
        image=chosen.record.policy.image,
        labels=LABELS,
        body_parts=BODY_PARTS,
        temperature=chosen.temperature,
        operating_points=choose_operating_points(
            studies[studies["split"] == "val"], config.sensitivity, config.specificity
        ),
        provenance=Provenance(
            arch=chosen.record.arch,
            dataset_sha256=chosen.record.dataset_sha256,
            manifest_sha256=chosen.record.manifest_sha256,
            start_weights=chosen.record.start,
            weights_sha256=sha256_file(chosen.folder / WEIGHTS_FILE),
            train_params_sha256=sha256_json(chosen.record.config.model_dump()),
            code_commit=commit,
        ),
    )
    export_onnx(chosen.network, info.image.size, folder / MODEL_FILE)
    write_json(folder / INFO_FILE, info.model_dump())
    return info, seal_bundle(folder)


def judge(metrics: dict[str, Any], config: EvaluateConfig) -> dict[str, Any]:
    """The gate: may this model become a candidate? Each rule with its value and its bound."""
    low = metrics["test"]["study"]["auroc_low"]
    rule = {
        "rule": "test study AUROC, lower end of its 95 % interval",
        "value": low,
        "minimum": config.min_test_study_auroc,
        "parameter": "evaluate.min_test_study_auroc",
        "passed": low is not None and low >= config.min_test_study_auroc,
    }
    return {"passed": rule["passed"], "rules": [rule]}


def describe_commit(revision: str) -> str:
    """The commit of the running code.

    Args:
        revision: a full commit id, taken as it is, or HEAD, which asks git about the working
            directory; the answer ends in `-dirty` when tracked files differ from it, besides the
            parameters and the lock, which are recorded on their own and change with every run.
    """
    if _COMMIT.fullmatch(revision):
        return revision
    if revision != "HEAD":
        raise DataError(f"--commit {revision!r}, expected HEAD or 40 hexadecimal digits")
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        print("evaluate: not in a git checkout; the bundle says that its code commit is unknown")
        return "unknown"
    code = [".", ":!params.yaml", ":!dvc.lock"]
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", *code]).returncode
    return found.stdout.strip() + ("-dirty" if changed else "")


def evaluate(
    dataset: Path,
    validated: Path,
    trained: dict[Arch, Path],
    commit: str,
    out: Path,
    report: Path,
    config: EvaluateConfig,
) -> None:
    """Judge the trained networks; write the report always, the bundle when the gate lets it pass.

    Raises:
        DataError: an input is unreadable, or a network was trained on other data.
        GateError: the gate refused. The report is written, and `out` does not exist.
    """
    refuse_overlap([out, report], [dataset, validated, *trained.values()])
    remove(out)  # an old verdict must not stand for a new one
    torch.set_num_threads(config.threads)
    images, manifest = open_images(dataset), read_manifest(validated)
    _refuse_other_data(trained, dataset_digest(dataset), manifest_digest(validated))
    candidates = [assess(folder, images, manifest, config) for folder in trained.values()]
    chosen = max(candidates, key=lambda candidate: candidate.val_auroc)
    studies = studies_of(chosen.views)
    test = studies[studies["split"] == "test"]
    with whole_folder(out) as bundle:
        shutil.copyfile(validated / PROFILE_FILE, bundle / PROFILE_FILE)
        info, digest = write_bundle(chosen, studies, describe_commit(commit), config, bundle)
        metrics = {
            "arch": chosen.record.arch,
            "bundle_digest": digest,
            "networks": compare(candidates, config),
            **figures(chosen.views, config),
            "test_by_part": figures_by_part(test, config),
            "test_operating_points": shares_at(test, info.operating_points),
        }
        gate = judge(metrics, config)
        with whole_folder(report) as folder:
            chosen.views.to_parquet(folder / PREDICTIONS_FILE, index=False)
            write_json(folder / METRICS_FILE, metrics)
            write_json(folder / GATE_FILE, gate)
            write_report(folder, chosen, info, metrics, gate, images)
        print(_summary(metrics, report))
        _stop_unless_passed(gate, report)


def _refuse_other_data(trained: dict[Arch, Path], dataset: str, manifest: str) -> None:
    for arch, folder in trained.items():
        record = read_record(folder)
        if (record.dataset_sha256, record.manifest_sha256) != (dataset, manifest):
            raise DataError(f"{folder}: this {arch} was trained on other data; train it again")
        if record.fold is not None:
            raise DataError(f"{folder}: this {arch} left out fold {record.fold}; train it on all")


def _summary(metrics: dict[str, Any], report: Path) -> str:
    study = metrics["test"]["study"]
    return (
        f"evaluate: {metrics['arch']}, test studies: AUROC {study['auroc']:.3f} "
        f"[{study['auroc_low']:.3f}, {study['auroc_high']:.3f}], "
        f"accuracy {study['accuracy']:.3f}, kappa {study['kappa']:.3f} -> {report}"
    )


def _stop_unless_passed(gate: dict[str, Any], report: Path) -> None:
    failed = [
        f"{rule['rule']} is {rule['value']}, expected at least {rule['minimum']} "
        f"({rule['parameter']})"
        for rule in gate["rules"]
        if not rule["passed"]
    ]
    if failed:
        raise GateError(f"the gate refused the model: {'; '.join(failed)}. See {report}")


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of the step."""
    parser = step_parser("evaluate", "Choose a network, write its bundle, report and verdict.")
    parser.add_argument("--dataset", type=Path, required=True, help="folder that ingest wrote")
    parser.add_argument("--validated", type=Path, required=True, help="folder of the manifest")
    parser.add_argument(
        "--models", type=Path, nargs="+", required=True, help="folders that train wrote, or above"
    )
    parser.add_argument(
        "--archs", nargs="+", required=True, choices=get_args(Arch), help="networks to compare"
    )
    parser.add_argument("--commit", required=True, help="the code's commit id, or HEAD")
    parser.add_argument("--out", type=Path, required=True, help="folder for the bundle")
    parser.add_argument("--report", type=Path, required=True, help="folder for figures and report")
    args = parser.parse_args(argv)
    run_or_exit(
        "evaluate",
        lambda: evaluate(
            args.dataset,
            args.validated,
            find_trained(args.models, args.archs),
            args.commit,
            args.out,
            args.report,
            read_section(args.params, EvaluateConfig),
        ),
    )


if __name__ == "__main__":
    main()
