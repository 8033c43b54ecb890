"""Requests with bytes behind the JSON that must be refused: Triton's L0_binary."""

import json
import struct
from collections.abc import Iterator
from functools import partial
from typing import Any

from tests.conformance.case import MARKER, Case, Target
from tests.conformance.plain_rest import PlainRest
from tests.conformance.subject import Document, Subject, refusal, subject_of

_BYTES = MARKER.encode()
_SIZES: dict[str, Any] = {
    "binary_data_size is negative": -1,
    "binary_data_size is text": "16",
    "binary_data_size is a fraction": 16.5,
    "binary_data_size is true": True,
    "binary_data_size beyond the body": 10**6,
    "binary_data_size beyond 64 bits": 10**30,
    "binary_data_size less than the body": 8,
}
_HEADERS = {
    "beyond the body": "1000000",
    "beyond 64 bits": "9" * 30,
    "negative": "-1",
    "not a number": MARKER,
    "a fraction": "10.5",
    "empty": "",
    "0": "0",
    "in the middle of the JSON": "20",
    "one byte short": "-one",
}
_ELEMENTS = {
    "the length of an element lies": struct.pack("<I", 1000) + _BYTES,
    "the length of an element is 2^32 - 1": struct.pack("<I", 2**32 - 1) + _BYTES,
    "the last length is cut off": struct.pack("<I", len(_BYTES)) + _BYTES + b"\x01\0",
    "an element too few": struct.pack("<I", len(_BYTES)) + _BYTES,
    "an element too many": (struct.pack("<I", len(_BYTES)) + _BYTES) * 3,
    "no element": b"",
    "no lengths at all": _BYTES * 2,
}


def cases(target: Target) -> Iterator[Case]:
    """The cases on one model, and those of the elements of BYTES on one that takes them."""
    subject = subject_of(target)
    # 16 bytes: right for the identity model of FP32, wrong for whatever else there is.
    tail = (_BYTES * 2)[:16]
    for name, size in _SIZES.items():
        yield _refusal(name, subject, _document(subject, size), tail)
    for name, value in _HEADERS.items():
        head = json.dumps(_document(subject, 16)).encode()
        length = str(len(head) - 1) if value == "-one" else value
        yield _refusal(f"header length is {name}", subject, head, tail, length)
    for name, (size, body) in {
        "fewer bytes than the shape": (12, tail[:12]),
        "more bytes than the shape": (20, _BYTES * 2),
        "no bytes": (0, b""),
        "bytes that belong to no tensor": (16, tail + _BYTES),
    }.items():
        yield _refusal(name, subject, _document(subject, size), body)
    both = _document(subject, 16)
    both["inputs"][0]["data"] = subject.document()["inputs"][0]["data"]
    yield _refusal("data and binary_data_size", subject, both, tail)
    neither = _document(subject, 16)
    del neither["inputs"][0]["parameters"]
    yield _refusal("neither data nor binary_data_size", subject, neither, tail)
    overflow = _document(subject, 16)
    overflow["inputs"][0]["shape"] = [2**62, 4]
    yield _refusal("shape whose product overflows to 0", subject, overflow, tail)
    run = partial(
        _without_header, body=json.dumps(_document(subject, 16)).encode(), subject=subject
    )
    yield refusal("L0_binary", "binary_data_size without the header", run)
    if target.model_of("BYTES"):
        yield from _elements(subject_of(target, "BYTES"))
    if target.model_of("BOOL"):
        boolean = Subject(
            model=target.model_of("BOOL") or "", input="INPUT0", datatype="BOOL", shape=(2, 2)
        )
        yield _refusal("a BOOL of 7 raw", boolean, _document(boolean, 4), b"\0\x01\x07\0")


def _elements(subject: Subject) -> Iterator[Case]:
    for name, raw in _ELEMENTS.items():
        yield _refusal(f"BYTES: {name}", subject, _document(subject, len(raw)), raw)


def _document(subject: Subject, size: Any) -> Document:
    document = subject.document()
    tensor = document["inputs"][0]
    del tensor["data"]
    tensor["parameters"] = {"binary_data_size": size}
    return document


def _refusal(
    name: str,
    subject: Subject,
    head: Document | bytes,
    tail: bytes,
    header_length: str | None = None,
) -> Case:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()

    def send(caller: PlainRest) -> Any:
        return caller.post_infer(subject.model, text, tail, header_length=header_length)

    return refusal("L0_binary", name, send)


def _without_header(caller: PlainRest, body: bytes, subject: Subject) -> Any:
    return caller.post_infer(subject.model, body)
