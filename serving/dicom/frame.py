"""The pixel data of a DICOM file -> the values that it stores. Knows no grey and no window.

H, W: rows and columns of the frame.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image

from bonexray.errors import ImageError, TooManyPixelsError
from serving.dicom.codestream import Codestream, open_j2k, open_jpeg
from serving.dicom.elements import Encoding
from serving.dicom.header import PixelLayout

Words = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

NATIVE = frozenset(
    (
        "1.2.840.10008.1.2",  # implicit VR, little endian
        "1.2.840.10008.1.2.1",  # explicit VR, little endian
        "1.2.840.10008.1.2.1.99",  # the same, deflated
        "1.2.840.10008.1.2.2",  # explicit VR, big endian
    )
)

_PLAUSIBLE_PIXELS = 4_000_000
_MOST_PIXELS_PER_BYTE = 500
"""A radiograph's noise does not go away: the strongest compression leaves a byte for 60. Decoders
need up to 12 bytes a pixel."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One frame as its decoder gives it: a stored value is some of the bits of a word."""

    words: Words
    """(H, W)."""
    bits: int
    """Of a stored value."""
    shift: int
    """Bits of a word below those of the stored value."""
    signed: bool
    offset: int = 0
    """What the decoder added, so that no word is negative."""

    def stored_values(self) -> npt.NDArray[np.int64]:
        """What each possible word stands for: (256,) or (65536,)."""
        words = np.arange(np.iinfo(self.words.dtype).max + 1, dtype=np.int64)
        return as_stored((words >> self.shift) - self.offset, self.bits, self.signed)


def as_stored(values: npt.NDArray[np.int64], bits: int, signed: bool) -> npt.NDArray[np.int64]:
    """Keep the lowest `bits` of each value; as two's complement where they are signed."""
    low: npt.NDArray[np.int64] = values & ((1 << bits) - 1)
    return np.where(low >> (bits - 1) == 1, low - (1 << bits), low) if signed else low


def native_frame(
    pixels: memoryview, layout: PixelLayout, encoding: Encoding, words16: bool
) -> Frame:
    """The frame of pixel data that is not compressed.

    Args:
        pixels: from the first pixel on.
        layout: how the values lie in words.
        encoding: of the data set.
        words16: whether the pixels are 16-bit words (VR OW) even where a value takes 8 bits.

    Raises:
        ImageError: there are fewer pixels than rows times columns.
    """
    if len(pixels) < layout.num_bytes:
        raise ImageError(
            f"PixelData: {len(pixels):,} bytes, expected {layout.num_bytes:,} of Rows and Columns"
        )
    if layout.word_bits == 8 and words16 and not encoding.little:
        even = len(pixels) // 2 * 2
        pixels = memoryview(np.frombuffer(pixels[:even], ">u2").astype("<u2").tobytes())
    dtype = np.dtype(f"{encoding.order}u{layout.word_bits // 8}")
    words = np.frombuffer(pixels, dtype, layout.rows * layout.columns)
    return _frame_of_words(words.astype(dtype.newbyteorder("="), copy=False), layout)


def encapsulated_frame(frame: bytes, syntax: str, layout: PixelLayout, least_px: int) -> Frame:
    """The frame of compressed pixel data.

    Args:
        frame: all fragments of the only frame.
        syntax: one of `DECODERS`.
        layout: what the data set says, and the frame's own header must say too.
        least_px: of the frame's long side, what must be decoded; a decoder may skip finer detail.

    Raises:
        TooManyPixelsError: it declares far more than a radiograph has for its bytes.
        ImageError: the frame is cut short, corrupt, or contradicts the layout.
    """
    num_pixels = layout.rows * layout.columns
    if num_pixels > max(_PLAUSIBLE_PIXELS, _MOST_PIXELS_PER_BYTE * len(frame)):
        raise TooManyPixelsError(
            f"PixelData: {num_pixels:,} pixels in {len(frame):,} bytes, expected at most "
            f"{_MOST_PIXELS_PER_BYTE} a byte"
        )
    return DECODERS[syntax](frame, layout, least_px)


def _frame_of_words(words: Words, layout: PixelLayout) -> Frame:
    return Frame(
        words=words.reshape(layout.rows, layout.columns),
        bits=layout.bits,
        shift=layout.high_bit + 1 - layout.bits,
        signed=layout.signed,
    )


def _checked(stream: Codestream, layout: PixelLayout, kinds: tuple[str, ...]) -> Codestream:
    if stream.kind not in kinds:
        raise ImageError("PixelData: a frame encoded in another way than TransferSyntaxUID says")
    if (stream.rows, stream.columns) != (layout.rows, layout.columns):
        raise ImageError(
            f"PixelData: a frame of {stream.columns} x {stream.rows} pixels, "
            f"expected {layout.columns} x {layout.rows} of Columns and Rows"
        )
    if not 2 <= stream.bits <= layout.word_bits:
        raise ImageError(
            f"PixelData: samples of {stream.bits} bits, expected at most {layout.word_bits} "
            "of BitsAllocated"
        )
    return stream


