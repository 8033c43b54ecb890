"""The networks side by side, and which of them is taken."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bonexray.bootstrap import paired_difference
from bonexray.metrics import auroc
from bonexray.scoring import figures_of, number_or_none
from components.judgement import Judgement

CHOICE_RULE = "the quickest of those that the studies of val cannot tell from the best"


def choose(judgements: Sequence[Judgement], draws: int, seed: int) -> Judgement:
    """The quickest of the networks that `val` cannot tell from the best.

    The best has the highest AUROC of studies of `val`; one cannot be told from it when the 95 %
    interval of how far it lies behind, paired by study, holds 0.
    """
    best = _best(judgements)
    equal = [
        judgement
        for judgement in judgements
        if judgement is best or _behind(best, judgement, "val", draws, seed)["low"] <= 0
    ]
    return min(equal, key=lambda judgement: judgement.candidate.ms_per_view)


def compare(
    judgements: Sequence[Judgement], chosen: Judgement, draws: int, seed: int
) -> dict[str, Any]:
    """The networks side by side, the chosen one first.

    Returns:
        Network -> `parameters`, how many; `ms_per_view`; `val` and `test`, figures of their
        studies with intervals; `behind`, how far its AUROC of `val` lies below the best one's, and
        `lead`, how far that of `test` lies below the chosen one's; both with `low` and `high`.
    """
    best = _best(judgements)
    ordered = sorted(judgements, key=lambda one: (one is not chosen, -one.val_auroc))
    return {
        one.candidate.name: {
            "parameters": sum(weight.numel() for weight in one.candidate.network.parameters()),
            "ms_per_view": one.candidate.ms_per_view,
            "val": figures_of(one.studies_in("val"), draws, seed),
            "test": figures_of(one.studies_in("test"), draws, seed),
            "behind": _defined(_behind(best, one, "val", draws, seed)),
            "lead": _defined(_behind(chosen, one, "test", draws, seed)),
        }
        for one in ordered
    }


def lead_over(one: pd.DataFrame, other: pd.DataFrame, draws: int, seed: int) -> dict[str, float]:
    """How much higher AUROC is in one table of studies than in another of the same studies."""
    lead, low, high = paired_difference(
        auroc,
        one["label"].to_numpy(),
        one["probability"].to_numpy(),
        other["probability"].to_numpy(),
        one["patient"].to_numpy(),
        draws=draws,
        seed=seed,
    )
    return {"auroc": float(lead), "low": low, "high": high}


def _best(judgements: Sequence[Judgement]) -> Judgement:
    return max(judgements, key=lambda judgement: judgement.val_auroc)


def _behind(
    best: Judgement, other: Judgement, split: str, draws: int, seed: int
) -> dict[str, float]:
    return lead_over(best.studies_in(split), other.studies_in(split), draws, seed)


def _defined(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: number_or_none(value) for name, value in values.items()}
