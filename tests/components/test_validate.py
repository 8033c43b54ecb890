import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from bonexray.tables import read_index, read_manifest
from components import ingest, mura, validate
from components.index import PROBLEMS

TINY_FRACTION = 0.5


@pytest.fixture
def check(tiny_workspace: Path, tiny_params: Path, tmp_path: Path) -> Callable[..., Path]:
    """Validate an index made from the tiny one; returns the folder of `validated` and `report`."""

    def run(index: pd.DataFrame, **settings: float) -> Path:
        (tmp_path / "dataset").mkdir()
        index.to_parquet(tmp_path / "dataset/index.parquet")
        for name in ("images.npy", "origin.json"):
            (tmp_path / "dataset" / name).symlink_to(tiny_workspace / "data/dataset" / name)
        params = yaml.safe_load(tiny_params.read_text())
        params["validate"] |= settings
        tiny_params.write_text(yaml.safe_dump(params))
        validate.main(
            ["--params", str(tiny_params), "--dataset", str(tmp_path / "dataset")]
            + ["--splits", str(tmp_path / "splits.csv")]
            + ["--reference", str(tmp_path / "profile.json")]
            + ["--out", str(tmp_path / "validated"), "--report", str(tmp_path / "report")]
        )
        return tmp_path

    return run


@pytest.fixture
def index(tiny_workspace: Path) -> pd.DataFrame:
    return read_index(tiny_workspace / "data/dataset")


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report/report.json").read_text())  # type: ignore[no-any-return]


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
    check: Callable[..., Path], index: pd.DataFrame
) -> None:
    counts = index["patient"].value_counts()
    first, second = index.index[index["patient"] == counts.index[0]][:2]
    index.loc[second, "sha256"] = index.loc[first, "sha256"]
    folder = check(index)
    assert len(read_manifest(folder / "validated")) == len(index)
    (told,) = [e for e in report(folder)["expectations"] if e["rule"] == "repeated_view"]
    assert (told["severity"], told["first_paths"]) == ("info", [index["path"][second]])


def test_too_much_quarantine_stops_with_the_file_and_the_reason_after_the_report(
    check: Callable[..., Path],
    index: pd.DataFrame,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    FAULTS["undecodable"](index, 5)
    index.loc[5, "error"] = "cannot be decoded"
    with pytest.raises(SystemExit, match="1"):
        check(index)
    error = capsys.readouterr().err
    assert f"{index['path'][5]} (undecodable: cannot be decoded)" in error
    assert "validate.max_quarantine_fraction" in error
    assert error.count("\n") == 1
    assert report(tmp_path)["passed"] is False
    assert (tmp_path / "report/data_docs/index.html").exists()
    assert not (tmp_path / "validated").exists()


def test_a_patient_in_two_splits_stops_with_the_first_path(
    check: Callable[..., Path],
    index: pd.DataFrame,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    leaked = index.loc[index["mura_split"] == "train", "patient"].iloc[0]
    valid = index.index[index["mura_split"] == "valid"][0]
    index.loc[valid, "patient"] = leaked
    with pytest.raises(SystemExit, match="1"):
        check(index)
    error = capsys.readouterr().err
    assert "patient_in_both_splits does not hold" in error
    assert leaked in error
    assert not (tmp_path / "validated").exists()


def test_one_label_only_stops_the_flow(
    check: Callable[..., Path], index: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    index["folder_label"] = index["csv_label"] = 0
    with pytest.raises(SystemExit, match="1"):
        check(index)
    assert "both_labels_in_each_split does not hold" in capsys.readouterr().err


def test_a_column_that_is_missing_stops_the_flow_rather_than_passing_unchecked(
    check: Callable[..., Path], index: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"):
        check(index.drop(columns="pixel_std"))
    assert "the index lacks the columns ['pixel_std']" in capsys.readouterr().err


def test_an_archive_with_a_truncated_image_stops_at_validate_naming_it(
    tiny_workspace: Path,
    tiny_params: Path,
    tiny_entry: Callable[[str], bytes],
    altered_archive: Callable[[dict[str, bytes | None]], Path],
    index: pd.DataFrame,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = index["path"][2]
    archive = altered_archive({path: tiny_entry(path)[:700]})
    params = ["--params", str(tiny_params)]
    dataset = str(tmp_path / "dataset")
    ingest.main([*params, "--archive", str(archive), "--out", dataset])
    with pytest.raises(SystemExit, match="1"):
        validate.main(
            [*params, "--dataset", dataset, "--out", str(tmp_path / "v")]
            + ["--report", str(tmp_path / "r"), "--splits", "none", "--reference", "none"]
        )
    assert path in capsys.readouterr().err


def test_an_archive_that_calls_itself_mura_v1_1_must_hold_the_published_numbers(
    check: Callable[..., Path],
    index: pd.DataFrame,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def claim() -> None:
        (tmp_path / "dataset/origin.json").unlink()
        origin = {"origin": mura.ROOT, "archive_sha256": ""}
        (tmp_path / "dataset/origin.json").write_text(json.dumps(origin))

    check(index)
    claim()
    flags = ["--params", str(tmp_path / "params.yaml")]
    for name in ("dataset", "splits", "reference", "report"):
        flags += [f"--{name}", str(tmp_path / name)]
    with pytest.raises(SystemExit, match="1"):
        validate.main([*flags, "--out", str(tmp_path / "validated")])
    error = capsys.readouterr().err
    assert "published_totals does not hold" in error
    assert "train: 11,184 patients published, " in error


def test_drift_from_the_champions_images_is_told_and_stops_nothing(
    tiny_workspace: Path, check: Callable[..., Path], index: pd.DataFrame, tmp_path: Path
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


def test_an_index_of_other_images_is_refused(
    check: Callable[..., Path], index: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"):
        check(index.iloc[:-1])
    assert "rows in the index" in capsys.readouterr().err


def test_a_set_that_is_quarantined_whole_stops_with_its_report(
    check: Callable[..., Path],
    index: pd.DataFrame,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    index["mode"] = "RGB"
    with pytest.raises(SystemExit, match="1"):
        check(index)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "colour_mode" in error
    assert report(tmp_path)["quarantined"]["files"] == len(index)


def test_a_set_without_training_studies_stops_with_its_report(
    check: Callable[..., Path],
    index: pd.DataFrame,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    index["listed"] = index["mura_split"] == "valid"
    with pytest.raises(SystemExit, match="1"):
        check(index, max_quarantine_fraction=1.0)
    assert "both_labels_in_each_split does not hold" in capsys.readouterr().err
    assert report(tmp_path)["splits"]["test"]["views"] > 0


def test_an_output_that_is_an_input_is_refused_before_it_is_touched(
    tiny_workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    (dataset / "index.parquet").write_bytes(b"kept")
    params = str(tiny_workspace / "params.yaml")
    with pytest.raises(SystemExit, match="1"):
        validate.main(
            ["--params", params, "--dataset", str(dataset), "--splits", str(tmp_path / "none")]
            + ["--reference", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
            + ["--report", str(dataset)]
        )
    assert "expected a place of its own" in capsys.readouterr().err
    assert (dataset / "index.parquet").read_bytes() == b"kept"
