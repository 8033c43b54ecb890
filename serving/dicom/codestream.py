"""What a compressed frame's own header says of it, read before a decoder makes room for it."""

import struct
from dataclasses import dataclass

from bonexray.errors import ImageError

_J2K_START = b"\xff\x4f\xff\x51"
_J2K_WITHIN = 512
"""Some writers put the codestream into a JP2 file, whose boxes come first; in bytes."""
_J2K_CODING = 0x52
_J2K_COMPONENT_CODING, _J2K_TILE_PART, _J2K_DATA, _J2K_END = 0x53, 0x90, 0x93, 0xD9
_SMALLEST_PRECINCT, _SMALLEST_BLOCK = 6, 4
"""As powers of two. Decoders keep some hundred bytes for each, whatever is in it: a file of 828
bytes took 8.7 GB."""
_MOST_TILES = 4096

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
# SOF0, SOF1 and SOF3 of ISO 10918-1, and SOF55 of ISO 14495-1.
_JPEG_FRAMES = {0xC0: "dct", 0xC1: "dct", 0xC3: "lossless", 0xF7: "jpegls"}
_JPEG_END_WITHIN = 16
"""Of the last bytes: fragments are padded."""
# DHT, DQT, DRI, APP0 to APP15 and COM.
_JPEG_SKIPPED = frozenset((0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE))
_MAX_SEGMENTS = 1000


@dataclass(frozen=True, kw_only=True)
class Codestream:
    """A compressed grey frame."""

    data: bytes
    """The codestream alone."""
    kind: str
    """`dct`, `lossless`, `jpegls` or `j2k`."""
    rows: int
    columns: int
    bits: int
    """Of a sample."""
    signed: bool
    halves: bool
    """Whether it can be decoded at half its size."""


def open_jpeg(frame: bytes) -> Codestream:
    """Read the frame header of a JPEG or JPEG-LS codestream.

    Raises:
        ImageError: it is neither, cut short, progressive or not grey.
    """
    # Decoders fill with grey what is missing; only the end mark tells.
    if not frame.startswith(_JPEG_START) or _JPEG_END not in frame[-_JPEG_END_WITHIN:]:
        raise ImageError("PixelData: a JPEG frame that is cut short or none")
    try:
        at = _jpeg_header_at(frame)
        kind = _JPEG_FRAMES[frame[at + 1]]
        bits, rows, columns, components = struct.unpack_from(">BHHB", frame, at + 4)
    except (IndexError, KeyError, struct.error) as error:
        raise ImageError("PixelData: a JPEG frame without a header that we read") from error
    if components != 1:
        raise ImageError(f"PixelData: {components} components in a JPEG frame, expected 1")
    return Codestream(
        data=frame, kind=kind, rows=rows, columns=columns, bits=bits, signed=False, halves=False
    )


def open_j2k(frame: bytes) -> Codestream:
    """Read the main header of a JPEG 2000 codestream (ISO 15444-1 annex A).

    Raises:
        ImageError: it is none, cut short, not grey, or cut into more parts than any writer makes.
    """
    start = frame.find(_J2K_START, 0, _J2K_WITHIN)
    if start < 0:
        raise ImageError("PixelData: a JPEG 2000 frame that does not start as one")
    data = frame[start:]
    try:
        right, low, left, top = struct.unpack_from(">4I", data, 8)
        components, depth = struct.unpack_from(">HB", data, 40)
        levels = _j2k_levels(data)
        _refuse_splinters(data, right, low)
    except (IndexError, struct.error) as error:
        raise ImageError("PixelData: a JPEG 2000 frame that is cut short") from error
    if components != 1:
        raise ImageError(f"PixelData: {components} components in a JPEG 2000 frame, expected 1")
    return Codestream(
        data=data,
        kind="j2k",
        rows=low - top,
        columns=right - left,
        bits=(depth & 0x7F) + 1,
        signed=depth >= 0x80,
        halves=levels > 0 and left == top == 0,
    )


def _jpeg_header_at(frame: bytes) -> int:
    """Where the first marker lies that is neither a table nor a remark."""
    at = len(_JPEG_START)
    for _ in range(_MAX_SEGMENTS):
        if frame[at + 1] not in _JPEG_SKIPPED:
            break
        at += 2 + struct.unpack_from(">H", frame, at + 2)[0]
    return at


def _j2k_levels(data: bytes) -> int:
    at = len(_J2K_START) - 2
    for _ in range(_MAX_SEGMENTS):
        if data[at + 1] == _J2K_CODING:
            return data[at + 9]
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    raise ImageError("PixelData: a JPEG 2000 frame without a coding style")


def _refuse_splinters(data: bytes, right: int, low: int) -> None:
    """Look at every coding style, of the main header and of each tile-part."""
    tile_width, tile_height = struct.unpack_from(">2I", data, 24)
    if -(-right // tile_width) * -(-low // tile_height) > _MOST_TILES:
        raise ImageError(f"PixelData: more than {_MOST_TILES} tiles in a JPEG 2000 frame")
    at, tile_part, segments = len(_J2K_START) - 2, 0, 0
    while at + 2 <= len(data) and data[at + 1] != _J2K_END and segments < _MAX_SEGMENTS:
        marker, segments = data[at + 1], segments + 1
        if marker == _J2K_DATA:
            length = struct.unpack_from(">I", data, tile_part + 6)[0]
            if length == 0:  # the last one, to the end
                return
            at = tile_part + max(length, 14)
            continue
        if marker == _J2K_TILE_PART:
            tile_part = at
        if marker in (_J2K_CODING, _J2K_COMPONENT_CODING):
            _refuse_style(data, at, data[at + 4 if marker == _J2K_CODING else at + 5],
                          at + (9 if marker == _J2K_CODING else 6))  # fmt: skip
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]


def _refuse_style(data: bytes, at: int, style: int, levels_at: int) -> None:
    width, height = data[levels_at + 1] + 2, data[levels_at + 2] + 2
    precincts = data[levels_at + 5 : at + 2 + struct.unpack_from(">H", data, at + 2)[0]]
    sizes = [(each & 15, each >> 4) for each in precincts] if style & 1 else []
    if (
        min(width, height) < _SMALLEST_BLOCK
        or min(map(min, sizes), default=15) < _SMALLEST_PRECINCT
    ):
        raise ImageError("PixelData: a JPEG 2000 frame in blocks or precincts that are too small")
