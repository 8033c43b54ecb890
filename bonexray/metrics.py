"""Figures of merit and their intervals, on NumPy arrays. Knows no file and no network.

N is the number of scored items (views or studies).
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.integer]
Scores = npt.NDArray[np.floating]
Metric = Callable[[Labels, Scores], float]

_EPSILON = 1e-12


def accuracy(labels: Labels, probabilities: Scores) -> float:
    """Share of items whose probability is on their label's side of 0.5."""
    return float(np.mean((probabilities > 0.5) == labels))


def cross_entropy(labels: Labels, probabilities: Scores) -> float:
    """Mean negative log-likelihood in nats."""
    likelihood = np.where(labels == 1, probabilities, 1 - probabilities)
    return float(-np.mean(np.log(np.clip(likelihood, _EPSILON, 1))))


def auroc(labels: Labels, scores: Scores) -> float:
    """Area under the ROC curve: chance that an abnormal item scores above a normal one.

    Ties count half. NaN when only one label is present.
    """
    positives = int(np.sum(labels == 1))
    negatives = len(labels) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean_rank = last - (counts - 1) / 2  # ranks count from 1
    rank_sum = float(np.sum(mean_rank[inverse][labels == 1]))
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def cohen_kappa(labels: Labels, probabilities: Scores) -> float:
    """Cohen's kappa of label and prediction at 0.5, MURA's official figure per study.

    NaN when chance agreement is total.
    """
    predicted = probabilities > 0.5
    agreement = float(np.mean(predicted == labels))
    share_labels, share_predicted = float(np.mean(labels)), float(np.mean(predicted))
    chance = share_labels * share_predicted + (1 - share_labels) * (1 - share_predicted)
    return float("nan") if chance == 1 else (agreement - chance) / (1 - chance)


def bootstrap_intervals(
    metrics: Mapping[str, Metric],
    labels: Labels,
    scores: Scores,
    patients: npt.NDArray[np.object_],
    *,
    draws: int,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of metrics when whole patients are drawn with replacement.

    Items of one patient resemble each other, so patients are the units that are redrawn.

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
    values = np.empty((draws, len(metrics)))
    for draw, items in enumerate(redraws(patients, draws=draws, seed=seed)):
        values[draw] = [metric(labels[items], scores[items]) for metric in metrics.values()]
    return {name: interval(values[:, column]) for column, name in enumerate(metrics)}


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
        metric(labels[items], one[items]) - metric(labels[items], other[items])
        for items in redraws(patients, draws=draws, seed=seed)
    ]
    return metric(labels, one) - metric(labels, other), *interval(np.array(drawn))


def redraws(
    patients: npt.NDArray[np.object_], *, draws: int, seed: int
) -> Iterator[npt.NDArray[np.integer]]:
    """Positions of the items of as many patients, drawn with replacement, `draws` times.

    Args:
        patients: (N,) the patient of each item.
        draws: how often.
        seed: of the redraws.
    """
    _, owner = np.unique(patients, return_inverse=True)
    by_patient = np.split(np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner))[:-1])
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        chosen = generator.integers(len(by_patient), size=len(by_patient))
        yield np.concatenate([by_patient[patient] for patient in chosen])


def interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of redrawn values, those that are NaN left out; NaN when all are."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)
