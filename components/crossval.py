"""`python -m components.crossval`: train on all folds but one, judge on that one, for each fold.

Folds are whole patients of `train` and `val`, as validate cut them; `test` is not touched. Each
fold's network stays in the output, with what it says of the views it has not seen:

predictions.parquet   the manifest's rows of all folds, with logit and probability
metrics.json          per fold, mean and standard deviation over folds, all folds together
folds/N/              the network that was judged on fold N

A second call goes on where the first was cut off.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pandas as pd

from bonexray.artifacts import (
    refuse_file,
    refuse_overlap,
    remove,
    sha256_json,
    whole_file,
    write_json,
)
from bonexray.config import Arch, EvaluateConfig, TrainConfig, read_section
from bonexray.errors import DataError
from bonexray.metrics import METRICS
from bonexray.network import LimbNet
from bonexray.scoring import figures_of, number_or_none, studies_of, with_probability
from bonexray.trained import RECORD_FILE, read_record
from bonexray.verdicts import MEAN_RULE, UNCALIBRATED
from components.candidates import load_trained, predict
from components.group import Group, run_grouped
from components.inputs import Inputs, command_parser, learning_and_judging, read_inputs, rows_of
from components.out_of_fold import METRICS_FILE, PREDICTIONS_FILE, origin_of
from components.start import load_start
from components.train import tracked, train


def cross_validate(
    inputs: Inputs,
    out: Path,
    arch: Arch,
    config: TrainConfig,
    judging: EvaluateConfig,
    group: Group,
) -> None:
    """Train and judge once a fold, and write predictions and figures to `out`.

    Raises:
        DataError: a fold cannot be learnt from or judged on, or a training failed.
        ConfigError: a batch has fewer images than there are processes.
    """
    folds = sorted(int(fold) for fold in set(inputs.manifest["fold"]) - {-1})
    if not folds:
        raise DataError("the manifest holds no folds; validate.folds says how many to make")
    refuse_file(out)
    for fold in folds:  # each, before the first is trained
        learning_and_judging(inputs, config, fold)
    start = load_start(LimbNet(arch), arch, config.start)
    if group.rank == 0:
        for stale in (PREDICTIONS_FILE, METRICS_FILE):
            remove(out / stale)
    with _tracked_whole(inputs, arch, config, folds, group) as run:
        for fold in folds:
            place = out / "folds" / str(fold)
            if _is_done(place, inputs, arch, config, start):
                print(f"crossval: fold {fold} was trained before")
                continue
            print(f"crossval: fold {fold}, {fold + 1} of {len(folds)}", flush=True)
            track = tracked(f"{arch} fold {fold}", group)
            train(inputs, place, arch, config, fold=fold, group=group, track=track)
        if group.rank > 0:
            return
        places = {fold: out / "folds" / str(fold) for fold in folds}
        views = pd.concat(unseen(inputs, fold, place, judging) for fold, place in places.items())
        figures = summarise(views, judging)
        made_from = origin_of(read_record(places[folds[0]]))
        with whole_file(out / PREDICTIONS_FILE) as partial:
            views.to_parquet(partial, index=False)
        write_json(out / METRICS_FILE, {"arch": arch, "made_from": made_from} | figures)
        if run:
            for kind in ("mean", "sd"):
                told = {f"{n}_{kind}": v for n, v in figures[kind].items() if v is not None}
                run.log(told)
    print(_summary(arch, figures, out))


def unseen(inputs: Inputs, fold: int, place: Path, config: EvaluateConfig) -> pd.DataFrame:
    """What a fold's network says of its own fold: the manifest's rows, logit and probability.

    No temperature: it would have to be fitted on the rows that are judged.

    Raises:
        DataError: the network is damaged.
    """
    record = read_record(place)
    _, views = rows_of(inputs.manifest, fold)
    try:
        network = load_trained(place, record, config.test_time_flip)
    except DataError as error:
        raise DataError(f"{error}; delete {place} to train it again") from error
    rows, spec = views["row"].to_numpy(), record.policy.image
    outputs = predict(network, inputs.images, rows, spec, config.batch_size)
    read = views.assign(logit=outputs.logits, refused="", study_part=views["body_part"])
    return with_probability(read, UNCALIBRATED)


def summarise(views: pd.DataFrame, config: EvaluateConfig) -> dict[str, Any]:
    """Study figures of each fold, their mean and standard deviation, and those of all folds.

    Args:
        views: rows of all folds with their probability.
        config: draws and seed of the intervals.

    Returns:
        `folds`: fold -> metric -> value; `mean`, `sd` (of a sample): metric -> value; `all`: image
        | study -> metric, metric_low, metric_high, of the folds together.
    """
    studies = studies_of(views, MEAN_RULE, UNCALIBRATED).merge(
        views[["study", "fold"]].drop_duplicates(), on="study", validate="one_to_one"
    )
    by_fold = pd.DataFrame(
        {
            fold: {
                name: float(metric(part["label"].to_numpy(), part["probability"].to_numpy()))
                for name, metric in METRICS.items()
            }
            for fold, part in studies.groupby("fold")
        }
    )
    return {
        "folds": {str(fold): _defined(by_fold[fold]) for fold in by_fold},
        "mean": _defined(by_fold.mean(axis=1)),
        "sd": _defined(by_fold.std(axis=1, ddof=1)),
        "all": {
            level: figures_of(table, config.bootstrap_draws, config.seed)
            for level, table in (("image", views), ("study", studies))
        },
    }


def _defined(values: pd.Series) -> dict[str, float | None]:
    return {str(name): number_or_none(value) for name, value in values.items()}


def _is_done(place: Path, inputs: Inputs, arch: Arch, config: TrainConfig, start: str) -> bool:
    """Whether this fold was trained on this data, with these settings, from these weights."""
    if not (place / RECORD_FILE).exists():
        return False
    kept = read_record(place)
    return (kept.arch, kept.config, kept.start, kept.policy) == (
        arch, config, start, inputs.policy,
    ) and (kept.dataset_sha256, kept.manifest_sha256) == (
        inputs.dataset_sha256, inputs.manifest_sha256,
    )  # fmt: skip


def _tracked_whole(
    inputs: Inputs, arch: Arch, config: TrainConfig, folds: Sequence[int], group: Group
) -> AbstractContextManager[Any]:
    """The run that those of the folds stand under."""
    if group.rank > 0:
        return nullcontext()
    from components.tracking import TrackedRun  # here: it takes seconds to import

    settings = {"train": config.model_dump(), "policy": inputs.policy.model_dump()}
    data = [inputs.dataset_sha256, inputs.manifest_sha256]
    return TrackedRun(
        f"{arch} in {len(folds)} folds",
        sha256_json(["crossval", arch, settings, data]),
        {"arch": arch, "folds": len(folds)},
    )


def _summary(arch: Arch, figures: dict[str, Any], out: Path) -> str:
    told = ", ".join(
        f"{name} {figures['mean'][name]:.3f} ± {figures['sd'][name]:.3f}"
        for name in ("auroc", "accuracy", "kappa")
    )
    study = figures["all"]["study"]
    return (
        f"crossval: {arch}, studies of {len(figures['folds'])} folds: {told}; all together AUROC "
        f"{study['auroc']:.3f} [{study['auroc_low']:.3f}, {study['auroc_high']:.3f}] -> {out}"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = command_parser(
        "crossval", "Train on all folds but one and judge on that one, for each fold."
    )
    args = parser.parse_args(argv)

    def run(config: TrainConfig, group: Group) -> None:
        places = [args.dataset, args.validated, args.policy]
        out = args.out or Path("reports/crossval") / args.arch
        refuse_overlap([out], places)
        judging = read_section(args.params, EvaluateConfig)
        cross_validate(read_inputs(*places), out, args.arch, config, judging, group)

    run_grouped("crossval", args.params, main, argv, run)


if __name__ == "__main__":
    main()
