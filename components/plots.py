"""The evaluation's plots. Each function draws one figure and knows no file."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from scipy.stats import binomtest

from bonexray.verdicts import OperatingPoints

NORMAL, ABNORMAL, INK = "#3b7ea1", "#c4562b", "#333333"
_STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#999999",
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "figure.constrained_layout.use": True,
}
styled = mpl.rc_context(_STYLE)


def roc_points(studies: pd.DataFrame) -> pd.DataFrame:
    """The ROC curve, from (0, 0) to (1, 1), a row a threshold."""
    ordered = studies.sort_values("probability", ascending=False)
    labels = ordered["label"].to_numpy()
    last_of_tie = np.append(np.diff(ordered["probability"].to_numpy()) != 0, True)
    true_positives = np.cumsum(labels)[last_of_tie] / max(1, labels.sum())
    false_positives = np.cumsum(1 - labels)[last_of_tie] / max(1, (1 - labels).sum())
    return pd.DataFrame(
        {
            "false_positive_rate": np.append(0.0, false_positives),
            "true_positive_rate": np.append(0.0, true_positives),
        }
    )


@styled
def draw_roc(points: pd.DataFrame, figures: Mapping[str, Any]) -> Figure:
    """ROC curve of the test studies."""
    figure, axes = _axes(4.6, 4)
    axes.plot([0, 1], [0, 1], color="#cccccc", linewidth=1)
    axes.plot(points["false_positive_rate"], points["true_positive_rate"], color=ABNORMAL)
    axes.set(
        xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1), ylim=(0, 1.01), aspect=1
    )
    axes.set_title(_titled("AUROC", "auroc", figures))
    return figure


@styled
def draw_precision(studies: pd.DataFrame, figures: Mapping[str, Any]) -> Figure:
    """Precision-recall curve of the test studies."""
    figure, axes = _axes(4.6, 4)
    ordered = studies.sort_values("probability", ascending=False)
    labels = ordered["label"].to_numpy()
    last_of_tie = np.append(np.diff(ordered["probability"].to_numpy()) != 0, True)
    found, called = np.cumsum(labels)[last_of_tie], np.flatnonzero(last_of_tie) + 1
    axes.axhline(labels.mean(), color="#cccccc", linewidth=1)
    axes.step(found / max(1, labels.sum()), found / called, where="pre", color=ABNORMAL)
    axes.set(xlabel="sensitivity", ylabel="PPV", xlim=(0, 1.01), ylim=(0, 1.01), aspect=1)
    axes.set_title(_titled("AUPRC", "auprc", figures))
    return figure


@styled
def draw_probabilities(studies: pd.DataFrame, points: OperatingPoints) -> Figure:
    """Probabilities of the test studies by label, with the two operating points."""
    figure, axes = _axes(4.6, 4)
    bins = [step / 25 for step in range(26)]
    for label, name, colour in ((0, "normal", NORMAL), (1, "abnormal", ABNORMAL)):
        values = studies.loc[studies["label"] == label, "probability"]
        axes.hist(values, bins, color=colour, alpha=0.65, label=f"labelled {name}")
    axes.axvspan(points.high_sensitivity, points.high_specificity, color="#f2d16b", alpha=0.35)
    for threshold in (points.high_sensitivity, points.high_specificity):
        axes.axvline(threshold, color=INK, linewidth=1, linestyle="--")
    axes.set(xlabel="probability of abnormal", ylabel="test studies", xlim=(0, 1))
    axes.set_title("negative | doubtful | positive")
    axes.legend(frameon=False)
    return figure


@styled
def draw_history(history: pd.DataFrame) -> Figure:
    """Loss and accuracy by epoch, a line a network and split."""
    figure = Figure(figsize=(9.2, 3.4))
    panels = figure.subplots(1, 2)
    lines = dict(zip(history["network"].unique(), ("o-", "s--", "^:"), strict=False))
    for axes, quantity in zip(panels, ("loss", "accuracy"), strict=True):
        for network, own in history.groupby("network", sort=False):
            for split, colour in (("train", NORMAL), ("val", ABNORMAL)):
                label = split if len(lines) == 1 else f"{network}, {split}"
                values = own[f"{split}_{quantity}"]
                axes.plot(own["epoch"], values, lines[network], color=colour, label=label)
        axes.set(xlabel="epoch", title=quantity)
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0].legend(frameon=False)
    return figure


@styled
def draw_reliability(studies: pd.DataFrame, figures: Mapping[str, Any]) -> Figure:
    """What was said beside what was so, of the test studies in ten bins of equal width."""
    figure, axes = _axes(4.6, 4)
    axes.plot([0, 1], [0, 1], color="#cccccc", linewidth=1)
    bins = np.minimum((studies["probability"].to_numpy() * 10).astype(int), 9)
    for _, own in studies.groupby(bins):
        said, abnormal, count = own["probability"].mean(), int(own["label"].sum()), len(own)
        likely = binomtest(abnormal, count).proportion_ci(method="wilson")
        axes.plot([said, said], [likely.low, likely.high], color="#bbbbbb", zorder=1)
        area = 18 + 160 * count / len(studies)
        axes.scatter(said, abnormal / count, area, color=ABNORMAL, zorder=2)
    axes.set(
        xlabel="mean probability said", ylabel="share labelled abnormal", aspect=1,
        xlim=(-0.02, 1.02), ylim=(-0.02, 1.02),
    )  # fmt: skip
    axes.set_title(
        f"calibration error {figures['ece_debiased']:.3f} ({figures['ece']:.3f} with noise)"
    )
    return figure


@styled
def draw_groups(
    groups: Mapping[str, Mapping[str, Mapping[str, Any]]], overall: Mapping[str, Any]
) -> Figure:
    """AUROC of groups of test studies with intervals, below each other by property."""
    rows = [
        (name, group, figures)
        for name, of_name in groups.items()
        for group, figures in [(None, None), *of_name.items()]
    ]
    figure, axes = _axes(9.2, 0.9 + 0.24 * len(rows))
    if overall["auroc"] is not None:
        axes.axvspan(overall["auroc_low"], overall["auroc_high"], color="#eeeeea", zorder=0)
        axes.axvline(overall["auroc"], color="#999999", linewidth=1, zorder=0)
    lowest = 0.99
    for height, (_, _, figures) in enumerate(rows):
        if figures is not None and figures["auroc"] is not None:
            ends = [figures["auroc_low"], figures["auroc_high"]]
            axes.plot(ends, [height] * 2, color="#aaaaaa")
            axes.plot(figures["auroc"], height, "o", color=ABNORMAL, markersize=5)
            lowest = min(lowest, ends[0])
    names = [
        name
        if figures is None
        else f"{group}  ({figures['count']}, {figures['abnormal']} abnormal)"
        for name, group, figures in rows
    ]
    axes.set_yticks(range(len(rows)), names)
    for label, (_, group, _) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if group is None else "normal")
    axes.tick_params(axis="y", length=0)
    axes.set(ylim=(len(rows) - 0.5, -0.7), xlim=(max(0.0, lowest - 0.02), 1.005))
    axes.set(xlabel="AUROC with 95 % interval; line and band: all test studies")
    return figure


@styled
def draw_refusals(strangeness: Mapping[str, npt.NDArray[np.floating]], good: str) -> Figure:
    """How strange each kind of image looks, with the bound of refusal.

    Args:
        strangeness: kind -> of each image; above 1 it is refused.
        good: the kind that ought to pass.
    """
    figure, axes = _axes(9.2, 0.9 + 0.36 * len(strangeness))
    for height, (kind, values) in enumerate(strangeness.items()):
        colour = NORMAL if kind == good else ABNORMAL
        spread = np.random.default_rng(0).uniform(-0.28, 0.28, len(values))
        axes.scatter(values, height + spread, 6, color=colour, alpha=0.5, linewidths=0)
    axes.axvline(1, color=INK, linewidth=1, linestyle="--")
    axes.set_yticks(range(len(strangeness)), list(strangeness))
    axes.set(xscale="log", ylim=(len(strangeness) - 0.4, -0.6), title="read | refused")
    axes.xaxis.set_major_locator(LogLocator(base=2))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="how strange an image looks, the bound of refusal being 1")
    return figure


@styled
def draw_costs(networks: Mapping[str, Mapping[str, Any]], chosen: str) -> Figure:
    """AUROC of the test studies of each network over the time that one view takes."""
    figure, axes = _axes(9.2, 3.6)
    for name, own in networks.items():
        colour = ABNORMAL if name == chosen else NORMAL
        time_ms, test = own["ms_per_view"], own["test"]
        if test["auroc"] is not None:
            axes.plot([time_ms] * 2, [test["auroc_low"], test["auroc_high"]], color="#cccccc")
            axes.plot(time_ms, test["auroc"], "o", color=colour)
            axes.annotate(
                name, (time_ms, test["auroc"]), (6, 4), textcoords="offset points", fontsize=9
            )
    axes.set(xlabel="milliseconds a view", ylabel="AUROC, test studies")
    axes.margins(x=0.2)
    return figure


def _titled(title: str, name: str, figures: Mapping[str, Any]) -> str:
    if figures[name] is None:
        return f"{title} undefined"
    return (
        f"{title} {figures[name]:.3f} [{figures[f'{name}_low']:.3f}, {figures[f'{name}_high']:.3f}]"
    )


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()
