"""`python -m benchmarks.simulator`: how fast, how hard and how honest the simulated set is.

Difficulty is the test study AUROC of one fixed recipe (ResNet18, 64 px, ten epochs) on sets that
differ in `simulate.difficulty` alone. A shortcut is what tells the label without showing the
finding: a classifier on file size, image size, greys and margin. Takes some ten minutes.

`--sheets docs/simulated` writes the guide's sheets instead, in half a minute.
"""

import argparse
import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from components import augment, evaluate, ingest, simulate, train, validate

ROOT = Path(__file__).parents[1]
DIFFICULTIES = (0.0, 0.5, 1.0)
ANY_AUROC = {"figure": "test/study/auroc_low", "at_least": 0.0, "severity": "info"}


Step = Callable[..., None]


def start_flow(folder: Path, changes: dict[str, dict[str, Any]]) -> Step:
    """Simulate to validate, with changes to params.yaml; returns what runs a further step.

    A flag of a step that begins with @ is a place in the folder.
    """
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, fields in changes.items():
        params[section] |= fields
    settings = folder / "params.yaml"
    settings.write_text(yaml.safe_dump(params))

    def step(main: Any, *flags: str) -> None:
        places = [str(folder / flag[1:]) if flag.startswith("@") else flag for flag in flags]
        main(["--params", str(settings), *places])

    step(simulate.main, "--out", "@sim.zip")
    step(ingest.main, "--archive", "@sim.zip", "--out", "@dataset")
    step(validate.main, "--dataset", "@dataset", "--splits", "@none", "--reference", "@none",
         "--out", "@validated", "--report", "@validation")  # fmt: skip
    return step


def run_flow(folder: Path, difficulty: float) -> dict[str, Any]:
    """Simulate to evaluate at one difficulty; returns the metrics of the test studies."""
    changes: dict[str, dict[str, Any]] = {
        "simulate": {"difficulty": difficulty},
        "ingest": {"image_size": 64},
        "validate": {"max_quarantine_fraction": 0.05},  # at 64 px more limbs look alike
        "train": {"epochs": 10},
        "evaluate": {"gate": [ANY_AUROC], "bootstrap_draws": 200},
    }
    step = start_flow(folder, changes)
    data = ("--dataset", "@dataset", "--validated", "@validated")
    step(augment.main, *data, "--out", "@policy")
    step(train.main, "--arch", "resnet18", *data, "--policy", "@policy", "--out", "@resnet18")
    step(evaluate.main, *data, "--models", "@resnet18", "--archs", "resnet18", "--commit", "0" * 40,
         "--crossval", "@none", "--release", "@none", "--out", "@bundle",
         "--report", "@evaluation")  # fmt: skip
    metrics: dict[str, Any] = json.loads((folder / "evaluation/metrics.json").read_text())
    return metrics["test"]["study"]  # type: ignore[no-any-return]


def write_sheets(out: Path) -> None:
    """The sheet of each body part as validate draws it, in JPEG: grain packs badly."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        start_flow(Path(scratch), {"simulate": {"scale": 0.02}, "ingest": {"image_size": 144}})
        for sheet in sorted(Path(scratch).glob("validation/sheets/XR_*.png")):
            Image.open(sheet).save(out / f"{sheet.stem}.jpg", quality=80)


def shortcut_features(archive: Path) -> pd.DataFrame:
    """One row an image: what tells nothing of a finding, its label, part, patient and findings."""
    rows = []
    with zipfile.ZipFile(archive) as source:
        findings = json.loads(source.read("simulation.json"))["findings"]
        for entry in source.infolist():
            if not entry.filename.endswith(".png"):
                continue
            _, split, part, patient, study, _ = entry.filename.split("/")
            grey = np.asarray(Image.open(io.BytesIO(source.read(entry))))
            greys = np.percentile(grey, (1, 5, 25, 50, 75, 95, 99))
            kinds = findings.get(f"{split}/{part}/{patient}/{study}/", [])
            rows.append(
                {
                    "bytes": entry.file_size, "height": grey.shape[0], "width": grey.shape[1],
                    "mean": grey.mean(), "std": grey.std(), "black": (grey == 0).mean(),
                    "white": (grey == 255).mean(),  # a marker, and where the window cuts
                    **{f"grey{k}": value for k, value in enumerate(greys)},
                    "part": part, "patient": patient, "label": int(bool(kinds)),
                    "hardware": "hardware" in kinds,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def shortcut_auroc(images: pd.DataFrame, classifier: Any) -> float:
    """AUROC of pairs of the same part: MURA's own share of positives differs between parts."""
    told = images.drop(columns=["part", "patient", "label", "hardware"]).to_numpy()
    label = images["label"].to_numpy()
    score = cross_val_predict(
        classifier, told, label, groups=images["patient"], cv=GroupKFold(5), method="predict_proba"
    )[:, 1]
    won = pairs = 0.0
    for part in images["part"].unique():
        own = (images["part"] == part).to_numpy()
        ill, well = score[own & (label == 1)], np.sort(score[own & (label == 0)])
        below = np.searchsorted(well, ill, "left") + np.searchsorted(well, ill, "right")
        won += below.sum() / 2
        pairs += len(ill) * len(well)
    return won / pairs


def main() -> None:
    """Measure and print one line a figure, or draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulator")
    parser.add_argument("--sheets", type=Path, help="write sheets to this folder and stop")
    sheets = parser.parse_args().sheets
    if sheets:
        write_sheets(sheets)
        return
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    boosted = HistGradientBoostingClassifier(max_iter=60, random_state=0)
    for difficulty in DIFFICULTIES:
        with tempfile.TemporaryDirectory() as scratch:
            study = run_flow(Path(scratch), difficulty)
            print(f"figure difficulty_{difficulty}_auroc {study['auroc']:.4g}", flush=True)
            if difficulty == 0.5:
                images = shortcut_features(Path(scratch) / "sim.zip")
    for name, classifier in (("linear", linear), ("boosted", boosted)):
        lone = images[~images["hardware"]]
        print(f"figure shortcut_{name}_auroc {shortcut_auroc(lone, classifier):.4g}")
        print(f"figure shortcut_{name}_with_hardware {shortcut_auroc(images, classifier):.4g}")


if __name__ == "__main__":
    main()