def _rle(frame: bytes, layout: PixelLayout, least_px: int) -> Frame:
    dtype = np.dtype(f"<u{layout.word_bits // 8}")
    try:
        words = imagecodecs.dicomrle_decode(frame, dtype, out=layout.num_bytes)
    except (imagecodecs.DicomrleError, ValueError) as error:
        raise ImageError("PixelData: an RLE frame that is cut short or corrupt") from error
    if len(words) != layout.num_bytes:
        raise ImageError("PixelData: an RLE frame of another length than Rows and Columns")
    return _frame_of_words(np.frombuffer(words, dtype), layout)


def _jpeg(frame: bytes, layout: PixelLayout, least_px: int) -> Frame:
    stream = _checked(open_jpeg(frame), layout, ("dct", "lossless"))
    return _decoded(imagecodecs.jpeg8_decode, imagecodecs.Jpeg8Error, stream, layout)


def _jpegls(frame: bytes, layout: PixelLayout, least_px: int) -> Frame:
    stream = _checked(open_jpeg(frame), layout, ("jpegls",))
    return _decoded(imagecodecs.jpegls_decode, imagecodecs.JpeglsError, stream, layout)


def _decoded(
    decode: Callable[..., object],
    failure: type[Exception],
    stream: Codestream,
    layout: PixelLayout,
) -> Frame:
    samples = np.empty((layout.rows, layout.columns), np.uint8 if stream.bits <= 8 else np.uint16)
    try:
        decode(stream.data, out=samples)
    except (failure, ValueError, RuntimeError) as error:
        raise ImageError("PixelData: a JPEG frame that is cut short or corrupt") from error
    bits = min(stream.bits, layout.bits)
    return Frame(words=samples, bits=bits, shift=0, signed=layout.signed)


def _j2k(frame: bytes, layout: PixelLayout, least_px: int) -> Frame:
    stream = _checked(open_j2k(frame), layout, ("j2k",))
    halve = stream.halves and max(layout.rows, layout.columns) >= 2 * least_px
    try:
        image = Image.open(io.BytesIO(stream.data), formats=("JPEG2000",))
        if halve:
            image.reduce = 1  # type: ignore[assignment, method-assign]  # of JPEG 2000
        image.load()
    except (OSError, SyntaxError, ValueError, MemoryError) as error:
        raise ImageError("PixelData: a JPEG 2000 frame that is cut short or corrupt") from error
    words = np.asarray(image)
    if halve:
        words = _doubled(words)[: layout.rows, : layout.columns]
    return Frame(
        words=words,
        bits=min(stream.bits, layout.bits),
        # Pillow scales samples to the full 8 or 16 bits, and shifts signed ones above zero.
        shift=8 * words.itemsize - stream.bits,
        signed=layout.signed,
        offset=1 << (stream.bits - 1) if stream.signed else 0,
    )


def _doubled(half: Words) -> Words:
    """A halved frame at its own size again, each pixel four times: (h, w) -> (2h, 2w).

    A halved frame has the values at every second pixel. The mean of two lies a quarter of the way
    to the next, and without that step edges would move against those of a whole frame.
    """
    sums = half.astype(np.uint32)
    for axis in (0, 1):
        sums = 3 * sums + sums.take(range(1, sums.shape[axis] + 1), axis, mode="clip")
    means: Words = ((sums + 8) >> 4).astype(half.dtype)  # type: ignore[assignment]  # as it was
    return means.repeat(2, axis=0).repeat(2, axis=1)


Decoder = Callable[[bytes, PixelLayout, int], Frame]
DECODERS: dict[str, Decoder] = {
    "1.2.840.10008.1.2.5": _rle,
    "1.2.840.10008.1.2.4.50": _jpeg,  # baseline, 8 bits
    "1.2.840.10008.1.2.4.51": _jpeg,  # extended, 8 or 12 bits
    "1.2.840.10008.1.2.4.57": _jpeg,  # lossless, any predictor
    "1.2.840.10008.1.2.4.70": _jpeg,  # lossless, the first predictor
    "1.2.840.10008.1.2.4.80": _jpegls,  # lossless
    "1.2.840.10008.1.2.4.81": _jpegls,  # near-lossless
    "1.2.840.10008.1.2.4.90": _j2k,  # lossless
    "1.2.840.10008.1.2.4.91": _j2k,
    "1.2.840.10008.1.2.4.201": _j2k,  # high-throughput, lossless
    "1.2.840.10008.1.2.4.202": _j2k,  # the same, by resolution
    "1.2.840.10008.1.2.4.203": _j2k,  # high-throughput
}
