"""A server that stops without dropping a request."""

import asyncio
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.grpc_server import GrpcServer
from serving.leaving import Drain

_LAST_REQUEST_S = 5
"""How long a draining server waits for the next request of a client that keeps its connection."""
_SILENT_S = 15
"""A connection that owes a request, or the rest of one that was answered, is closed after so long:
else they could take all there are."""


class Farewell:
    """ASGI middleware: once draining has begun, each connection ends with its next answer."""

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        """Stand before `app`, and watch `drain`."""
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; its answer says whether the connection ends with it."""

        async def send_last(message: Message) -> None:
            # Asked for as late as this, so that the answers to requests in flight say it too.
            if self._drain.begun and message["type"] == "http.response.start":
                headers = [*message.get("headers", []), (b"connection", b"close")]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_last)


class DrainingServer(uvicorn.Server):
    """Stops without dropping a request: uvicorn's own end closes idle connections at once.

    A client that keeps its connection may have a request under way on it, and a connection just
    accepted looks idle until its first request is read. The server of gRPC stops beside it.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        grpc: GrpcServer,
        drain: Drain,
        listener: socket.socket,
        say: Callable[[str], None],
    ) -> None:
        """Serve nothing yet.

        Args:
            config: of the app.
            grpc: the same models by the other protocol.
            drain: the app's; begun when no more connections are taken.
            listener: a listening socket, which other processes may hold too.
            say: is told `open` when this process takes connections, `closed` when no more.
        """
        super().__init__(config)
        self._grpc = grpc
        self._drain = drain
        self._listener = listener
        self._say = say
        self._loop: asyncio.AbstractEventLoop | None = None
        self._silent_since_s: dict[tuple[Any, Any], float] = {}

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take connections."""
        await self._grpc.start()
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self._say("open")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain at a signal."""
        super().handle_exit(sig, frame)
        if self._loop is not None:  # uvicorn would see to it within 0.1 s, and a successor waits
            self._loop.call_soon_threadsafe(self._stop_accepting)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second, by uvicorn; end connections that never asked."""
        if counter % 10 == 0:
            self._close_silent()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for the next request of each kept connection, then end as uvicorn does."""
        self._stop_accepting()
        stopping = asyncio.create_task(self._grpc.stop(_LAST_REQUEST_S))
        started_s = time.monotonic()
        await asyncio.sleep(0.1)  # what was accepted last is not among the connections yet
        while self.server_state.connections and not self.force_exit:
            if time.monotonic() - started_s > _LAST_REQUEST_S:
                break
            await asyncio.sleep(0.05)
        await super().shutdown(sockets)
        await stopping

    def _close_silent(self) -> None:
        """Uvicorn gives a connection all the time there is for a request, if a byte came of it."""
        now_s, connections = time.monotonic(), set[Any](self.server_state.connections)
        self._silent_since_s = {
            key: self._silent_since_s.get(key, now_s)
            for key in ((connection, connection.cycle) for connection in connections)
            if _owes_a_request(*key)
        }
        for (connection, _), since_s in self._silent_since_s.items():
            if now_s - since_s > _SILENT_S:
                connection.transport.close()

    def _stop_accepting(self) -> None:
        if self._drain.begun:
            return
        self._drain.leaving = self._drain.begun = True
        for server in self.servers:
            server.close()
        self._listener.close()
        self._say("closed")


def _owes_a_request(connection: Any, last: Any) -> bool:
    """Whether it has none to be answered, nor waits for one within uvicorn's limit."""
    return last is None or (last.response_complete and connection.timeout_keep_alive_task is None)
