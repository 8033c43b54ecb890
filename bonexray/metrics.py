"""Figures of merit, on NumPy arrays. Knows no file and no network.

Every metric is weighted, and takes many rows of weights at once: a redraw of a bootstrap is a row
of how often each item was drawn.

N, at least 1, is the number of scored items (views or studies); `...` are the redraws, or nothing.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.integer]
Scores = npt.NDArray[np.floating]
Weights = npt.NDArray[np.floating]
Values = Any
"""float64: an array of shape (...), a number where there is one row of weights or none."""
Metric = Callable[..., Values]
"""Of labels (N,) 0 or 1, scores (N,) and weights (..., N); NaN where it is undefined."""

_EPSILON = 1e-12
_BINS = 10


def accuracy(labels: Labels, probabilities: Scores, weights: Weights | None = None) -> Values:
    """Share of items whose probability is on their label's side of 0.5."""
    return _mean((probabilities > 0.5) == labels, weights)


def cross_entropy(labels: Labels, probabilities: Scores, weights: Weights | None = None) -> Values:
    """Mean negative log-likelihood in nats."""
    likelihood = np.where(labels == 1, probabilities, 1 - probabilities)
    return _mean(-np.log(np.clip(likelihood, _EPSILON, 1)), weights)


def brier(labels: Labels, probabilities: Scores, weights: Weights | None = None) -> Values:
    """Mean squared distance of probability and label (Brier, Monthly Weather Review, 1950)."""
    return _mean((probabilities - labels) ** 2, weights)


def auroc(labels: Labels, scores: Scores, weights: Weights | None = None) -> Values:
    """Area under the ROC curve: chance that an abnormal item scores above a normal one.

    Ties count half. NaN when only one label is present.
    """
    abnormal, normal = _above(labels, scores, weights)
    # Each step of the curve is a trapezoid: a tie's items are passed at once.
    before = np.concatenate([np.zeros_like(abnormal[..., :1]), abnormal[..., :-1]], axis=-1)
    steps = np.diff(normal, axis=-1, prepend=0)
    area = ((abnormal + before) / 2 * steps).sum(axis=-1)
    return _ratio(area, abnormal[..., -1] * normal[..., -1])


def auprc(labels: Labels, scores: Scores, weights: Weights | None = None) -> Values:
    """Area under the precision-recall curve, as average precision: no interpolation.

    NaN when nothing is abnormal.
    """
    abnormal, normal = _above(labels, scores, weights)
    precision = _ratio(abnormal, abnormal + normal, undefined=0.0)
    steps = np.diff(abnormal, axis=-1, prepend=0)
    return _ratio((precision * steps).sum(axis=-1), abnormal[..., -1])


def sensitivity(labels: Labels, probabilities: Scores, weights: Weights | None = None) -> Values:
    """Share of abnormal items above 0.5. NaN when there is none."""
    true_positive, _, _, false_negative = _confusion(labels, probabilities, weights)
    return _ratio(true_positive, true_positive + false_negative)


def specificity(labels: Labels, probabilities: Scores, weights: Weights | None = None) -> Values:
    """Share of normal items not above 0.5. NaN when there is none."""
    _, false_positive, true_negative, _ = _confusion(labels, probabilities, weights)
    return _ratio(true_negative, true_negative + false_positive)


def ppv(labels: Labels, probabilities: Scores, weights: Weights | None = None) -> Values:
    """Positive predictive value: share of items above 0.5 that are abnormal; NaN without any."""
    true_positive, false_positive, _, _ = _confusion(labels, probabilities, weights)
    return _ratio(true_positive, true_positive + false_positive)


def npv(labels: Labels, probabilities: Scores, weights: Weights | None = None) -> Values:
    """Negative predictive value: share of the other items that are normal; NaN without any."""
    _, _, true_negative, false_negative = _confusion(labels, probabilities, weights)
    return _ratio(true_negative, true_negative + false_negative)


def cohen_kappa(labels: Labels, probabilities: Scores, weights: Weights | None = None) -> Values:
    """Cohen's kappa of label and prediction at 0.5, MURA's official figure per study.

    NaN when chance agreement is total.
    """
    both, called, neither, missed = _confusion(labels, probabilities, weights)
    total = both + called + neither + missed
    agreement = _ratio(both + neither, total)
    share_labels, share_called = _ratio(both + missed, total), _ratio(both + called, total)
    chance = share_labels * share_called + (1 - share_labels) * (1 - share_called)
    return _ratio(agreement - chance, 1 - chance)


