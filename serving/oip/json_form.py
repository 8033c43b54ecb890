"""Requests and answers as JSON, with tensors in it or as bytes behind it (binary tensor extension).

https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md, and
https://github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md
"""

import base64
import binascii
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson

from serving.oip.errors import BadRequestError
from serving.oip.tensors import (
    DATATYPES,
    NUMPY_TYPES,
    InferRequest,
    InferResponse,
    Parameters,
    Tensor,
    TensorSpec,
    Wanted,
    count_elements,
    from_raw,
    to_raw,
)

HEADER_LENGTH = "Inference-Header-Content-Length"
_MAX_VALUES = 1_000_000
_MAX_CONTAINERS = 10_000
"""JSON that would unpack to many times its size is refused before it is parsed."""
_MAX_DIGITS = 20
_BINARY_SIZE = "binary_data_size"
_KINDS: dict[str, set[type]] = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}}


def read_request(
    body: bytes | bytearray, header_length: str | None, specs: Sequence[TensorSpec]
) -> InferRequest:
    """Parse the body of an infer request.

    Args:
        body: whole.
        header_length: of the HTTP header of that name; None when there is none.
        specs: the model's inputs.

    Raises:
        BadRequestError: names the field that is not what it should be.
    """
    size = len(body) if header_length is None else _header_size(header_length, len(body))
    document = parse_json(body if size == len(body) else body[:size])
    blobs = _Blobs(memoryview(body)[size:])
    inputs = _list_of_objects(document, "inputs")
    request = InferRequest(
        id=_text(document, "id", "id", ""),
        parameters=_parameters(document, "parameters"),
        inputs=tuple(
            _read_tensor(tensor, f"inputs[{number}]", blobs, specs)
            for number, tensor in enumerate(inputs)
        ),
        outputs=_read_wanted(document),
    )
    blobs.expect_end()
    return request


def write_response(
    response: InferResponse,
    envelope: dict[str, Any],
    request: InferRequest,
    specs: Sequence[TensorSpec],
) -> tuple[list[bytes], int | None]:
    """The parts of the body that answers a request, and the length of its JSON where bytes follow.

    Args:
        response: the model's.
        envelope: `id`, `model_name` and `model_version`.
        request: says which outputs are to be bytes.
        specs: the model's outputs.

    Raises:
        BadRequestError: an output holds NaN or Infinity and was asked for as JSON.
    """
    wanted = {output.name: output.binary for output in request.outputs}
    binary_by_default = request.parameters.get("binary_data_output") is True
    as_base64 = {spec.name for spec in specs if spec.base64}
    outputs, blobs = [], []
    for tensor in response.outputs:
        entry: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": tensor.shape,
        }
        binary = wanted.get(tensor.name)
        if binary_by_default if binary is None else binary:
            blobs.append(to_raw(tensor))
            entry["parameters"] = {_BINARY_SIZE: len(blobs[-1])}
        else:
            entry["data"] = _json_values(tensor, tensor.name in as_base64)
        outputs.append(entry)
    document = {**envelope, "parameters": response.parameters, "outputs": outputs}
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return [head, *blobs], len(head) if blobs else None


def parse_json(text: bytes | bytearray) -> dict[str, Any]:
    """An object out of JSON.

    Raises:
        BadRequestError: it is no JSON, no object, or would unpack to too much.
    """
    if text.count(b",") > _MAX_VALUES or text.count(b"[") + text.count(b"{") > _MAX_CONTAINERS:
        raise BadRequestError(
            f"body: more than {_MAX_VALUES:,} values or {_MAX_CONTAINERS:,} lists and objects in "
            "JSON; send large tensors as binary data"
        )
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        # Its own text may hold parts of the body.
        raise BadRequestError(f"body: not JSON, at character {error.pos}") from None
    if not isinstance(document, dict):
        raise BadRequestError("body: not a JSON object")
    return document


