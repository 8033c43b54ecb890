import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

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


@pytest.mark.parametrize("recipe", RECIPES)
def test_processes_that_share_batches_give_the_loss_curve_of_one(recipe: str) -> None:
    fields = RECIPES[recipe] | {"epochs": 2, "processes": 3}
    alone = history(seed_recipe().model_copy(update=fields), ALONE)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3"]
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
