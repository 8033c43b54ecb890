"""How much is asked of this process, and whether one more request can be answered in time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from serving.oip.errors import BusyError

_FIRST_GUESS_S = 0.05
_WEIGHT = 0.05
"""Of the newest view in the running mean."""


class Workload:
    """Views that wait or are read, and how long one takes."""

    def __init__(self, jobs: int) -> None:
        """Nothing is asked yet.

        Args:
            jobs: how many views are read at a time.
        """
        self._jobs = jobs
        self._lock = threading.Lock()
        self._views = 0
        self._view_s = _FIRST_GUESS_S
        self._views_each = 1.0

    @property
    def views(self) -> int:
        """Views that wait or are read."""
        return self._views

    def add(self, views: int) -> None:
        """So many views of one request are to be read."""
        with self._lock:
            self._views += views
            self._views_each += _WEIGHT * (views - self._views_each)

    def done(self, seconds: float | None) -> None:
        """One view has been read, in so many seconds of one thread; None when it was given up."""
        with self._lock:
            self._views -= 1
            if seconds is not None:
                self._view_s += _WEIGHT * (seconds - self._view_s)

    def wait_s(self, requests: int) -> float:
        """Seconds until the last view of one more request would be begun, beside so many requests.

        Requests that have not said yet how many views they hold are taken for the mean ones.
        """
        before = max(float(self._views), requests * self._views_each)
        if before == 0:  # or many and slow views would shut out for good whoever came after them
            return 0.0
        return max(0.0, before + self._views_each - self._jobs) * self._view_s / self._jobs


class Admission:
    """Takes a request only when it will be answered in time, and when there is room to hold it."""

    def __init__(self, load: Workload, max_wait_s: float, max_held_bytes: int) -> None:
        """Let requests in, at first.

        Args:
            load: of this process.
            max_wait_s: longest expected wait of a request that is let in.
            max_held_bytes: of the bodies of all requests that are let in.
        """
        self._load = load
        self._max_wait_s = max_wait_s
        self._max_held_bytes = max_held_bytes
        self._held_bytes = 0
        self._requests = 0

    def wait_s(self) -> float:
        """Seconds that one more request would wait."""
        return self._load.wait_s(self._requests)

    @contextmanager
    def hold(self, num_bytes: int) -> Iterator[None]:
        """Hold a request of so many bytes for as long as the context lasts.

        Raises:
            BusyError: it would wait too long, or there is no room for it.
        """
        wait_s = self.wait_s()
        if wait_s > self._max_wait_s:
            raise BusyError(
                f"too busy: an answer would wait {wait_s:.1f} s, at most {self._max_wait_s:.1f} s "
                "are allowed",
                wait_s - self._max_wait_s,
            )
        if self._held_bytes and self._held_bytes + num_bytes > self._max_held_bytes:
            raise BusyError("too busy: no room for the body of one more request", wait_s)
        self._held_bytes += num_bytes
        self._requests += 1
        try:
            yield
        finally:
            self._held_bytes -= num_bytes
            self._requests -= 1
