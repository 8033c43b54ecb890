"""What the benchmarks of serving are made with: a network, views, servers and requests.

The network is a ResNet18 at 224 px that was trained for seconds: what it says means nothing. Its
speed is that of any ResNet18, in FP32 and in INT8, and how it reacts to other pixels is much alike.
"""

import base64
import json
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import torch

from bonexray.artifacts import write_json
from bonexray.bundle import (
    INFO_FILE,
    INT8_FILE,
    MODEL_FILE,
    PROFILE_FILE,
    TYPICAL_FILE,
    Bundle,
    open_bundle,
)
from bonexray.config import SimulateConfig, read_section
from bonexray.images import ImageSpec, normalise, read_square
from bonexray.network import LimbNet, abnormal_logit
from bonexray.novelty import Abstention, Typical, write_typical
from bonexray.sealed import seal
from bonexray.serve_config import ServeConfig
from bonexray.store import BundleStore, Champion
from components.export import export_onnx
from components.quantise import quantise
from components.simulate import simulate
from serving.oip.json_form import HEADER_LENGTH
from serving.oip.messages import pb
from serving.oip.tensors import join_bytes
from tests.small_bundle import add_signed, bundle_info, make_store, write_bundle

ROOT = Path(__file__).parents[1]
PARAMS = str(ROOT / "params.yaml")
INFER = "/v2/models/bonexray/infer"
SIZE = 224
_SCALE = 0.002
_STEPS, _BATCH = 40, 16
_NO_LIMIT = 10**9
_PATIENCE_S = 60
_READY = re.compile(r"ready on http://(\S+?):(\d+), gRPC on (\S+), metrics on (\S+?),")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Made once for all parts."""

    folder: Path
    store: BundleStore
    """Its champion is the ResNet18."""
    trained: BundleStore
    """Its champion is the bundle of a `dvc repro` in this checkout; without one, the ResNet18."""
    small: BundleStore
    """Its champion is a mean of 32 x 32 pixels: for what is asked ten thousand times."""
    bundle: Bundle
    network: LimbNet
    """Whose graph the bundle holds."""
    views: list[bytes]
    """PNG files of simulated radiographs."""


def set_stage(folder: Path) -> Stage:
    """Simulate views, make a network and sign its bundle."""
    views, abnormal = _simulated(folder / "simulated.zip")
    squares = np.stack([read_square(view, SIZE) for view in views])
    info = bundle_info(SIZE).model_copy(
        update={
            "image": ImageSpec(size=SIZE, mean=squares.mean() / 255, std=squares.std() / 255),
            # Nothing is refused: every view costs the whole way.
            "abstention": Abstention(max_novelty=_NO_LIMIT, max_conflict=_NO_LIMIT),
        }
    )
    network = _seeded(torch.from_numpy(normalise(squares, info.image)), abnormal)
    bundle = folder / "bundle"
    bundle.mkdir()
    export_onnx(network, SIZE, bundle / MODEL_FILE)
    graph = quantise((bundle / MODEL_FILE).read_bytes(), squares, info.image)
    (bundle / INT8_FILE).write_bytes(graph)
    drawn = np.random.default_rng(0).standard_normal
    means, whitening = drawn((7, 512)).astype(np.float32), drawn((512, 64)).astype(np.float32)
    write_typical(bundle / TYPICAL_FILE, Typical(means=means, whitening=whitening))
    write_json(bundle / PROFILE_FILE, {})
    write_json(bundle / INFO_FILE, info.model_dump(mode="json"))
    seal(bundle)
    write_bundle(folder / "small_bundle")
    made = ROOT / "bundle"
    return Stage(
        folder=folder,
        store=_signed(bundle, folder / "stage"),
        trained=_signed(made if made.exists() else bundle, folder / "trained"),
        small=_signed(folder / "small_bundle", folder / "small"),
        bundle=open_bundle(bundle),
        network=network,
        views=views,
    )


def _simulated(archive: Path) -> tuple[list[bytes], list[bool]]:
    """Files, and whether each is of an abnormal study."""
    config = read_section(PARAMS, SimulateConfig)
    simulate(archive, config.model_copy(update={"scale": _SCALE}))
    with zipfile.ZipFile(archive) as opened:
        names = [name for name in opened.namelist() if name.endswith(".png")]
        return [opened.read(name) for name in names], ["_positive/" in name for name in names]


def _seeded(images: torch.Tensor, abnormal: list[bool]) -> LimbNet:
    """A network whose activations and logits are as wide as a trained one's."""
    torch.manual_seed(0)
    network, labels = LimbNet("resnet18"), torch.tensor(abnormal, dtype=torch.float32)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for _ in range(_STEPS):
        drawn = torch.randperm(len(images))[:_BATCH]
        half_size = torch.nn.functional.avg_pool2d(images[drawn], 2)
        logits = abnormal_logit(network(half_size).label_logits)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels[drawn])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over all that is seen from here on
    with torch.no_grad():
        for start in range(0, len(images), _BATCH):
            network(images[start : start + _BATCH])
    return network.eval()


