"""`python -m benchmarks.ablation`: what each departure from the seed's recipe is worth.

Each departure is trained three times, from three seeds, beside the seed's recipe, on one simulated
set, and judged on another that nobody was trained on. `strong` is then judged against `seed` on a
third set, with other seeds. Writes docs/ablation.md and its plot. Takes an hour on two cores;
what is done stands in `--folder`, and a second call goes on from there.
"""

import argparse
import contextlib
import io
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import yaml
from matplotlib.figure import Figure

from benchmarks.simulator import start_flow
from bonexray.artifacts import whole_file
from bonexray.bootstrap import interval, redraws
from bonexray.dataset import open_images
from bonexray.metrics import auroc
from bonexray.scoring import studies_of
from bonexray.tables import read_manifest
from bonexray.trained import read_record
from bonexray.verdicts import MEAN_RULE, UNCALIBRATED
from components import augment, train
from components.candidates import load_trained, predict
from components.recipe import change_params, read_recipe

ROOT = Path(__file__).parents[1]
Changes = Mapping[str, Mapping[str, Any]]
EPOCHS, DIFFICULTY, SIZE = 6, 0.5, 64
SEEDS, FRESH_SEEDS = (1, 2, 3), (4, 5, 6)
DRAWS = 1000
SETS = {"learning": 101, "judging": 202, "fresh": 303}
"""Seed of each simulated set: other patients, other findings."""
LARGER = {"ingest": {"image_size": 96}}
DEPARTURES: dict[str, Changes] = {
    "cosine": {"train": {"schedule": "cosine"}},
    "one cycle": {"train": {"schedule": "one_cycle"}},
    "weight decay 0.0001": {"train": {"weight_decay": 0.0001}},
    "weighting by label": {"train": {"weighting": "label"}},
    "weighting by part and label": {"train": {"weighting": "part_and_label"}},
    "label smoothing 0.1": {"train": {"label_smoothing": 0.1}},
    "mixup 0.2": {"train": {"mixup_alpha": 0.2}},
    "average of weights 0.98": {"train": {"ema_decay": 0.98}},
    "body-part head 0.3": {"train": {"part_loss_weight": 0.3}},
    "shifts, zooms, intensity": {
        "augment": {
            "translate_fraction": 0.05,
            "scale_fraction": 0.1,
            "brightness_fraction": 0.1,
            "contrast_fraction": 0.2,
        }
    },
    "flip at test time": {"evaluate": {"test_time_flip": True}},
    "96 px": LARGER,
    "96 px, first half at 64 px": LARGER | {"train": {"first_size_fraction": 0.67}},
}


class Run(NamedTuple):
    """One training and what it is judged on."""

    recipe: str
    seed: int
    judged_on: str
    changes: Changes


class Gain(NamedTuple):
    """Mean study AUROC of a recipe, and what it gained with its 95 % interval."""

    auroc: float
    gain: float
    low: float
    high: float


def prepared(folder: Path, name: str, size: int) -> Path:
    """One of the simulated sets at one image size, made unless it is there."""
    place = folder / f"{name}-{size}"
    if not (place / "validated/manifest.parquet").exists():
        place.mkdir(parents=True, exist_ok=True)
        changes: dict[str, dict[str, Any]] = {
            "simulate": {"seed": SETS[name], "scale": 0.05, "difficulty": DIFFICULTY},
            "ingest": {"image_size": size},
            "validate": {"val_fraction": 0.2, "max_quarantine_fraction": 0.05},
        }
        start_flow(place, changes)
    return place


def image_size(run: Run) -> int:
    """Side of the images that a run learns from, in px."""
    return int(run.changes.get("ingest", {}).get("image_size", SIZE))


