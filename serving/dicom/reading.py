"""The bytes of a DICOM file -> the view that a reader would see, or why it is not read.

Order of work: the header is taken out of the bytes, the use is checked, and only then is room made
for pixels. Knows no network and no study.
"""

import struct
import zlib
from dataclasses import dataclass

from PIL import Image

from bonexray.errors import BonexrayError, ImageError, TooManyPixelsError
from serving.dicom.body_part import claimed_part
from serving.dicom.elements import Element, Encoding, is_explicit, items, walk
from serving.dicom.frame import DECODERS, NATIVE, Frame, encapsulated_frame, native_frame
from serving.dicom.grey import grey_of, says_padding, says_window
from serving.dicom.header import (
    PixelLayout,
    instance_uid,
    parse_header,
    pixel_layout,
    refuse_other_use,
    study_uid,
)
from serving.dicom.refusal import DicomRefusal, ViewRefusedError

__all__ = ["DicomRefusal", "DicomView", "ViewRefusedError", "is_dicom", "read_dicom"]

_PREAMBLE, _MAGIC = 128, b"DICM"
_META_GROUP = b"\x02\x00"
_MAX_META_ELEMENTS = 100
_MAX_UID_BYTES = 64
_SYNTAX_TAG = 0x00020010
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_DEFLATED_HEADER = 1 << 20
"""Of an inflated data set, what may come before the pixels, in bytes."""
_MAX_INFLATED = 48 << 20
"""In bytes: a detector has up to some 20 million pixels; more is a bomb."""
_INFLATE_STEP = 1 << 20
_DETAIL = 4
"""Pixels of a frame, along its long side, that are decoded for each of the network's."""

# A hostile header finds the places where pydicom does not look before it leaps.
_PYDICOMS_WAYS_OF_REFUSING = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    NotImplementedError,
    RecursionError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class DicomView:
    """One radiograph out of a DICOM file."""

    grey: Image.Image
    """Mode L, Columns x Rows, as a reader sees it: bone bright, padding black. Where a decoder may
    skip detail, some is missing that the fit to the network's input throws away."""
    claimed_part: str
    """One of `bonexray.studies.BODY_PARTS`, `other`, or "" when the header does not say."""
    instance_uid: str
    study_uid: str
    """Of the visit; "" when the header does not say."""
    without_window: bool
    """Whether the header says no window, and the grey spreads over the values' percentiles."""


def is_dicom(data: bytes) -> bool:
    """Whether the bytes start as a DICOM file does (PS3.10 section 7.1)."""
    return data[_PREAMBLE : _PREAMBLE + len(_MAGIC)] == _MAGIC


def read_dicom(data: bytes, size: int) -> DicomView:
    """Read the radiograph in a DICOM file.

    Args:
        data: the whole file.
        size: S, the side of the network's square input, in pixels: detail that is lost in the later
            fit to it may be skipped.

    Raises:
        ViewRefusedError: a sound file outside of the intended use, with the reason's code.
        TooManyPixelsError: it declares more than `bonexray.images.MAX_PIXELS`; none was decoded.
        ImageError: the bytes are no DICOM file, cut short, corrupt or contradict themselves. The
            message never repeats what they say.
    """
    if not is_dicom(data):
        raise ImageError(f"{len(data)} bytes that are no DICOM file")
    try:
        return _read(data, size)
    except BonexrayError:
        raise
    except _PYDICOMS_WAYS_OF_REFUSING:
        # Without its cause, whose text may repeat values of the file, which may be a patient's.
        raise ImageError(f"{len(data)} bytes of DICOM whose header cannot be read") from None


def _read(data: bytes, size: int) -> DicomView:
    syntax, at = _file_meta(data)
    deflated = data[at:] if syntax == _DEFLATED else b""
    if deflated:
        data, at = bytes(_inflate(deflated, _DEFLATED_HEADER)), 0
    encoding = Encoding(implicit=not is_explicit(data, at), little=syntax != _BIG_ENDIAN)
    header, pixels = parse_header(data, at, encoding)
    refuse_other_use(header, pixels)
    assert pixels is not None
    if syntax not in NATIVE and syntax not in DECODERS:
        raise ViewRefusedError("unsupported_syntax")
    layout = pixel_layout(header)
    without_window = not says_window(header)
    if deflated:
        inflated = _inflate(deflated, pixels.value + layout.num_bytes)
        frame = _native(memoryview(inflated), pixels, layout, encoding)
    elif syntax in NATIVE:
        frame = _native(memoryview(data), pixels, layout, encoding)
    else:
        # Skipped detail mixes neighbours: it would blur the padding's edge, and thin the values
        # that a missing window is made of.
        whole = without_window or says_padding(header)
        least_px = max(layout.rows, layout.columns) if whole else _DETAIL * size
        frame = encapsulated_frame(_fragments(data, pixels), syntax, layout, least_px)
    return DicomView(
        grey=Image.fromarray(grey_of(frame, header)),
        claimed_part=claimed_part(header),
        instance_uid=instance_uid(header),
        study_uid=study_uid(header),
        without_window=without_window,
    )


def _file_meta(data: bytes) -> tuple[str, int]:
    """The transfer syntax, and where the data set starts (PS3.10 section 7.1)."""
    at, syntax = _PREAMBLE + len(_MAGIC), ""
    for _ in range(_MAX_META_ELEMENTS):
        if data[at : at + 2] != _META_GROUP:
            break
        element = next(walk(data, at, Encoding(implicit=False, little=True)))
        if element.tag == _SYNTAX_TAG:
            value = data[element.value : element.end]
            syntax = value[:_MAX_UID_BYTES].decode("ascii", "replace").strip("\0 ")
        at = element.end
    if not syntax:
        raise ImageError("TransferSyntaxUID: missing, expected in the file's meta information")
    return syntax, at


def _inflate(deflated: bytes, num_bytes: int) -> bytearray:
    """The first `num_bytes` of what was deflated, or less where it holds less."""
    if num_bytes > _MAX_INFLATED:
        raise TooManyPixelsError(f"deflated pixels of more than {_MAX_INFLATED:,} bytes")
    inflater, inflated, rest = zlib.decompressobj(-zlib.MAX_WBITS), bytearray(), deflated
    while not inflater.eof and len(inflated) < num_bytes:
        piece = inflater.decompress(rest, min(_INFLATE_STEP, num_bytes - len(inflated)))
        if not piece:
            break
        inflated += piece
        rest = inflater.unconsumed_tail
    return inflated


def _native(data: memoryview, pixels: Element, layout: PixelLayout, encoding: Encoding) -> Frame:
    if pixels.undefined:
        raise ImageError("PixelData: encapsulated, which TransferSyntaxUID does not say")
    words16 = bytes(data[pixels.start + 4 : pixels.start + 6]) == b"OW"
    return native_frame(data[pixels.value : pixels.end], layout, encoding, words16)


def _fragments(data: bytes, pixels: Element) -> bytes:
    """The only frame of encapsulated pixel data: all its items after the offset table."""
    if not pixels.undefined:
        raise ImageError("PixelData: of a stated length, expected encapsulated items")
    view = memoryview(data)
    return b"".join([view[start:end] for start, end in items(data, pixels.value)][1:])
