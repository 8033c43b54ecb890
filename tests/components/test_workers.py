import operator
import os
from collections.abc import Iterator

import pytest

from bonexray.errors import WorkerError
from components.workers import Workers


def test_results_come_in_the_order_of_the_items_and_few_are_taken_ahead() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(200):
            taken.append(number)
            yield number

    with Workers() as workers:
        done = workers.in_order(operator.neg, items())
        assert next(done) == 0
        assert len(taken) < 50
        assert list(done) == [-number for number in range(1, 200)]


def test_a_workers_error_is_the_callers() -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"), Workers() as workers:
        list(workers.in_order(os.listdir, ["/nowhere"]))


def test_a_killed_worker_is_an_error_and_no_wait_without_end() -> None:
    with pytest.raises(WorkerError, match="is there memory enough"), Workers() as workers:
        list(workers.in_order(os._exit, [1]))