class _Blobs:
    """The bytes behind the JSON, taken in the order of the tensors."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def take(self, size: object, where: str) -> memoryview:
        if type(size) is not int or not 0 <= size <= len(self._data) - self._at:
            left = len(self._data) - self._at
            raise BadRequestError(
                f"{where}.parameters.{_BINARY_SIZE}: expected a number of bytes from 0 to {left}, "
                "which is what follows"
            )
        self._at += size
        return self._data[self._at - size : self._at]

    def expect_end(self) -> None:
        if left := len(self._data) - self._at:
            raise BadRequestError(f"body: {left} bytes at its end belong to no tensor")


def _header_size(text: str, limit: int) -> int:
    size = int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else -1
    if not 0 <= size <= limit:
        raise BadRequestError(f"header {HEADER_LENGTH}: expected a number from 0 to {limit}")
    return size


def _read_tensor(
    entry: dict[str, Any], where: str, blobs: _Blobs, specs: Sequence[TensorSpec]
) -> Tensor:
    name = _text(entry, "name", f"{where}.name")
    datatype = _text(entry, "datatype", f"{where}.datatype")
    if datatype not in DATATYPES:
        raise BadRequestError(f"{where}.datatype: expected one of {', '.join(DATATYPES)}")
    shape = entry.get("shape")
    if not isinstance(shape, list) or any(type(length) is not int for length in shape):
        raise BadRequestError(f"{where}.shape: expected a list of whole numbers")
    parameters = _parameters(entry, f"{where}.parameters")
    if _BINARY_SIZE in parameters:
        if "data" in entry:
            raise BadRequestError(f"{where}: has both data and {_BINARY_SIZE}")
        raw = blobs.take(parameters[_BINARY_SIZE], where)
        return from_raw(name, datatype, shape, raw, parameters, where)
    as_base64 = parameters.get("content_type") == "base64" or any(
        spec.name == name and spec.base64 for spec in specs
    )
    flat = _flatten(entry.get("data"), where)
    expected = count_elements(shape, f"{where}.shape")
    if len(flat) != expected:
        raise BadRequestError(
            f"{where}: {len(flat)} elements of data, expected {expected} by its shape"
        )
    return Tensor(
        name=name,
        datatype=datatype,
        shape=tuple(shape),
        values=_values(flat, datatype, shape, as_base64, where),
        parameters=parameters,
    )


def _flatten(data: object, where: str) -> list[Any]:
    """Row-major elements of a list, or of lists in lists that are equally long."""
    if not isinstance(data, list):
        raise BadRequestError(f"{where}.data: expected a list")
    while data and isinstance(data[0], list):
        if {type(part) for part in data} != {list} or len({len(part) for part in data}) != 1:
            raise BadRequestError(f"{where}.data: lists of unequal length or depth")
        data = list(chain.from_iterable(data))
    return data


def _values(
    flat: list[Any], datatype: str, shape: Sequence[int], as_base64: bool, where: str
) -> Any:
    if datatype == "BYTES":
        if as_base64:
            return [from_base64(text, f"{where}.data[{at}]") for at, text in enumerate(flat)]
        if not {type(text) for text in flat} <= {str}:
            raise BadRequestError(f"{where}.data: a value that is no text, as BYTES are in JSON")
        return [text.encode() for text in flat]
    dtype = NUMPY_TYPES[datatype]
    if not {type(value) for value in flat} <= _KINDS[dtype.kind]:
        raise BadRequestError(f"{where}.data: a value that is no {datatype}")
    try:
        with np.errstate(over="ignore"):
            values = np.array(flat, dtype).reshape(shape)
    except OverflowError:
        raise BadRequestError(f"{where}.data: a value beyond {datatype}") from None
    if dtype.kind == "f" and not np.isfinite(values).all():
        raise BadRequestError(f"{where}.data: a value beyond {datatype}")
    return values


def from_base64(text: object, where: str) -> bytes:
    """The bytes that a text of JSON stands for. Raises BadRequestError."""
    try:
        if isinstance(text, str):
            return base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        pass  # the cause would repeat parts of what was sent
    raise BadRequestError(f"{where}: not base64")


def _read_wanted(document: dict[str, Any]) -> tuple[Wanted, ...]:
    if document.get("outputs") is None:
        return ()
    wanted = []
    for number, entry in enumerate(_list_of_objects(document, "outputs")):
        where = f"outputs[{number}]"
        binary = _parameters(entry, f"{where}.parameters").get("binary_data")
        if binary is not None and not isinstance(binary, bool):
            raise BadRequestError(f"{where}.parameters.binary_data: expected true or false")
        wanted.append(Wanted(name=_text(entry, "name", f"{where}.name"), binary=binary))
    return tuple(wanted)


def _list_of_objects(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    entries = document.get(name)
    if not isinstance(entries, list) or any(not isinstance(entry, dict) for entry in entries):
        raise BadRequestError(f"{name}: expected a list of objects")
    return entries


def _text(entry: dict[str, Any], key: str, where: str, default: str | None = None) -> str:
    value = entry.get(key, default)
    if not isinstance(value, str):
        raise BadRequestError(f"{where}: expected a text")
    return value


def _parameters(entry: dict[str, Any], where: str) -> Parameters:
    parameters = entry.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict) or any(
        not isinstance(value, bool | int | float | str) for value in parameters.values()
    ):
        raise BadRequestError(f"{where}: expected an object of texts, numbers and true or false")
    return parameters


def _json_values(tensor: Tensor, as_base64: bool) -> Any:
    if isinstance(tensor.values, np.ndarray):
        if tensor.values.dtype.kind == "f" and not np.isfinite(tensor.values).all():
            raise BadRequestError(
                f"output {tensor.name}: NaN or Infinity, which JSON cannot say; ask for it with "
                '"binary_data": true'
            )
        return np.ascontiguousarray(tensor.values).ravel()
    if as_base64:
        return [base64.b64encode(value).decode() for value in tensor.values]
    try:
        return [bytes(value).decode() for value in tensor.values]
    except UnicodeDecodeError:
        raise BadRequestError(
            f"output {tensor.name}: bytes that are no UTF-8, which JSON cannot say; ask for it "
            'with "binary_data": true'
        ) from None
