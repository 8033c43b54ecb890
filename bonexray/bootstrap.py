"""Intervals of figures of merit, by drawing whole patients with replacement.

Items of one patient resemble each other, so patients are the units that are redrawn.

N is the number of scored items (views or studies).
"""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from bonexray.metrics import Labels, Metric, Scores

_CHUNK = 2_000_000  # weights held at once


def bootstrap_intervals(
    metrics: Mapping[str, Metric],
    labels: Labels,
    scores: Scores,
    patients: npt.NDArray[np.object_],
    *,
    draws: int,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of metrics.

    Args:
        metrics: name -> metric.
        labels: (N,) 0 or 1.
        scores: (N,).
        patients: (N,) the patient of each item.
        draws: number of redraws; those in which a metric is undefined are left out of its interval.
        seed: of the redraws.

    Returns:
        Name -> lower and upper end; both NaN when the metric was defined in no redraw.
    """
    values = [
        [metric(labels, scores, weights) for metric in metrics.values()]
        for weights in redraws(patients, draws=draws, seed=seed)
    ]
    return {
        name: interval(np.concatenate(column))
        for name, column in zip(metrics, zip(*values, strict=True), strict=True)
    }


def paired_difference(
    metric: Metric,
    labels: Labels,
    one: Scores,
    other: Scores,
    patients: npt.NDArray[np.object_],
    *,
    draws: int,
    seed: int,
) -> tuple[float, float, float]:
    """How much higher a metric is for `one` than for `other` on the same items.

    Args:
        metric: of labels and scores.
        labels: (N,) 0 or 1.
        one: (N,) scores.
        other: (N,) scores of the same items.
        patients: (N,) the patient of each item; whole patients are redrawn, the same for both.
        draws: number of redraws.
        seed: of the redraws.

    Returns:
        The difference, and lower and upper end of its 95 % interval.
    """
    drawn = [
        metric(labels, one, weights) - metric(labels, other, weights)
        for weights in redraws(patients, draws=draws, seed=seed)
    ]
    difference = float(metric(labels, one) - metric(labels, other))
    return difference, *interval(np.concatenate(drawn))


def redraws(
    patients: npt.NDArray[np.object_], *, draws: int, seed: int
) -> Iterator[npt.NDArray[np.float32]]:
    """How often each item is drawn when as many patients as there are are drawn with replacement.

    Args:
        patients: (N,) the patient of each item.
        draws: how often.
        seed: of the redraws.

    Yields:
        Weights (c, N) of some redraws, together `draws` rows.
    """
    names, owner = np.unique(patients, return_inverse=True)
    count, generator = len(names), np.random.default_rng(seed)
    chunk = max(1, _CHUNK // len(owner))
    for start in range(0, draws, chunk):
        rows = min(chunk, draws - start)
        drawn = generator.integers(count, size=(rows, count))
        places = drawn + np.arange(rows)[:, None] * count
        times = np.bincount(places.ravel(), minlength=rows * count).reshape(rows, count)
        yield times.astype(np.float32)[:, owner]


def interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of redrawn values, those that are NaN left out; NaN when all are."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)
