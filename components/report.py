"""The report page, the model card and the plots, written from figures computed elsewhere."""

import base64
import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from bonexray.bundle import BundleInfo
from bonexray.evaluation import CARD_FILE, HISTORY_FILE, PLOTS_FOLDER, REPORT_FILE, ROC_FILE
from bonexray.images import Pixels
from bonexray.trained import RECORD_FILE
from bonexray.verdicts import OperatingPoints, verdict
from components.candidates import Candidate
from components.plots import (
    draw_history,
    draw_parts,
    draw_probabilities,
    draw_roc,
    draw_views,
    roc_points,
)
from components.scoring import studies_of

_TEMPLATES = Path(__file__).parent / "templates"
_STUDIES_SHOWN = 8


def write_report(
    folder: Path,
    chosen: Candidate,
    info: BundleInfo,
    metrics: Mapping[str, Any],
    gate: Mapping[str, Any],
    images: Pixels,
) -> None:
    """Write the page, the model card and the plots into `folder`, with the run's own records."""
    test = studies_of(chosen.views[chosen.views["split"] == "test"])
    curve = roc_points(test)
    curve.to_csv(folder / ROC_FILE, index=False)
    for file in (HISTORY_FILE, RECORD_FILE):
        shutil.copyfile(chosen.folder / file, folder / file)
    plots = {
        "roc": draw_roc(curve, metrics["test"]["study"]),
        "probabilities": draw_probabilities(test, info.operating_points),
        "parts": draw_parts(metrics["test_by_part"]),
        "history": draw_history(pd.read_csv(folder / HISTORY_FILE)),
        **{
            name: _sheet(chosen, studies, images)
            for name, studies in _sheets(test, info.operating_points).items()
        },
    }
    (folder / PLOTS_FOLDER).mkdir()
    pictures = {name: _save(plot, folder / PLOTS_FOLDER, name) for name, plot in plots.items()}
    verdicts = [verdict(p, info.operating_points) for p in test["probability"]]
    content = {
        "info": info,
        "metrics": metrics,
        "gate": gate,
        "pictures": pictures,
        "epochs": chosen.record.config.epochs,
        "verdicts": pd.crosstab(test["label"], pd.Series(verdicts)).to_dict("index"),
    }
    for file, template, escape in (
        (REPORT_FILE, "report.html", True),
        (CARD_FILE, "card.md", False),
    ):
        (folder / file).write_text(_render(template, content, escape), encoding="utf-8")


def _sheets(test: pd.DataFrame, points: OperatingPoints) -> dict[str, pd.DataFrame]:
    """The test studies worth a look: surest right of each part, surest wrong, most doubtful."""
    ordered = test.sort_values(["probability", "study"])
    abnormal, normal = ordered[ordered["label"] == 1], ordered[ordered["label"] == 0]
    half = _STUDIES_SHOWN // 2
    middle = (points.high_sensitivity + points.high_specificity) / 2
    doubt = (test["probability"] - middle).abs().sort_values(kind="stable").index
    return {
        "right": pd.concat([abnormal.groupby("body_part").tail(1), normal.head(1)]),
        "wrong": pd.concat([abnormal.head(half), normal.tail(half)[::-1]]),
        "doubtful": test.loc[doubt[:_STUDIES_SHOWN]],
    }


def _sheet(chosen: Candidate, studies: pd.DataFrame, images: Pixels) -> Figure:
    """The view with the strongest evidence of each study, with its heatmap."""
    views = chosen.views.reset_index(drop=True)
    best = views.groupby("study")["logit"].idxmax()
    shown = best[studies["study"]].to_numpy()
    positive = chosen.cams.max(axis=(1, 2))
    captioned = views.loc[shown].assign(probability=studies["probability"].to_numpy())
    limit = float(np.quantile(positive, 0.95))
    return draw_views(captioned, images, chosen.cams[shown], limit)


def _save(figure: Figure, folder: Path, name: str) -> str:
    """Save a plot as PNG and return it as base64. No date or version goes into the file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    (folder / f"{name}.png").write_bytes(buffer.getvalue())
    return base64.b64encode(buffer.getvalue()).decode()


def _render(template: str, content: Mapping[str, Any], escape: bool) -> str:
    environment = Environment(
        autoescape=escape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = (_TEMPLATES / template).read_text(encoding="utf-8")
    return environment.from_string(text).render(content)
