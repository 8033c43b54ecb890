"""Does the map point at the lesion? Known where the truth is: on simulated radiographs.

N views, h x w cells of a map, S side of the packed image in pixels.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bonexray.bootstrap import interval, redraws
from bonexray.gate import SKIPPED
from bonexray.scoring import number_or_none

BOX = ["left", "top", "right", "bottom"]


def pointing_game(
    views: pd.DataFrame,
    cams: npt.NDArray[np.float32],
    truth: pd.DataFrame | None,
    size: int,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Share of views that show a lesion whose map has its maximum at one.

    A hit lies within one cell of the map of a lesion's box (Zhang et al., Top-down Neural Attention
    by Excitation Backprop, ECCV 2016, with the margin in cells).

    Args:
        views: with row and patient.
        cams: (N, h, w) in the order of `views`.
        truth: lesions' boxes in pixels by row; None where it is not known.
        size: S.
        draws: of the interval.
        seed: of the interval.

    Returns:
        `accuracy` with `_low` and `_high`, `chance`, what a random point would score, `count` and
        `by_finding`; `skipped` and why when no lesion is known.
    """
    if truth is None:
        return {SKIPPED: "where lesions lie is known of simulated radiographs alone"}
    boxes = truth.dropna(subset=BOX)
    place = pd.Series(np.arange(len(views)), index=views["row"].to_numpy())
    boxes = boxes[boxes["row"].isin(place.index)]
    if boxes.empty:
        return {SKIPPED: "no view shows a lesion"}
    of_view = place[boxes["row"]].to_numpy()
    near = _cells_near(boxes, cams.shape[1], size)  # a box each
    at_peak = near.reshape(len(boxes), -1)[np.arange(len(boxes)), _peaks(cams)[of_view]]
    found = boxes.assign(view=of_view, hit=at_peak)
    targets = np.zeros(cams.shape, bool)
    np.logical_or.at(targets, of_view, near)
    shown = np.unique(of_view)
    hits = found.groupby("view")["hit"].any().to_numpy().astype(float)  # in the order of `shown`
    low, high = _interval_of_share(hits, views["patient"].to_numpy()[shown], draws, seed)
    of_kind = found.groupby(["finding", "view"])["hit"].any().groupby("finding").mean()
    return {
        "count": len(shown),
        "accuracy": float(hits.mean()),
        "accuracy_low": number_or_none(low),
        "accuracy_high": number_or_none(high),
        "chance": float(targets[shown].mean()),
        "by_finding": {str(kind): float(share) for kind, share in of_kind.items()},
    }


def _cells_near(boxes: pd.DataFrame, cells: int, size: int) -> npt.NDArray[np.bool_]:
    """Which cells' middles lie within one cell of each box: (boxes, cells, cells)."""
    cell_px = size / cells
    middles = (np.arange(cells) + 0.5) * cell_px
    low = boxes[["left", "top"]].to_numpy()[..., None] - cell_px  # (boxes, 2, 1)
    high = boxes[["right", "bottom"]].to_numpy()[..., None] + cell_px
    inside = (middles >= low) & (middles <= high)  # (boxes, 2, cells)
    return np.asarray(inside[:, 1, :, None] & inside[:, 0, None, :])


def _peaks(cams: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    return np.asarray(cams.reshape(len(cams), -1).argmax(axis=1))


def _interval_of_share(
    hits: npt.NDArray[np.float64], patients: npt.NDArray[np.object_], draws: int, seed: int
) -> tuple[float, float]:
    drawn = [
        weights @ hits / weights.sum(axis=1)
        for weights in redraws(patients, draws=draws, seed=seed)
    ]
    return interval(np.concatenate(drawn))
