"""Bytes -> the array a network sees. The only preprocessing there is, for training and serving.

S is the side of the square image, in pixels.
"""

import io
import struct
import warnings

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field

from bonexray.errors import ImageError, TooManyPixelsError

PREPROCESSING = 1
"""Goes up with every change here that makes other arrays of the same file."""
MAX_PIXELS = 64_000_000
"""Of all channels. A plain radiograph has up to some 20 million, a decompression bomb more than
this."""

# A hostile file finds the places where Pillow does not look before it leaps.
_PILLOWS_WAYS_OF_REFUSING = (
    UnidentifiedImageError,
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    struct.error,
)

Pixels = npt.NDArray[np.uint8]

_FORMATS = ("PNG", "JPEG")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_JPEG_SCAN = b"\xff\xda"
_MAX_SCANS = 100
"""A progressive JPEG has some ten; each goes over all pixels, and may take a hundred bytes."""


class ImageSpec(BaseModel):
    """How pixels become the network's input. Travels in the bundle, so it cannot differ there."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    size: int = Field(ge=32, le=1024)
    """S."""
    mean: float = Field(ge=0, le=1)
    """Mean of the training pixels, scaled to [0, 1]."""
    std: float = Field(gt=0, le=1)
    """Their standard deviation."""


def open_image(data: bytes) -> Image.Image:
    """Decode a whole PNG or JPEG.

    Raises:
        TooManyPixelsError: it declares more than MAX_PIXELS; nothing was decoded.
        ImageError: the bytes are empty, of another format, cut short, corrupt or a JPEG of more
            scans than any encoder makes. The message never repeats the bytes.
    """
    if not data.startswith((_PNG_SIGNATURE, _JPEG_SIGNATURE)):
        raise ImageError(f"{len(data)} bytes that are neither PNG nor JPEG")
    if data.startswith(_JPEG_SIGNATURE) and data.count(_JPEG_SCAN) > _MAX_SCANS:
        raise ImageError(f"a JPEG of more than {_MAX_SCANS} scans")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
            channels = len(image.getbands())
            if image.width * image.height * channels > MAX_PIXELS:
                raise TooManyPixelsError(
                    f"{image.width} x {image.height} pixels of {channels} channels, expected at "
                    f"most {MAX_PIXELS:,} values"
                )
            image.load()
    except Image.DecompressionBombError as error:
        raise TooManyPixelsError(f"more than {MAX_PIXELS:,} pixels") from error
    except _PILLOWS_WAYS_OF_REFUSING as error:
        # Pillow's own text may repeat bytes of the file, which may be a patient's.
        raise ImageError(
            f"{len(data)} bytes that cannot be decoded: cut short or corrupt"
        ) from error
    return image


def to_grey(image: Image.Image) -> Image.Image:
    """The image in 8-bit grey (mode L). 16-bit values keep their upper eight bits."""
    if image.mode == "L":
        return image
    if image.mode.startswith("I"):
        deep = np.asarray(image)  # (H, W), 0 to 65535, in uint16 or int32
        return Image.fromarray((np.clip(deep, 0, 65535) >> 8).astype(np.uint8))
    return image.convert("L")


def fitted_size(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height of an image whose long side is fitted to `size`, in pixels."""
    scale = size / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def fit(grey: Image.Image, size: int) -> Pixels:
    """Fit the long side of a grey image to `size`, its aspect ratio kept: (h, w) uint8."""
    fitted = fitted_size(grey.width, grey.height, size)
    # The gap: means of whole pixels first, then bilinear. A third of the time, and within one grey.
    return np.asarray(grey.resize(fitted, Image.Resampling.BILINEAR, reducing_gap=1.0))


def letterbox(fitted: Pixels, size: int) -> Pixels:
    """Centre a fitted image on a black square: (S, S) uint8."""
    height, width = fitted.shape
    top, left = (size - height) // 2, (size - width) // 2
    square = np.zeros((size, size), np.uint8)
    square[top : top + height, left : left + width] = fitted
    return square


def read_square(data: bytes, size: int) -> Pixels:
    """Encoded bytes -> (S, S) uint8. Raises ImageError as `open_image` does."""
    return letterbox(fit(to_grey(open_image(data)), size), size)


def refit(squares: Pixels, size: int) -> Pixels:
    """Packed squares (n, S, S) at another size, (n, `size`, `size`), for a network that reads it.

    Not quite what `read_square` makes of the file: the pixels between are gone.
    """
    if squares.shape[1] == size:
        return squares
    grey = [Image.fromarray(square) for square in squares]
    return np.stack([fit(image, size) for image in grey])


def normalise(squares: Pixels, spec: ImageSpec) -> npt.NDArray[np.float32]:
    """(B, S, S) uint8 -> (B, 1, S, S) float32, zero mean and unit variance over training."""
    scaled = squares[:, None].astype(np.float32) / np.float32(255)
    return (scaled - np.float32(spec.mean)) / np.float32(spec.std)
