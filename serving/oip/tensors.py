"""Tensors, requests and answers, whatever form they have on the wire."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.oip.errors import BadRequestError

NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
}
"""Of every datatype that is not BYTES, little-endian as on the wire."""
DATATYPES = (*NUMPY_TYPES, "BYTES")
Parameters = dict[str, bool | int | float | str]
Bytes = bytes | memoryview
_MOST_ELEMENTS = 2**31 - 1
_MOST_TEXTS = 100_000
"""Elements of a BYTES tensor: each takes many times its own four bytes here."""
_MOST_DIMENSIONS = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpec:
    """What a model says of a tensor that it takes or gives."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    """-1 where any length will do."""
    optional: bool = False
    """Whether a request may do without."""
    base64: bool = False
    """Whether elements are base64 in JSON, which holds no other bytes than text."""
    on_request: bool = False
    """Whether it is only given when a request names it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """A tensor with its values."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: npt.NDArray[Any] | Sequence[Bytes]
    """An array of this shape; of BYTES, the elements in row-major order."""
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """An output that a request names."""

    name: str
    binary: bool | None = None
    """Whether its bytes follow the JSON; None when the request does not say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InferRequest:
    """What is asked of a model."""

    inputs: tuple[Tensor, ...]
    id: str = ""
    parameters: Parameters = field(default_factory=dict)
    outputs: tuple[Wanted, ...] = ()
    """None named means all, but for those that are given on request only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InferResponse:
    """What a model answers."""

    outputs: tuple[Tensor, ...]
    """Those that were asked for, in the order in which they were."""
    parameters: Parameters = field(default_factory=dict)


def count_elements(shape: Sequence[int], where: str) -> int:
    """The number of elements of a shape.

    Args:
        shape: as a request states it.
        where: the field, for the message.

    Raises:
        BadRequestError: a length is negative, or there are more dimensions than an array has or
            more elements than any body holds.
    """
    if len(shape) > _MOST_DIMENSIONS:
        raise BadRequestError(
            f"{where}: {len(shape)} dimensions, expected at most {_MOST_DIMENSIONS}"
        )
    if any(length < 0 for length in shape):
        raise BadRequestError(f"{where}: a negative length, expected 0 or more")
    elements = math.prod(shape)
    if elements > _MOST_ELEMENTS:
        raise BadRequestError(f"{where}: more than {_MOST_ELEMENTS:,} elements")
    return elements


def split_bytes(data: memoryview, most: int, where: str) -> list[memoryview]:
    """Elements of a BYTES tensor: each is its length (4 bytes, little-endian), then itself.

    Raises:
        BadRequestError: a length reaches beyond the data, or there are more than `most` elements.
    """
    elements: list[memoryview] = []
    at = 0
    while at < len(data):
        if len(elements) == most:
            raise BadRequestError(f"{where}: more elements of data, expected {most} by its shape")
        begin = at + 4
        end = begin + int.from_bytes(data[at:begin], "little")
        if begin > len(data) or end > len(data):
            raise BadRequestError(f"{where}: element {len(elements)} reaches beyond the data")
        elements.append(data[begin:end])
        at = end
    return elements


def join_bytes(elements: Sequence[Bytes]) -> bytes:
    """The inverse of `split_bytes`."""
    parts: list[Bytes] = []
    for element in elements:
        parts += [len(element).to_bytes(4, "little"), element]
    return b"".join(parts)


def from_raw(
    name: str,
    datatype: str,
    shape: Sequence[int],
    raw: memoryview,
    parameters: Parameters,
    where: str,
) -> Tensor:
    """A tensor out of its bytes, which are not copied.

    Args:
        name: of the tensor.
        datatype: one of DATATYPES.
        shape: as the request states it.
        raw: the bytes as they came.
        parameters: of the tensor.
        where: the tensor's place in the request, for messages.

    Raises:
        BadRequestError: the bytes are more or fewer than the shape wants, or no such values.
    """
    elements = count_elements(shape, f"{where}.shape")
    if datatype == "BYTES" and elements > _MOST_TEXTS:
        raise BadRequestError(f"{where}.shape: more than {_MOST_TEXTS:,} elements of BYTES")
    values = (
        split_bytes(raw, elements, where)
        if datatype == "BYTES"
        else _as_array(raw, datatype, where)
    )
    if len(values) != elements:
        found = len(values)
        raise BadRequestError(
            f"{where}: {found} elements of data, expected {elements} by its shape"
        )
    if isinstance(values, np.ndarray):
        values = values.reshape(shape)
    return Tensor(
        name=name, datatype=datatype, shape=tuple(shape), values=values, parameters=parameters
    )


def _as_array(raw: memoryview, datatype: str, where: str) -> npt.NDArray[Any]:
    dtype = NUMPY_TYPES[datatype]
    if len(raw) % dtype.itemsize:
        raise BadRequestError(f"{where}: {len(raw)} bytes of data are no whole {datatype} values")
    if datatype == "BOOL" and np.frombuffer(raw, np.uint8).max(initial=0) > 1:
        raise BadRequestError(f"{where}: a BOOL that is neither 0 nor 1")
    return np.frombuffer(raw, dtype)


def to_raw(tensor: Tensor) -> bytes:
    """The bytes of a tensor, as the wire has them."""
    if isinstance(tensor.values, np.ndarray):
        return np.ascontiguousarray(tensor.values, NUMPY_TYPES[tensor.datatype]).tobytes()
    return join_bytes(tensor.values)
