"""Requests that are refused before their body is read into memory."""

import asyncio

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 32 * 1024 * 1024
_DRAIN_S = 2.0
_BINARY_HEADER = "inference-header-content-length"


class BodyGate:
    """ASGI middleware that lets no body through that is too large or not JSON.

    Starlette's own limit answers in plain text and closes the connection on a client that is
    still sending, which then sees a reset in place of the answer.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        """Stand before `app`."""
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on and count what is read of its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if _BINARY_HEADER in headers:
            message = "binary tensors are not read here: send JSON, with each view as base64"
            await _refuse(400, message, scope, receive, send)
        elif int(headers.get("content-length", "0")) > self._max_body_bytes:
            await self._refuse_size(scope, receive, send)
        else:
            await self._pass_counted(scope, receive, send)

    async def _pass_counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        num_bytes = 0

        async def receive_counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            # To the application it looks as if the client had left.
            too_large = num_bytes > self._max_body_bytes
            return {"type": "http.disconnect"} if too_large else message

        async def send_unless_too_large(message: Message) -> None:
            if num_bytes <= self._max_body_bytes:
                await send(message)

        await self._app(scope, receive_counted, send_unless_too_large)
        if num_bytes > self._max_body_bytes:
            await self._refuse_size(scope, receive, send)

    async def _refuse_size(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit = f"{self._max_body_bytes // 2**20} MiB"
        await _refuse(413, f"the body is larger than {limit}", scope, receive, send)


async def _refuse(status: int, message: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, and throw away what the client still sends before the connection is closed.

    Closing on unread bytes resets the connection, and a reset may overtake the answer.
    """
    response = JSONResponse({"error": message}, status, headers={"Connection": "close"})

    async def send_unfinished(part: Message) -> None:
        if part["type"] == "http.response.body":
            part = {**part, "more_body": True}
        await send(part)

    await response(scope, receive, send_unfinished)
    try:
        async with asyncio.timeout(_DRAIN_S):
            while (await receive()).get("more_body", False):
                pass
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": b""})
