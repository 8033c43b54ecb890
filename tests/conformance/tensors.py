"""Tensors of the protocol: sample values of every datatype, and their two forms on the wire.

Written from the specification alone, with nothing of the server's code, so that a mistake in one
is seen by the other.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

NUMPY_TYPES: dict[str, str] = {
    "BOOL": "?",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "BYTES": "O",
}
DATATYPES = tuple(NUMPY_TYPES)
_TEXTS = (b"QUJD", b"YQ==", b"YWI=", b"//8=", b"MDEyMzQ1Njc4OQ==", b"Pz8/")
"""Text that is base64 too: a server that reads BYTES in JSON as one or as the other returns it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
    """A named tensor, and whether it travels as raw bytes (REST binary, gRPC raw contents)."""

    name: str
    datatype: str
    array: npt.NDArray[Any]
    """Of BYTES: of dtype object, whose elements are bytes."""
    binary: bool = True

    @property
    def shape(self) -> list[int]:
        """As the wire has it."""
        return list(self.array.shape)


def sample(datatype: str) -> npt.NDArray[Any]:
    """Six values of a datatype, shape (2, 3), with the least and the greatest that it has."""
    dtype = np.dtype(NUMPY_TYPES[datatype])
    if datatype == "BYTES":
        return bytes_array(_TEXTS, (2, 3))
    if datatype == "BOOL":
        return np.array([[True, False, True], [False, False, True]])
    if dtype.kind == "f":
        info = np.finfo(dtype)
        return np.array([[0, 1.5, -2.25], [info.max, info.min, info.tiny]], dtype)
    limits = np.iinfo(dtype)
    return np.array([[0, 1, 2], [limits.max, limits.min, 7]], dtype)


def bytes_array(elements: Sequence[bytes], shape: Sequence[int]) -> npt.NDArray[Any]:
    """A BYTES tensor of these elements, in row-major order."""
    array = np.empty(len(elements), object)
    array[:] = list(elements)
    return array.reshape(shape)


def to_json(array: npt.NDArray[Any]) -> list[Any]:
    """The elements as a flat list of JSON values; BYTES as UTF-8 text."""
    flat = array.ravel().tolist()
    return [value.decode() if isinstance(value, bytes) else value for value in flat]


def from_json(datatype: str, shape: Sequence[int], data: object) -> npt.NDArray[Any]:
    """The inverse, of a flat or a nested list.

    Raises:
        ValueError: the list does not hold as many elements as the shape says.
    """
    flat = list(_leaves(data))
    if datatype == "BYTES":
        return bytes_array([_to_bytes(value) for value in flat], shape)
    return np.array(flat, NUMPY_TYPES[datatype]).reshape(shape)


def to_raw(array: npt.NDArray[Any]) -> bytes:
    """Little-endian, row-major; an element of BYTES after its length in four bytes."""
    if array.dtype == object:
        return b"".join(struct.pack("<I", len(value)) + value for value in array.ravel())
    return array.tobytes()


def from_raw(datatype: str, shape: Sequence[int], raw: bytes) -> npt.NDArray[Any]:
    """The inverse.

    Raises:
        ValueError: the bytes are not as many as the shape says.
    """
    if datatype != "BYTES":
        return np.frombuffer(raw, NUMPY_TYPES[datatype]).reshape(shape)
    elements: list[bytes] = []
    at = 0
    while at < len(raw):
        (length,) = struct.unpack_from("<I", raw, at)
        if at + 4 + length > len(raw):
            raise ValueError(f"element {len(elements)} of BYTES reaches beyond the data")
        elements.append(raw[at + 4 : at + 4 + length])
        at += 4 + length
    return bytes_array(elements, shape)


def _leaves(data: object) -> Any:
    if isinstance(data, list):
        for part in data:
            yield from _leaves(part)
    else:
        yield data


def _to_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
