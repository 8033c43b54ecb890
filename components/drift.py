"""What the training images are like, in numbers that later data can be held against."""

from typing import Any

import numpy as np
import pandas as pd

PROPERTIES = ("width", "height", "pixel_mean", "pixel_std", "sharpness")

Profile = dict[str, dict[str, list[Any]]]
"""Column -> Great Expectations' partition object: bins or values, and the share of each."""


def profile(index: pd.DataFrame) -> Profile:
    """The shares of body parts, and of each property's values between its deciles."""
    parts = index["body_part"].value_counts(normalize=True).sort_index()
    found: Profile = {
        "body_part": {"values": list(parts.index), "weights": [float(w) for w in parts]}
    }
    for column in PROPERTIES:
        values = index[column].to_numpy(dtype=float)
        edges = np.unique(np.quantile(values, np.linspace(0, 1, 11)))
        if len(edges) < 2:  # one value only: a bin needs two edges
            edges = np.array([edges[0], edges[0] + 1])
        counts, _ = np.histogram(values, edges)
        found[column] = {"bins": edges.tolist(), "weights": (counts / counts.sum()).tolist()}
    return found


def within(index: pd.DataFrame, reference: Profile) -> pd.DataFrame:
    """The index with each property held inside the reference's first and last bin."""
    limits = {
        column: (shares["bins"][0], shares["bins"][-1])
        for column, shares in reference.items()
        if "bins" in shares
    }
    return index.assign(**{c: index[c].clip(low, high) for c, (low, high) in limits.items()})
