"""Which patients learn, which choose and which judge: splits and folds, by patient.

MURA's own valid set is `test`. Of its train set, a share of the patients becomes `val`; all of
them get a fold for cross-validation. A patient that was pinned keeps both; the others are dealt
so that each stratum (body part and label) has its share everywhere.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Generic, TypeVar

import pandas as pd

from bonexray.artifacts import whole_file
from bonexray.config import ValidateConfig
from bonexray.errors import DataError

NO_FOLD = -1
_COLUMNS = ["patient", "split", "fold"]

P = TypeVar("P")

Assignment = dict[str, tuple[str, int]]
"""Patient -> split and fold."""


def strata(views: pd.DataFrame) -> "pd.Series[str]":
    """Patient -> stratum: the part of the first study, and whether any study is abnormal.

    Args:
        views: rows with columns patient, body_part, study and label.
    """
    by_patient = views.sort_values("study").groupby("patient")
    part, label = by_patient["body_part"].first(), by_patient["label"].max()
    return part + "/" + label.astype(str)


def assign(
    patients: "pd.Series[str]", tested: Iterable[str], pinned: Assignment, config: ValidateConfig
) -> Assignment:
    """Deal every patient.

    Args:
        patients: patient -> stratum.
        tested: patients of MURA's valid set; they are `test` whatever is pinned.
        pinned: what earlier data decided; stays as it is.
        config: seed, share of `val` and number of folds.
    """
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


def read_pins(path: Path, folds: int) -> Assignment:
    """Read the pinned patients, `patient,split,fold` a line; none when there is no file.

    Raises:
        DataError: the file does not have that form, or its folds are not `folds` many.
    """
    if not path.exists():
        return {}
    try:
        table = pd.read_csv(path, dtype={"patient": str, "split": str, "fold": int})
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as pinned splits: {error}") from error
    if list(table.columns) != _COLUMNS or not table["split"].isin(["train", "val", "test"]).all():
        raise DataError(f"{path}: expected columns {_COLUMNS} and splits train, val or test")
    pinned = int(table["fold"].max()) + 1 if len(table) else folds
    if pinned != folds:
        raise DataError(f"{path}: pins {pinned} folds, but validate.folds is {folds}")
    rows = zip(table["patient"], table["split"], table["fold"], strict=True)
    return {patient: (split, int(fold)) for patient, split, fold in rows}


def write_pins(path: Path, assignment: Assignment) -> None:
    """Write the pinned patients, sorted, whole or not at all."""
    rows = [(patient, *place) for patient, place in sorted(assignment.items())]
    with whole_file(path) as partial:
        pd.DataFrame(rows, columns=_COLUMNS).to_csv(partial, index=False, lineterminator="\n")
