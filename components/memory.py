"""What to say when a GPU's memory does not hold a batch: which batch it would hold."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from bonexray.config import TrainConfig
from bonexray.errors import DataError
from bonexray.network import LimbNet
from bonexray.policy import Policy
from components.batches import Source, random_of
from components.fit import start_fit, train_step
from components.group import Group


@contextmanager
def memory_explained(
    network: LimbNet, source: Source, policy: Policy, config: TrainConfig, group: Group
) -> Iterator[None]:
    """Turn torch's out-of-memory error into one that says which batch would fit.

    Raises:
        DataError: in its place.
    """
    try:
        yield
        return
    except torch.OutOfMemoryError:
        pass  # left before memory is tried again: the error holds the failed step's tensors
    rng = random_of(config.seed, 1, 1)
    size = policy.image.size

    def step(batch: int) -> None:
        fit = start_fit(network, config, 1)
        chosen = torch.arange(batch) % len(source)
        data = source.batch(chosen, policy.augment, policy.image, config, rng, size)
        train_step(fit, data, config, batch)

    if group.size > 1:  # one process cannot try alone: its batch norms wait for the others
        advice = f"{group.size} processes share it; a smaller batch or more processes may fit"
    else:
        fitting = batch_that_fits(step, config.batch_size // 2)
        advice = f"train.batch_size = {fitting} fits" if fitting else "not even a batch of 2 fits"
    raise DataError(
        f"the GPU's memory does not hold train.batch_size = {config.batch_size} images of "
        f"{size} px; {advice}"
    )


def batch_that_fits(step: Callable[[int], None], batch: int) -> int:
    """The first of batch, half of it, a quarter ... that a step can be made with; 0 if none.

    One image alone has no batch statistics, so 2 is the smallest.
    """
    while batch >= 2:
        try:
            step(batch)
        except torch.OutOfMemoryError:
            batch //= 2
        else:
            return batch
    return 0
