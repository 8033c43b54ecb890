import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bonexray.errors import PackError
from bonexray.sealed import seal
from serving.pack import verify_pack
from serving.release import main


@pytest.fixture
def pack(tiny_workspace: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_workspace / "reports/evaluation", tmp_path / "pack")


@pytest.fixture
def change(pack: Path) -> Callable[..., None]:
    """Change a JSON file of the pack, and seal it as if nothing had happened."""

    def run(file: str, alter: Callable[[dict[str, Any]], object]) -> None:
        content = json.loads((pack / file).read_text())
        alter(content)
        (pack / file).write_text(json.dumps(content))
        seal(pack)

    return run


def predictions(pack: Path, alter: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    alter(pd.read_parquet(pack / "predictions.parquet")).to_parquet(pack / "predictions.parquet")
    seal(pack)


def test_a_pack_as_evaluate_wrote_it_holds(
    tiny_workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["verify", str(tiny_workspace / "reports/evaluation")])
    said = capsys.readouterr().out
    assert "84 figures recomputed" in said  # 3 splits, 2 levels, 14 figures
    assert "gate passed with 0 warnings" in said


def test_a_changed_byte_anywhere_is_found(pack: Path) -> None:
    for path in [path for path in pack.rglob("*") if path.is_file()]:
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(PackError, match=path.name):
            verify_pack(pack)
        path.write_bytes(whole)
    verify_pack(pack)


def test_a_better_figure_than_the_predictions_give_is_found(
    pack: Path, change: Callable[..., None]
) -> None:
    change("metrics.json", lambda metrics: metrics["test"]["study"].update(auroc=0.99))
    with pytest.raises(PackError, match="test/study/auroc is 0.99, the predictions give"):
        verify_pack(pack)


def test_a_verdict_that_the_rules_do_not_come_to_is_found(
    pack: Path, change: Callable[..., None]
) -> None:
    change("gate.json", lambda gate: gate.update(warnings=3))
    with pytest.raises(PackError, match="gate.json: is not what the rules of params.json come to"):
        verify_pack(pack)


def test_another_bundles_lineage_is_found(pack: Path, change: Callable[..., None]) -> None:
    change("lineage.json", lambda lineage: lineage.update(bundle_digest="0" * 64))
    with pytest.raises(PackError, match="lineage.json names bundle 0000"):
        verify_pack(pack)


def test_a_prediction_of_an_unknown_study_is_found(pack: Path) -> None:
    def add(views: pd.DataFrame) -> pd.DataFrame:
        other = views.iloc[[0]].assign(study="train/XR_HAND/patient99999/study1_positive")
        return pd.concat([views, other])

    predictions(pack, add)
    with pytest.raises(PackError, match="the predictions"):
        verify_pack(pack)


def test_a_prediction_that_is_no_number_is_found(pack: Path) -> None:
    predictions(pack, lambda views: views.assign(logit=np.where(views["row"] == 0, np.nan, 1)))
    with pytest.raises(PackError, match="1 of .* views have a logit that is not finite"):
        verify_pack(pack)


def test_predictions_that_lack_a_column_are_refused(pack: Path) -> None:
    predictions(pack, lambda views: views.drop(columns=["logit"]))
    with pytest.raises(PackError, match=r"lacks the columns \['logit'\]"):
        verify_pack(pack)


def test_a_folder_that_is_no_pack_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"):
        main(["verify", str(tmp_path)])
    error = capsys.readouterr().err
    assert "not readable as a manifest" in error
    assert error.count("\n") == 1
