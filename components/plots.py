"""The evaluation's pictures. Each function draws one figure and knows no file.

h x w is the size of a class-activation map, S the side of a packed image.
"""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from bonexray.images import Pixels
from bonexray.studies import LABELS
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
_styled = mpl.rc_context(_STYLE)


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


@_styled
def draw_roc(points: pd.DataFrame, figures: Mapping[str, Any]) -> Figure:
    """ROC curve of the test studies."""
    figure, axes = _axes(4.6, 4)
    axes.plot([0, 1], [0, 1], color="#cccccc", linewidth=1)
    axes.plot(points["false_positive_rate"], points["true_positive_rate"], color=ABNORMAL)
    axes.set(
        xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1), ylim=(0, 1.01), aspect=1
    )
    axes.set_title(
        f"AUROC {figures['auroc']:.3f} [{figures['auroc_low']:.3f}, {figures['auroc_high']:.3f}]"
    )
    return figure


@_styled
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


@_styled
def draw_history(history: pd.DataFrame) -> Figure:
    """Loss and accuracy by epoch."""
    figure = Figure(figsize=(9.2, 3.4))
    panels = figure.subplots(1, 2)
    for axes, quantity in zip(panels, ("loss", "accuracy"), strict=True):
        for split, colour in (("train", NORMAL), ("val", ABNORMAL)):
            axes.plot(
                history["epoch"], history[f"{split}_{quantity}"], "o-", color=colour, label=split
            )
        axes.set(xlabel="epoch", title=quantity)
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0].legend(frameon=False)
    return figure


@_styled
def draw_parts(by_part: Mapping[str, Mapping[str, Any]]) -> Figure:
    """AUROC of the test studies by body part, with intervals."""
    figure, axes = _axes(4.6, 3.6)
    for height, figures in enumerate(reversed(list(by_part.values()))):
        if figures["auroc"] is not None:
            axes.plot([figures["auroc_low"], figures["auroc_high"]], [height] * 2, color="#bbbbbb")
            axes.plot(figures["auroc"], height, "o", color=ABNORMAL)
    names = [f"{part[3:].lower()} ({by_part[part]['count']})" for part in reversed(list(by_part))]
    axes.set_yticks(range(len(names)), names)
    axes.set(
        xlabel="AUROC with 95 % interval", title="Test studies by body part", xlim=(None, 1.01)
    )
    return figure


@_styled
def draw_views(
    views: pd.DataFrame, images: Pixels, cams: npt.NDArray[np.float32], limit: float
) -> Figure:
    """A sheet of views, each beside itself under its heatmap.

    Args:
        views: label, body_part, row (into `images`) and the probability to caption it with.
        images: (M, S, S) uint8, all packed images.
        cams: (len(views), h, w) in the order of `views`.
        limit: the map value drawn in full colour.
    """
    columns = 4
    lines = -(-len(views) // columns)
    figure = Figure(figsize=(3.1 * columns, 1.85 * lines))
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, view, cam in zip(grid.flat, views.to_dict("records"), cams, strict=False):
        pixels, label = images[view["row"]], LABELS[view["label"]]
        axes.imshow(np.concatenate([_rgb(pixels), _heat(pixels, cam, limit)], axis=1))
        axes.set_title(
            f"{view['body_part'][3:].lower()}, {label}: {view['probability']:.2f}",
            fontsize=9,
            color=ABNORMAL if view["label"] else NORMAL,
        )
    return figure


def _rgb(pixels: Pixels) -> npt.NDArray[np.float64]:
    return np.repeat(pixels[..., None] / 255.0, 3, axis=2)  # (S, S, 3)


def _heat(pixels: Pixels, cam: npt.NDArray[np.float32], limit: float) -> npt.NDArray[np.float64]:
    """The image with the evidence for abnormal laid over it, (S, S, 3) in [0, 1]."""
    size = pixels.shape[0]
    fitted = Image.fromarray(cam / limit).resize((size, size), Image.Resampling.BICUBIC)
    strength = np.clip(np.asarray(fitted), 0, 1)  # (S, S)
    opacity = 0.6 * strength[..., None]
    colour = mpl.colormaps["autumn_r"](strength)[..., :3]
    heated: npt.NDArray[np.float64] = _rgb(pixels) * (1 - opacity) + colour * opacity
    return heated.clip(0, 1)


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()
