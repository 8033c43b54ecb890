"""`python -m components.search`: try training runs of other settings and tell the best as a recipe.

Optuna chooses what to try within the section `search` of params.yaml and stops what falls behind.
A second call goes on where the first was cut off, even within a run; calls side by side share the
trials.

study.db     Optuna's record of every trial
trials.csv   one row a trial
trials.png   the figure reached, against each field
best.yaml    the best trial's settings, for `python -m components.recipe`
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import yaml
from matplotlib.figure import Figure
from optuna import Study
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial
from pydantic import ValidationError

from bonexray.artifacts import refuse_file, refuse_overlap, remove, whole_file
from bonexray.command import run_or_exit
from bonexray.config import Arch, Between, OneOf, SearchConfig, TrainConfig, read_section
from bonexray.errors import ConfigError, DataError
from bonexray.network import LimbNet
from bonexray.trained import TrainingRecord
from components.checkpoint import Checkpoint
from components.fit import EpochRecord
from components.inputs import Inputs, command_parser, learning_and_judging, read_inputs
from components.start import load_start
from components.tracking import TrackedRun
from components.train import Track, tracked, train
from components.trials import complete, ended, left_of, number_of, open_trials, try_again

TABLE_FILE, PLOT_FILE, BEST_FILE = "trials.csv", "trials.png", "best.yaml"
FIGURE = "val_auroc"
"""Of the views of `val`, in the epoch whose weights are kept: what a search raises."""


def search(
    inputs: Inputs, out: Path, arch: Arch, config: TrainConfig, wanted: SearchConfig
) -> None:
    """Try what is left of the trials and write table, plot and best settings to `out`.

    Raises:
        ConfigError: a searched field is not one of `train`, or has a value it cannot take.
        DataError: there is too little to learn from, or every trial failed.
    """
    refuse_unusable(config, wanted)
    refuse_file(out)
    learning_and_judging(inputs, config)
    study = open_trials(out, _fixed(inputs, arch, config, wanted))
    if left_of(study, wanted.trials) > 0:
        with TrackedRun(f"search {arch}", study.study_name, {"arch": arch}) as run:
            _try_all(study, inputs, out, arch, config, wanted)
            if complete(study):
                run.log({f"best_{FIGURE}": study.best_value})
    if not complete(study):
        raise DataError(f"{out}: none of the {wanted.trials} trials came to its end")
    write_results(study, out, arch)
    print(f"search: the best is trial {number_of(study.best_trial)} -> {out / BEST_FILE}")


def _fixed(inputs: Inputs, arch: Arch, config: TrainConfig, wanted: SearchConfig) -> list[Any]:
    """All that a trial's figure depends on besides the values tried."""
    return [
        arch,
        {name: value for name, value in config.model_dump().items() if name not in wanted.fields},
        {name: space.model_dump() for name, space in wanted.fields.items()},
        load_start(LimbNet(arch), arch, config.start),
        inputs.policy.model_dump(),
        inputs.dataset_sha256,
        inputs.manifest_sha256,
    ]


def _try_all(
    study: Study, inputs: Inputs, out: Path, arch: Arch, config: TrainConfig, wanted: SearchConfig
) -> None:
    """Try until all trials have ended, those of calls side by side and of earlier ones counted."""
    while left_of(study, wanted.trials) > 0:
        study.sampler = TPESampler(seed=wanted.seed + len(study.trials))
        study.optimize(
            lambda trial: attempt(trial, inputs, out, arch, config, wanted),
            n_trials=1,
            catch=(DataError,),
            callbacks=[lambda study, trial: print(_trial_line(study, trial, wanted), flush=True)],
        )


def refuse_unusable(config: TrainConfig, wanted: SearchConfig) -> None:
    """Stop before the first trial when a searched value is none. Raises ConfigError."""
    if config.processes > 1:
        raise ConfigError(
            f"train.processes = {config.processes}: a search trains one process a trial, "
            "expected 1; call it once for each GPU instead, side by side"
        )
    for name, space in wanted.fields.items():
        _refuse_field(name, space)
        ends = space.choices if isinstance(space, OneOf) else (space.low, space.high)
        for value in ends:
            changed(config, {name: value})


def _refuse_field(name: str, space: Between | OneOf) -> None:
    where = f"search.fields.{name}"
    if name not in TrainConfig.model_fields:
        raise ConfigError(f"{where}: {name!r} is no field of train")
    if name == "processes":
        raise ConfigError(f"{where}: a search trains one process a trial")
    if isinstance(space, OneOf):
        return
    if not space.low < space.high:
        raise ConfigError(f"{where}: low = {space.low} is not below high = {space.high}")
    if space.log and space.low <= 0:
        raise ConfigError(f"{where}: low = {space.low} has no logarithm, expected more than 0")
    if TrainConfig.model_fields[name].annotation is int:
        raise ConfigError(f"{where}: train.{name} is a whole number, expected choices")


