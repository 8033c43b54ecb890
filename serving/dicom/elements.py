"""The elements of a DICOM data set, one after the other, by their places in the bytes.

Knows PS3.5's encodings and limits, no attribute. A library parses only what is taken out here: on
hostile bytes pydicom inflates without a limit, recurses into every sequence and keeps millions of
elements.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from bonexray.errors import ImageError

PIXEL_DATA = 0x7FE00010

_MAX_ELEMENTS = 50_000
"""A radiograph has some hundreds, sequences included."""
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VRS = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_32)


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How a data set is written (PS3.5 section 7.1)."""

    implicit: bool
    """Whether elements leave out their value representation (VR)."""
    little: bool
    """Whether numbers have their least significant byte first."""

    @property
    def order(self) -> str:
        """The byte order as `struct` and numpy write it."""
        return "<" if self.little else ">"


@dataclass(frozen=True, kw_only=True, slots=True)
class Element:
    """Where an element lies, in bytes from the start."""

    tag: int
    start: int
    """Of its tag."""
    value: int
    """Of its value."""
    end: int
    """After its value; for pixel data what its header says, which may be beyond the bytes."""
    undefined: bool
    """Whether its length is undefined: a sequence, or encapsulated pixel data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Head:
    tag: int
    vr: bytes
    value: int
    length: int


def is_explicit(data: bytes, at: int) -> bool:
    """Whether the element at `at` states its VR.

    A file's transfer syntax says so too, but some writers say it wrong, and readers look.
    """
    return data[at + 4 : at + 6].isalpha() and data[at + 4 : at + 6].isupper()


def walk(data: bytes, at: int, encoding: Encoding) -> Iterator[Element]:
    """Yield the elements of the data set from `at` on, up to and with the pixel data.

    Sequences are stepped over without recursion.

    Raises:
        ImageError: an element reaches beyond the bytes, or there are too many.
    """
    budget = iter(range(_MAX_ELEMENTS))
    while at < len(data):
        head = _head(data, at, encoding, budget)
        undefined = head.length == _UNDEFINED
        if head.tag == PIXEL_DATA:
            end = len(data) if undefined else head.value + head.length
            yield Element(tag=head.tag, start=at, value=head.value, end=end, undefined=undefined)
            return
        end = head.value + head.length
        if undefined:
            end = _end_of_nest(data, head, encoding, budget)
        if end > len(data):
            raise ImageError(f"DICOM element at byte {at:,}: longer than what is left of the file")
        yield Element(tag=head.tag, start=at, value=head.value, end=end, undefined=undefined)
        at = end


def items(data: bytes, at: int) -> Iterator[tuple[int, int]]:
    """Yield where each item of encapsulated pixel data starts and ends, in bytes.

    Raises:
        ImageError: an item reaches beyond the bytes, or the sequence has no end.
    """
    little, budget = Encoding(implicit=True, little=True), iter(range(_MAX_ELEMENTS))
    while (head := _head(data, at, little, budget)).tag == _ITEM:
        at = head.value + head.length
        if at > len(data):
            raise ImageError("PixelData: an item is longer than what is left of the file")
        yield head.value, at
    if head.tag != _SEQUENCE_END:
        raise ImageError("PixelData: expected items of encapsulated pixel data")


def _head(data: bytes, at: int, encoding: Encoding, budget: Iterator[int]) -> _Head:
    if next(budget, None) is None:
        raise ImageError(f"more than {_MAX_ELEMENTS:,} DICOM elements")
    order = encoding.order
    try:
        group, number = struct.unpack_from(f"{order}HH", data, at)
        tag = group << 16 | number
        if encoding.implicit or group == 0xFFFE or not is_explicit(data, at):
            (length,) = struct.unpack_from(f"{order}I", data, at + 4)
            return _Head(tag=tag, vr=b"", value=at + 8, length=length)
        vr = data[at + 4 : at + 6]
        if vr in _LONG_VRS:
            (length,) = struct.unpack_from(f"{order}I", data, at + 8)
            return _Head(tag=tag, vr=vr, value=at + 12, length=length)
        (length,) = struct.unpack_from(f"{order}H", data, at + 6)
        return _Head(tag=tag, vr=vr, value=at + 8, length=length)
    except struct.error as error:
        raise ImageError(f"DICOM element at byte {at:,}: cut short") from error


def _end_of_nest(data: bytes, head: _Head, encoding: Encoding, budget: Iterator[int]) -> int:
    """Where the element of undefined length that `head` starts is over."""
    # Of every sequence and item that is open: what is in a sequence of unknown VR is implicit.
    implicit = Encoding(implicit=True, little=True)
    opened = [implicit if head.vr == b"UN" else encoding]
    at = head.value
    while opened:
        inner = _head(data, at, opened[-1], budget)
        at = inner.value
        if inner.tag in (_ITEM_END, _SEQUENCE_END):
            opened.pop()
        elif inner.length != _UNDEFINED:
            at += inner.length
        else:
            opened.append(implicit if inner.vr == b"UN" else opened[-1])
    return at