def judged(folder: Path, run: Run) -> Path:
    """Train and let the network read the judging set; returns its studies, a table."""
    stem = f"{run.recipe} {run.seed}"
    studies = folder / f"{stem} {run.judged_on}.parquet"
    if studies.exists():
        return studies
    params = folder / f"{stem}.yaml"
    params.write_text((ROOT / "params.yaml").read_text())
    fixed = {"train": {"seed": run.seed, "epochs": EPOCHS, "start": "random", "threads": 1}}
    for changes in (read_recipe(ROOT / "recipes/seed.yaml"), run.changes, fixed):
        change_params(params, changes)
    settings = yaml.safe_load(params.read_text())
    size = image_size(run)
    learning = prepared(folder, "learning", size)
    data = ["--dataset", f"{learning}/dataset", "--validated", f"{learning}/validated"]
    policy, model = folder / f"{stem} policy", folder / f"{stem} model"
    if not model.exists():
        augment.main(["--params", str(params), *data, "--out", str(policy)])
        train.main(["--params", str(params), "--arch", "resnet18", *data,
                    "--policy", str(policy), "--out", str(model)])  # fmt: skip
    record = read_record(model)
    network = load_trained(model, record, settings["evaluate"]["test_time_flip"])
    place = prepared(folder, run.judged_on, size)
    views = read_manifest(place / "validated")
    spec, rows = record.policy.image, views["row"].to_numpy()
    outputs = predict(network, open_images(place / "dataset"), rows, spec, 64)
    read = views.assign(logit=outputs.logits, refused="", study_part=views["body_part"])
    with whole_file(studies) as partial:
        studies_of(read, MEAN_RULE, UNCALIBRATED).to_parquet(partial, index=False)
    return studies


def quietly_judged(folder: Path, run: Run) -> Path:
    """The same in a process of its own, on one thread, its talk left out."""
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(io.StringIO()):
        return judged(folder, run)


def gain(base: Sequence[Path], other: Sequence[Path]) -> Gain:
    """Of `other` over `base`, whose pairs share training seed and studies.

    Patients and training seeds are both drawn anew, so the interval holds what either does.
    """
    pairs = [
        pd.read_parquet(one).merge(pd.read_parquet(two), on=["study", "patient", "label"])
        for one, two in zip(base, other, strict=True)
    ]
    labels = pairs[0]["label"].to_numpy()

    def aurocs(column: str, weights: npt.NDArray[Any] | None = None) -> npt.NDArray[np.float64]:
        return np.stack([auroc(labels, pair[column].to_numpy(), weights) for pair in pairs], -1)

    def gains(weights: npt.NDArray[Any] | None = None) -> npt.NDArray[np.float64]:
        return aurocs("probability_y", weights) - aurocs("probability_x", weights)

    generator = np.random.default_rng(0)
    drawn = []
    for weights in redraws(pairs[0]["patient"].to_numpy(), draws=DRAWS, seed=0):
        seeds = generator.integers(len(pairs), size=(len(weights), len(pairs)))
        drawn.append(np.take_along_axis(gains(weights), seeds, axis=1).mean(axis=1))
    mean_auroc = float(aurocs("probability_y").mean())
    return Gain(mean_auroc, float(gains().mean()), *interval(np.concatenate(drawn)))


def judged_all(folder: Path, runs: Sequence[Run]) -> dict[str, list[Path]]:
    """The judged studies of each recipe, by seed; two runs at a time."""
    for run in runs:
        for name in ("learning", run.judged_on):
            prepared(folder, name, image_size(run))
    context = multiprocessing.get_context("spawn")
    found: dict[str, list[Path]] = {}
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        for run, future in [(run, pool.submit(quietly_judged, folder, run)) for run in runs]:
            found.setdefault(run.recipe, []).append(future.result())
            print(f"ablation: {run.recipe}, seed {run.seed}, judged on {run.judged_on}", flush=True)
    return found


def departures(folder: Path) -> dict[str, Gain]:
    """What each departure gains over the seed's recipe."""
    recipes: dict[str, Changes] = {"seed": {}} | DEPARTURES
    tables = judged_all(
        folder, [Run(name, seed, "judging", recipes[name]) for name in recipes for seed in SEEDS]
    )
    return {name: gain(tables["seed"], tables[name]) for name in recipes}


def strong_over_seed(folder: Path) -> dict[str, Gain]:
    """What the shipped recipe gains over the seed's, on studies and from seeds not seen before."""
    recipes: dict[str, Changes] = {
        "seed": {}, "strong": read_recipe(ROOT / "recipes/strong.yaml"),
    }  # fmt: skip
    tables = judged_all(
        folder,
        [Run(name, seed, "fresh", recipes[name]) for name in recipes for seed in FRESH_SEEDS],
    )
    return {name: gain(tables["seed"], tables[name]) for name in recipes}


