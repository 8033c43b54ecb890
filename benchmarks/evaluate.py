"""`python -m benchmarks.evaluate --folder F`: is evaluation quick, and are its promises kept?

Trains the demonstration's network at 96 px and again at 224 px, on simulated sets, and judges both.
Calibration and abstention are judged on fresh patients, of whom nothing was seen. Takes half an
hour on two cores; what is done stands in the folder, and a second call goes on from there.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.simulator import start_flow
from bonexray.bootstrap import bootstrap_intervals
from bonexray.config import EvaluateConfig, read_section
from bonexray.dataset import open_images
from bonexray.images import Pixels
from bonexray.metrics import METRICS
from bonexray.novelty import conflict
from bonexray.scoring import studies_of, values_of
from bonexray.studies import BODY_PARTS, PART_NUMBERS
from bonexray.tables import read_manifest
from components import augment, evaluate, train
from components.abstention import strangeness, tell_apart
from components.candidates import Outputs, predict, read_candidates
from components.judgement import Judgement, judge_candidate, seen_in_studies
from components.strangers import draw_strangers, other_parts

FRESH_SEED = 404
STRANGERS = 200  # of each kind
PAIRS = 3
MURAS_TEST_STUDIES, MURAS_TEST_PATIENTS = 1199, 783
DATA = ("--dataset", "@dataset", "--validated", "@validated")


def trained(folder: Path, changes: dict[str, dict[str, Any]]) -> Path:
    """A set and a network trained on it, made unless it is there."""
    if not (folder / "resnet18/training.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        step = start_flow(folder, changes)
        step(augment.main, *DATA, "--out", "@policy")
        step(train.main, "--arch", "resnet18", *DATA, "--policy", "@policy", "--out", "@resnet18")
    return folder


def judged(folder: Path) -> dict[str, Any]:
    """Evaluate a trained network as a user would; returns its figures."""
    places = {"--dataset": "dataset", "--validated": "validated", "--models": "resnet18",
              "--crossval": "none", "--release": "none", "--out": "bundle",
              "--report": "evaluation"}  # fmt: skip
    flags = [word for flag, name in places.items() for word in (flag, str(folder / name))]
    settings = ["--params", str(folder / "params.yaml"), "--archs", "resnet18"]
    evaluate.main([*settings, "--commit", "0" * 40, *flags])
    metrics: dict[str, Any] = json.loads((folder / "evaluation/metrics.json").read_text())
    return metrics


def judgement(folder: Path) -> Judgement:
    """The trained network's judgement, as evaluate makes it."""
    config = read_section(str(folder / "params.yaml"), EvaluateConfig)
    manifest, images = read_manifest(folder / "validated"), open_images(folder / "dataset")
    (candidate,) = read_candidates(
        [folder / "resnet18"], images, manifest["row"].to_numpy(), config
    )
    return judge_candidate(candidate, manifest, config)


def seconds(action: Callable[[], object]) -> float:
    """How long it takes, by the wall's clock."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def bootstrap_seconds() -> float:
    """All metrics, 2,000 draws, as many studies and patients as MURA's own valid set has."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, MURAS_TEST_STUDIES)
    scores = np.clip(generator.normal(0.4 + 0.2 * labels, 0.3), 0.01, 0.99)
    owners = generator.integers(0, MURAS_TEST_PATIENTS, MURAS_TEST_STUDIES)
    patients = np.array([f"patient{owner}" for owner in owners], object)

    def draw() -> object:
        return bootstrap_intervals(METRICS, labels, scores, patients, draws=2000, seed=0)

    return statistics.median(seconds(draw) for _ in range(PAIRS))


