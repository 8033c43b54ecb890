"""Requests that are made to cost much: each is sent alone, and told by its time and its memory.

Memory is the rise of the worker's high-water mark above what it held before (`VmHWM` of Linux);
every request meets a fresh server, since memory that was freed before would hide it.
"""

import re
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import grpc

from benchmarks.serving_payloads import BODIES, VIEWS, over_grpc
from benchmarks.serving_stage import (
    INFER,
    Server,
    Stage,
    binary_body,
    http_request,
    serve,
)
from serving.oip.messages import SERVICE, pb

_LIMIT_S = 60.0
_STEP = 1 << 20
_CHUNKED_MB = 200
_FAULTS = {"INTERNAL", "UNAVAILABLE", "UNKNOWN", "DEADLINE_EXCEEDED"}
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
Attack = Callable[[Server], str]
"""Sends what was prepared; returns the status that came, empty when there was none."""


def measure(stage: Stage) -> dict[str, float]:
    """The worst time and memory of all, and those of each."""
    worst_s, worst_mb, failed = 0.0, 0.0, 0
    figures: dict[str, float] = {}
    for name, prepare in attacks().items():
        attack = prepare()
        with serve(stage.small) as server:
            _over_http(http_request(*binary_body([VIEWS["view"]()])), server)  # it is warm
            status, seconds, megabytes = cost(server, attack)
        print(f"  {name:<26}{status or 'no answer':<20}{seconds:6.2f} s {megabytes:8.1f} MB")
        figures |= {f"bomb_{name}_seconds": seconds, f"bomb_{name}_mb": megabytes}
        worst_s, worst_mb = max(worst_s, seconds), max(worst_mb, megabytes)
        failed += status[:1] in ("", "5") or status in _FAULTS
    return {"bomb_seconds": worst_s, "bomb_mb": worst_mb, "bombs_failed": failed} | figures


def attacks() -> dict[str, Callable[[], Attack]]:
    """Functions that prepare each, by name."""
    every: dict[str, Callable[[], Attack]] = {
        name: lambda make=make: _http(*binary_body([make()]))  # type: ignore[misc]
        for name, make in VIEWS.items()
        if name != "view"
    }
    every |= {name: lambda make=make: _http(*make()) for name, make in BODIES.items()}  # type: ignore[misc]
    every["body_chunked"] = lambda: _chunked
    for name, make in over_grpc().items():
        every[f"grpc_{name}"] = lambda make=make: _grpc(*make())  # type: ignore[misc]
    return every


def cost(server: Server, attack: Attack) -> tuple[str, float, float]:
    """Status, seconds until it came, and megabytes above what the worker held before."""
    folder = Path(f"/proc/{server.worker().pid}")
    (folder / "clear_refs").write_text("5")  # the mark begins anew
    before = _memory_mb(folder, "VmRSS")
    start_s = time.perf_counter()
    status = attack(server)
    return status, time.perf_counter() - start_s, _memory_mb(folder, "VmHWM") - before


def _memory_mb(folder: Path, name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", (folder / "status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def _http(body: bytes, headers: dict[str, str]) -> Attack:
    request = http_request(body, headers)
    return lambda server: _over_http(request, server)


def _over_http(request: bytes, server: Server) -> str:
    """The answer may come before all is sent, and is read then."""
    with socket.create_connection((server.host, server.port), timeout=_LIMIT_S) as connection:
        threading.Thread(target=_send, args=(connection, request), daemon=True).start()
        return _status(connection)


def _send(connection: socket.socket, request: bytes) -> None:
    with suppress(OSError):  # the server has answered, and hung up
        connection.sendall(request)


def _chunked(server: Server) -> str:
    """A body of a length that is not told."""
    head = f"POST {INFER} HTTP/1.1\r\nHost: bonexray\r\nTransfer-Encoding: chunked\r\n\r\n"
    piece = b"%x\r\n" % _STEP + bytes(_STEP) + b"\r\n"
    with socket.create_connection((server.host, server.port), timeout=_LIMIT_S) as connection:
        connection.sendall(head.encode())
        for _ in range(_CHUNKED_MB):
            if select.select([connection], [], [], 0)[0]:
                break
            with suppress(OSError):
                connection.sendall(piece)
        return _status(connection)


def _status(connection: socket.socket) -> str:
    """Of the first answer that comes."""
    received = b""
    with suppress(OSError):
        while not (found := _STATUS.match(received)) and (piece := connection.recv(_STEP)):
            received += piece
    found = _STATUS.match(received)
    return found[1].decode() if found else ""


def _grpc(message: bytes, compression: grpc.Compression) -> Attack:
    def attack(server: Server) -> str:
        options = [("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(server.grpc, options) as channel:
            infer = channel.unary_unary(
                f"/{SERVICE}/ModelInfer", None, pb.ModelInferResponse.FromString
            )
            try:
                infer(message, timeout=_LIMIT_S, compression=compression)
            except grpc.RpcError as error:
                return str(error.code().name)
        return "OK"

    return attack
