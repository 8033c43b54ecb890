"""Whether an answer depends on how it is asked for: by protocol, batch or the file's encoding."""

import io
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from benchmarks.serving_stage import (
    INFER,
    SIZE,
    Server,
    Stage,
    binary_body,
    json_body,
    message,
    serve,
)
from bonexray.analysis import load_network, run_network
from bonexray.images import normalise, read_square
from bonexray.network import abnormal_logit
from bonexray.verdicts import calibrated_probability, verdict
from serving.oip.json_form import HEADER_LENGTH
from serving.oip.messages import SERVICE, pb
from tests.serving.dicom.files import dicom

Floats = npt.NDArray[np.float64]
_VIEWS = 16
_NAME = "view_probability"


def measure(stage: Stage) -> dict[str, float]:
    """Largest differences of a view's probability."""
    with serve(stage.store) as server:
        figures = same_answer(stage, server) | torch_vs_onnx(stage)
    with serve(stage.trained) as server:
        figures |= equal_pixels(stage, server)
    with serve(stage.trained, precision="fp32") as server:
        in_fp32 = equal_pixels(stage, server)
    return figures | {f"{name}_fp32": value for name, value in in_fp32.items()}


def same_answer(stage: Stage, server: Server) -> dict[str, float]:
    """JSON, binary form, gRPC, and many studies in one request."""
    views = stage.views[:_VIEWS]
    one_by_one = [np.array([way(server, [v])[0] for v in views]) for way in (by_json, by_binary)]
    with grpc.insecure_channel(server.grpc) as channel:
        one_by_one.append(np.array([by_grpc(channel, [view])[0] for view in views]))
    every = np.stack([*one_by_one, by_json(server, views), by_binary(server, views)])  # (ways, n)
    return {"same_answer": float(np.ptp(every, axis=0).max())}


def by_json(server: Server, views: list[bytes]) -> Floats:
    """Probabilities of the views of one study."""
    answer = _post(server, json_body(views, (_NAME,)), {})
    return np.array(answer.json()["outputs"][0]["data"])


def by_binary(server: Server, views: list[bytes]) -> Floats:
    """The same, bytes on both ways."""
    answer = _post(server, *binary_body(views, (_NAME,)))
    return np.frombuffer(answer.content[int(answer.headers[HEADER_LENGTH]) :])


def by_grpc(channel: grpc.Channel, views: list[bytes]) -> Floats:
    """The same, over gRPC."""
    infer = channel.unary_unary(
        f"/{SERVICE}/ModelInfer",
        pb.ModelInferRequest.SerializeToString,
        pb.ModelInferResponse.FromString,
    )
    return np.frombuffer(infer(message(views, (_NAME,))).raw_output_contents[0])


def _post(server: Server, body: bytes, headers: dict[str, str]) -> httpx.Response:
    url = server.url + INFER
    answer = httpx.post(url, content=body, headers=headers, trust_env=False, timeout=60)
    return answer.raise_for_status()


def torch_vs_onnx(stage: Stage) -> dict[str, float]:
    """The network in torch beside its exported graph in FP32, on all views."""
    info, session = stage.bundle.info, load_network(stage.bundle, 1)
    images = normalise(np.stack([read_square(v, SIZE) for v in stage.views]), info.image)
    with torch.inference_mode():
        reading = stage.network.eval()(torch.from_numpy(images))
        expected = abnormal_logit(reading.label_logits).numpy()
    theirs, ours = (
        calibrated_probability(logits, info.calibration.view)
        for logits in (expected, run_network(session, images).logits)
    )
    flipped = sum(
        verdict(a, info.operating_points) != verdict(b, info.operating_points)
        for a, b in zip(theirs.tolist(), ours.tolist(), strict=True)
    )
    difference = float(np.abs(theirs - ours).max())
    return {"torch_vs_onnx": difference, "torch_vs_onnx_flipped": float(flipped)}


def equal_pixels(stage: Stage, server: Server) -> dict[str, float]:
    """Equal pixels in other files, beside the PNG of them."""
    worst = {"lossless": 0.0, "lossy": 0.0}
    for view in stage.views[:_VIEWS]:
        pixels = np.asarray(Image.open(io.BytesIO(view)).convert("L"))
        expected = by_binary(server, [view])[0]
        for kind, files in (("lossless", lossless(pixels)), ("lossy", lossy(pixels))):
            told = np.array([by_binary(server, [file])[0] for file in files])
            worst[kind] = max(worst[kind], float(np.abs(told - expected).max()))
    return {f"equal_{kind}": difference for kind, difference in worst.items()}


def lossless(pixels: npt.NDArray[np.uint8]) -> Iterator[bytes]:
    """Files that hold exactly these pixels (H, W)."""
    yield _encoded(pixels, "PNG", optimize=True)
    whole: dict[str, Any] = {"WindowCenter": 128, "WindowWidth": 256}
    for syntax in (ExplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless):
        yield dicom(pixels, syntax, **whole)
    yield dicom(255 - pixels, PhotometricInterpretation="MONOCHROME1", **whole)
    deep = pixels.astype(np.uint16) * 257  # the same grey in 16 bits
    yield dicom(deep, BitsStored=16, HighBit=15, WindowCenter=32768, WindowWidth=65536)


def lossy(pixels: npt.NDArray[np.uint8]) -> Iterator[bytes]:
    """Files that hold nearly these pixels."""
    yield _encoded(pixels, "JPEG", quality=95)
    whole: dict[str, Any] = {"WindowCenter": 128, "WindowWidth": 256}
    for syntax in (JPEGBaseline8Bit, JPEG2000):
        yield dicom(pixels, UID(syntax), **whole)


def _encoded(pixels: npt.NDArray[np.uint8], kind: str, **how: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **how)
    return file.getvalue()
