import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from bonexray.artifacts import sha256_file
from components.crossval import main


@pytest.fixture(scope="module")
def flags(
    places: list[str], tiny_workspace: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    out = tmp_path_factory.mktemp("crossval")
    params = yaml.safe_load((tiny_workspace / "params.yaml").read_text())
    params["train"]["epochs"] = 1
    (out / "params.yaml").write_text(yaml.safe_dump(params))
    settings = ["--params", str(out / "params.yaml"), "--arch", "resnet18"]
    return [*settings, "--out", str(out / "folds"), *places]


@pytest.fixture(scope="module")
def out(flags: list[str]) -> Path:
    main(flags)
    return Path(flags[flags.index("--out") + 1])


def test_each_view_of_train_and_val_is_judged_once_by_a_network_that_never_saw_its_patient(
    out: Path, tiny_workspace: Path
) -> None:
    manifest = pd.read_parquet(tiny_workspace / "data/validated/manifest.parquet")
    open_rows = manifest[manifest["split"] != "test"].sort_values("row")
    judged = pd.read_parquet(out / "predictions.parquet").sort_values("row")
    assert judged["row"].tolist() == open_rows["row"].tolist()
    assert judged["probability"].between(0, 1).all()
    for fold in judged["fold"].unique():
        own = set(judged.loc[judged["fold"] == fold, "patient"])
        assert not own & set(judged.loc[judged["fold"] != fold, "patient"])
        record = json.loads((out / f"folds/{fold}/training.json").read_text())
        assert record["fold"] == fold


def test_figures_are_those_of_the_predictions_kept(out: Path) -> None:
    figures = json.loads((out / "metrics.json").read_text())
    views = pd.read_parquet(out / "predictions.parquet")
    studies = views.groupby("study").agg({"label": "first", "fold": "first", "probability": "mean"})
    by_fold = [
        roc_auc_score(part["label"], part["probability"]) for _, part in studies.groupby("fold")
    ]
    told = [fold["auroc"] for fold in figures["folds"].values()]
    np.testing.assert_allclose(told, by_fold)
    assert figures["mean"]["auroc"] == pytest.approx(np.mean(by_fold))
    assert figures["sd"]["auroc"] == pytest.approx(np.std(by_fold, ddof=1))
    whole = roc_auc_score(studies["label"], studies["probability"])
    assert figures["all"]["study"]["auroc"] == pytest.approx(whole)


def test_a_second_call_trains_only_what_is_missing_and_ends_the_same(
    out: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: sha256_file(path) for path in out.rglob("*") if path.is_file()}
    (out / "folds/1/training.json").unlink()
    main(flags)
    said = capsys.readouterr().out
    assert "fold 0 was trained before" in said
    assert "fold 1 was trained before" not in said
    assert {path: sha256_file(path) for path in out.rglob("*") if path.is_file()} == before


def test_a_fold_of_one_label_stops_before_anything_is_trained(
    flags: list[str], tiny_workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = pd.read_parquet(tiny_workspace / "data/validated/manifest.parquet")
    (tmp_path / "validated").mkdir()
    kept = (manifest["fold"] != 2) | (manifest["label"] == 0)
    manifest[kept].to_parquet(tmp_path / "validated/manifest.parquet")
    changed = [*flags]
    changed[flags.index("--validated") + 1] = str(tmp_path / "validated")
    changed[flags.index("--out") + 1] = str(tmp_path / "out")
    with pytest.raises(SystemExit, match="1"):
        main(changed)
    error = capsys.readouterr().err
    assert "the manifest's fold 2 holds" in error
    assert "all normal; expected both labels" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
