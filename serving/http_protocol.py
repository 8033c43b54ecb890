"""HTTP as uvicorn reads it, with a bound on what comes before a body: httptools knows none."""

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

_MAX_HEAD_BYTES = 256 * 1024
"""Of request line and headers, of trailers, and of what describes a chunk; one read more of it."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Refuses a head without end, and says in JSON that something is no HTTP."""

    _in_head = False
    _came_on = False
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Read on, by asyncio."""
        self._came_on = False
        super().data_received(data)
        self._head_bytes = 0 if self._came_on else self._head_bytes + len(data)
        if self._head_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            limit = _MAX_HEAD_BYTES // 1024
            self.send_400_response(f"request line and headers are larger than {limit} KiB")

    def on_message_begin(self) -> None:
        """A head begins, by httptools."""
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or behind a chunked body a trailer: those are none (RFC 9110, section 6.5)."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head has ended."""
        self._in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._came_on = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._came_on = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, and close."""
        body = orjson.dumps({"error": msg})
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(STATUS_LINE[400] + head % len(body) + body)
        self.transport.close()
