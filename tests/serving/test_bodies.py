"""What is refused before it is read into memory, and what would grow when it is unpacked."""

import gzip
import json
import socket
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.serving.live import QUICK

INFER = "/v2/models/bonexray/infer"
MIB = 1 << 20
BLOCK = b"\0" * MIB
GROWTH_LIMIT_MIB = 64
_QUICKER = QUICK.model_copy(update={"deadline_s": 0.5})


def worker_of(server):
    (worker,) = psutil.Process(server.process.pid).children()
    return worker.pid


def memory_mib(pid, field):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(field)


def zeros(num_mib):
    for _ in range(num_mib):
        yield BLOCK


BOMBS = {
    "200 MB, said before": ({"content": zeros, "length": 200 * MIB}, 413),
    "200 MB in chunks": ({"content": zeros}, 413),
    "gzip": ({"content": gzip.compress(b"[" * 50 * MIB)}, 415),
    "deep": ({"content": b'{"inputs":' + b"[" * 30 * MIB}, 400),
    "wide": ({"content": b'{"inputs":[' + b"{}," * 10 * MIB + b"{}]}"}, 400),
    "many numbers": ({"content": b'{"inputs":[' + b"1.5," * 7 * MIB + b"0]}"}, 400),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_and_not_kept_in_memory(server, png, bomb):
    request, status = BOMBS[bomb]
    headers = {"Content-Encoding": "gzip"} if bomb == "gzip" else {}
    if "length" in request:
        headers["Content-Length"] = str(request["length"])
    content = request["content"]
    assert server.infer(png(60)).is_success
    pid = worker_of(server)
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before_mib = memory_mib(pid, "VmHWM")
    response = server.post(
        INFER, content=content(200) if callable(content) else content, headers=headers
    )
    assert response.status_code == status
    assert list(response.json()) == ["error"]
    assert memory_mib(pid, "VmHWM") - before_mib < GROWTH_LIMIT_MIB
    assert server.infer(png(60)).is_success
    assert worker_of(server) == pid


@pytest.mark.parametrize("way", ["content-length", "chunked"])
@pytest.mark.parametrize(("surplus", "status"), [(0, 400), (1, 413)])
def test_the_limit_is_exactly_what_is_set(server, way, surplus, status):
    empty = json.dumps({"inputs": []}).encode()
    body = empty + b" " * (32 * MIB - len(empty) + surplus)
    content = body if way == "content-length" else (part for part in (body,))
    response = server.post(INFER, content=content)
    assert response.status_code == status


def test_a_refused_client_can_go_on_with_a_new_connection(server):
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
        for _ in range(3):
            refused = client.post(INFER, content=zeros(40))
            assert refused.status_code == 413
            assert client.get("/v2/health/ready").status_code == 200


@pytest.mark.parametrize("head", ["many headers", "one header", "a path"])
def test_a_head_without_end_is_refused_and_not_kept_in_memory(server, head):
    url, pid = httpx.URL(server.url), worker_of(server)
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before_mib = memory_mib(pid, "VmHWM")
    begin = {"many headers": b"X: 1\r\nY: ", "one header": b"X: ", "a path": b""}[head]
    line = b"GET /" if head == "a path" else b"GET / HTTP/1.1\r\nHost: x\r\n"
    part = {"many headers": b"1\r\nX: " * 100_000}.get(head, b"a" * MIB)
    answer = b""
    with socket.create_connection((url.host, url.port), timeout=20) as connection:
        with suppress(OSError):  # it closes while we send
            connection.sendall(line + begin)
            for _ in range(100):
                connection.sendall(part)
        with suppress(OSError):
            answer = connection.recv(65536)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert memory_mib(pid, "VmHWM") - before_mib < GROWTH_LIMIT_MIB
    assert server.get("/v2/health/ready").status_code == 200
    assert worker_of(server) == pid


@pytest.mark.slow
@pytest.mark.parametrize("said", [b"", b"GET / HT"])
def test_a_connection_that_asks_nothing_is_closed(server, said):
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port), timeout=25) as connection:
        connection.sendall(said)
        started_s = time.monotonic()
        assert connection.recv(1) == b""
        assert time.monotonic() - started_s > 10


def test_what_is_no_http_is_told_as_json(server):
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port), timeout=20) as connection:
        connection.sendall(b"HELLO THERE\r\n\r\n")
        answer = connection.recv(4096)
    assert answer.endswith(b'{"error":"Invalid HTTP request received."}')


def test_a_body_that_does_not_arrive_is_not_waited_for(start_server):
    server = start_server(config=_QUICKER)
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port), timeout=20) as connection:
        head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
        connection.sendall(head.encode() + b'{"inputs"')
        started_s = time.monotonic()
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert time.monotonic() - started_s < 5
    assert server.stop()[0] == 0