def draw(found: Mapping[str, Gain]) -> Figure:
    """Each gain with its interval, one below the other."""
    shown = {name: one for name, one in found.items() if name != "seed"}
    figure = Figure(figsize=(7, 0.36 * len(shown) + 1.1), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="0.6", linewidth=1)
    for place, one in enumerate(shown.values()):
        colour = "tab:blue" if one.low > 0 else "tab:red" if one.high < 0 else "0.55"
        axes.plot([one.low, one.high], [place, place], color=colour, linewidth=2)
        axes.plot(one.gain, place, "o", color=colour)
    axes.set_yticks(range(len(shown)), list(shown))
    axes.invert_yaxis()
    axes.set_xlabel("study AUROC gained over the seed's recipe, 95 % interval")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    return figure


PAGE = """# What each departure from the seed's recipe is worth

Written by `python -m benchmarks.ablation`. Simulated radiographs, not MURA: difficulty
{difficulty}, ResNet18 from random weights at {size} px unless the row says otherwise, {epochs}
epochs of {views} views. Each row is the seed's recipe with one departure, trained from seeds
{seeds} and judged on {studies} studies of other patients. The gain is paired by training seed and
study; its 95 % interval comes from drawing patients and seeds anew.

{departures}

![gains with their intervals](ablation.png)

A departure earns its place when its interval lies above zero. Of rows that exclude each other
the better is taken. Three seeds say little of how far seeds scatter, and nothing was corrected
for the number of rows: what holds is the second table. There `recipes/strong.yaml`, which holds
what was earned and the body-part head, without which no answer names the part, was trained from
seeds {fresh_seeds} beside the seed's recipe, for as many epochs, and judged on {fresh_studies}
studies that had chosen nothing:

{final}

Not in the table: the ImageNet start, whose weights were not to be had where this ran.
"""


def table_of(found: Mapping[str, Gain]) -> str:
    """Markdown, one row a recipe."""
    rows = ["| recipe | study AUROC | gain | 95 % interval | above zero |", "|---|---|---|---|---|"]
    for name, one in found.items():
        change = f"{one.gain:+.3f} | {one.low:+.3f} to {one.high:+.3f}" if name != "seed" else "|"
        rows.append(f"| {name} | {one.auroc:.3f} | {change} | {'yes' if one.low > 0 else ''} |")
    return "\n".join(rows)


def write_page(
    folder: Path, out: Path, found: Mapping[str, Gain], final: Mapping[str, Gain]
) -> None:
    """The tables and the plot of the guide."""
    learning, judging, fresh = (
        read_manifest(prepared(folder, name, SIZE) / "validated") for name in SETS
    )
    page = PAGE.format(
        difficulty=DIFFICULTY, size=SIZE, epochs=EPOCHS, seeds=", ".join(map(str, SEEDS)),
        fresh_seeds=", ".join(map(str, FRESH_SEEDS)),
        views=f"{(learning['split'] == 'train').sum():,}",
        studies=judging["study"].nunique(), fresh_studies=fresh["study"].nunique(),
        departures=table_of(found), final=table_of(final),
    )  # fmt: skip
    (out / "ablation.md").write_text(page, encoding="utf-8")
    draw(found).savefig(out / "ablation.png", dpi=110, metadata={"Software": None})


def main() -> None:
    """Train, judge, and write the table and its plot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__)
    parser.add_argument(
        "--folder", type=Path, required=True, help="for sets, models and judgements"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="for table and plot")
    args = parser.parse_args()
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{args.folder.resolve()}/mlflow.db"
    found = departures(args.folder)
    print(table_of(found), flush=True)
    final = strong_over_seed(args.folder)
    strong = final["strong"]
    print(f"figure strong_over_seed {strong.gain:.4g}")
    print(f"figure strong_over_seed_low {strong.low:.4g}")
    write_page(args.folder, args.out, found, final)


if __name__ == "__main__":
    main()
