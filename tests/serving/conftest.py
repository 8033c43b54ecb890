"""A small real bundle and real servers on loopback. Tests get all of it as fixtures.

The bundle's network is a mean: its logit is GAIN times the mean of the normalised image, so a
bright view is abnormal, a dark one normal, and every expected value can be written down.
"""

import base64
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from bonexray.artifacts import write_json
from bonexray.bundle import INFO_FILE, MODEL_FILE, PROFILE_FILE, BundleInfo, Provenance, seal_bundle
from bonexray.images import ImageSpec
from bonexray.studies import BODY_PARTS
from bonexray.verdicts import OperatingPoints
from serving.store import BundleStore, Champion

REPOSITORY = Path(__file__).parents[2]
SIZE = 32
MEAN, STD = 0.5, 0.25
GAIN = 2.0
TEMPERATURE = 1.5


def mean_network() -> onnx.ModelProto:
    """A dark view is told to be an elbow, a bright one a wrist."""
    constants = {
        "gain": np.array(GAIN, np.float32),
        "axes": np.array([1, 2, 3], np.int64),
        "channel": np.array([1], np.int64),
        "column": np.array([-1, 1], np.int64),
        "parts": np.arange(7, dtype=np.float32)[None],
        "ones": np.ones((1, 4), np.float32),
    }
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "gain"], ["logit"]),
        helper.make_node("Reshape", ["mean", "column"], ["mean_column"]),
        helper.make_node("MatMul", ["mean_column", "parts"], ["part_logits"]),
        helper.make_node("MatMul", ["mean_column", "ones"], ["embedding"]),
        helper.make_node("AveragePool", ["image"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Squeeze", ["pooled", "channel"], ["squeezed"]),
        helper.make_node("Mul", ["squeezed", "gain"], ["cam"]),
    ]
    shapes = {"logit": 1, "part_logits": 2, "cam": 3, "embedding": 2}
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["B", 1, SIZE, SIZE])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank)
            for name, rank in shapes.items()
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def write_bundle(folder: Path, model: bytes | None = None) -> str:
    """Write and seal a bundle; returns its digest."""
    folder.mkdir(parents=True)
    (folder / MODEL_FILE).write_bytes(model or mean_network().SerializeToString())
    info = BundleInfo(
        image=ImageSpec(size=SIZE, mean=MEAN, std=STD),
        labels=("normal", "abnormal"),
        body_parts=BODY_PARTS,
        temperature=TEMPERATURE,
        operating_points=OperatingPoints(high_sensitivity=0.4, high_specificity=0.6),
        provenance=Provenance(
            arch="mean",
            dataset_sha256="1" * 64,
            manifest_sha256="2" * 64,
            start_weights="random",
            weights_sha256="3" * 64,
            train_params_sha256="4" * 64,
            code_commit="5" * 40,
        ),
    )
    write_json(folder / INFO_FILE, info.model_dump(mode="json"))
    write_json(folder / PROFILE_FILE, {})
    return seal_bundle(folder)


def draw_png(level: int, noise: int = 0, side_px: int = SIZE) -> bytes:
    """A grey PNG of one brightness, 0 to 255, give or take some noise."""
    generator = np.random.default_rng(level)
    pixels = level + generator.integers(-noise, noise + 1, (side_px, side_px))
    file = BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@dataclass(frozen=True, kw_only=True)
class Server:
    url: str
    ready_line: str
    stderr: Path
    process: subprocess.Popen[str]

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30, trust_env=False)

    def post(self, path: str, **body: object) -> httpx.Response:
        return httpx.post(self.url + path, timeout=30, trust_env=False, **body)

    def infer(self, *views: bytes, **fields: object) -> httpx.Response:
        tensor = {
            "name": "image",
            "datatype": "BYTES",
            "shape": [len(views)],
            "data": [base64.b64encode(view).decode() for view in views],
        }
        return self.post("/v2/models/bonexray/infer", json={"inputs": [tensor], **fields})

    def stop(self) -> tuple[int, str]:
        """Stop it by its process id: exit status, and what it printed after the ready line."""
        self.process.terminate()
        printed, _ = self.process.communicate(timeout=20)
        return self.process.returncode, printed + self.stderr.read_text()


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).parents[2]


@pytest.fixture(scope="session")
def png() -> Callable[..., bytes]:
    return draw_png


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., str]:
    return write_bundle


@pytest.fixture(scope="session")
def network() -> onnx.ModelProto:
    return mean_network()


@pytest.fixture(scope="session")
def expected_probability() -> Callable[[int], float]:
    """What the small bundle must say of `png(level)`, worked out by hand."""

    def probability(level: int) -> float:
        logit = GAIN * (level / 255 - MEAN) / STD
        return float(1 / (1 + np.exp(-logit / TEMPERATURE)))

    return probability


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "bundle"
    write_bundle(folder)
    return folder


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, bundle_folder: Path) -> BundleStore:
    store = BundleStore(tmp_path_factory.mktemp("store") / "release")
    digest = store.add(bundle_folder)
    store.set_champion(Champion(model_name="bonexray", version="3", digest=digest))
    return store


@pytest.fixture(scope="session")
def start_server(
    tmp_path_factory: pytest.TempPathFactory, repository: Path, store: BundleStore
) -> Iterator[Callable[[], Server]]:
    """Starts a server of the store's champion; whatever was started is stopped at the end."""
    started: list[Server] = []

    def start() -> Server:
        stderr = tmp_path_factory.mktemp("server") / "stderr.txt"
        command = [sys.executable, "-m", "serving", "--store", str(store.root), "--port", "0"]
        with stderr.open("w") as file:
            process = subprocess.Popen(
                command, cwd=repository, stdout=subprocess.PIPE, stderr=file, text=True
            )
        assert process.stdout is not None
        line = process.stdout.readline()
        url = line.partition(" is ready on ")[2].partition(",")[0]
        started.append(Server(url=url, ready_line=line, stderr=stderr, process=process))
        assert url, stderr.read_text()
        return started[-1]

    try:
        yield start
    finally:
        for server in started:
            if server.process.poll() is None:
                server.stop()


@pytest.fixture(scope="session")
def server(start_server: Callable[[], Server]) -> Server:
    return start_server()
