"""Is this a limb radiograph like those that were learned from, and of the part it is said to be?

*Novelty* is the distance of a view's embedding from the nearest body part's mean, in the units in
which the training views themselves vary (Lee et al., A Simple Unified Framework for Detecting
Out-of-Distribution Samples and Adversarial Attacks, NeurIPS 2018), of embeddings of unit length
(Mueller & Hein, Mahalanobis++, ICML 2025). *Conflict* is how surprised the body-part head is by the
part that a view is said to show.

n views, P body parts, D embedding, K directions kept of it.
"""

import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from bonexray.errors import BundleError

Floats32 = npt.NDArray[np.float32]
Refusal = Literal["", "unlike", "other_part"]
"""Empty: the view is read. `unlike`: it is like no limb radiograph that was learned from.
`other_part`: it is like one, of another body part than it is said to show."""


class Abstention(BaseModel):
    """When a view is not read; both bounds are chosen on `val`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_novelty: float = Field(gt=0)
    max_conflict: float = Field(gt=0)

    def refusal(self, novelty: float, conflict: float | None) -> Refusal:
        """Why a view is not read; empty when it is. Without a claim there is no conflict."""
        if novelty > self.max_novelty:
            return "unlike"
        return "other_part" if conflict is not None and conflict > self.max_conflict else ""


@dataclass(frozen=True, kw_only=True)
class Typical:
    """What the embeddings of the training views are like, scaled to unit length."""

    means: Floats32
    """(P, D) of each body part."""
    whitening: Floats32
    """(D, K): differences times this have unit variance in every direction."""

    def novelty(self, embeddings: Floats32) -> npt.NDArray[np.float64]:
        """Mahalanobis distance (n,) of embeddings (n, D) from the nearest body part's mean."""
        whitening, centres = self._exact
        seen = of_unit_length(embeddings) @ whitening
        nearest = [np.linalg.norm(seen - centre, axis=1) for centre in centres]
        return np.asarray(np.min(nearest, axis=0))

    @cached_property
    def _exact(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The whitening and the whitened means in double precision, made once: each study asks."""
        whitening = self.whitening.astype(np.float64)
        return whitening, self.means.astype(np.float64) @ whitening


def of_unit_length(embeddings: Floats32) -> npt.NDArray[np.float64]:
    """Embeddings (n, D) as directions: a strange view's is often short, and so would look near."""
    exact = embeddings.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    return np.asarray(exact / np.maximum(lengths, 1e-12))


def conflict(part_logits: Floats32, claimed: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Negative log-probability (n,), in nats, that views show what they are said to show.

    Args:
        part_logits: (n, P) of the body-part head.
        claimed: (n,) index of the body part that each view is said to show.
    """
    logits = part_logits.astype(np.float64)
    own = logits[np.arange(len(claimed)), claimed]
    return np.asarray(np.logaddexp.reduce(logits, axis=1) - own)


def write_typical(path: Path, typical: Typical) -> None:
    """Write it as .npz, without pickle and with the same bytes for the same values."""
    with path.open("wb") as file:
        np.savez(file, means=typical.means, whitening=typical.whitening)


def read_typical(path: Path) -> Typical:
    """Read what `write_typical` wrote.

    Raises:
        BundleError: it is no such file, or its shapes do not fit.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            means, whitening = arrays["means"], arrays["whitening"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path}: not readable as embeddings' statistics: {error}") from error
    if means.ndim != 2 or whitening.ndim != 2 or means.shape[1] != whitening.shape[0]:
        raise BundleError(f"{path}: means {means.shape} and whitening {whitening.shape} do not fit")
    return Typical(means=means, whitening=whitening)
