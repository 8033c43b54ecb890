"""`python -m serving` as a process on a store of its own, and clients that ask all the while."""

import base64
import subprocess
import sys
import threading
import time
from itertools import groupby

import httpx
import psutil

from bonexray.serve_config import ServeConfig
from bonexray.store import CHAMPION_FILE, BundleStore, Champion
from tests.small_bundle import draw_png

INFER = "/v2/models/bonexray/infer"
VIEW = base64.b64encode(draw_png(60)).decode()
STUDY = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [VIEW]}]}
PATIENCE_S = 30
QUICK = ServeConfig(
    precision="int8",
    max_body_mib=32,
    max_views=16,
    deadline_s=20,
    lame_duck_s=0,
    requests_per_minute=1_000_000,
)
ANY_PORTS = ("--port", "0", "--grpc-port", "0", "--metrics-port", "0")


def serve_command(store, *flags, config=QUICK):
    """`python -m serving` on free ports, which does not linger when it is told to stop."""
    command = [sys.executable, "-m", "serving", "--store", str(store.root), *ANY_PORTS]
    return [*command, "--params", config.model_dump_json(), *map(str, flags)]


def complaints(stderr):
    """What is not the log of a request that was answered."""
    lines = stderr.splitlines(keepends=True)
    return "".join(line for line in lines if '"level": "INFO"' not in line)


def wait_until(condition, seconds=PATIENCE_S):
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.02)


def addresses_of(ready_line):
    """URL of REST, `host:port` of gRPC and URL of the metrics."""
    _, _, told = ready_line.partition(" is ready on ")
    url, grpc, metrics = told.split(", ")[:3]
    return url, grpc.removeprefix("gRPC on "), metrics.removeprefix("metrics on ")


class Command:
    """`python -m serving` on a store of its own, whose output goes to files."""

    def __init__(self, folder, repository, config=QUICK):
        self.store = BundleStore(folder / "release")
        self.out, self.err = folder / "out.txt", folder / "err.txt"
        command = serve_command(self.store, "--threads", "1", config=config)
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(command, cwd=repository, stdout=out, stderr=err)
        wait_until(lambda: " is ready on " in self.said() or self.process.poll() is not None)
        assert self.process.poll() is None, self.err.read_text()
        self.url, self.grpc, self.metrics = addresses_of(self.said())

    def said(self):
        return self.out.read_text()

    def complained(self):
        return complaints(self.err.read_text())

    def children(self):
        return psutil.Process(self.process.pid).children()

    def point(self, version, digest):
        """As `set_champion` does, which would refuse the bundles that are tried here."""
        champion = Champion(model_name="bonexray", version=version, digest=digest)
        partial = self.store.root / "champion.partial"
        partial.write_text(champion.model_dump_json())
        partial.replace(self.store.root / CHAMPION_FILE)

    def ask(self):
        answer = httpx.post(self.url + INFER, json=STUDY, timeout=PATIENCE_S, trust_env=False)
        return answer.json()["parameters"]["model_version"]

    def stop(self):
        self.process.terminate()
        return self.process.wait(timeout=PATIENCE_S)


class Client(threading.Thread):
    """Asks again and again, and notes the version of each answer, or the error in its place."""

    def __init__(self, command, keeps_connection):
        super().__init__()
        self.command, self.keeps_connection = command, keeps_connection
        self.heard, self.too_early = [], False
        self.leave = threading.Event()

    def run(self):
        headers = {} if self.keeps_connection else {"Connection": "close"}
        with httpx.Client(trust_env=False, timeout=PATIENCE_S, headers=headers) as client:
            while not self.leave.is_set():
                try:
                    answer = client.post(self.command.url + INFER, json=STUDY)
                    version = answer.json()["parameters"]["model_version"]
                    if version not in self.heard:
                        announced = f"version {version} (" in self.command.said()
                        self.too_early = self.too_early or not announced
                    self.heard.append(version)
                except Exception as error:
                    self.heard.append(repr(error))
                    if isinstance(error, httpx.ConnectError):
                        return
                time.sleep(0.01)

    def versions(self):
        return [version for version, _ in groupby(self.heard)]


def finish(clients):
    for client in clients:
        client.leave.set()
    for client in clients:
        client.join()
    return [version for client in clients for version in client.heard]


def tensor(**fields):
    data = fields.setdefault("data", ["AAAA"])
    return {"name": "image", "datatype": "BYTES", "shape": [len(data)], **fields}


def outputs_of(response):
    return {output["name"]: output for output in response.json()["outputs"]}
