"""The report page, the model card and the plots, written from figures computed elsewhere."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from bonexray import trained
from bonexray.evaluation import CARD_FILE, HISTORY_FILE, PLOTS_FOLDER, REPORT_FILE, ROC_FILE
from bonexray.images import Pixels
from bonexray.scoring import told_of
from bonexray.verdicts import OperatingPoints
from components.choice import CHOICE_RULE
from components.figures import GOOD
from components.findings import Findings
from components.heatmaps import draw_views
from components.judgement import Judgement
from components.plots import (
    draw_costs,
    draw_groups,
    draw_history,
    draw_precision,
    draw_probabilities,
    draw_refusals,
    draw_reliability,
    draw_roc,
    roc_points,
)
from components.quantise import why_no_int8

_TEMPLATES = Path(__file__).parent / "templates"
_STUDIES_SHOWN = 8


def write_report(folder: Path, found: Findings) -> None:
    """Write the page, the model card and the plots into `folder`, with the run's own records."""
    curve = roc_points(found.chosen.studies_in("test"))
    curve.to_csv(folder / ROC_FILE, index=False)
    history = _history_of(found.chosen.candidate.folders)
    history.to_csv(folder / HISTORY_FILE, index=False)
    (folder / PLOTS_FOLDER).mkdir()
    pictures = {
        name: _save(plot, folder / PLOTS_FOLDER, name)
        for name, plot in _plots(found, curve, history).items()
    }
    content = {
        "info": found.info,
        "origin": found.origin.origin,
        "metrics": found.metrics,
        "gate": found.gate,
        "pictures": pictures,
        "records": found.chosen.candidate.records,
        "verdicts": _verdicts(found.chosen.studies_in("test"), found.info.operating_points),
        "choice_rule": CHOICE_RULE,
        "no_int8": why_no_int8(found.metrics["int8"]),
        "cell_px": found.info.image.size / found.chosen.candidate.outputs.cams.shape[1],
    }
    for file, template, escape in (
        (REPORT_FILE, "report.html", True),
        (CARD_FILE, "card.md", False),
    ):
        (folder / file).write_text(_render(template, content, escape), encoding="utf-8")


def _plots(found: Findings, curve: pd.DataFrame, history: pd.DataFrame) -> dict[str, Figure]:
    test, overall = found.chosen.studies_in("test"), found.metrics["test"]["study"]
    points = found.info.operating_points
    plots = {
        "roc": draw_roc(curve, overall),
        "precision": draw_precision(test, overall),
        "probabilities": draw_probabilities(test, points),
        "reliability": draw_reliability(test, overall),
        "groups": draw_groups(_groups(found.metrics), overall),
        "refusals": draw_refusals(found.strangers, GOOD),
        "history": draw_history(history),
    }
    if len(found.metrics["networks"]) > 1:
        plots["costs"] = draw_costs(found.metrics["networks"], found.metrics["network"])
    for name, studies in _sheets(test, points).items():
        plots[name] = _sheet(found.chosen, studies, found.images)
    return plots


def _groups(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Property -> group -> figures of its test studies, body parts among them."""
    parts = {part[3:].lower(): each["study"] for part, each in metrics["test_by_part"].items()}
    return {"body part": parts, **metrics["subgroups"]}


def _history_of(folders: Sequence[Path]) -> pd.DataFrame:
    """The epochs of each network, below each other."""
    histories = [
        pd.read_csv(folder / trained.HISTORY_FILE).assign(network=folder.name) for folder in folders
    ]
    return pd.concat(histories, ignore_index=True)


def _verdicts(test: pd.DataFrame, points: OperatingPoints) -> dict[Any, Any]:
    """Label -> verdict -> how many test studies."""
    told = np.array(told_of(test, points))
    return pd.crosstab(test["label"].to_numpy(), told).to_dict("index")


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


def _sheet(chosen: Judgement, studies: pd.DataFrame, images: Pixels) -> Figure:
    """The view with the strongest evidence of each study, with its heatmap."""
    views, cams = chosen.views.reset_index(drop=True), chosen.candidate.outputs.cams
    best = views.groupby("study")["logit"].idxmax()
    shown = best[studies["study"]].to_numpy()
    captioned = views.loc[shown].assign(probability=studies["probability"].to_numpy())
    limit = max(float(np.quantile(cams.max(axis=(1, 2)), 0.6)), 1e-6)
    return draw_views(captioned, images, cams[shown], limit)


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
