"""Clients that mean harm, on a real server: who they say to be, what they owe, how they leave."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from serving.engine import Engine
from serving.oip.messages import SERVICE, pb
from serving.studies import AskedView
from tests.serving.live import INFER, STUDY, addresses_of, serve_command, wait_until
from tests.serving.test_bodies import memory_mib, worker_of

BODY = json.dumps(STUDY).encode()
HEALTH = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n"
UPLOAD = CHUNKED % (INFER.encode(), len(BODY), BODY)
"""A study in chunks, and no end."""


def connect(server, seconds=30):
    url = httpx.URL(server.url)
    return socket.create_connection((url.host, url.port), timeout=seconds)


def all_said(connection):
    said = b""
    with contextlib.suppress(OSError):
        while part := connection.recv(1 << 16):
            said += part
    return said


def is_closed_to(connection, more):
    time.sleep(0.5)
    try:
        connection.sendall(more)
    except OSError:
        return True
    return False


def logged(server):
    lines = server.stderr.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_a_client_does_not_say_itself_which_address_it_has(server, header):
    answer = server.post(INFER, content=BODY, headers={header: "PATIENT-NAME, 10.0.0.1"})
    assert answer.is_success
    trace_id = answer.headers["traceparent"].split("-")[1]
    wait_until(lambda: any(line.get("trace_id") == trace_id for line in logged(server)))
    (line,) = (line for line in logged(server) if line.get("trace_id") == trace_id)
    assert line["client"] == "anonymous@127.0.0.1"


def test_a_path_that_is_not_there_is_not_redirected_to_where_the_client_says(server):
    answer = server.get("/v2/models/?name=PATIENT")
    assert (answer.status_code, answer.json()) == (404, {"error": "Not Found"})
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    "trailer",
    ["Content-Encoding: gzip", "Inference-Header-Content-Length: 3", "Authorization: Bearer x"],
)
def test_a_trailer_is_no_header(server, trailer):
    with connect(server) as connection:
        connection.sendall(UPLOAD + trailer.encode() + b"\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


def test_trailers_without_end_are_refused_and_not_kept_in_memory(server):
    pid = worker_of(server)
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before_mib = memory_mib(pid, "VmHWM")
    with connect(server) as connection, contextlib.suppress(OSError):  # it closes while we send
        connection.sendall(UPLOAD)
        for _ in range(500):
            connection.sendall(b"abcdef: ghijkl\r\n" * 4096)
    assert memory_mib(pid, "VmHWM") - before_mib < 64
    assert server.get("/v2/health/ready").is_success


def test_many_requests_on_one_connection_are_no_head_without_end(server):
    count = 12_000  # twice the longest head, which reads cut within a head
    with connect(server) as connection:
        connection.sendall(
            HEALTH * count + HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        )
        assert all_said(connection).count(b"HTTP/1.1 200 ") == count + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("begun", "more"),
    [
        (HEALTH + b"GET / HTTP/1.1\r\nX: ", b"a"),
        (HEALTH.replace(b"\r\n\r\n", b"\r\nContent-Length: 1000\r\n\r\n"), b"a"),
        (b"POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", b"a"),
    ],
    ids=["a second head", "a body of what has none", "a body for nobody"],
)
def test_a_connection_that_never_ends_what_it_owes_is_closed(server, begun, more):
    with connect(server) as connection:
        connection.sendall(begun)
        wait_until(lambda: is_closed_to(connection, more), 25)


def test_views_of_a_client_that_left_are_not_waited_for(store, png):
    engine = Engine(store.open(store.champion().digest), 1, "fp32")
    views = [AskedView(data=png(60, side_px=3000), claimed_part="")] * 20

    async def leave():
        for _ in range(3):
            asking = asyncio.create_task(engine.read(views, time.monotonic() + 60, len))
            await asyncio.sleep(0.05)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking

    asyncio.run(leave())
    assert engine.load.views <= 3  # those that were begun
    wait_until(lambda: engine.load.views == 0)
    assert engine.load.wait_s(0) == 0


def test_a_server_goes_on_after_calls_that_were_cancelled(server, png):
    request = pb.ModelInferRequest(model_name="bonexray")
    image = request.inputs.add(name="image", datatype="BYTES", shape=[16])
    image.contents.bytes_contents.extend([png(60, side_px=3000)] * 16)
    with grpc.insecure_channel(server.grpc) as channel:
        ask = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        calls = [ask.future(request.SerializeToString()) for _ in range(4)]
        time.sleep(0.2)
        for call in calls:
            call.cancel()

    def waiting():
        told = httpx.get(server.metrics, timeout=10, trust_env=False).text
        (line,) = (line for line in told.splitlines() if line.startswith("bonexray_queue_views "))
        return float(line.split()[1])

    wait_until(lambda: waiting() == 0)
    assert server.infer(png(60)).is_success


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
@pytest.mark.parametrize("what", ["no tensor", "no image"])
def test_large_requests_that_are_refused_do_not_stay_in_memory(server, protocol, what):
    name = "image" if what == "no image" else "other"
    junk = b"\0\0\x90\1" + os.urandom(1 << 20) * 25
    head = {"name": name, "datatype": "BYTES", "shape": [1]}
    told = {"inputs": [{**head, "parameters": {"binary_data_size": len(junk)}}]}
    text = json.dumps(told).encode()
    message = pb.ModelInferRequest(model_name="bonexray", raw_input_contents=[junk])
    message.inputs.add(**head)
    pid = worker_of(server)

    def ask(times, channel):
        for _ in range(times):
            if protocol == "rest":
                length = {"Inference-Header-Content-Length": str(len(text))}
                answer = server.post(INFER, content=text + junk, headers=length)
                assert answer.status_code == 400
                continue
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(f"/{SERVICE}/ModelInfer")(message.SerializeToString())
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    with grpc.insecure_channel(server.grpc) as channel:
        ask(12, channel)  # the buffers that grpc and the allocator keep for the next ones
        before_mib = memory_mib(pid, "VmRSS")
        ask(24, channel)
    assert memory_mib(pid, "VmRSS") - before_mib < 75  # all of them are 600


@pytest.mark.slow
def test_a_server_whose_output_nobody_reads_any_more_starts_a_killed_child_again(
    store, repository, tmp_path
):
    command = serve_command(store, "--audit", tmp_path / "audit", "--threads", "1")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=repository, text=True, **pipes) as process:
        try:
            url, _, _ = addresses_of(process.stdout.readline())
            process.stdout.close()
            process.stderr.close()
            (child,) = psutil.Process(process.pid).children()
            child.kill()
            wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
            answer = httpx.post(url + INFER, content=BODY, timeout=30, trust_env=False)
            assert answer.is_success
            assert process.poll() is None
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)
