from pathlib import Path

import pandas as pd
import pytest

from bonexray.config import ValidateConfig
from bonexray.errors import DataError
from components.splits import assign, read_pins, strata, write_pins

CONFIG = ValidateConfig(
    seed=1, val_fraction=0.2, folds=5, colour_modes=("L",), max_quarantine_fraction=0
)


def patients(count: int, start: int = 0) -> "pd.Series[str]":
    numbers = range(start, start + count)
    return pd.Series(
        [f"XR_{'HAND' if n % 3 else 'WRIST'}/{n % 2}" for n in numbers],
        index=[f"patient{n:05}" for n in numbers],
    )


def test_every_stratum_has_its_share_in_val_and_in_each_fold() -> None:
    known = patients(600)
    table = pd.DataFrame.from_dict(assign(known, [], {}, CONFIG), orient="index")
    table.columns = ["split", "fold"]
    table["stratum"] = known
    for _, own in table.groupby("stratum"):
        assert (own["split"] == "val").sum() == pytest.approx(0.2 * len(own), abs=1)
        per_fold = own["fold"].value_counts()
        assert len(per_fold) == 5
        assert per_fold.max() - per_fold.min() <= 1


def test_muras_valid_patients_are_test_and_in_no_fold() -> None:
    dealt = assign(patients(20), ["patient00003"], {}, CONFIG)
    assert dealt["patient00003"] == ("test", -1)
    assert sum(split == "test" for split, _ in dealt.values()) == 1


def test_a_patient_that_has_learnt_is_refused_as_a_judge() -> None:
    pinned = {"patient00003": ("train", 2), "patient00004": ("val", 1)}
    with pytest.raises(DataError, match=r"patient00003 and 1 more: .* pinned to 'train'"):
        assign(patients(20), ["patient00004", "patient00003"], pinned, CONFIG)


def test_the_deal_depends_on_the_seed_and_not_on_the_order_of_rows() -> None:
    known = patients(200)
    dealt = assign(known, [], {}, CONFIG)
    assert assign(known.iloc[::-1], [], {}, CONFIG) == dealt
    assert assign(known, [], {}, CONFIG.model_copy(update={"seed": 2})) != dealt


def test_a_pinned_patient_never_changes_and_the_new_ones_keep_the_shares() -> None:
    before = assign(patients(100), [], {}, CONFIG)
    after = assign(patients(400), [], before, CONFIG)
    assert {patient: after[patient] for patient in before} == before
    assert sum(split == "val" for split, _ in after.values()) == pytest.approx(80, abs=2)


def test_a_stratum_is_the_first_studys_part_and_whether_any_study_is_abnormal() -> None:
    views = pd.DataFrame(
        [("p1", "XR_HAND", "a/s1", 0), ("p1", "XR_WRIST", "b/s1", 1), ("p2", "XR_HAND", "a/s1", 0)],
        columns=["patient", "body_part", "study", "label"],
    )
    assert strata(views, label="label").to_dict() == {"p1": "XR_HAND/1", "p2": "XR_HAND/0"}


def test_pins_are_read_as_they_were_written_and_each_data_set_has_its_own(tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    ours, theirs = (assign(patients(n), ["patient00001"], {}, CONFIG) for n in (40, 60))
    write_pins(path, "OURS", ours)
    write_pins(path, "THEIRS", theirs)
    assert read_pins(path, "OURS", 5) == ours
    write_pins(path, "OURS-v1.2", theirs)
    assert read_pins(path, "OURS", 5) == theirs
    assert read_pins(path, "MURA-v1.1", 5) == {}
    assert read_pins(tmp_path / "nowhere.csv", "OURS", 5) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dataset,patient,split\nA,p,train\n", "expected columns"),
        ("patient,split,fold\np,train,0\n", "expected columns"),
        ("dataset,patient,split,fold\nA,p,learn,0\n", "splits train, val or test"),
        ("dataset,patient,split,fold\nA,p,train,x\n", "not readable"),
        ("", "not readable"),
        (
            "dataset,patient,split,fold\n" + "".join(f"A,p{n},train,{n}\n" for n in range(7)),
            "pins 7 folds, but validate.folds is 5",
        ),
        ("dataset,patient,split,fold\nA,p,train,4\nA,p,val,0\n", "pins p of A twice"),
        ("dataset,patient,split,fold\nA,p,train,0\nA,q,train,-7\n", "line 3: expected a dataset"),
        ("dataset,patient,split,fold\nA,p,test,2\n", "line 2: expected a dataset"),
        ("dataset,patient,split,fold\nA,,train,2\n", "line 2: expected a dataset"),
        ("dataset,patient,split,fold\nA,p,train,9999999999999999999999\n", "not readable"),
    ],
)
def test_pins_of_another_form_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "splits.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_pins(tmp_path / "splits.csv", "A", 5)
