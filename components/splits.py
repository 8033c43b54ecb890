"""Which patients learn, which choose and which judge: splits and folds, by patient.

MURA's own valid set is `test`. Of its train set, a share of the patients becomes `val`; all of
them get a fold for cross-validation. A patient that was pinned keeps both; the others are dealt
so that each stratum (body part and label) has its share everywhere.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Generic, TypeVar

import pandas as pd

from bonexray.artifacts import whole_file
from bonexray.config import ValidateConfig
from bonexray.errors import DataError

NO_FOLD = -1
_COLUMNS = ["dataset", "patient", "split", "fold"]
_VERSION = re.compile(r"[-_ ]?v\d+(\.\d+)*$")

P = TypeVar("P")

Assignment = dict[str, tuple[str, int]]
"""Patient -> split and fold."""


def strata(views: pd.DataFrame, label: str) -> "pd.Series[str]":
    """Patient -> stratum: the part of the first study, and whether any study is abnormal.

    Args:
        views: rows with columns patient, body_part, study and the label's.
        label: the label's column.
    """
    by_patient = views.sort_values("study").groupby("patient")
    part, worst = by_patient["body_part"].first(), by_patient[label].max()
    return part + "/" + worst.astype(str)


def assign(
    patients: "pd.Series[str]", tested: Iterable[str], pinned: Assignment, config: ValidateConfig
) -> Assignment:
    """Deal every patient.

    Args:
        patients: patient -> stratum.
        tested: patients of MURA's valid set; they are `test`.
        pinned: what earlier data decided; stays as it is.
        config: seed, share of `val` and number of folds.

    Raises:
        DataError: a tested patient is pinned to another split.
    """
    tested = set(tested)
    _refuse_learnt(tested, pinned)
    dealt: Assignment = dict.fromkeys(tested, ("test", NO_FOLD))
    dealt |= {p: pinned[p] for p in patients.index if p in pinned and p not in dealt}
    splits = _Dealer({"train": 1 - config.val_fraction, "val": config.val_fraction})
    folds = _Dealer(dict.fromkeys(range(config.folds), 1 / config.folds))
    for patient, (split, fold) in sorted(dealt.items()):
        if split != "test":
            splits.count(patients[patient], split)
            folds.count(patients[patient], fold)
    new = [patient for patient in patients.index if patient not in dealt]
    for patient in sorted(new, key=lambda patient: _drawn(patient, config.seed)):
        stratum = patients[patient]
        dealt[patient] = (splits.deal(stratum), folds.deal(stratum))
    return dealt


def _refuse_learnt(tested: set[str], pinned: Assignment) -> None:
    learnt = sorted(p for p in tested if p in pinned and pinned[p][0] != "test")
    if learnt:
        more = f" and {len(learnt) - 1} more" if len(learnt) > 1 else ""
        raise DataError(
            f"{learnt[0]}{more}: in the archive's valid set, but pinned to "
            f"{pinned[learnt[0]][0]!r} by earlier data; what has learnt must not judge. If this is "
            "another data set of the same name, remove that one's lines from the pinned splits"
        )


class _Dealer(Generic[P]):
    """Deals to the place that lacks most of its share in the stratum, then overall."""

    def __init__(self, shares: dict[P, float]) -> None:
        self._shares = shares
        self._dealt: Counter[tuple[str, P]] = Counter()
        self._sizes: Counter[str] = Counter()

    def count(self, stratum: str, place: P) -> None:
        for group in (stratum, "all"):
            self._dealt[group, place] += 1
            self._sizes[group] += 1

    def deal(self, stratum: str) -> P:
        def lack(place: P) -> tuple[float, float]:
            own, everyone = (
                self._shares[place] * (self._sizes[group] + 1) - self._dealt[group, place]
                for group in (stratum, "all")
            )
            return own, everyone

        place = max(self._shares, key=lack)
        self.count(stratum, place)
        return place


def _drawn(patient: str, seed: int) -> str:
    """An order that neither the archive's nor other patients decide."""
    return hashlib.sha256(f"{seed}/{patient}".encode()).hexdigest()


def read_pins(path: Path, origin: str, folds: int) -> Assignment:
    """Read the pinned patients of one data set; none when there is no file.

    Args:
        path: a CSV of `dataset,patient,split,fold`.
        origin: what the archive claims to be. Without its version it names the data set: the
            versions of one have the same patients, other sets number theirs alike.
        folds: how many there are.

    Raises:
        DataError: the file does not have that form, or its folds are not `folds` many.
    """
    table = _read_table(path)
    own = table[table["dataset"] == _without_version(origin)]
    if own["patient"].duplicated().any():
        twice = own.loc[own["patient"].duplicated(), "patient"].iloc[0]
        raise DataError(f"{path}: pins {twice} of {origin} twice")
    learning = own[own["split"] != "test"]
    pinned = int(learning["fold"].max()) + 1 if len(learning) >= folds else folds
    if pinned != folds:
        raise DataError(f"{path}: pins {pinned} folds, but validate.folds is {folds}")
    rows = zip(own["patient"], own["split"], own["fold"], strict=True)
    return {patient: (split, int(fold)) for patient, split, fold in rows}


def write_pins(path: Path, origin: str, assignment: Assignment) -> None:
    """Put the pinned patients of one data set in the place of its old ones, whole or not at all."""
    table = _read_table(path)
    dataset = _without_version(origin)
    rows = [(dataset, patient, *place) for patient, place in assignment.items()]
    own = pd.DataFrame(rows, columns=_COLUMNS)
    table = pd.concat([table[table["dataset"] != dataset], own]).sort_values(_COLUMNS[:2])
    with whole_file(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")


def _without_version(origin: str) -> str:
    return _VERSION.sub("", origin)


def _read_table(path: Path) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame(columns=_COLUMNS)
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(_COLUMNS[:3], str) | {"fold": int})
    except (OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: not readable as pinned splits: {error}") from error
    if list(table.columns) != _COLUMNS or not table["split"].isin(["train", "val", "test"]).all():
        raise DataError(f"{path}: expected columns {_COLUMNS} and splits train, val or test")
    no_fold = table["fold"] == NO_FOLD
    wrong = ((table["split"] == "test") != no_fold) | (table["fold"] < NO_FOLD)
    wrong |= table["patient"].isna() | table["dataset"].isna()
    if wrong.any():
        line = int(wrong.to_numpy().argmax()) + 2
        raise DataError(
            f"{path}, line {line}: expected a dataset, a patient and a fold from 0 "
            f"({NO_FOLD} in 'test' alone)"
        )
    return table
