import json
import time
from pathlib import Path

import httpx
import pytest

INFER = "/v2/models/bonexray/infer"
MIB = 1 << 20
BLOCK = b"\0" * MIB
GROWTH_LIMIT_MIB = 64


def memory_mib(server, field):
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(field)


def zeros(num_mib):
    for _ in range(num_mib):
        yield BLOCK


@pytest.mark.parametrize("way", ["content-length", "chunked"])
def test_a_body_of_100_mb_is_refused_soon_and_not_kept_in_memory(server, png, way):
    assert server.infer(png(60)).is_success
    before_mib = memory_mib(server, "VmRSS")
    headers = {"Content-Type": "application/json"}
    if way == "content-length":
        headers["Content-Length"] = str(100 * MIB)
    started_s = time.monotonic()
    response = server.post(INFER, content=zeros(100), headers=headers)
    assert time.monotonic() - started_s < 3
    assert response.status_code == 413
    assert response.json() == {"error": "the body is larger than 32 MiB"}
    assert memory_mib(server, "VmHWM") - before_mib < GROWTH_LIMIT_MIB
    assert server.infer(png(60)).is_success


@pytest.mark.parametrize("way", ["content-length", "chunked"])
@pytest.mark.parametrize(("surplus", "status"), [(0, 400), (1, 413)])
def test_the_limit_is_exactly_32_mib(server, way, surplus, status):
    empty = json.dumps({"inputs": []}).encode()
    body = empty + b" " * (32 * MIB - len(empty) + surplus)
    content = body if way == "content-length" else (part for part in (body,))
    headers = {"Content-Type": "application/json"}
    response = server.post(INFER, content=content, headers=headers)
    assert response.status_code == status


def test_a_refused_client_can_go_on_with_a_new_connection(server):
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
        for _ in range(3):
            refused = client.post(INFER, content=zeros(40))
            assert refused.status_code == 413
            assert client.get("/v2/health/ready").status_code == 200
