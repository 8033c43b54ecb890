"""What evaluate hands to whoever writes it down: report, card, pack."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bonexray.bundle import BundleInfo
from bonexray.dataset import Origin
from bonexray.images import Pixels
from components.judgement import Judgement


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All that is told of an evaluation."""

    chosen: Judgement
    info: BundleInfo
    metrics: Mapping[str, Any]
    gate: Mapping[str, Any]
    origin: Origin
    images: Pixels
    """(M, S, S), packed."""
    strangers: Mapping[str, npt.NDArray[np.floating]]
    """Kind of image -> how strange each one looks; above 1 it is refused."""
