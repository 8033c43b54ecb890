"""Work spread over one process a core, its results in order. Knows no step.

Processes, since Pillow and numpy hold Python's lock for much of what they do to small images.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

from bonexray.errors import WorkerError

_AHEAD = 3  # items a worker: enough that none waits, few enough to hold in memory

T = TypeVar("T")
R = TypeVar("R")


class Workers:
    """One process a core, started on entering: they import while their work is being planned."""

    def __enter__(self) -> "Workers":
        """Start the processes."""
        self._cores = os.cpu_count() or 1
        # Spawned, not forked: the parent may hold threads, of a progress bar or a caller's torch.
        spawn = get_context("spawn")
        self._pool = ProcessPoolExecutor(self._cores, spawn, initializer=_end_with_parent)
        for _ in range(self._cores):
            self._pool.submit(os.getpid)
        return self

    def __exit__(self, *failure: object) -> None:
        """Wait for the processes to end; work that waits is forgotten."""
        self._pool.shutdown(cancel_futures=True)

    def in_order(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """`work` of each item, in the items' order; few items are taken ahead of the results.

        Args:
            work: a function that a new process can import.
            items: what it is called with; sent to the workers by pickling.

        Raises:
            WorkerError: a worker was killed, most often for want of memory.
        """
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(self._pool.submit(work, item))
                if len(waiting) >= _AHEAD * self._cores:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise WorkerError("a worker process was killed; is there memory enough?") from error


def _end_with_parent() -> None:
    """Let a worker end when the step is killed; by itself it would wait for work forever."""
    parent = parent_process()
    assert parent is not None, "runs in a worker only"

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()
