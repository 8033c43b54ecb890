"""Files that would cost much more than they are: refused soon, and in little memory."""

import struct
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from bonexray.errors import ImageError, TooManyPixelsError
from serving.dicom.reading import read_dicom
from tests.serving.dicom.files import (
    ENCODERS,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    dicom,
    header,
    outcome,
    small,
    with_elements,
    written,
)

SIZE = 32
MIB = 1 << 20
_SEQUENCE = b"\x08\0\x40\x11SQ\0\0" + UNDEFINED
_WANTED = b"\x08\0\x18\x22SQ\0\0"  # AnatomicRegionSequence


def peak(work: Callable[[], object]) -> int:
    """The most memory that Python and numpy hold meanwhile, in bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def deflated(body: bytes, num_zeros: int) -> bytes:
    """A deflated data set of `body` and many zeros."""
    data = written(header(small()), DeflatedExplicitVRLittleEndian)
    start = 144 + struct.unpack_from("<I", data, 140)[0]  # after the meta information
    inflated = zlib.decompressobj(-15).decompress(data[start:])
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(inflated + body)
    for _ in range(num_zeros // MIB):
        packed += packer.compress(bytes(MIB))
    return data[:start] + packed + packer.flush()


@pytest.mark.parametrize(
    "body",
    [
        b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<I", 960),  # longer than the pixels it says
        b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<I", 100 * MIB),
        b"\x29\0\x10\x10OB\0\0" + struct.pack("<I", 100 * MIB),  # a private element before them
        b"\x29\0\x10\x10SQ\0\0" + UNDEFINED,
        b"",
    ],
)
def test_a_deflate_bomb_costs_little(body: bytes) -> None:
    data = deflated(body, 100 * MIB)
    assert len(data) < MIB
    assert peak(lambda: outcome(data)) < 16 * MIB


def test_a_deflated_file_of_too_many_pixels_is_refused() -> None:
    values: dict[str, Any] = {"Rows": 7000, "Columns": 7000}
    data = dicom(small(), DeflatedExplicitVRLittleEndian, **values)
    with pytest.raises(TooManyPixelsError, match="deflated"):
        read_dicom(data, SIZE)


def defined_nest(depth: int) -> bytes:
    nest = b""
    for _ in range(depth):
        nest = (
            _WANTED + struct.pack("<I", len(nest) + 8) + ITEM + struct.pack("<I", len(nest)) + nest
        )
    return nest


HOSTILE = {
    "sequences nested thousands deep": (_SEQUENCE + ITEM + UNDEFINED) * 20_000
    + (ITEM_END + SEQUENCE_END) * 20_000,
    "sequences nested and never closed": (_SEQUENCE + ITEM + UNDEFINED) * 3000,
    "wanted sequences nested thousands deep": defined_nest(5000),
    "wanted sequences nested too deep for pydicom": b"\x28\0\x00\x30SQ\0\0"
    + UNDEFINED
    + (ITEM + UNDEFINED + _SEQUENCE) * 900
    + (SEQUENCE_END + ITEM_END) * 900
    + SEQUENCE_END,
    "millions of elements": b"\x09\0\x10\0UN\0\0" + bytes(4) + b"\x09\0\x11\0LO\0\0" * 200_000,
    "millions of items": _SEQUENCE + (ITEM + bytes(4)) * 200_000 + SEQUENCE_END,
    "thousands of wanted items": _WANTED + struct.pack("<I", 80_000) + (ITEM + bytes(4)) * 10_000,
    "a long wanted value": b"\x18\0\x15\0UT\0\0" + struct.pack("<I", 2 * MIB) + b"A" * 2 * MIB,
    "a length that lies": b"\x08\0\x60\0UT\0\0" + struct.pack("<I", 1 << 31),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_data_set_is_refused_in_little_memory(name: str) -> None:
    data = with_elements(HOSTILE[name])
    with pytest.raises(ImageError):
        read_dicom(data, SIZE)
    assert peak(lambda: outcome(data)) < 48 * MIB


def test_an_rle_frame_of_a_bomb_is_refused() -> None:
    repeated = struct.pack("<16I", 2, 64, 96, *[0] * 13) + b"\x81\0" * MIB
    data = dicom(small(), RLELossless, repeated)
    assert peak(lambda: outcome(data)) < 16 * MIB


@pytest.mark.parametrize("syntax", [JPEGExtended12Bit, JPEGLosslessSV1, JPEGLSLossless])
def test_a_frame_that_grew_in_its_own_header_is_refused_before_it_is_decoded(syntax: str) -> None:
    frame = ENCODERS[syntax](small(syntax))
    at = frame.index(struct.pack(">HH", 24, 20))
    grown = frame[:at] + struct.pack(">HH", 65535, 65535) + frame[at + 4 :]
    assert peak(lambda: outcome(dicom(small(syntax), syntax, grown))) < 4 * MIB


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, *ENCODERS])
def test_more_pixels_than_we_hold_are_refused_before_they_are_decoded(syntax: str) -> None:
    data = dicom(small(syntax), syntax, Rows=65535, Columns=65535)
    with pytest.raises(TooManyPixelsError, match="65535 x 65535"):
        read_dicom(data, SIZE)
    assert peak(lambda: outcome(data)) < 4 * MIB


def splintered(at: int, value: int, tile_part: bool = False) -> bytes:
    """A JPEG 2000 frame of 1900 x 1900 whose coding style says another number somewhere."""
    frame = imagecodecs.jpeg2k_encode(np.zeros((1900, 1900), np.uint8), codecformat="j2k", level=0)
    start = frame.index(b"\xff\x52")
    style = bytearray(
        frame[start : start + 2 + int.from_bytes(frame[start + 2 : start + 4], "big")]
    )
    sizes = [value if at == _PRECINCTS else 0xFF] * (style[9] + 1)
    style[4] |= 1
    if at != _PRECINCTS:
        style[at] = value
    style = style[:14] + bytes(sizes)
    style[2:4] = (len(style) - 2).to_bytes(2, "big")
    if not tile_part:
        return frame[:start] + bytes(style) + frame[start + 14 :]
    behind = frame.index(b"\xff\x90") + 12
    return frame[:behind] + bytes(style) + frame[behind:]


_PRECINCTS, _BLOCK_WIDTH, _BLOCK_HEIGHT = 14, 10, 11


@pytest.mark.parametrize("tile_part", [False, True])
@pytest.mark.parametrize(
    ("at", "value"), [(_PRECINCTS, 0x11), (_PRECINCTS, 0xF5), (_BLOCK_WIDTH, 0), (_BLOCK_HEIGHT, 1)]
)
def test_a_frame_in_a_million_splinters_is_refused_before_it_is_decoded(at, value, tile_part):
    pixels = np.zeros((1900, 1900), np.uint8)
    file = dicom(pixels, JPEG2000Lossless, frame=splintered(at, value, tile_part))
    with pytest.raises(ImageError, match="blocks or precincts that are too small"):
        read_dicom(file, SIZE)


def test_precincts_of_the_usual_size_are_read():
    pixels = np.zeros((1900, 1900), np.uint8)
    file = dicom(pixels, JPEG2000Lossless, frame=splintered(_PRECINCTS, 0x88))
    assert read_dicom(file, SIZE).grey.size == (1900, 1900)


def test_a_frame_of_more_tiles_than_any_writer_makes_is_refused():
    frame = bytearray(splintered(_PRECINCTS, 0x88))
    frame[24:32] = struct.pack(">2I", 8, 8)
    file = dicom(np.zeros((1900, 1900), np.uint8), JPEG2000Lossless, frame=bytes(frame))
    with pytest.raises(ImageError, match="more than 4096 tiles"):
        read_dicom(file, SIZE)


def test_a_frame_of_more_pixels_than_its_bytes_can_hold_is_refused():
    frame = imagecodecs.jpegls_encode(np.zeros((6000, 6000), np.uint8))
    with pytest.raises(TooManyPixelsError, match="36,000,000 pixels in .* bytes, expected at most"):
        read_dicom(dicom(np.zeros((6000, 6000), np.uint8), JPEGLSLossless, frame=frame), SIZE)
