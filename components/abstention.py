"""When the network keeps quiet: what is fitted on `train`, chosen on `val`, tried on strangers.

N views, P body parts, D embedding.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.covariance import LedoitWolf

from bonexray.metrics import auroc
from bonexray.novelty import Abstention, Typical, of_unit_length

Floats = npt.NDArray[np.floating]
_SMALLEST_VARIANCE = 1e-6  # of a direction, as a share of the largest


def fit_typical(
    embeddings: npt.NDArray[np.float32], parts: npt.NDArray[np.integer], count: int
) -> Typical:
    """Mean direction of each body part and the covariance they share, shrunk (Ledoit & Wolf, 2004).

    Args:
        embeddings: (N, D) of training views.
        parts: (N,) index of each one's body part.
        count: P. A part without views gets the mean of all.
    """
    seen = of_unit_length(embeddings)
    overall = seen.mean(axis=0)
    means = np.stack(
        [
            seen[parts == part].mean(axis=0) if (parts == part).any() else overall
            for part in range(count)
        ]
    )
    spread = LedoitWolf(assume_centered=True).fit(seen - means[parts]).covariance_
    variances, directions = np.linalg.eigh(spread)
    variances = np.maximum(variances, _SMALLEST_VARIANCE * variances[-1])
    return Typical(
        means=means.astype(np.float32),
        whitening=(directions / np.sqrt(variances)).astype(np.float32),
    )


def choose_bounds(novelty: Floats, conflict: Floats, refused_fraction: float) -> Abstention:
    """Bounds above which at most that share of the good views of `val` lies, half each."""
    kept = 1 - refused_fraction / 2
    return Abstention(
        max_novelty=float(np.quantile(novelty, kept, method="higher")),
        max_conflict=float(np.quantile(conflict, kept, method="higher")),
    )


def strangeness(bounds: Abstention, novelty: Floats, conflict: Floats | None) -> Floats:
    """Novelty and conflict (N,) as one number: above 1 a view is refused."""
    unlike = novelty / bounds.max_novelty
    return unlike if conflict is None else np.maximum(unlike, conflict / bounds.max_conflict)


def tell_apart(good: Floats, strangers: Mapping[str, Floats]) -> dict[str, Any]:
    """How well each kind of stranger is told from good test views, and how much of it is refused.

    Args:
        good: strangeness of good test views.
        strangers: kind -> strangeness of each image.

    Returns:
        Kind -> `count`, `auroc`, `refused`, a share.
    """
    return {
        kind: {
            "count": len(scores),
            "auroc": float(
                auroc(np.repeat([0, 1], [len(good), len(scores)]), np.concatenate([good, scores]))
            ),
            "refused": float((scores > 1).mean()),
        }
        for kind, scores in strangers.items()
    }
