"""Sheets of views under their heatmaps. Knows no file.

h x w is the size of a map of evidence, S the side of a packed image.
"""

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from bonexray.images import Pixels
from bonexray.studies import LABELS
from components.plots import ABNORMAL, NORMAL, styled


@styled
def draw_views(
    views: pd.DataFrame, images: Pixels, cams: npt.NDArray[np.float32], limit: float
) -> Figure:
    """A sheet of views, each beside itself under its heatmap.

    Args:
        views: label, body_part, row (into `images`) and the probability to caption it with.
        images: (M, S, S) uint8, all packed images.
        cams: (len(views), h, w) in the order of `views`.
        limit: the map value drawn in full colour. A map that stays far below it is drawn faintly,
            one that goes beyond is drawn relative to its own maximum.
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
    relative = cam / max(float(cam.max()), limit)
    fitted = Image.fromarray(relative).resize((size, size), Image.Resampling.BICUBIC)
    strength = np.clip(np.asarray(fitted), 0, 1)  # (S, S)
    opacity = 0.75 * strength[..., None] ** 2  # what is weak everywhere would veil the bone
    colour = mpl.colormaps["autumn_r"](strength)[..., :3]
    heated: npt.NDArray[np.float64] = _rgb(pixels) * (1 - opacity) + colour * opacity
    return heated.clip(0, 1)
