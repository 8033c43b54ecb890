"""The candidate beside the champion, on the same locked studies."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bonexray.analysis import judge_study, open_network, run_network
from bonexray.bundle import Bundle
from bonexray.errors import BundleError
from bonexray.gate import FAILED, SKIPPED
from bonexray.images import Pixels, normalise, refit
from bonexray.scoring import number_or_none
from bonexray.store import CHAMPION_FILE, BundleStore
from components.choice import lead_over


def compare_with_champion(
    release: Path,
    test: pd.DataFrame,
    studies: pd.DataFrame,
    images: Pixels,
    threads: int,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Let the champion read the same studies, and compare.

    Args:
        release: where approved bundles lie.
        test: views of `test`, a row each: row, study.
        studies: the candidate's studies of them.
        images: (M, S, S) uint8, packed.
        threads: of the champion's network.
        draws: of the interval.
        seed: of the interval.

    Returns:
        `version` and `digest` of the champion, `lead` of the candidate's AUROC with `lead_low` and
        `lead_high`, paired by study; `refitted_from_px` when the champion reads
        another size. `skipped` when there is no champion, `failed` when it cannot be read.
    """
    store = BundleStore(release)
    try:
        champion = store.champion()
        if champion is None:
            return {SKIPPED: f"no champion yet in {release}/"}
        bundle = store.open(champion.digest)
        probabilities = _read_studies(bundle, test, images, threads)
    except BundleError as error:
        return {
            FAILED: f"the champion cannot be read: {error}; approve a sound version, or remove "
            f"{release / CHAMPION_FILE} to go on without one"
        }
    except ArithmeticError as error:
        return {FAILED: f"the champion cannot answer: {error}"}
    own = studies.assign(probability=probabilities)
    lead = lead_over(studies, own, draws, seed)
    size, packed = bundle.info.image.size, images.shape[1]
    return {
        "version": champion.version,
        "digest": champion.digest,
        "lead": number_or_none(lead["auroc"]),
        "lead_low": number_or_none(lead["low"]),
        "lead_high": number_or_none(lead["high"]),
    } | ({"refitted_from_px": packed} if size != packed else {})


def _read_studies(bundle: Bundle, test: pd.DataFrame, images: Pixels, threads: int) -> list[float]:
    """The champion's probability of each study, sorted by study."""
    session = open_network(bundle, threads)
    probabilities = []
    for _, views in test.groupby("study", sort=True):
        squares = refit(images[np.sort(views["row"].to_numpy())], bundle.info.image.size)
        outputs = run_network(session, normalise(squares, bundle.info.image))
        answer = judge_study(outputs, bundle, views["body_part"].tolist())
        probabilities.append(answer.study_probability)
    return probabilities
