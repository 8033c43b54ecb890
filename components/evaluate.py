"""Trained networks -> figures with intervals, the chosen network's bundle, a report, a verdict.

Everything that is chosen (network, study rule, temperatures, thresholds) is chosen on `val`; `test`
is only reported, and judged by the gate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch

from bonexray.artifacts import refuse_overlap, remove, whole_folder, write_json
from bonexray.bundle import PROFILE_FILE
from bonexray.command import run_or_exit, step_parser
from bonexray.config import Arch, EvaluateConfig, read_section
from bonexray.dataset import dataset_digest, open_images, read_origin
from bonexray.errors import DataError, GateError
from bonexray.evaluation import GATE_FILE, METRICS_FILE, PREDICTIONS_FILE
from bonexray.gate import broken_rules, judge
from bonexray.images import Pixels
from bonexray.tables import manifest_digest, read_manifest
from bonexray.trained import TrainingRecord, read_record
from components.calibration import choose_operating_points
from components.candidates import find_trained, read_candidates
from components.choice import choose, compare
from components.commit import describe_commit
from components.export import write_bundle
from components.figures import Sources, take_figures
from components.findings import Findings
from components.judgement import Judgement, judge_candidate
from components.pack import write_pack
from components.quantise import add_int8, why_no_int8
from components.report import write_report
from components.servability import try_serving


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the step reads and writes."""

    dataset: Path
    validated: Path
    trained: dict[Arch, Path]
    crossval: Path
    """Need not exist."""
    release: Path
    """Where approved bundles lie; need not exist."""
    out: Path
    report: Path


def evaluate(places: Places, commit: str, config: EvaluateConfig) -> None:
    """Judge the trained networks; write the report always, the bundle when the gate lets it pass.

    Raises:
        ConfigError: the gate names a figure that there is not.
        DataError: an input is unreadable, or a network was trained on other data.
        GateError: the gate refused. The report is written, and `out` does not exist.
    """
    read = [places.dataset, places.validated, *places.trained.values()]
    refuse_overlap([places.out, places.report], [*read, places.crossval, places.release])
    remove(places.out)  # an old verdict must not stand for a new one
    _read_exactly(config.threads)
    images, manifest = open_images(places.dataset), read_manifest(places.validated)
    _refuse_other_data(places)
    draws, seed = config.bootstrap_draws, config.seed
    candidates = read_candidates(
        list(places.trained.values()), images, manifest["row"].to_numpy(), config
    )
    judgements = [judge_candidate(candidate, manifest, config) for candidate in candidates]
    chosen = choose(judgements, draws, seed)
    compared = compare(judgements, chosen, draws, seed)
    with whole_folder(places.out) as bundle:
        found = _prove(chosen, compared, bundle, images, commit, places, config)
        with whole_folder(places.report) as report:
            chosen.views.to_parquet(report / PREDICTIONS_FILE, index=False)
            write_json(report / METRICS_FILE, found.metrics)
            write_json(report / GATE_FILE, found.gate)
            write_report(report, found)
            write_pack(report, bundle, found, config)
        print(_summary(found, places.report))
        if not found.gate["passed"]:
            reasons = "; ".join(broken_rules(found.gate, "critical"))
            raise GateError(f"the gate refused the model: {reasons}. See {places.report}")


def _prove(
    chosen: Judgement,
    compared: dict[str, Any],
    bundle: Path,
    images: Pixels,
    commit: str,
    places: Places,
    config: EvaluateConfig,
) -> Findings:
    """Write the bundle, take every figure of it and hold them against the gate."""
    points = choose_operating_points(
        chosen.studies_in("val"), config.sensitivity, config.specificity
    )
    profile = places.validated / PROFILE_FILE
    info = write_bundle(chosen, points, profile, describe_commit(commit), bundle)
    int8, digest = add_int8(bundle, chosen, images, config)
    sources = Sources(
        images=images, dataset=places.dataset, crossval=places.crossval, release=places.release
    )
    figures, strangers = take_figures(chosen, info, sources, config)
    metrics = {
        "network": chosen.candidate.name,
        "bundle_digest": digest,
        "networks": compared,
        "int8": int8,
        "servability": try_serving(bundle, chosen, points, images, config.threads),
    } | figures
    return Findings(
        chosen=chosen,
        info=info,
        metrics=metrics,
        gate=judge(metrics, config.gate),
        origin=read_origin(places.dataset),
        images=images,
        strangers=strangers,
    )


def _read_exactly(threads: int) -> None:
    """A server's CPU must find the same numbers: no shortened floats on a GPU."""
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def _refuse_other_data(places: Places) -> None:
    expected = (dataset_digest(places.dataset), manifest_digest(places.validated))
    records: list[TrainingRecord] = []
    for arch, folder in places.trained.items():
        record = read_record(folder)
        if (record.dataset_sha256, record.manifest_sha256) != expected:
            raise DataError(f"{folder}: this {arch} was trained on other data; train it again")
        if record.fold is not None:
            raise DataError(f"{folder}: this {arch} left out fold {record.fold}; train it on all")
        if records and record.policy.image != records[0].policy.image:
            raise DataError(f"{folder}: this {arch} reads images otherwise than {records[0].arch}")
        records.append(record)


def _summary(found: Findings, report: Path) -> str:
    study = found.metrics["test"]["study"]
    figures = ", ".join(
        f"{title} undefined" if study[name] is None else f"{title} {study[name]:.3f}"
        for name, title in (("auroc", "AUROC"), ("accuracy", "accuracy"), ("kappa", "kappa"))
    )
    warnings = broken_rules(found.gate, "warning")
    told = [f"evaluate: warning: {warning}" for warning in warnings]
    if no_int8 := why_no_int8(found.metrics["int8"]):
        told.append(f"evaluate: the bundle has no INT8 network: {no_int8}")
    return "\n".join(
        [*told, f"evaluate: {found.metrics['network']}, test studies: {figures} -> {report}"]
    )


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
    parser.add_argument(
        "--crossval", type=Path, required=True, help="folder of cross-validations, if there are"
    )
    parser.add_argument(
        "--release", type=Path, required=True, help="folder of the champion, if there is one"
    )
    parser.add_argument("--commit", required=True, help="the code's commit id, or HEAD")
    parser.add_argument("--out", type=Path, required=True, help="folder for the bundle")
    parser.add_argument("--report", type=Path, required=True, help="folder for figures and report")
    args = parser.parse_args(argv)

    def run() -> None:
        places = Places(
            dataset=args.dataset,
            validated=args.validated,
            trained=find_trained(args.models, args.archs),
            crossval=args.crossval,
            release=args.release,
            out=args.out,
            report=args.report,
        )
        evaluate(places, args.commit, read_section(args.params, EvaluateConfig))

    run_or_exit("evaluate", run)


if __name__ == "__main__":
    main()
