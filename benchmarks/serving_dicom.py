"""`python -m benchmarks.serving_dicom`: DICOM files read for the network, in every transfer syntax.

The frame is the simulator's hand, seen by a detector of 3000 x 2500 pixels with the noise of 3,000
photons a pixel in air and scatter, in 12 bits: compressed without loss it shrinks to 0.4, as plain
radiographs do. Read from bytes to the (S, S) square at S = 224. Takes half a minute.
"""

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from bonexray.images import Pixels, fit, letterbox
from components.simulator.anatomy import draw_build
from components.simulator.limbs import build_anatomy
from components.simulator.radiograph import Camera, project
from serving.dicom.reading import read_dicom
from tests.serving.dicom.files import LOSSY, dicom

SIZE = 224
HEIGHT_PX, WIDTH_PX = 3000, 2500
RUNS = 5
_PHOTONS, _SCATTER = 3000, 0.02
_SHALLOW = "jpeg"
_NAMES = {
    "native": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big_endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg_lossless": JPEGLossless,
    "jpeg_lossless_sv1": JPEGLosslessSV1,
    "jpegls": JPEGLSLossless,
    "j2k": JPEG2000Lossless,
    "htj2k": HTJ2KLossless,
    "htj2k_rpcl": HTJ2KLosslessRPCL,
    _SHALLOW: JPEGBaseline8Bit,
    "jpeg_12bit": JPEGExtended12Bit,
    "jpegls_near": JPEGLSNearLossless,
    "j2k_lossy": JPEG2000,
    "htj2k_lossy": HTJ2K,
}


def detector_frame() -> npt.NDArray[np.uint16]:
    """The stored values of a hand: (3000, 2500) of 12 bits, bone bright."""
    anatomy = build_anatomy("XR_HAND", draw_build(np.random.default_rng(7)))
    camera = Camera(
        rotation=np.eye(3),
        centre=anatomy.centre,
        px_per_mm=0.93 * HEIGHT_PX / max(anatomy.extent_mm),
        height_px=HEIGHT_PX,
        width_px=WIDTH_PX,
    )
    light = np.exp(-project(anatomy.structures, camera)) + _SCATTER
    noise = np.random.default_rng(7).standard_normal(light.shape, dtype=np.float32)
    light += noise * np.sqrt(light / _PHOTONS)
    signal = 300 - 900 * np.log(np.maximum(light, 1e-3))
    stored: npt.NDArray[np.uint16] = np.clip(signal, 0, 4095).round().astype(np.uint16)
    return stored


def square(data: bytes) -> Pixels:
    """What the network reads of a file: (S, S)."""
    return letterbox(fit(read_dicom(data, SIZE).grey, SIZE), SIZE)


def milliseconds(work: Callable[[], object]) -> float:
    """The median time of a few runs, after one that warms up."""
    work()
    took_s = []
    for _ in range(RUNS):
        start_s = time.perf_counter()
        work()
        took_s.append(time.perf_counter() - start_s)
    return 1000 * float(np.median(took_s))


def measure() -> dict[str, float]:
    """Milliseconds a file, and the largest difference in grey between equal pixels."""
    deep = detector_frame()
    window: dict[str, Any] = {"WindowCenter": 1100, "WindowWidth": 1800}
    shallow = np.clip((deep.astype(np.int64) - 200) // 7, 0, 255).astype(np.uint8)
    expected, expected_shallow = square(dicom(deep, **window)), square(dicom(shallow))
    worst = {True: 0, False: 0}
    figures: dict[str, float] = {}
    for name, syntax in _NAMES.items():
        of_8_bits = name == _SHALLOW
        data = dicom(shallow, syntax) if of_8_bits else dicom(deep, syntax, **window)
        figures[f"dicom_{name}_ms"] = milliseconds(partial(square, data))
        wanted = expected_shallow if of_8_bits else expected
        difference = int(np.abs(square(data).astype(np.int64) - wanted).max())
        worst[syntax in LOSSY] = max(worst[syntax in LOSSY], difference)
    figures["dicom_equal_lossless"] = worst[False]
    figures["dicom_equal_lossy"] = worst[True]
    return figures


def main() -> None:
    """Print the figures."""
    print(json.dumps(measure(), indent=2))


if __name__ == "__main__":
    main()
