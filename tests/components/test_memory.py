import pytest
import torch

from bonexray.config import TrainConfig
from bonexray.errors import DataError
from bonexray.network import LimbNet
from bonexray.policy import Policy
from components.batches import Source
from components.group import ALONE, Group
from components.memory import batch_that_fits, memory_explained


def device_holding(most: int, tried: list[int]) -> object:
    """A step on a device whose memory holds `most` images."""

    def step(batch: int) -> None:
        tried.append(batch)
        if batch > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    return step


@pytest.mark.parametrize(("most", "fits"), [(100, 32), (20, 16), (3, 2), (1, 0)])
def test_the_batch_is_halved_until_it_fits(most: int, fits: int) -> None:
    tried: list[int] = []
    assert batch_that_fits(device_holding(most, tried), 32) == fits  # type: ignore[arg-type]
    assert tried == [32, 16, 8, 4, 2][: len(tried)]


def test_a_full_memory_is_one_line_that_says_what_would_fit(
    learning: Source, policy: Policy, train_config: TrainConfig
) -> None:
    config = train_config.model_copy(update={"batch_size": 8})
    with (
        pytest.raises(DataError, match=r"train.batch_size = 8 .* train.batch_size = 4 fits"),
        memory_explained(LimbNet("resnet18"), learning, policy, config, ALONE),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_processes_that_share_a_batch_are_told_of_what_they_may_change(
    learning: Source, policy: Policy, train_config: TrainConfig
) -> None:
    with (
        pytest.raises(DataError, match="2 processes share it; a smaller batch or more processes"),
        memory_explained(LimbNet("resnet18"), learning, policy, train_config, Group(0, 2)),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
