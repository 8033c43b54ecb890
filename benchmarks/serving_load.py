"""A lean client of HTTP: prepared requests on raw sockets.

It shares the cores with the server that it measures, so it does next to nothing for a request.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LAST = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_RETRY = re.compile(rb"\r\nretry-after: *\d+", re.IGNORECASE)
PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What came of one request."""

    due_s: float
    """When it was to be sent, on the clock of `time.perf_counter`."""
    took_s: float
    """From then to the end of the answer."""
    status: int
    """Of HTTP; 0 when there was no answer."""
    retry_after: bool = False
    """Whether the answer says when to ask again."""
    why: str = ""
    """There was no answer."""


class Lane(asyncio.Protocol):
    """A connection that is kept, with one request at a time."""

    def __init__(self) -> None:
        """Not connected yet."""
        self.open = False
        self._received = bytearray()
        self._end = -1
        self._answer: asyncio.Future[bytes] | None = None

    @classmethod
    async def to(cls, address: tuple[str, int]) -> "Lane":
        """Connect. Raises OSError."""
        _, lane = await asyncio.get_running_loop().create_connection(cls, *address)
        return lane

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what is written to."""
        assert isinstance(transport, asyncio.Transport)
        self._transport, self.open = transport, True

    def data_received(self, data: bytes) -> None:
        """Gather the answer."""
        received = self._received
        received += data
        if self._end < 0 and (head := received.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(received, 0, head + 2)
            self._end = head + 4 + (int(length[1]) if length else 0)
        if 0 <= self._end <= len(received) and self._answer and not self._answer.done():
            self._answer.set_result(bytes(received))

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits, waits in vain."""
        self.open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError(str(exc or "closed")))

    async def ask(self, request: bytes) -> bytes:
        """Send a request, and return its answer, whole.

        Raises:
            ConnectionError: the connection ended before.
            TimeoutError: no answer came.
        """
        if not self.open:
            raise ConnectionResetError("closed while idle")
        self._received.clear()
        self._end = -1
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        answer = await asyncio.wait_for(self._answer, PATIENCE_S)
        if _LAST.search(answer, 0, self._end):
            self.close()
        return answer

    def close(self) -> None:
        """Hang up."""
        self.open = False
        self._transport.close()


async def asked(lane: Lane, request: bytes, due_s: float) -> Reply:
    """The reply to one request; that there is none is a reply too."""
    try:
        answer = await lane.ask(request)
    except (OSError, TimeoutError) as error:
        lane.close()
        took_s = time.perf_counter() - due_s
        return Reply(due_s=due_s, took_s=took_s, status=0, why=f"{type(error).__name__}: {error}")
    status = _STATUS.match(answer)
    return Reply(
        due_s=due_s,
        took_s=time.perf_counter() - due_s,
        status=int(status[1]) if status else 0,
        retry_after=_RETRY.search(answer) is not None,
    )


async def saturate(
    address: tuple[str, int], requests: Sequence[bytes], lanes: int, seconds: float
) -> list[Reply]:
    """Ask on each of several connections, one request after the other.

    Args:
        address: of the server.
        requests: taken in turns.
        lanes: connections.
        seconds: that it goes on for.
    """
    turns, until_s = cycle(requests), time.perf_counter() + seconds

    async def run() -> list[Reply]:
        lane, replies = await Lane.to(address), []
        while time.perf_counter() < until_s:
            if not lane.open:
                lane = await Lane.to(address)
            replies.append(await asked(lane, next(turns), time.perf_counter()))
        lane.close()
        return replies

    every = await asyncio.gather(*(run() for _ in range(lanes)))
    return [reply for replies in every for reply in replies]


async def arrive(
    address: tuple[str, int], requests: Sequence[bytes], after_s: Sequence[float]
) -> list[Reply]:
    """Send requests at given moments, whether those before are answered or not.

    Args:
        address: of the server.
        requests: taken in turns.
        after_s: when each is sent, in seconds from now.
    """
    turns, tasks = cycle(requests), []
    idle: list[Lane] = []

    async def run(request: bytes, due_s: float) -> Reply:
        lane = idle.pop() if idle else None
        try:
            if lane is None or not lane.open:
                lane = await Lane.to(address)
        except OSError as error:
            return Reply(due_s=due_s, took_s=0, status=0, why=f"{type(error).__name__}: {error}")
        reply = await asked(lane, request, due_s)
        if lane.open:
            idle.append(lane)
        return reply

    start_s = time.perf_counter()
    for moment_s in after_s:
        due_s = start_s + moment_s
        if (wait_s := due_s - time.perf_counter()) > 0:
            await asyncio.sleep(wait_s)
        tasks.append(asyncio.create_task(run(next(turns), due_s)))
    replies = await asyncio.gather(*tasks)
    for lane in idle:
        lane.close()
    return replies


def goodput(replies: Sequence[Reply], within_s: float) -> float:
    """Answers in time a second, from the first request due to the last one due."""
    span_s = max(r.due_s for r in replies) - min(r.due_s for r in replies)
    good = sum(reply.status == 200 and reply.took_s <= within_s for reply in replies)
    return good / span_s
