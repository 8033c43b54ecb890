import os
import signal
from collections.abc import Iterator

import pytest

from bonexray.errors import WorkerError
from components.workers import in_order


def squared(number: int) -> int:
    return number * number


def killed(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def refused(number: int) -> int:
    raise OSError(28, f"no space for {number}")


def test_results_come_in_the_order_of_the_items_and_few_are_taken_ahead() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(200):
            taken.append(number)
            yield number

    done = in_order(squared, items())
    assert next(done) == 0
    assert len(taken) < 50
    assert list(done) == [number * number for number in range(1, 200)]


def test_a_workers_error_is_the_callers() -> None:
    with pytest.raises(OSError, match="no space for 0"):
        list(in_order(refused, range(3)))


def test_a_killed_worker_is_an_error_and_no_wait_without_end() -> None:
    with pytest.raises(WorkerError, match="is there memory enough"):
        list(in_order(killed, range(3)))
