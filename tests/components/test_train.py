import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from bonexray.artifacts import scratch_path, sha256_file
from components.device import pick_device
from components.train import main

SETTINGS = {"epochs": 3, "batch_size": 32}


@pytest.fixture
def flags(places: list[str], tiny_params: Path, tmp_path: Path) -> list[str]:
    params = yaml.safe_load(tiny_params.read_text())
    params["train"] |= SETTINGS
    tiny_params.write_text(yaml.safe_dump(params))
    out = str(tmp_path / "resnet18")
    return ["--params", str(tiny_params), "--arch", "resnet18", "--out", out, *places]


def test_a_run_leaves_weights_history_and_record_and_no_checkpoint(
    flags: list[str], tmp_path: Path
) -> None:
    main(flags)
    out = tmp_path / "resnet18"
    history = pd.read_csv(out / "history.csv")
    assert list(history["epoch"]) == [1, 2, 3]
    assert np.isfinite(history.to_numpy()).all()
    assert load_file(out / "weights.safetensors")["label_head.weight"].shape == (2, 512)
    assert json.loads((out / "training.json").read_text())["arch"] == "resnet18"
    assert not scratch_path(out, "checkpoint").exists()


KILLED_AFTER_AN_EPOCH = """
import os, signal, sys
from components import train
save = train.Checkpoint.save
def save_and_die(self, run, fit):
    save(self, run, fit)
    if len(fit.history) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
train.Checkpoint.save = save_and_die
train.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_in_the_weights_of_an_uninterrupted_one(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(flags)
    out = tmp_path / "resnet18"
    whole = {path.name: sha256_file(path) for path in out.iterdir()}
    out.rename(tmp_path / "uninterrupted")
    killed = subprocess.run([sys.executable, "-c", KILLED_AFTER_AN_EPOCH, *flags])
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    capsys.readouterr()
    main(flags)
    assert "continuing after epoch 2" in capsys.readouterr().out
    assert {path.name: sha256_file(path) for path in out.iterdir()} == whole


@pytest.mark.slow
def test_a_checkpoint_of_other_settings_is_not_taken_up(
    flags: list[str], tiny_params: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run([sys.executable, "-c", KILLED_AFTER_AN_EPOCH, *flags], env=dict(os.environ))
    params = yaml.safe_load(tiny_params.read_text())
    params["train"]["learning_rate"] = 0.01
    tiny_params.write_text(yaml.safe_dump(params))
    main(flags)
    assert "starting afresh" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "resnet18/history.csv")) == SETTINGS["epochs"]


def test_a_checkpoint_that_is_no_checkpoint_stops_with_one_line(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scratch_path(tmp_path / "resnet18", "checkpoint").write_bytes(b"torn")
    with pytest.raises(SystemExit, match="1"):
        main(flags)
    error = capsys.readouterr().err
    assert "delete it to start afresh" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ("split != 'val'", "split 'val' holds 0 views, none at all; expected both labels"),
        ("label == 0", "all normal; expected both labels"),
        ("label == 1 or split == 'val'", "all abnormal; expected both labels"),
    ],
)
def test_a_manifest_without_both_labels_in_each_split_stops_with_one_line(
    flags: list[str],
    tiny_workspace: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kept: str,
    message: str,
) -> None:
    manifest = pd.read_parquet(tiny_workspace / "data/validated/manifest.parquet")
    (tmp_path / "validated").mkdir()
    manifest.query(kept).to_parquet(tmp_path / "validated/manifest.parquet")
    flags[flags.index("--validated") + 1] = str(tmp_path / "validated")
    with pytest.raises(SystemExit, match="1"):
        main(flags)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_policy_for_another_image_size_is_refused(
    flags: list[str],
    tiny_workspace: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    policy = json.loads((tiny_workspace / "data/policy/policy.json").read_text())
    policy["image"]["size"] = 64
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy/policy.json").write_text(json.dumps(policy))
    flags[flags.index("--policy") + 1] = str(tmp_path / "policy")
    with pytest.raises(SystemExit, match="1"):
        main(flags)
    assert "made for images of 64 px" in capsys.readouterr().err


@pytest.mark.slow
def test_a_checkpoint_with_a_damaged_middle_is_not_taken_up(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run([sys.executable, "-c", KILLED_AFTER_AN_EPOCH, *flags])
    checkpoint = scratch_path(tmp_path / "resnet18", "checkpoint")
    content = bytearray(checkpoint.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = b"\xa5" * 2000
    checkpoint.write_bytes(content)
    with pytest.raises(SystemExit, match="1"):
        main(flags)
    assert "not a whole checkpoint" in capsys.readouterr().err


def test_a_file_in_the_place_of_the_output_stops_before_anything_is_trained(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "resnet18").write_text("")
    with pytest.raises(SystemExit, match="1"):
        main(flags)
    said = capsys.readouterr()
    assert "is no folder, expected the place of one" in said.err
    assert "epoch" not in said.out


def test_more_processes_than_the_machine_can_hold_are_refused_before_any_starts(
    flags: list[str], tiny_params: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = yaml.safe_load(tiny_params.read_text())
    params["train"]["processes"] = 99_999
    tiny_params.write_text(yaml.safe_dump(params))
    with pytest.raises(SystemExit, match="1"):
        main(flags)
    error = capsys.readouterr().err
    assert "train.processes = 99999" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("missing", ["--dataset", "--validated", "--policy"])
def test_an_input_that_is_not_there_is_named(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    flags[flags.index(missing) + 1] = str(tmp_path / "nowhere")
    with pytest.raises(SystemExit, match="1"):
        main(flags)
    error = capsys.readouterr().err
    assert "nowhere" in error
    assert error.count("\n") == 1


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(
    flags: list[str], tiny_params: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = yaml.safe_load(tiny_params.read_text())
    params["train"]["learning_rate"] = 1e30
    tiny_params.write_text(yaml.safe_dump(params))
    with pytest.raises(SystemExit, match="1"):
        main(flags)
    error = capsys.readouterr().err
    assert "the training loss is nan in epoch" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "resnet18").exists()


def test_threads_are_as_set() -> None:
    torch.set_num_threads(1)
    pick_device(2)
    assert torch.get_num_threads() == 2
