"""What ingest measures of an image, for `validate` to judge. Knows no file and no rule.

Measured on the fitted image, of h x w pixels: at the size at which a network sees it.
"""

from dataclasses import dataclass

import numpy as np

from bonexray.images import Pixels

_PNG_BIT_DEPTH_AT = 24  # of the file, inside IHDR
_GREYS = np.arange(256.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Properties:
    """Numbers of one image."""

    pixel_mean: float
    """Of the 8-bit greys, 0 to 255."""
    pixel_std: float
    polarity: float
    """Below 0 when air is dark, above when it is bright: the image is a negative.

    How much brighter the rim is than the middle grey, plus how much brighter the whole is than
    half grey, in units of 255. Inverting an image changes the sign and nothing else.
    """
    sharpness: float
    """Mean square of the Laplacian over the variance of the image; 0 is all blur."""


def measure(pixels: Pixels) -> Properties:
    """Measure a fitted image, (h, w) uint8."""
    counts = np.bincount(pixels.ravel(), minlength=len(_GREYS))
    mean = float(counts @ _GREYS) / pixels.size
    variance = float(counts @ (_GREYS - mean) ** 2) / pixels.size
    middle = int(counts.cumsum().searchsorted(pixels.size / 2))
    return Properties(
        pixel_mean=mean,
        pixel_std=float(np.sqrt(variance)),
        polarity=(_edge_median(pixels) - middle + mean - 127.5) / 255,
        sharpness=_roughness(pixels) / variance if variance else 0.0,
    )


def bit_depth(data: bytes, file_format: str) -> int:
    """Bits a channel, as a decodable PNG's header states; JPEG has 8."""
    return data[_PNG_BIT_DEPTH_AT] if file_format == "PNG" else 8


def _edge_median(pixels: Pixels) -> int:
    rim = max(1, min(pixels.shape) // 25)
    sides = (pixels[:rim], pixels[-rim:], pixels[:, :rim], pixels[:, -rim:])
    edge = np.concatenate([side.ravel() for side in sides])
    edge.partition(edge.size // 2)
    return int(edge[edge.size // 2])


def _roughness(pixels: Pixels) -> float:
    """Mean square of the Laplacian; a sum of whole numbers, which every machine finds alike."""
    if min(pixels.shape) < 3:
        return 0.0
    width = pixels.shape[1]
    flat = pixels.astype(np.int16).ravel()  # one long row: slices of it are the fastest
    laplacian = 4 * flat[width:-width]
    laplacian -= flat[: -2 * width]
    laplacian -= flat[2 * width :]
    laplacian -= flat[width - 1 : -width - 1]
    laplacian -= flat[width + 1 : flat.size - width + 1]
    inner = laplacian.reshape(-1, width)[:, 1:-1].astype(np.float64).ravel()
    return float(inner @ inner) / inner.size
