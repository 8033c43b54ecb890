import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from bonexray.config import TrainConfig, read_section
from components.recipe import main as apply_recipe
from components.search import main


@pytest.fixture
def flags(places: list[str], tiny_params: Path, tmp_path: Path) -> list[str]:
    change(tiny_params, "train", {"epochs": 1})
    out = str(tmp_path / "search")
    return ["--params", str(tiny_params), "--arch", "resnet18", "--out", out, *places]


def change(params: Path, section: str, fields: dict[str, Any]) -> None:
    content = yaml.safe_load(params.read_text())
    content[section] |= fields
    params.write_text(yaml.safe_dump(content))


HURRIED = "from components import search, train, trials; trials.HEARTBEAT = 1; import sys\n"
DIES_IN_ITS_SECOND_TRIAL = (
    HURRIED
    + """
import os, signal
save = train.Checkpoint.save
saved = []
def save_and_die(self, run, fit):
    save(self, run, fit)
    saved.append(run)
    if len(saved) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
train.Checkpoint.save = save_and_die
search.main(sys.argv[1:])
"""
)


@pytest.mark.slow
def test_a_killed_search_goes_on_within_its_trial_and_its_best_can_be_applied(
    flags: list[str], tiny_params: Path, tmp_path: Path
) -> None:
    change(tiny_params, "train", {"epochs": 2})
    change(tiny_params, "search", {"trials": 2})
    killed = subprocess.run([sys.executable, "-c", DIES_IN_ITS_SECOND_TRIAL, *flags])
    assert killed.returncode == -signal.SIGKILL
    out = tmp_path / "search"
    assert not (out / "best.yaml").exists()
    command = [sys.executable, "-c", HURRIED + "search.main(sys.argv[1:])", *flags]
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("continuing after epoch 1") == 1
    assert "2 of 2 trials: complete" in again.stdout
    trials = pd.read_csv(out / "trials.csv")
    assert trials["state"].tolist() == ["COMPLETE", "COMPLETE"]
    assert trials["trial"].tolist() == [0, 1]
    best = trials.loc[trials["val_auroc"].idxmax()]
    apply_recipe([str(out / "best.yaml"), "--params", str(tiny_params)])
    config = read_section(str(tiny_params), TrainConfig)
    assert config.learning_rate == pytest.approx(best["learning_rate"])
    assert config.schedule == best["schedule"]
    assert (out / "trials.png").stat().st_size > 0
    assert not list((out / "trials").iterdir())


@pytest.mark.slow
def test_an_interrupted_trial_is_tried_again(
    flags: list[str], tiny_params: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(tiny_params, "search", {"trials": 1})
    with monkeypatch.context() as patch:
        patch.setattr("components.search.train", interrupted)
        with pytest.raises(SystemExit, match="130"):
            main(flags)
    main(flags)
    trials = pd.read_csv(tmp_path / "search/trials.csv")
    assert trials[["trial", "state"]].to_numpy().tolist() == [[0, "COMPLETE"]]
    with sqlite3.connect(tmp_path / "search/study.db") as record:
        tried = record.execute(
            "SELECT param_value FROM trial_params WHERE param_name = 'learning_rate'"
        )
        assert len({value for (value,) in tried}) == 1


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_finished_search_tries_no_more_and_one_of_other_data_starts_anew(
    flags: list[str], tiny_params: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(tiny_params, "search", {"trials": 1})
    main(flags)
    capsys.readouterr()
    main(flags)
    assert "trials:" not in capsys.readouterr().out
    change(tiny_params, "train", {"batch_size": 8})
    main(flags)
    assert "1 of 1 trials: complete" in capsys.readouterr().out


def test_a_trial_whose_loss_is_no_number_fails_alone(
    flags: list[str], tiny_params: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {"learning_rate": {"choices": [1e30, 1e29]}}
    change(tiny_params, "search", {"trials": 1, "fields": space})
    with pytest.raises(SystemExit, match="1"):
        main(flags)
    said = capsys.readouterr()
    assert "1 of 1 trials: fail with learning_rate 1e+" in said.out
    assert "none of the 1 trials came to its end" in said.err
    assert not (tmp_path / "search/best.yaml").exists()
    with pytest.raises(SystemExit, match="1"):  # nor does a second call find any
        main(flags)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rate": {"low": 0.1, "high": 1, "log": True}}, "search.fields.rate"),
        ({"schedule": {"choices": ["cosine", "stairs"]}}, "'stairs' is no value of train.schedule"),
        ({"learning_rate": {"low": 1, "high": 0.1, "log": True}}, "low = 1.0 is not below high"),
        ({"weight_decay": {"low": 0, "high": 0.1, "log": True}}, "low = 0.0 has no logarithm"),
        ({"batch_size": {"low": 8, "high": 16, "log": False}}, "a whole number, expected choices"),
        ({"processes": {"choices": [1, 2]}}, "a search trains one process a trial"),
        (
            {"ema_decay": {"low": 0.1, "high": 1, "log": False}},
            "1.0 is no value of train.ema_decay",
        ),
    ],
)
def test_a_search_among_values_that_are_none_stops_with_one_line(
    flags: list[str],
    tiny_params: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fields: dict[str, Any],
    message: str,
) -> None:
    change(tiny_params, "search", {"fields": fields})
    with pytest.raises(SystemExit, match="1"):
        main(flags)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "search").exists()


def test_a_damaged_record_of_trials_stops_with_one_line(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "search").mkdir()
    (tmp_path / "search/study.db").write_bytes(b"no database" * 100)
    with pytest.raises(SystemExit, match="1"):
        main(flags)
    error = capsys.readouterr().err
    assert (
        "study.db: not usable as a search: (sqlite3.DatabaseError) file is not a database" in error
    )
    assert error.count("\n") == 1