def evaluate_vs_inference(folder: Path) -> float:
    """Evaluation over the network's reading of the same images alone, turn about."""
    config = read_section(str(folder / "params.yaml"), EvaluateConfig)
    torch.set_num_threads(config.threads)
    manifest, images = read_manifest(folder / "validated"), open_images(folder / "dataset")
    judged(folder)  # whatever is done once is done
    candidate = judgement(folder).candidate
    rows, spec = manifest["row"].to_numpy(), candidate.records[0].policy.image

    def read() -> object:
        return predict(candidate.network, images, rows, spec, config.batch_size)

    pairs = [(seconds(lambda: judged(folder)), seconds(read)) for _ in range(PAIRS)]
    return statistics.median(whole / alone for whole, alone in pairs)


def on_fresh_patients(folder: Path, fresh: Path) -> Iterator[tuple[str, float]]:
    """Calibration and abstention where neither network nor temperature nor bound was fitted."""
    chosen = judgement(folder)
    network, spec = chosen.candidate.network, chosen.candidate.records[0].policy.image
    manifest, images = read_manifest(fresh / "validated"), open_images(fresh / "dataset")
    seen = predict(network, images, manifest["row"].to_numpy(), spec, 64)
    parts = seen_in_studies(manifest, seen.part_logits)
    views = manifest.assign(logit=seen.logits, refused="", study_part=parts)
    figures = values_of(studies_of(views, chosen.rule, chosen.calibration))
    for name in ("auroc", "ece", "ece_debiased"):
        yield name, figures[name] or 0.0
    yield from abstention(chosen, manifest, images, seen)


def abstention(
    chosen: Judgement, manifest: pd.DataFrame, images: Pixels, seen: Outputs
) -> Iterator[tuple[str, float]]:
    """How strangers are told from good views, and how many of these are refused."""
    network, spec = chosen.candidate.network, chosen.candidate.records[0].policy.image
    claimed = manifest["body_part"].map(PART_NUMBERS).to_numpy()
    rows = manifest["row"].to_numpy()
    novelty = chosen.typical.novelty(seen.embeddings)
    wrong = other_parts(claimed, len(BODY_PARTS), FRESH_SEED)
    bounds = chosen.abstention
    good = strangeness(bounds, novelty, conflict(seen.part_logits, claimed))
    other = strangeness(bounds, novelty, conflict(seen.part_logits, wrong))
    kinds = draw_strangers(images[rows], spec.size, STRANGERS, FRESH_SEED)
    strange = {"of another part": other} | {
        kind: strangeness(
            bounds,
            chosen.typical.novelty(
                predict(network, squares, np.arange(len(squares)), spec, 64).embeddings
            ),
            None,
        )
        for kind, squares in kinds.items()
    }
    told = tell_apart(good, strange)
    for kind, figures in told.items():
        print(f"  {kind}: AUROC {figures['auroc']:.4f}, refused {figures['refused']:.3f}")
    yield "ood_auc", min(figures["auroc"] for figures in told.values())
    yield "ood_refused_good", float((good > 1).mean())


def measure(folder: Path) -> Iterator[tuple[str, float]]:
    """Every figure by its name."""
    yield "bootstrap_seconds", bootstrap_seconds()
    small = trained(folder / "96", {})
    large = trained(folder / "224", {"ingest": {"image_size": 224}})
    fresh = folder / "fresh"
    if not (fresh / "validated/manifest.parquet").exists():
        fresh.mkdir(parents=True, exist_ok=True)
        start_flow(fresh, {"simulate": {"seed": FRESH_SEED}})
    yield "pointing_game_96", judged(small)["where"]["accuracy"]
    yield "pointing_game", judged(large)["where"]["accuracy"]
    yield from on_fresh_patients(small, fresh)
    yield "evaluate_vs_inference_96", evaluate_vs_inference(small)
    yield "evaluate_vs_inference", evaluate_vs_inference(large)


def main() -> None:
    """Measure and print one line a figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluate", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="what is made stays there")
    for name, value in measure(parser.parse_args().folder):
        print(f"figure {name} {value:.4g}", flush=True)


if __name__ == "__main__":
    main()