def _signed(bundle: Path, folder: Path) -> BundleStore:
    store = make_store(folder)
    digest = add_signed(store, bundle)
    store.set_champion(Champion(model_name="bonexray", version="1", digest=digest))
    return store


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running `python -m serving`."""

    process: subprocess.Popen[str]
    host: str
    port: int
    grpc: str
    metrics: str
    """URL of the page."""
    said: Path
    """Its stderr, and its stdout from the second line on."""
    ready_s: float
    """From its start to its first answer that it is ready."""

    @property
    def url(self) -> str:
        """Base of the REST routes."""
        return f"http://{self.host}:{self.port}"

    def worker(self) -> psutil.Process:
        """The process that answers."""
        (child,) = psutil.Process(self.process.pid).children()
        return child

    def rss_mb(self) -> float:
        """Resident memory of all its processes; pages that they share count for each."""
        parent = psutil.Process(self.process.pid)
        every = [parent, *parent.children(recursive=True)]
        return float(sum(process.memory_info().rss for process in every) / 2**20)


@contextmanager
def serve(
    store: BundleStore,
    *flags: str,
    environment: dict[str, str] | None = None,
    **settings: float | str,
) -> Iterator[Server]:
    """A server for as long as the context lasts.

    Args:
        store: whose champion is served.
        flags: of the command.
        environment: variables besides ours.
        settings: of the section `serve` that differ from params.yaml. Unless they say otherwise
            clients may ask as often as they like, and a server that is told to stop does.

    Raises:
        RuntimeError: it does not start.
    """
    config = read_section(PARAMS, ServeConfig)
    ours = {"requests_per_minute": _NO_LIMIT, "lame_duck_s": 0.0}
    config = config.model_copy(update=ours | settings)
    command = [sys.executable, "-m", "serving", "--store", str(store.root), *flags]
    command += ["--params", config.model_dump_json()]
    command += ["--port=0", "--grpc-port=0", "--metrics-port=0"]
    said = store.root.parent / f"said-{time.monotonic_ns()}.txt"
    started_s = time.perf_counter()
    with said.open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=dict(os.environ) | (environment or {}),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        yield _ready(process, said, started_s)
    finally:
        process.terminate()
        process.wait(timeout=_PATIENCE_S)
        if process.stdout is not None:
            process.stdout.close()


def _ready(process: subprocess.Popen[str], said: Path, started_s: float) -> Server:
    assert process.stdout is not None
    found = _READY.search(process.stdout.readline())
    if found is None:
        raise RuntimeError(f"the server did not start: {said.read_text()[-2000:]}")
    host, port, grpc, metrics = found.groups()
    with httpx.Client(trust_env=False, timeout=_PATIENCE_S) as client:
        while not client.get(f"http://{host}:{port}/v2/health/ready").is_success:
            time.sleep(0.01)
    return Server(
        process=process,
        host=host,
        port=int(port),
        grpc=grpc,
        metrics=metrics,
        said=said,
        ready_s=time.perf_counter() - started_s,
    )


def json_body(views: Sequence[bytes], outputs: Sequence[str] = (), **more: Any) -> bytes:
    """One study as JSON; without names of outputs all are asked for."""
    data = [base64.b64encode(view).decode() for view in views]
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(views)], "data": data}
    wanted = [{"name": name} for name in outputs]
    return json.dumps(
        {"inputs": [tensor], **({"outputs": wanted} if wanted else {}), **more}
    ).encode()


def binary_body(
    views: Sequence[bytes], outputs: Sequence[str] = ()
) -> tuple[bytes, dict[str, str]]:
    """One study with its files behind the JSON, and the header that says where they begin."""
    blob = join_bytes(views)
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(views)]}
    wanted = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    head = json.dumps(
        {"inputs": [{**tensor, "parameters": {"binary_data_size": len(blob)}}]}
        | ({"outputs": wanted} if wanted else {})
    ).encode()
    return head + blob, {HEADER_LENGTH: str(len(head))}


def message(views: Sequence[bytes], outputs: Sequence[str] = ()) -> Any:
    """One study as a message of gRPC."""
    request = pb.ModelInferRequest
    return request(
        model_name="bonexray",
        inputs=[request.InferInputTensor(name="image", datatype="BYTES", shape=[len(views)])],
        outputs=[request.InferRequestedOutputTensor(name=name) for name in outputs],
        raw_input_contents=[join_bytes(views)],
    )


def http_request(body: bytes, headers: dict[str, str] | None = None, path: str = INFER) -> bytes:
    """A whole POST of HTTP/1.1, as it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", "Host: bonexray", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
