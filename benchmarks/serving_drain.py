"""What a rolling update costs those who ask: two servers, and a client that follows readiness.

Each server serves a network of next to no cost, so that ten thousand requests fit the time that two
updates take. A third of the requests keeps its connections, a third makes one for each request, and
a third comes over gRPC.
"""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from itertools import cycle

import grpc

from benchmarks.serving_load import Lane, Reply, asked
from benchmarks.serving_stage import Server, Stage, binary_body, http_request, message, serve
from serving.oip.messages import SERVICE, pb
from tests.small_bundle import draw_png

_REQUESTS, _RATE = 10_000, 250.0
_ALONE, _ALONE_RATE = 1500, 100.0
_PROBE_S = 1.0
_LAME_DUCK_S = 5.0
_VIEW = draw_png(90, noise=40)
_REST = http_request(*binary_body([_VIEW], ("study_probability",)))
_GRPC = message([_VIEW], ("study_probability",))
_READY = b"GET /v2/health/ready HTTP/1.1\r\nHost: bonexray\r\nConnection: close\r\n\r\n"
_REFUSED = "ConnectionRefusedError"


def measure(stage: Stage) -> dict[str, float]:
    """Failed requests of a rolling update, and of one server alone."""
    rolled = asyncio.run(_roll(stage))
    failed = [reply for reply in rolled if reply.status != 200]
    alone = asyncio.run(_alone(stage))
    dropped = [r for r in alone if r.status != 200 and not r.why.startswith(_REFUSED)]
    for name, replies in (("rolling update", failed), ("alone", dropped)):
        for (status, why), count in Counter((r.status, r.why) for r in replies).items():
            print(f"serving_drain: {name}: {count} times status {status} {why}")
    return {
        "drain_requests": len(rolled),
        "drain_failed": len(failed),
        "drain_alone_requests": len(alone),
        "drain_alone_failed": len(dropped),
        "drain_alone_refused": sum(reply.why.startswith(_REFUSED) for reply in alone),
    }


class Balancer:
    """Knows which servers are ready, as of the last time that it asked."""

    def __init__(self) -> None:
        """Knows none."""
        self.servers: list[Server] = []
        self._ready: list[Server] = []

    async def follow(self) -> None:
        """Ask every server once a second, for good."""
        while True:
            told = await asyncio.gather(*(self._ask(server) for server in self.servers))
            self._ready = [
                server for server, ready in zip(self.servers, told, strict=True) if ready
            ]
            await asyncio.sleep(_PROBE_S)

    async def _ask(self, server: Server) -> bool:
        try:
            lane = await Lane.to((server.host, server.port))
        except OSError:
            return False
        return (await asked(lane, _READY, time.perf_counter())).status == 200

    def pick(self) -> Server:
        """One that is ready."""
        return random.choice(self._ready or self.servers)


class Clients:
    """Ask in three ways, of whichever server the balancer picks."""

    def __init__(self, balancer: Balancer) -> None:
        """Hold no connection."""
        self._balancer = balancer
        self._idle: list[Lane] = []
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._ways: Iterator[Callable[[float], Awaitable[Reply]]] = cycle(
            [self._keeping, self._anew, self._over_grpc]
        )

    def next_way(self) -> Callable[[float], Awaitable[Reply]]:
        """How the next request is asked."""
        return next(self._ways)

    async def _keeping(self, due_s: float) -> Reply:
        lane = self._idle.pop(0) if self._idle else None
        return await self._on(lane if lane and lane.open else None, due_s, keep=True)

    async def _anew(self, due_s: float) -> Reply:
        return await self._on(None, due_s, keep=False)

    async def _on(self, lane: Lane | None, due_s: float, keep: bool) -> Reply:
        server = self._balancer.pick()
        try:
            lane = lane or await Lane.to((server.host, server.port))
        except OSError as error:
            return Reply(due_s=due_s, took_s=0, status=0, why=f"{type(error).__name__}: {error}")
        reply = await asked(lane, _REST, due_s)
        if keep and lane.open:
            self._idle.append(lane)
        else:
            lane.close()
        return reply

    async def _over_grpc(self, due_s: float) -> Reply:
        address = self._balancer.pick().grpc
        if address not in self._channels:
            self._channels[address] = grpc.aio.insecure_channel(address)
        infer = self._channels[address].unary_unary(
            f"/{SERVICE}/ModelInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelInferResponse.FromString,
        )
        try:
            await infer(_GRPC, timeout=30)
        except grpc.aio.AioRpcError as error:
            name = error.code().name
            refused = "refused" in (error.details() or "").lower()
            why = _REFUSED if refused else f"gRPC {name}: {error.details()}"
            return Reply(due_s=due_s, took_s=0, status=0, why=why)
        return Reply(due_s=due_s, took_s=time.perf_counter() - due_s, status=200)

    async def close(self) -> None:
        """Hang up."""
        for lane in self._idle:
            lane.close()
        for channel in self._channels.values():
            await channel.close()


async def _ask(balancer: Balancer, count: int, rate: float) -> list[Reply]:
    """So many requests at a steady rate."""
    clients, tasks = Clients(balancer), []
    start_s = time.perf_counter()
    for number in range(count):
        due_s = start_s + number / rate
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        tasks.append(asyncio.ensure_future(clients.next_way()(due_s)))
    replies = await asyncio.gather(*tasks)
    await clients.close()
    return replies


async def _roll(stage: Stage) -> list[Reply]:
    """Replace both of two servers, one after the other, each by one that is ready."""
    balancer = Balancer()
    with ExitStack() as stack:

        def start() -> Server:
            served: AbstractContextManager[Server] = serve(stage.small, lame_duck_s=_LAME_DUCK_S)
            return stack.enter_context(served)

        balancer.servers = [start(), start()]
        following = asyncio.create_task(balancer.follow())
        await asyncio.sleep(_PROBE_S)
        asking = asyncio.create_task(_ask(balancer, _REQUESTS, _RATE))
        for old in list(balancer.servers):
            await asyncio.sleep(2 * _PROBE_S)
            balancer.servers = [*balancer.servers, await asyncio.to_thread(start)]
            await asyncio.sleep(2 * _PROBE_S)
            old.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(old.process.wait)
        replies = await asking
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
    return replies


async def _alone(stage: Stage) -> list[Reply]:
    """End the only server under load: who was let in is answered, who comes later is refused."""
    balancer = Balancer()
    with serve(stage.small, lame_duck_s=_LAME_DUCK_S) as server:
        balancer.servers = [server]
        asking = asyncio.create_task(_ask(balancer, _ALONE, _ALONE_RATE))
        await asyncio.sleep(2 * _PROBE_S)
        server.process.send_signal(signal.SIGTERM)
        return await asking
