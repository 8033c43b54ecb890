import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
import yaml

from bonexray.artifacts import remove, scratch_path, sha256_file
from components.group import ALONE, Group
from tests.components.conftest import seed_recipe
from tests.components.shared_run import history

ROOT = Path(__file__).parents[2]
RECIPES: dict[str, dict[str, object]] = {
    "the seed's": {"part_loss_weight": 0.0},
    "everything": {
        "schedule": "one_cycle",
        "label_smoothing": 0.1,
        "mixup_alpha": 0.4,
        "ema_decay": 0.8,
        "first_size_fraction": 0.5,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["everything", "the seed's"])
def test_processes_that_share_batches_give_the_loss_curve_of_one(recipe: str) -> None:
    fields = RECIPES[recipe] | {"epochs": 2, "processes": 2}
    alone = history(seed_recipe().model_copy(update=fields), ALONE)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    run = subprocess.run(
        [sys.executable, *torchrun, "-m", "tests.components.shared_run", json.dumps(fields)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    shared = pd.DataFrame(json.loads(run.stdout))
    pd.testing.assert_frame_equal(shared, pd.DataFrame(alone), rtol=0, atol=1e-6)


def test_shares_are_disjoint_whole_and_differ_by_one_at_most() -> None:
    for count in (3, 4, 16, 17):
        shares = [Group(rank, 3).share(torch.arange(count)) for rank in range(3)]
        assert torch.equal(torch.cat(shares), torch.arange(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert torch.equal(ALONE.share(torch.arange(5)), torch.arange(5))


@pytest.fixture
def flags(places: list[str], tiny_params: Path, tmp_path: Path) -> list[str]:
    """A run of two processes."""
    params = yaml.safe_load(tiny_params.read_text())
    params["train"] |= {"processes": 2, "epochs": 3}
    tiny_params.write_text(yaml.safe_dump(params))
    out = str(tmp_path / "resnet18")
    return ["--params", str(tiny_params), "--arch", "resnet18", "--out", out, *places]


@pytest.mark.slow
def test_a_run_of_two_processes_talks_once_and_killed_ends_in_the_weights_of_a_whole_one(
    flags: list[str], tmp_path: Path, environment: dict[str, str]
) -> None:
    command = [sys.executable, "-m", "components.train", *flags]
    environment |= {"PYTHONPATH": str(ROOT)}
    whole = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    assert [line[: len("train: resnet18 epoch 1/3")] for line in whole.stdout.splitlines()][
        2:-1
    ] == [f"train: resnet18 epoch {epoch}/3" for epoch in (1, 2, 3)]
    out = tmp_path / "resnet18"
    digest = sha256_file(out / "weights.safetensors")
    remove(out)
    killed = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    while not scratch_path(out, "checkpoint").exists():
        assert killed.poll() is None, "it ended before it was seen to write"
        time.sleep(0.05)
    workers = psutil.Process(killed.pid).children(recursive=True)
    killed.kill()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive, "workers outlive the run that was killed"
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "continuing after epoch" in again.stdout, again.stderr
    assert sha256_file(out / "weights.safetensors") == digest


@pytest.mark.slow
def test_another_number_of_processes_than_is_set_is_told_in_one_line(
    flags: list[str], tmp_path: Path, environment: dict[str, str]
) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3"]
    run = subprocess.run(
        [sys.executable, *torchrun, "-m", "components.train", *flags],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode != 0
    assert run.stderr.count("torchrun started 3 processes, but train.processes = 2") == 1