def changed(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """The section `train` with other values. Raises ConfigError when it cannot take them."""
    try:
        return TrainConfig.model_validate(config.model_dump() | dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"search.fields.{field}: {first['input']!r} is no value of train.{field}: "
            f"{first['msg']}"
        ) from error


def attempt(
    trial: optuna.Trial,
    inputs: Inputs,
    out: Path,
    arch: Arch,
    config: TrainConfig,
    wanted: SearchConfig,
) -> float:
    """Train with the values that Optuna chose; returns the figure reached."""
    values = {name: _suggested(trial, name, space) for name, space in wanted.fields.items()}
    begun = trial.study.get_trials()[trial.number]
    number = number_of(begun)
    place = out / "trials" / str(number)  # where a trial that was killed left its checkpoint
    track = _stopping(tracked(f"{arch} trial {number}"), trial)
    try:
        fit = train(inputs, place, arch, changed(config, values), track=track)
    except (optuna.TrialPruned, DataError):
        Checkpoint(place).delete()
        raise
    except BaseException:  # Optuna takes an interrupt for a failed trial
        try_again(trial.study, begun)
        raise
    remove(place)
    return fit.best[FIGURE]


def _suggested(trial: optuna.Trial, name: str, space: Between | OneOf) -> Any:
    if isinstance(space, OneOf):
        return trial.suggest_categorical(name, space.choices)
    return trial.suggest_float(name, space.low, space.high, log=space.log)


def _stopping(track: Track, trial: optuna.Trial) -> Track:
    """Track, and stop a trial that falls behind."""

    @contextmanager
    def tracked_and_judged(record: TrainingRecord) -> Iterator[Callable[[EpochRecord], None]]:
        with track(record) as tell:

            def watch(epoch: EpochRecord) -> None:
                tell(epoch)
                trial.report(epoch[FIGURE], step=int(epoch["epoch"]))
                if trial.should_prune():
                    raise optuna.TrialPruned

            yield watch

    return tracked_and_judged


def write_results(study: Study, out: Path, arch: Arch) -> None:
    """Write table, plot and best settings."""
    table = pd.DataFrame(
        {"trial": number_of(trial), "state": trial.state.name, FIGURE: trial.value} | trial.params
        for trial in ended(study)
    )
    best = study.best_trial
    about = (
        f"# Trial {number_of(best)}, the best of {len(table)}, {arch}: {FIGURE} {best.value:.4f}.\n"
    )
    with whole_file(out / TABLE_FILE) as partial:
        table.to_csv(partial, index=False)
    with whole_file(out / BEST_FILE) as partial:
        partial.write_text(about + yaml.safe_dump({"train": best.params}), encoding="utf-8")
    with whole_file(out / PLOT_FILE) as partial:
        draw(study).savefig(partial, format="png", dpi=110)


def draw(study: Study) -> Figure:
    """The figure that each whole trial reached, against each searched field."""
    trials = complete(study)
    fields = sorted(study.best_params)
    figure = Figure(figsize=(2.8 * len(fields), 2.8), layout="constrained")
    plots = figure.subplots(1, len(fields), sharey=True, squeeze=False)[0]
    for axes, field in zip(plots, fields, strict=True):
        values, reached = [t.params[field] for t in trials], [t.value for t in trials]
        axes.plot(values, reached, "o", color="0.6")
        axes.plot(study.best_params[field], study.best_value, "o", color="tab:blue")
        space = trials[0].distributions[field]
        axes.set_xscale("log" if getattr(space, "log", False) else axes.get_xscale())
        axes.set_xlabel(field)
        axes.spines[["top", "right"]].set_visible(False)
    plots[0].set_ylabel(FIGURE)
    return figure


def _trial_line(study: Study, trial: FrozenTrial, wanted: SearchConfig) -> str:
    values = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in trial.params.items()
    )
    figure = f" {FIGURE} {trial.value:.4f}" if trial.value is not None else ""
    outcome = trial.state.name.lower()
    return f"search: {len(ended(study))} of {wanted.trials} trials: {outcome}{figure} with {values}"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = command_parser(
        "search", "Try training runs of other settings and tell the best as a recipe."
    )
    args = parser.parse_args(argv)

    def run() -> None:
        places = [args.dataset, args.validated, args.policy]
        out = args.out or Path("reports/search") / args.arch
        refuse_overlap([out], places)
        config = read_section(args.params, TrainConfig)
        wanted = read_section(args.params, SearchConfig)
        search(read_inputs(*places), out, args.arch, config, wanted)

    run_or_exit("search", run)


if __name__ == "__main__":
    main()
