"""Trains the small task in as many processes as torchrun started; the first prints its history.

Run as a program by test_group.py: `torchrun --nproc-per-node N shared_run.py FIELDS`.
"""

import json
import sys

import torch
from torch import Tensor

from bonexray.config import TrainConfig
from bonexray.network import LimbNet
from components.batches import Batch, Source
from components.fit import run_epochs, start_fit
from components.group import Group, joined
from tests.components.conftest import blobs, seed_policy, seed_recipe


class Precise(Source):
    """float64 throughout: what differs then is not rounding."""

    def batch(self, *args, **kwargs) -> Batch:
        return Batch(*(values.double() for values in super().batch(*args, **kwargs)))

    def plain(self, *args) -> Tensor:
        return super().plain(*args).double()


def history(config: TrainConfig, group: Group) -> list[dict[str, float]]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    fit = start_fit(LimbNet("resnet18").double(), config, 4 * config.epochs, group)
    learning, judging = blobs(52, 0, Precise), blobs(17, 1, Precise)
    run_epochs(fit, learning, judging, seed_policy(), config, lambda _: None)
    return fit.history


if __name__ == "__main__":
    recipe = seed_recipe().model_copy(update=json.loads(sys.argv[1]))
    with joined(recipe.processes) as group:
        print(json.dumps(history(recipe, group)))
