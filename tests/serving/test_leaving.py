"""Told to stop, a server says so and goes on for a while; and gRPC is handed over like REST."""

import base64
import signal
import time

import grpc
import httpx

from serving.oip.messages import SERVICE, pb
from tests.serving.live import INFER, QUICK, STUDY, VIEW, wait_until

_VIEW = base64.b64decode(VIEW)
REQUEST = pb.ModelInferRequest(
    model_name="bonexray",
    inputs=[pb.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[1])],
    raw_input_contents=[len(_VIEW).to_bytes(4, "little") + _VIEW],
)


def stub_of(channel, method):
    return channel.unary_unary(
        f"/{SERVICE}/{method}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=getattr(pb, f"{method}Response").FromString,
    )


def test_a_server_that_leaves_denies_readiness_and_answers_until_its_time_is_over(start_server):
    server = start_server(config=QUICK.model_copy(update={"lame_duck_s": 2}))
    with grpc.insecure_channel(server.grpc) as channel:
        ready, infer = stub_of(channel, "ServerReady"), stub_of(channel, "ModelInfer")
        assert ready(pb.ServerReadyRequest()).ready
        server.process.send_signal(signal.SIGTERM)
        told_s = time.monotonic()
        wait_until(lambda: server.get("/v2/health/ready").status_code == 503)
        assert not ready(pb.ServerReadyRequest()).ready
        assert time.monotonic() - told_s < 1
        answered = 0
        while time.monotonic() - told_s < 1.5:
            assert server.post(INFER, json=STUDY).status_code == 200  # a new connection each
            assert infer(REQUEST, timeout=20).model_version == "3"
            answered += 1
        assert answered > 5
    assert server.process.wait(timeout=20) == 0
    try:
        server.get("/v2/health/ready")
    except httpx.ConnectError:
        return
    raise AssertionError("somebody still listens")


def test_a_second_signal_does_not_wait(start_server):
    server = start_server(config=QUICK.model_copy(update={"lame_duck_s": 60}))
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: server.get("/v2/health/ready").status_code == 503)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=20) == 0


def test_a_switch_under_load_fails_no_call_of_grpc(command, digests):
    heard = []
    with grpc.insecure_channel(command.grpc) as channel:
        infer = stub_of(channel, "ModelInfer")

        def ask():
            heard.append(infer(REQUEST, timeout=20, wait_for_ready=True).model_version)
            return heard[-1]

        for version in ("4", "3"):
            command.point(version, digests[version])
            wait_until(lambda version=version: ask() == version)
            for _ in range(20):
                ask()
    versions = [heard[0]] + [b for a, b in zip(heard, heard[1:], strict=False) if a != b]
    assert versions == ["3", "4", "3"]
    assert len(heard) > 60
