"""For whom it works: figures of groups of test studies, and the largest gap between two of them.

Pure: tables in, values out. A gap that is an artefact of how an image was taken is a shortcut.
"""

from typing import Any

import numpy as np
import pandas as pd

from bonexray.bootstrap import interval, redraws
from bonexray.gate import SKIPPED
from bonexray.metrics import auroc
from bonexray.scoring import figures_of, number_or_none

_HARDWARE = "hardware"  # the simulator's name of that finding

MIN_STUDIES = 10
"""Of each label, in each of two groups that are compared."""


def describe_studies(
    views: pd.DataFrame, index: pd.DataFrame, truth: pd.DataFrame | None
) -> pd.DataFrame:
    """What groups studies: one row a study, one column a property, NaN where it is not known.

    Args:
        views: with row, study and body_part.
        index: a row an image: width, height and pixel_mean; its position is `row`.
        truth: of a simulated archive: row, marker, finding.
    """
    seen = index.iloc[views["row"].to_numpy()]
    table = pd.DataFrame(
        {
            "study": views["study"].to_numpy(),
            "body part": views["body_part"].str[3:].str.lower().to_numpy(),
            "exposure": seen["pixel_mean"].to_numpy(),
            "size": np.maximum(seen["width"].to_numpy(), seen["height"].to_numpy()),
        }
    )
    by_study = table.groupby("study", sort=True)
    described = pd.DataFrame(
        {
            "body part": by_study["body part"].first(),
            "number of views": by_study.size().clip(upper=3).map({1: "1", 2: "2", 3: "3 or more"}),
            "exposure": _thirds(by_study["exposure"].mean(), ("dark", "middling", "bright")),
            "image size": _thirds(by_study["size"].mean(), ("small", "medium", "large")),
        }
    )
    if truth is not None:
        own = views.merge(truth, on="row", how="left", validate="one_to_many").groupby("study")
        marked = own["marker"].any()
        metal = own["finding"].agg(lambda findings: _HARDWARE in set(findings))
        described["side marker"] = marked.map({True: "with", False: "without"})
        described["hardware"] = metal.map({True: "with", False: "without"})
    return described.reset_index()


def figures_by_group(
    studies: pd.DataFrame, described: pd.DataFrame, draws: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Property -> group -> figures of its studies."""
    table = studies.merge(described, on="study", validate="one_to_one")
    return {
        name: {
            str(group): figures_of(own, draws, seed)
            for group, own in table.groupby(name, observed=True)
        }
        for name in described.columns.drop("study")
    }


def largest_gap(
    studies: pd.DataFrame, described: pd.DataFrame, draws: int, seed: int
) -> dict[str, Any]:
    """The two groups of one property whose AUROC differs most.

    Groups with fewer than `MIN_STUDIES` of a label are left out.

    Returns:
        `property`, `better`, `worse`, `gap`, `gap_low`, `gap_high`; `skipped` and why when no two
        groups are large enough.
    """
    table = studies.merge(described, on="study", validate="one_to_one")
    largest: dict[str, Any] = {}
    for name in described.columns.drop("study"):
        counts = table.groupby(name, observed=True)["label"].agg(["sum", "size"])
        enough = (counts["sum"] >= MIN_STUDIES) & (counts["size"] - counts["sum"] >= MIN_STUDIES)
        by_group = {
            group: float(auroc(own["label"].to_numpy(), own["probability"].to_numpy()))
            for group, own in table.groupby(name, observed=True)
            if enough[group]
        }
        if len(by_group) < 2:
            continue
        better, worse = (
            max(by_group, key=by_group.__getitem__),
            min(by_group, key=by_group.__getitem__),
        )
        gap = by_group[better] - by_group[worse]
        if gap > largest.get("gap", -1):
            largest = {"property": name, "better": str(better), "worse": str(worse), "gap": gap}
            largest |= _interval(table, table[name] == better, table[name] == worse, draws, seed)
    few = f"no two groups of a property have {MIN_STUDIES} studies of each label"
    return largest or {SKIPPED: few}


def _interval(
    table: pd.DataFrame, better: pd.Series, worse: pd.Series, draws: int, seed: int
) -> dict[str, float | None]:
    """The 95 % interval of a gap: patients may have studies in both groups, so all are redrawn."""
    labels, probabilities = table["label"].to_numpy(), table["probability"].to_numpy()
    one, other = better.to_numpy(), worse.to_numpy()
    gaps = [
        auroc(labels[one], probabilities[one], weights[:, one])
        - auroc(labels[other], probabilities[other], weights[:, other])
        for weights in redraws(table["patient"].to_numpy(), draws=draws, seed=seed)
    ]
    low, high = interval(np.concatenate(gaps))
    return {"gap_low": number_or_none(low), "gap_high": number_or_none(high)}


def _thirds(values: pd.Series, names: tuple[str, str, str]) -> pd.Series:
    """Three groups of equal size, named from the lowest to the highest."""
    third = (values.rank(method="first", pct=True) * 3 - 1e-9).astype(int)
    kind = pd.CategoricalDtype(list(names), ordered=True)
    return third.map(dict(enumerate(names))).astype(kind)
