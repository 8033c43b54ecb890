import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from components import ingest, mura, validate


def test_too_much_quarantine_stops_with_the_file_and_the_reason_after_the_report(
    check: Callable[..., Path],
    index: pd.DataFrame,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    report: Callable[[Path], dict[str, Any]],
) -> None:
    index.loc[5, "problem"] = "undecodable"
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
    report: Callable[[Path], dict[str, Any]],
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
    report: Callable[[Path], dict[str, Any]],
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
