"""A small real bundle whose answers can be worked out by hand, for the tests of several rooms.

The bundle's network is a mean: its logit is GAIN times the mean of the normalised image, so a
bright view is abnormal, a dark one normal, and every expected value can be written down.
"""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from bonexray.analysis import Floats32
from bonexray.artifacts import write_json
from bonexray.bundle import (
    INFO_FILE,
    INT8_FILE,
    MODEL_FILE,
    PROFILE_FILE,
    TYPICAL_FILE,
    BundleInfo,
    Provenance,
    TrainedNetwork,
)
from bonexray.images import ImageSpec, normalise, read_square
from bonexray.novelty import Abstention, Typical, write_typical
from bonexray.sealed import seal
from bonexray.store import BundleStore, Champion
from bonexray.studies import BODY_PARTS
from bonexray.verdicts import MEAN_RULE, Calibration, OperatingPoints
from serving.signature import make_keys, sign_bundle

SIZE = 32
MEAN, STD = 0.5, 0.25
GAIN = 2.0
TEMPERATURE = 1.5
INT8_STEP = 1 / 63
"""Of the normalised image, which reaches from -2 to 2."""
MAX_NOVELTY = 1.045
"""Exceeded by all black and all white views alone, whose embeddings lean by a mean of 2."""


def mean_network(size: int = SIZE, gain: float = GAIN) -> onnx.ModelProto:
    """A dark view is told to be an elbow, a bright one a wrist."""
    constants: dict[str, npt.NDArray[Any]] = {
        "gain": np.array(gain, np.float32),
        "axes": np.array([1, 2, 3], np.int64),
        "channel": np.array([1], np.int64),
        "column": np.array([-1, 1], np.int64),
        "parts": np.arange(7, dtype=np.float32)[None],
        "across": np.array([[1, 0]], np.float32),
        "upright": np.array([[0, 1]], np.float32),
    }
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "gain"], ["logit"]),
        helper.make_node("Reshape", ["mean", "column"], ["mean_column"]),
        helper.make_node("MatMul", ["mean_column", "parts"], ["part_logits"]),
        helper.make_node("MatMul", ["mean_column", "across"], ["leaning"]),
        helper.make_node("Add", ["leaning", "upright"], ["embedding"]),
        helper.make_node("AveragePool", ["image"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Squeeze", ["pooled", "channel"], ["squeezed"]),
        helper.make_node("Mul", ["squeezed", "gain"], ["cam"]),
    ]
    shapes = {"logit": 1, "part_logits": 2, "cam": 3, "embedding": 2}
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["B", 1, size, size])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank)
            for name, rank in shapes.items()
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def mean_network_int8(size: int = SIZE) -> onnx.ModelProto:
    """The mean network of an image cut into steps of INT8_STEP."""
    model = mean_network(size)
    constants: dict[str, npt.NDArray[Any]] = {
        "step": np.array(INT8_STEP, np.float32),
        "zero": np.array(128, np.uint8),
    }
    model.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in constants.items())
    for node in model.graph.node:
        node.input[:] = ["rounded" if name == "image" else name for name in node.input]
    cut = ["image", "cut", "rounded"]
    for number, kind in enumerate(("QuantizeLinear", "DequantizeLinear")):
        node = helper.make_node(kind, [cut[number], "step", "zero"], [cut[number + 1]])
        model.graph.node.insert(number, node)
    onnx.checker.check_model(model, full_check=True)
    return model


def bundle_info(size: int) -> BundleInfo:
    """What the small bundle says of itself, for images of that size."""
    return BundleInfo(
        image=ImageSpec(size=size, mean=MEAN, std=STD),
        labels=("normal", "abnormal"),
        body_parts=BODY_PARTS,
        study_rule=MEAN_RULE,
        calibration=Calibration(view=TEMPERATURE, study=1, parts={}, val_studies=100),
        operating_points=OperatingPoints(high_sensitivity=0.4, high_specificity=0.6),
        abstention=Abstention(max_novelty=MAX_NOVELTY, max_conflict=3.0),
        provenance=Provenance(
            networks=(
                TrainedNetwork(
                    arch="mean",
                    start_weights="random",
                    weights_sha256="3" * 64,
                    train_params_sha256="4" * 64,
                ),
            ),
            dataset_sha256="1" * 64,
            manifest_sha256="2" * 64,
            code_commit="5" * 40,
        ),
    )


def write_bundle(
    folder: Path, model: bytes | None = None, size: int = SIZE, model_int8: bytes | None = None
) -> str:
    """Write and seal a bundle; returns its digest."""
    folder.mkdir(parents=True)
    if model_int8:
        (folder / INT8_FILE).write_bytes(model_int8)
    (folder / MODEL_FILE).write_bytes(model or mean_network(size).SerializeToString())
    info = bundle_info(size)
    # Every part's mean is mid-grey's, which stands upright.
    write_typical(
        folder / TYPICAL_FILE,
        Typical(
            means=np.tile(np.array([0, 1], np.float32), (7, 1)),
            whitening=np.eye(2, dtype=np.float32),
        ),
    )
    write_json(folder / INFO_FILE, info.model_dump(mode="json"))
    write_json(folder / PROFILE_FILE, {})
    return seal(folder)


def draw_png(level: int, noise: int = 0, side_px: int = SIZE) -> bytes:
    """A grey PNG of one brightness, 0 to 255, give or take some noise."""
    generator = np.random.default_rng(level)
    pixels = level + generator.integers(-noise, noise + 1, (side_px, side_px))
    file = BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def network_input(views: Sequence[bytes], spec: ImageSpec) -> Floats32:
    """PNG or JPEG files as the network sees them: (n, 1, S, S)."""
    return normalise(np.stack([read_square(view, spec.size) for view in views]), spec)


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


def add_signed(store: BundleStore, folder: Path) -> str:
    """Put a bundle and its signature into a store, by the key that lies beside the store."""
    digest = store.add(folder)
    store.signature(digest).parent.mkdir(exist_ok=True)
    key = store.root.parent / "keys/release.key"
    store.signature(digest).write_text(sign_bundle(store.folder(digest), key, []))
    return digest


def make_store(folder: Path) -> BundleStore:
    """An empty store, and the keys where `python -m serving` looks for them."""
    (folder / "keys").mkdir(parents=True)
    make_keys(folder / "keys/release.key", folder / "keys/release.pub")
    return BundleStore(folder / "release")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, bundle_folder: Path) -> BundleStore:
    store = make_store(tmp_path_factory.mktemp("store"))
    digest = add_signed(store, bundle_folder)
    store.set_champion(Champion(model_name="bonexray", version="3", digest=digest))
    return store
