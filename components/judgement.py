"""What a candidate's outputs come to, with all that is fitted on `train` and chosen on `val`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bonexray.config import EvaluateConfig
from bonexray.metrics import auroc
from bonexray.novelty import Abstention, Typical, conflict
from bonexray.scoring import studies_of, with_probability
from bonexray.studies import BODY_PARTS, PART_NUMBERS
from bonexray.verdicts import Calibration, StudyRule
from components.abstention import choose_bounds, fit_typical
from components.calibration import choose_rule, fit_calibration, fit_view_temperature
from components.candidates import Candidate


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A candidate's views and studies, and what they were judged by."""

    candidate: Candidate
    views: pd.DataFrame
    """The manifest with logit, probability, seen_part, study_part, novelty, conflict, refused."""
    studies: pd.DataFrame
    typical: Typical
    abstention: Abstention
    rule: StudyRule
    rules: dict[str, Any]
    """Each rule's figures on `val`."""
    calibration: Calibration

    @property
    def val_auroc(self) -> float:
        """Of the studies of `val`."""
        val = self.studies_in("val")
        return float(auroc(val["label"].to_numpy(), val["probability"].to_numpy()))

    def studies_in(self, split: str) -> pd.DataFrame:
        """The studies of one split."""
        return self.studies[self.studies["split"] == split]


def judge_candidate(
    candidate: Candidate, manifest: pd.DataFrame, config: EvaluateConfig
) -> Judgement:
    """Judge a candidate's outputs.

    Args:
        candidate: has read every row of the manifest, in its order.
        manifest: the accepted views.
        config: of the step.

    Raises:
        DataError: an output is not finite.
    """
    outputs = candidate.outputs
    claimed = manifest["body_part"].map(PART_NUMBERS).to_numpy()
    train, val = (manifest["split"].to_numpy() == split for split in ("train", "val"))
    typical = fit_typical(outputs.embeddings[train], claimed[train], len(BODY_PARTS))
    novelty = typical.novelty(outputs.embeddings)
    surprise = conflict(outputs.part_logits, claimed)
    bounds = choose_bounds(novelty[val], surprise[val], config.refused_fraction)
    views = manifest.assign(
        logit=outputs.logits,
        seen_part=[BODY_PARTS[part] for part in outputs.part_logits.argmax(axis=1)],
        study_part=seen_in_studies(manifest, outputs.part_logits),
        novelty=novelty,
        conflict=surprise,
        refused=list(map(bounds.refusal, novelty.tolist(), surprise.tolist())),
    )
    of_val = views[val]
    temperature = fit_view_temperature(of_val)
    rule, rules = choose_rule(of_val, temperature, config.bootstrap_draws, config.seed)
    calibration = fit_calibration(of_val, rule, temperature)
    return Judgement(
        candidate=candidate,
        views=with_probability(views, calibration),
        studies=studies_of(views, rule, calibration),
        typical=typical,
        abstention=bounds,
        rule=rule,
        rules=rules,
        calibration=calibration,
    )


def seen_in_studies(manifest: pd.DataFrame, part_logits: np.ndarray[Any, Any]) -> list[str]:
    """The body part that each view's study is seen to show, as `bonexray.analysis.seen_part`."""
    means = pd.DataFrame(part_logits).groupby(manifest["study"].to_numpy()).transform("mean")
    return [BODY_PARTS[part] for part in means.to_numpy().argmax(axis=1)]
