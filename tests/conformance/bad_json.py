"""Requests in JSON that must be refused: Triton's L0_input_validation and L0_json.

Each is a request that the model takes, spoilt in one place.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tests.conformance.case import MARKER, NUMBER, Case, Target
from tests.conformance.plain_rest import PlainRest
from tests.conformance.subject import Document, Subject, refusal, subject_of

Spoil = Callable[[Document], Any]

NOT_JSON = {
    "empty body": b"",
    "cut off": b'{"inputs": [{"name": "' + MARKER.encode(),
    "no JSON at all": b"%PDF-" + MARKER.encode(),
    "no UTF-8": b'{"id": "\xff' + MARKER.encode() + b'", "inputs": []}',
    "nested 100,000 deep": b"[" * 100_000,
    "two documents": b'{"inputs": []}{"inputs": []}',
    "array": json.dumps([MARKER]).encode(),
    "text": json.dumps(MARKER).encode(),
    "number": str(NUMBER).encode(),
    "null": b"null",
}


def _set(*path: str | int, to: Any) -> Spoil:
    def spoil(document: Document) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return spoil


def _without(*path: str | int) -> Spoil:
    def spoil(document: Document) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return spoil


_TENSOR = ("inputs", 0)
WRONG_FIELDS: dict[str, Spoil] = {
    "no inputs field": _without("inputs"),
    "inputs is null": _set("inputs", to=None),
    "inputs is text": _set("inputs", to=MARKER),
    "inputs is an object": _set("inputs", to={MARKER: 1}),
    "inputs is empty": _set("inputs", to=[]),
    "a tensor is text": _set("inputs", to=[MARKER]),
    "a tensor is null": _set("inputs", to=[None]),
    **{
        f"a tensor without {field}": _without(*_TENSOR, field)
        for field in ("name", "datatype", "shape", "data")
    },
    "name is a number": _set(*_TENSOR, "name", to=NUMBER),
    "datatype is a number": _set(*_TENSOR, "datatype", to=NUMBER),
    "datatype is null": _set(*_TENSOR, "datatype", to=None),
    "shape is text": _set(*_TENSOR, "shape", to=MARKER),
    "shape is a number": _set(*_TENSOR, "shape", to=NUMBER),
    "shape of texts": _set(*_TENSOR, "shape", to=[MARKER]),
    "shape of a fraction": _set(*_TENSOR, "shape", to=[1.5]),
    "shape of nulls": _set(*_TENSOR, "shape", to=[None]),
    "shape of lists": _set(*_TENSOR, "shape", to=[[2, 2]]),
    "data is text": _set(*_TENSOR, "data", to=MARKER),
    "data is null": _set(*_TENSOR, "data", to=None),
    "data is an object": _set(*_TENSOR, "data", to={MARKER: 1}),
    "data of nulls": _set(*_TENSOR, "data", to=[None] * 4),
    "data of objects": _set(*_TENSOR, "data", to=[{MARKER: 1}] * 4),
    "data of uneven lists": _set(*_TENSOR, "data", to=[[NUMBER, NUMBER, NUMBER], [NUMBER]]),
    "data half nested": _set(*_TENSOR, "data", to=[[NUMBER, NUMBER], NUMBER, NUMBER]),
    "parameters of a tensor is a list": _set(*_TENSOR, "parameters", to=[MARKER]),
    "parameters is text": _set("parameters", to=MARKER),
    "a parameter is a list": _set("parameters", to={"key": [MARKER]}),
    "id is an object": _set("id", to={MARKER: 1}),
    "outputs is text": _set("outputs", to=MARKER),
    "outputs is an object": _set("outputs", to={MARKER: 1}),
    "an output is text": _set("outputs", to=[MARKER]),
    "an output without name": _set("outputs", to=[{}]),
    "an output's name is a number": _set("outputs", to=[{"name": NUMBER}]),
}
WRONG_VALUES: dict[str, Spoil] = {
    "shape of more elements than data": _set(*_TENSOR, "shape", to=[200, 2]),
    "shape of fewer elements than data": _set(*_TENSOR, "shape", to=[1, 1]),
    "shape of no elements, data of some": _set(*_TENSOR, "shape", to=[0, 2]),
    "negative shape": _set(*_TENSOR, "shape", to=[-1, -1]),
    "negative shape of the right product": _set(*_TENSOR, "shape", to=[-2, -2]),
    "shape beyond 2^63": _set(*_TENSOR, "shape", to=[2**63, 2]),
    "shape whose product overflows to 0": _set(*_TENSOR, "shape", to=[2**62, 4]),
    "shape whose product overflows to 4": _set(*_TENSOR, "shape", to=[2**62 + 1, 4]),
    "shape beyond 64 bits": _set(*_TENSOR, "shape", to=[10**30]),
    "shape of 10,000 dimensions": _set(*_TENSOR, "shape", to=[1] * 10_000),
    "shape of another rank than the model's": _set(*_TENSOR, "shape", to=[1, 1, 1, 2, 2]),
    "shape of no dimension": _set(*_TENSOR, "shape", to=[]),
    "datatype that there is not": _set(*_TENSOR, "datatype", to=MARKER),
    "datatype of another model": _set(*_TENSOR, "datatype", to="INT16"),
    "empty datatype": _set(*_TENSOR, "datatype", to=""),
    "input that there is not": _set(*_TENSOR, "name", to=MARKER),
    "input without a name": _set(*_TENSOR, "name", to=""),
    "input twice": lambda document: document["inputs"].append(document["inputs"][0]),
    "an input too many": lambda document: document["inputs"].append(
        document["inputs"][0] | {"name": MARKER}
    ),
    "output that there is not": _set("outputs", to=[{"name": MARKER}]),
    "binary_data is text": _set(
        "outputs", to=[{"name": "OUTPUT0", "parameters": {"binary_data": MARKER}}]
    ),
}
# What can be coerced is left to the server by the protocol; these cannot.
WRONG_ELEMENTS: dict[str, tuple[str, list[Any]]] = {
    "text for FP32": ("FP32", [MARKER] * 4),
    "text for INT32": ("INT32", [MARKER] * 4),
    "300 for INT8": ("INT8", [300] * 4),
    "-1 for UINT8": ("UINT8", [-1] * 4),
    "2^64 for UINT64": ("UINT64", [2**64] * 4),
    "2^63 for INT64": ("INT64", [2**63] * 4),
}


def cases(target: Target) -> Iterator[Case]:
    """The cases on one model, and with identity models those of values and of two inputs."""
    subject = subject_of(target)
    for name, body in NOT_JSON.items():
        yield refusal("L0_json", name, partial(_post, model=subject.model, body=body))
    for name, spoil in (WRONG_FIELDS | WRONG_VALUES).items():
        body = subject.spoilt(spoil)
        yield _validation(name, subject.model, body)
    for name, (datatype, data) in WRONG_ELEMENTS.items():
        if target.model_of(datatype):
            other = _subject(target, datatype)
            yield _validation(name, other.model, other.spoilt(_set(*_TENSOR, "data", to=data)))
    if pair := target.model_of("FP32", "BYTES"):
        yield _validation("an input of two is missing", pair, subject.spoilt(lambda _: None))
    yield from _absent(target, subject)


def _subject(target: Target, datatype: str) -> Subject:
    name = target.model_of(datatype) or ""
    return Subject(model=name, input="INPUT0", datatype=datatype, shape=(2, 2))


def _validation(name: str, model: str, body: bytes) -> Case:
    return refusal("L0_input_validation", name, partial(_post, model=model, body=body))


def _post(caller: PlainRest, model: str, body: bytes, version: str = "") -> Any:
    return caller.post_infer(model, body, version=version)


def _absent(target: Target, subject: Subject) -> Iterator[Case]:
    body = subject.spoilt(lambda _: None)
    there_is_not = (400, 404)
    for name, model, version in (
        ("infer of a model that there is not", "no-such-model", ""),
        ("infer of a version that there is not", subject.model, "987"),
    ):
        send = partial(_post, model=model, version=version, body=body)
        yield refusal("L0_http", name, send, there_is_not)
    for path in (
        "/v2/models/no-such-model",
        "/v2/models/no-such-model/ready",
        f"/v2/models/{subject.model}/versions/987",
        f"/v2/models/{subject.model}/versions/987/ready",
        "/v2/no-such-route",
    ):
        shown = path.replace(subject.model, "<model>")
        yield refusal("L0_http", f"GET {shown}", partial(_send, "GET", path), there_is_not)
    for method, path in (
        ("POST", "/v2/health/live"),
        ("POST", "/v2/health/ready"),
        ("PUT", "/v2"),
        ("DELETE", f"/v2/models/{subject.model}"),
        ("POST", f"/v2/models/{subject.model}/ready"),
        ("GET", f"/v2/models/{subject.model}/infer"),
    ):
        shown = path.replace(subject.model, "<model>")
        yield refusal("L0_http", f"{method} {shown}", partial(_send, method, path), (405,))


def _send(method: str, path: str, caller: PlainRest) -> Any:
    return caller.request(method, path)
