import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from bonexray.config import ValidateConfig
from bonexray.dataset import read_index, read_manifest
from components import ingest, validate

TINY_FRACTION = 0.5


@pytest.fixture
def check(tiny_params: Path, tmp_path: Path) -> Callable[..., Path]:
    """Validate an index made from the tiny one; returns the folder of `validated` and `report`."""

    def run(index: pd.DataFrame, **settings: float) -> Path:
        (tmp_path / "dataset").mkdir()
        index.to_parquet(tmp_path / "dataset/index.parquet")
        params = yaml.safe_load(tiny_params.read_text())
        params["validate"] |= settings
        tiny_params.write_text(yaml.safe_dump(params))
        validate.main(
            ["--params", str(tiny_params), "--dataset", str(tmp_path / "dataset")]
            + ["--out", str(tmp_path / "validated"), "--report", str(tmp_path / "report")]
        )
        return tmp_path

    return run


@pytest.fixture
def index(tiny_workspace: Path) -> pd.DataFrame:
    return read_index(tiny_workspace / "data/dataset")


def report(folder: Path) -> dict[str, object]:
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


def test_a_patient_keeps_its_split_when_others_are_added() -> None:
    config = ValidateConfig(seed=1, val_fraction=0.2, max_quarantine_fraction=0)
    splits = {f"patient{n:05}": validate.split_of(f"patient{n:05}", "train", config)
              for n in range(5000)}  # fmt: skip
    share = sum(split == "val" for split in splits.values()) / 5000
    assert share == pytest.approx(0.2, abs=0.02)
    assert validate.split_of("patient00007", "train", config) == splits["patient00007"]
    assert validate.split_of("patient00007", "valid", config) == "test"


FAULTS: dict[str, Callable[[pd.DataFrame, int], None]] = {
    "unusable": lambda index, row: index.__setitem__(
        "error", index["error"].mask(index.index == row, "cannot be decoded")
    ),
    "unlisted": lambda index, row: index.__setitem__(
        "listed", index["listed"].mask(index.index == row, False)
    ),
    "label_disagrees": lambda index, row: index.__setitem__(
        "csv_label", index["csv_label"].mask(index.index == row, 1 - index["csv_label"])
    ),
    "constant_image": lambda index, row: index.__setitem__(
        "pixel_std", index["pixel_std"].mask(index.index == row, 0.0)
    ),
    "width_out_of_range": lambda index, row: index.__setitem__(
        "width", index["width"].mask(index.index == row, 9)
    ),
    "height_out_of_range": lambda index, row: index.__setitem__(
        "height", index["height"].mask(index.index == row, 90000)
    ),
}


@pytest.mark.parametrize("rule", FAULTS)
def test_a_faulty_file_is_quarantined_under_its_rule(
    check: Callable[..., Path], index: pd.DataFrame, rule: str
) -> None:
    FAULTS[rule](index, 5)
    folder = check(index, max_quarantine_fraction=TINY_FRACTION)
    quarantine = pd.read_parquet(folder / "report/quarantine.parquet")
    assert quarantine[["path", "rules"]].to_dict("records") == [
        {"path": index["path"][5], "rules": rule}
    ]
    assert index["path"][5] not in set(read_manifest(folder / "validated")["path"])


def test_both_copies_of_an_image_are_quarantined(
    check: Callable[..., Path], index: pd.DataFrame
) -> None:
    index.loc[3, "sha256"] = index.loc[8, "sha256"]
    folder = check(index, max_quarantine_fraction=TINY_FRACTION)
    quarantine = pd.read_parquet(folder / "report/quarantine.parquet")
    assert set(quarantine["path"]) == {index["path"][3], index["path"][8]}
    assert set(quarantine["rules"]) == {"duplicate_image"}


def test_too_much_quarantine_stops_with_the_file_and_the_reason_after_the_report(
    check: Callable[..., Path],
    index: pd.DataFrame,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    FAULTS["unusable"](index, 5)
    with pytest.raises(SystemExit, match="1"):
        check(index)
    error = capsys.readouterr().err
    assert f"{index['path'][5]} (unusable: cannot be decoded)" in error
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
    index.loc[index["mura_split"] == "valid", "patient"] = leaked
    with pytest.raises(SystemExit, match="1"):
        check(index)
    assert "patient_in_one_split does not hold" in capsys.readouterr().err
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
    assert "constant_image does not hold" in capsys.readouterr().err


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
            + ["--report", str(tmp_path / "r")]
        )
    assert path in capsys.readouterr().err
