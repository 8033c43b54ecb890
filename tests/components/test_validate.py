import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bonexray.tables import read_manifest
from components.index import PROBLEMS

TINY_FRACTION = 0.5


def test_clean_data_passes_whole(tiny_workspace: Path, index: pd.DataFrame) -> None:
    manifest = read_manifest(tiny_workspace / "data/validated")
    assert list(manifest["path"]) == list(index["path"])
    assert (index["path"].to_numpy()[manifest["row"]] == manifest["path"]).all()
    assert (tiny_workspace / "reports/validation/data_docs/index.html").exists()


def test_no_patient_is_in_two_splits_and_muras_valid_set_is_test(
    tiny_workspace: Path,
) -> None:
    manifest = read_manifest(tiny_workspace / "data/validated")
    assert (manifest.groupby("patient")["split"].nunique() == 1).all()
    assert set(manifest["split"]) == {"train", "val", "test"}
    assert ((manifest["split"] == "test") == manifest["path"].str.startswith("valid/")).all()


def spoil(column: str, value: object) -> Callable[[pd.DataFrame, int], None]:
    def at(index: pd.DataFrame, row: int) -> None:
        index.loc[row, column] = value

    return at


FAULTS: dict[str, Callable[[pd.DataFrame, int], None]] = {
    **{problem: spoil("problem", problem) for problem in PROBLEMS},
    "unlisted": spoil("listed", False),
    "label_disagrees": lambda index, row: spoil("csv_label", 1 - index.loc[row, "csv_label"])(
        index, row
    ),
    "wrong_extension": spoil("format", "JPEG"),
    "colour_mode": spoil("mode", "RGB"),
    "bit_depth": spoil("bit_depth", 16),
    "width_out_of_range": spoil("width", 63),
    "height_out_of_range": spoil("height", 63),
    "absurd_aspect": spoil("width", 8000),
    "constant_image": spoil("pixel_std", 0.0),
    "badly_exposed": spoil("pixel_mean", 250.0),
    "inverted": spoil("polarity", 0.2),
    "blurred": spoil("sharpness", 0.0),
}


@pytest.mark.parametrize("rule", FAULTS)
def test_a_faulty_file_is_quarantined_under_its_rule(
    check: Callable[..., Path], index: pd.DataFrame, rule: str
) -> None:
    index.loc[5, ["width", "height"]] = (200, 250)
    FAULTS[rule](index, 5)
    folder = check(index, max_quarantine_fraction=TINY_FRACTION)
    quarantine = pd.read_parquet(folder / "report/quarantine.parquet")
    assert quarantine[["path", "rules"]].to_dict("records") == [
        {"path": index["path"][5], "rules": rule}
    ]
    assert index["path"][5] not in set(read_manifest(folder / "validated")["path"])


def test_both_copies_of_an_image_under_two_patients_are_quarantined(
    check: Callable[..., Path], index: pd.DataFrame
) -> None:
    other = int(index.index[index["patient"] != index["patient"][3]][0])
    index.loc[3, "sha256"] = index.loc[other, "sha256"]
    folder = check(index, max_quarantine_fraction=TINY_FRACTION)
    quarantine = pd.read_parquet(folder / "report/quarantine.parquet")
    assert set(quarantine["path"]) == {index["path"][3], index["path"][other]}
    assert set(quarantine["rules"]) == {"duplicate_across_patients"}


def test_a_view_that_a_patient_has_twice_is_told_and_kept(
    check: Callable[..., Path], index: pd.DataFrame, report: Callable[[Path], dict[str, Any]]
) -> None:
    counts = index["patient"].value_counts()
    first, second = index.index[index["patient"] == counts.index[0]][:2]
    index.loc[second, "sha256"] = index.loc[first, "sha256"]
    folder = check(index)
    assert len(read_manifest(folder / "validated")) == len(index)
    (told,) = [e for e in report(folder)["expectations"] if e["rule"] == "repeated_view"]
    assert (told["severity"], told["first_paths"]) == ("info", [index["path"][second]])


def test_drift_from_the_champions_images_is_told_and_stops_nothing(
    tiny_workspace: Path,
    check: Callable[..., Path],
    index: pd.DataFrame,
    tmp_path: Path,
    report: Callable[[Path], dict[str, Any]],
) -> None:
    profile = (tiny_workspace / "data/validated/profile.json").read_text()
    (tmp_path / "profile.json").write_text(profile)
    index["pixel_mean"] = index["pixel_mean"] * 1.5
    drifted = {
        found["rule"]
        for found in report(check(index))["expectations"]
        if found["suite"] == "drift" and not found["passed"]
    }
    assert drifted == {"drift_of_pixel_mean"}


def test_pages_need_no_net_and_show_what_was_quarantined(
    check: Callable[..., Path], index: pd.DataFrame
) -> None:
    FAULTS["inverted"](index, 5)
    folder = check(index, max_quarantine_fraction=TINY_FRACTION) / "report"
    assert (folder / "sheets/quarantine-inverted.png").exists()
    pages = list((folder / "data_docs").rglob("*.html"))
    assert len(pages) >= 4
    for page in pages:
        assert not re.search(r'(src|<link[^>]*href)="https?:', page.read_text())
    front = (folder / "data_docs/index.html").read_text()
    assert "../sheets/quarantine-inverted.png" in front
    for link in re.findall(r'(?:href|src)="([^"]+)"', front):
        assert (folder / "data_docs" / link).exists(), link
