"""The identity models as a process on loopback, on our own front or on the KServe SDK's server."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.conformance.case import Target

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT.parent / "shared/schemas/open_inference_rest.yaml"
"""The protocol's own; what needs it is left out where it is missing."""
OURS = ("tests.conformance.own_identity", "--http-port", "--grpc-port")
KSERVE_SDK = ("tests.conformance.kserve_identity", "--http_port", "--grpc_port")
"""Module, and the names of its two flags."""
_PATIENCE_S = 60


@contextmanager
def identity_server(which: tuple[str, str, str], folder: Path) -> Iterator[Target]:
    """A server of the identity models, for as long as the context lasts.

    Args:
        which: OURS or KSERVE_SDK.
        folder: for its log.

    Raises:
        RuntimeError: it does not start.
    """
    module, http_flag, grpc_flag = which
    http_port, grpc_port = _free_port(), _free_port()
    command = [sys.executable, "-m", module, http_flag, str(http_port), grpc_flag, str(grpc_port)]
    log = folder / "server.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=dict(os.environ), stdout=file, stderr=file
        )
    try:
        url = f"http://127.0.0.1:{http_port}"
        _wait(process, f"{url}/v2/health/ready", log)
        schema = SCHEMA if SCHEMA.exists() else None
        yield Target(url=url, grpc=f"127.0.0.1:{grpc_port}", schema=schema)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            if httpx.get(url, trust_env=False, timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