def calibration_error(
    labels: Labels, probabilities: Scores, weights: Weights | None = None
) -> Values:
    """Expected calibration error in ten bins of equal width (Naeini et al., AAAI 2015).

    How far mean probability and share of abnormal items lie apart in a bin, over all bins.
    """
    return np.abs(_gaps(labels, probabilities, weights)[0]).sum(axis=-1)


def calibration_error_debiased(
    labels: Labels, probabilities: Scores, weights: Weights | None = None
) -> Values:
    """The calibration error, each bin's squared gap less the variance that chance gives it.

    A gap is noise even if every probability is right: its square is the true gap's and the
    noise's. Below 0 counts as 0, so of perfect probabilities something is left where items are few
    (0.05 of 60, 0.03 of 200, 0.01 of 1,199 spread evenly; a true error of 0.17 reads 0.12, 0.14
    and 0.16).
    """
    gaps, noise = _gaps(labels, probabilities, weights)
    return np.sqrt(np.maximum(gaps**2 - noise**2, 0)).sum(axis=-1)


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "loss": cross_entropy,
    "auroc": auroc,
    "auprc": auprc,
    "sensitivity": sensitivity,
    "specificity": specificity,
    "ppv": ppv,
    "npv": npv,
    "kappa": cohen_kappa,
    "brier": brier,
    "ece": calibration_error,
    "ece_debiased": calibration_error_debiased,
}


def _sums(columns: npt.NDArray[Any], weights: Weights | None) -> npt.NDArray[np.float64]:
    """Weighted sums (..., k) of columns (N, k)."""
    if weights is None:
        return np.asarray(columns.sum(axis=0, dtype=np.float64))
    return np.asarray(weights.astype(np.float64) @ columns.astype(np.float64))


def _mean(values: npt.NDArray[Any], weights: Weights | None) -> Values:
    sums = _sums(np.stack([values, np.ones(len(values))], axis=1), weights)
    return _ratio(sums[..., 0], sums[..., 1])


def _ratio(above: Values, below: Values, undefined: float = float("nan")) -> Values:
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    result = np.full(np.broadcast_shapes(above.shape, below.shape), undefined)
    np.divide(above, below, out=result, where=below != 0)
    return result[()]  # a number in place of an array without axes


def _confusion(
    labels: Labels, probabilities: Scores, weights: Weights | None
) -> tuple[Values, Values, Values, Values]:
    """Weights of true positives, false positives, true negatives and false negatives."""
    called, abnormal = probabilities > 0.5, labels == 1
    kinds = [called & abnormal, called & ~abnormal, ~called & ~abnormal, ~called & abnormal]
    sums = _sums(np.stack(kinds, axis=1), weights)
    return sums[..., 0], sums[..., 1], sums[..., 2], sums[..., 3]


def _above(
    labels: Labels, scores: Scores, weights: Weights | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Weights (..., thresholds) of abnormal and of normal items at or above each distinct score.

    Thresholds fall.
    """
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    drawn = np.ones(len(scores)) if weights is None else weights[..., order]
    abnormal = labels[order] == 1
    return (
        np.cumsum(drawn * abnormal, axis=-1, dtype=np.float64)[..., last_of_tie],
        np.cumsum(drawn * ~abnormal, axis=-1, dtype=np.float64)[..., last_of_tie],
    )


def _gaps(
    labels: Labels, probabilities: Scores, weights: Weights | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Of each bin (..., bins): probability less label, and the noise of that, as shares of all."""
    own_bin = np.minimum((probabilities * _BINS).astype(int), _BINS - 1)
    member = np.eye(_BINS)[own_bin]  # (N, bins)
    gaps = _sums(member * (probabilities - labels)[:, None], weights)
    # Squared: an item that was drawn twice brings its noise twice, so redraws are noisier than
    # what was drawn from, and their error is debiased by as much more.
    squares = None if weights is None else weights**2
    variance = _sums(member * (probabilities * (1 - probabilities))[:, None], squares)
    total = float(len(labels)) if weights is None else weights.sum(axis=-1, dtype=np.float64)
    share = np.asarray(total)[..., None]
    return _ratio(gaps, share), _ratio(np.sqrt(variance), share)
