"""How long a run will take, told before its first epoch from a few steps of a copy."""

import os
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch

from bonexray.config import TrainConfig
from bonexray.errors import ConfigError
from bonexray.network import LimbNet
from bonexray.policy import Policy
from components.batches import Source, batches_of, in_batches, random_of, size_in
from components.fit import read, start_fit, train_step
from components.group import Group

PRICE = "PRICE_PER_HOUR"
"""Environment variable: what an hour of this machine costs, in any currency."""
_WARM, _TIMED = 1, 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """What is left of a run."""

    seconds: float
    images_per_second: float
    """Of training alone, over the epochs that are left."""

    def sentence(self) -> str:
        """For the person who waits."""
        price = os.environ.get(PRICE)
        cost = f" at a cost of {self.seconds / 3600 * _number(price):.2f}" if price else ""
        minutes, seconds = divmod(round(self.seconds), 60)
        hours, minutes = divmod(minutes, 60)
        span = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
        return f"about {span}{cost}, {self.images_per_second:.0f} images/s"


def forecast(
    network: LimbNet,
    learning: Source,
    judging: Source,
    policy: Policy,
    config: TrainConfig,
    done: int,
    group: Group,
) -> Forecast:
    """Time some steps on a copy of the network and reckon the epochs after `done`."""
    epochs = range(done + 1, config.epochs + 1)
    sizes = [size_in(epoch, policy.image.size, config) for epoch in epochs]
    step = {
        size: _step_seconds(network, learning, policy, config, size, group)
        for size in sorted(set(sizes))
    }
    steps = len(batches_of(len(learning), config, 1))
    training = sum(step[size] for size in sizes) * steps
    judged = _judging_seconds(network, judging, policy, config) / group.size
    return Forecast(
        seconds=training + judged * len(sizes),
        images_per_second=len(learning) * len(sizes) / max(training, 1e-9),
    )


def _step_seconds(
    network: LimbNet,
    source: Source,
    policy: Policy,
    config: TrainConfig,
    size: int,
    group: Group,
) -> float:
    fit = start_fit(deepcopy(network), config, _WARM + _TIMED, group)
    fit.network.train()
    batches = batches_of(len(source), config, 1)

    def step(index: int) -> None:
        chosen, rng = batches[index % len(batches)], random_of(config.seed, 1, index)
        batch = source.batch(chosen, policy.augment, policy.image, config, rng, size, group)
        train_step(fit, batch, config, len(chosen))

    return _median_seconds(step)


def _judging_seconds(
    network: LimbNet, source: Source, policy: Policy, config: TrainConfig
) -> float:
    batches = list(in_batches(len(source), config.batch_size))
    judged = start_fit(deepcopy(network), config, 1).judged.eval()

    @torch.inference_mode()
    def judge(index: int) -> None:
        read(judged, source, batches[index % len(batches)], policy)

    return _median_seconds(judge) * len(batches)


def _median_seconds(call: Callable[[int], object]) -> float:
    taken = []
    for index in range(_WARM + _TIMED):
        start = time.perf_counter()
        call(index)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return sorted(taken[_WARM:])[_TIMED // 2]


def _number(price: str) -> float:
    try:
        return float(price)
    except ValueError as error:
        raise ConfigError(f"{PRICE} = {price!r} in the environment, expected a number") from error
