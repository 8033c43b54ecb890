"""`GET /metrics` on a listening socket of its own, which is not the one that hospitals reach."""

import errno
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from serving.watch.logs import tell_defect

PATH = "/metrics"
_PATIENCE_S = 5
_PAUSE_S = 1
"""Before the next connection where no file can be opened."""


class MetricsServer:
    """Answers `GET /metrics` from a thread; anything else is 404."""

    def __init__(self, registry: CollectorRegistry, listener: socket.socket) -> None:
        """Begin to answer.

        Args:
            registry: what is told.
            listener: a listening socket, which other processes may hold too.
        """
        # Who shares the socket may be the one that takes a connection: then accept must not wait.
        listener.setblocking(False)
        self._server = _Server(listener.getsockname(), _handler(registry), bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listener
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more connections, and close the listening socket of this process."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(_PAUSE_S)  # the connection still waits, and would be tried at once
            raise

    def handle_error(self, *_: object) -> None:
        # socketserver's own prints a traceback past the log.
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):
            tell_defect(error)


def _handler(registry: CollectorRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _PATIENCE_S

        def do_GET(self) -> None:  # noqa: N802  # http.server's name
            if self.path != PATH:
                self.send_error(404)
                return
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, encode(registry), content_type)

        def log_message(self, *_: object) -> None:
            """Nothing: http.server's own writes to stderr past the log."""

        def send_error(self, *_: object) -> None:
            # http.server's own repeats the method that it does not know, and logs it.
            self._answer(404, b"only GET /metrics is answered here\n", "text/plain")

        def _answer(self, status: int, body: bytes, content_type: str) -> None:
            self.close_connection = True
            self.send_response_only(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
