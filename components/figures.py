"""Every figure of the chosen network, gathered: metrics.json without what compares or serves it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bonexray.bundle import BundleInfo
from bonexray.config import EvaluateConfig
from bonexray.gate import SKIPPED
from bonexray.images import Pixels
from bonexray.novelty import conflict
from bonexray.scoring import figures_by_split, figures_of
from bonexray.studies import BODY_PARTS, PART_NUMBERS
from bonexray.tables import read_index, read_truth
from bonexray.verdicts import OperatingPoints
from components.abstention import strangeness, tell_apart
from components.candidates import predict
from components.champion import compare_with_champion
from components.judgement import Judgement
from components.out_of_fold import out_of_fold
from components.pointing import pointing_game
from components.strangers import draw_strangers, other_parts
from components.subgroups import MIN_STUDIES, describe_studies, figures_by_group, largest_gap

GOOD = "test radiographs"
_STRANGERS = 24  # of each kind

Strangeness = dict[str, npt.NDArray[np.floating]]


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What figures are taken from, beside the network's own outputs."""

    images: Pixels
    """(M, S, S), packed."""
    dataset: Path
    crossval: Path
    release: Path


def take_figures(
    chosen: Judgement, info: BundleInfo, sources: Sources, config: EvaluateConfig
) -> tuple[dict[str, Any], Strangeness]:
    """Take every figure.

    Returns:
        The figures, and how strange each kind of image looks, good test views first.

    Raises:
        DataError: a source cannot be read.
    """
    draws, seed = config.bootstrap_draws, config.seed
    views, test = chosen.views, chosen.studies_in("test")
    of_test = (views["split"] == "test").to_numpy()
    index, truth = read_index(sources.dataset), read_truth(sources.dataset)
    described = describe_studies(views[of_test], index, truth)
    by_part = figures_by_part({"image": views[of_test], "study": test}, draws, seed)
    strange = _strangeness(chosen, of_test, sources.images, config)
    figures = {
        **figures_by_split({"image": views, "study": chosen.studies}, draws, seed),
        "out_of_fold": out_of_fold(
            sources.crossval,
            views,
            chosen.candidate.records,
            chosen.rule,
            chosen.calibration,
            draws,
            seed,
        ),
        "test_by_part": by_part,
        "worst_part": worst_part(by_part),
        "study_rule": chosen.rule.model_dump() | {"rules": chosen.rules},
        "calibration": chosen.calibration.model_dump(),
        "test_operating_points": shares_at(test, info.operating_points),
        "abstention": _abstention(views, strange),
        "where": pointing_game(
            views[of_test],
            chosen.candidate.outputs.cams[of_test],
            truth,
            sources.images.shape[1],
            draws,
            seed,
        ),
        "subgroups": figures_by_group(test, described.drop(columns="body part"), draws, seed),
        "largest_gap": largest_gap(test, described, draws, seed),
        "champion": compare_with_champion(
            sources.release, views[of_test], test, sources.images, config.threads, draws, seed
        ),
    }
    return figures, strange


def figures_by_part(
    levels: Mapping[str, pd.DataFrame], draws: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Body part -> level (`image`, `study`) -> figures."""
    shown = set(levels["study"]["body_part"])
    return {
        part: {
            level: figures_of(table[table["body_part"] == part], draws, seed)
            for level, table in levels.items()
        }
        for part in BODY_PARTS
        if part in shown
    }


def worst_part(by_part: Mapping[str, Any]) -> dict[str, Any]:
    """The body part of the lowest AUROC of studies among those with enough of each label."""
    enough = {
        part: levels["study"]
        for part, levels in by_part.items()
        if MIN_STUDIES <= levels["study"]["abnormal"] <= levels["study"]["count"] - MIN_STUDIES
    }
    if not enough:
        return {SKIPPED: f"no body part has {MIN_STUDIES} test studies of each label"}
    part = min(enough, key=lambda name: enough[name]["auroc"])
    kept = ("auroc", "auroc_low", "auroc_high", "count")
    return {"part": part} | {name: enough[part][name] for name in kept}


def shares_at(studies: pd.DataFrame, points: OperatingPoints) -> dict[str, Any]:
    """What the two operating points cost on the studies given."""
    labels = studies["label"].to_numpy()
    probabilities = studies["probability"].to_numpy()
    doubtful = (probabilities >= points.high_sensitivity) & (
        probabilities < points.high_specificity
    )
    return {
        "high_sensitivity": _rates(labels, probabilities >= points.high_sensitivity),
        "high_specificity": _rates(labels, probabilities >= points.high_specificity),
        "doubtful_share": float(doubtful.mean()),
    }


def _rates(labels: npt.NDArray[Any], called: npt.NDArray[np.bool_]) -> dict[str, float | None]:
    def share(of: npt.NDArray[np.bool_]) -> float | None:
        return float(of.mean()) if len(of) else None

    return {"sensitivity": share(called[labels == 1]), "specificity": share(~called[labels == 0])}


def _strangeness(
    chosen: Judgement, of_test: npt.NDArray[np.bool_], images: Pixels, config: EvaluateConfig
) -> Strangeness:
    """How strange good test views look, and strangers, which claim nothing, and wrong claims."""
    bounds, outputs = chosen.abstention, chosen.candidate.outputs
    good = chosen.views[of_test]
    claimed = good["body_part"].map(PART_NUMBERS).to_numpy()
    wrong = other_parts(claimed, len(BODY_PARTS), config.seed)
    novelty = good["novelty"].to_numpy()
    strange: Strangeness = {
        GOOD: strangeness(bounds, novelty, good["conflict"].to_numpy()),
        "of another part": strangeness(
            bounds, novelty, conflict(outputs.part_logits[of_test], wrong)
        ),
    }
    some = good["row"].sample(min(_STRANGERS, len(good)), random_state=config.seed)
    kinds = draw_strangers(images[some.to_numpy()], images.shape[1], _STRANGERS, config.seed)
    spec = chosen.candidate.records[0].policy.image
    for kind, squares in kinds.items():
        rows = np.arange(len(squares))
        seen = predict(chosen.candidate.network, squares, rows, spec, config.batch_size)
        strange[kind] = strangeness(bounds, chosen.typical.novelty(seen.embeddings), None)
    return strange


def _abstention(views: pd.DataFrame, strange: Strangeness) -> dict[str, Any]:
    refused = (views["refused"] != "").groupby(views["split"]).mean()
    strangers = {kind: scores for kind, scores in strange.items() if kind != GOOD}
    told = tell_apart(strange[GOOD], strangers)
    return {
        "refused": {split: float(refused[split]) for split in refused.index},
        "strangers": told,
        "worst_auroc": min(figures["auroc"] for figures in told.values()),
    }
