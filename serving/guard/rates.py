"""How many requests a client may make in a minute.

A token bucket in its form as an arrival time (ITU-T I.371, GCRA): a client may use its minute's
requests at once, and gets them back one by one, evenly. Of a client two numbers are kept, and none
once its bucket is full again. The storage in memory of the library `limits` keeps a client of its
moving window for good, and goes over all clients in a thread it starts every 10 ms.
"""

import time
from collections import OrderedDict

MAX_CLIENTS = 10_000
"""Those who asked longest ago are forgotten beyond it, which gives them a full bucket."""
_MINUTE_S = 60.0


class Rates:
    """The buckets of all clients. Used by one thread."""

    def __init__(self, per_minute: int) -> None:
        """Let each client ask `per_minute` times in a minute, at least once."""
        self._interval_s = _MINUTE_S / per_minute
        self._full_at_s: OrderedDict[str, float] = OrderedDict()

    def take(self, client: str) -> float | None:
        """Count a request.

        Returns:
            None when it may be answered; else, and then it is not counted, in how many seconds
            the client's next may be.
        """
        now_s = time.monotonic()
        full_at_s = max(self._full_at_s.get(client, now_s), now_s) + self._interval_s
        wait_s = full_at_s - now_s - _MINUTE_S
        if wait_s > 1e-9:  # what rounding leaves
            return wait_s
        self._full_at_s[client] = full_at_s
        self._full_at_s.move_to_end(client)
        self._forget(now_s)
        return None

    def _forget(self, now_s: float) -> None:
        """Forget who asked longest ago, if nothing is lost by it or there are too many.

        Two at a time: as a request adds one client at most, all are gone over in time.
        """
        for _ in range(2):
            client, full_at_s = next(iter(self._full_at_s.items()))
            if full_at_s > now_s and len(self._full_at_s) <= MAX_CLIENTS:
                return
            del self._full_at_s[client]
