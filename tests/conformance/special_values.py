"""Values that JSON cannot say or that strings make hard: Triton's L0_nan_inf and L0_string_io.

Where the protocol is silent a server has the choice that the docstrings name; it has never the
choice to answer with other values, or with a 5xx.
"""

import base64
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from tests.conformance.case import Ask, Caller, Case, Finding, RefusedError, Target, expect
from tests.conformance.plain_rest import PlainRest, decode
from tests.conformance.round_trips import CLIENTS, round_trip
from tests.conformance.tensors import Tensor, bytes_array

_NOT_FINITE = np.array([[np.nan, np.inf, -np.inf, 0.5]], "<f4")
_STRINGS = {
    "empty strings": (b"", b"", b"a"),
    "bytes that are no UTF-8": (b"\xff\xfe", b"\x80", b"\xff\xd8\xff\xe0"),
    "NUL bytes at the end": (b"a\0", b"\0\0", b"\0"),
    "an element of 2 MB": (b"ab" * 1_000_000, b"", b"c"),
    "UTF-8 text": ("Röntgen".encode(), "手".encode(), b'\n\t"\\'),
}


def cases(target: Target) -> Iterator[Case]:
    """The cases of both groups; none without identity models."""
    if model := target.model_of("FP32"):
        yield from _not_finite(model)
    if model := target.model_of("BYTES"):
        yield from _strings(model)


def _not_finite(model: str) -> Iterator[Case]:
    group = "L0_nan_inf"
    sent = Tensor(name="INPUT0", datatype="FP32", array=_NOT_FINITE)
    run: Any = partial(_check_not_finite, model=model, sent=sent)
    for client in CLIENTS:
        for protocol, form in (("REST", "binary"), ("gRPC", "raw")):
            name = f"NaN and Infinity, {form}"
            yield Case(group=group, client=client, protocol=protocol, name=name, run=run)
    typed = Tensor(name="INPUT0", datatype="FP32", array=_NOT_FINITE, binary=False)
    run = partial(_check_not_finite, model=model, sent=typed)
    name = "NaN and Infinity, typed"
    yield Case(group=group, client="plain", protocol="gRPC", name=name, run=run)
    for name, literal in (("NaN", "NaN"), ("Infinity", "Infinity"), ("1e39", "1e39")):
        run = partial(_check_json_literal, model=model, literal=literal)
        name = f"{name} in the JSON of a request"
        yield Case(group=group, client="plain", protocol="REST", name=name, run=run)
    run = partial(_check_json_answer, model=model, sent=sent)
    name = "NaN in an answer that is asked for as JSON"
    yield Case(group=group, client="plain", protocol="REST", name=name, run=run)


def _strings(model: str) -> Iterator[Case]:
    for name, elements in _STRINGS.items():
        array = bytes_array(elements, (1, 3))
        for client in CLIENTS:
            raw = (Tensor(name="INPUT0", datatype="BYTES", array=array),)
            run: Any = partial(round_trip, model=model, sent=raw, binary_output=True)
            # KServe's client decodes what it gets as UTF-8, and raises an error of its own.
            if (client, name) != ("kserve", "bytes that are no UTF-8"):
                yield _strings_case(client, "REST", f"{name}, binary", run)
            yield _strings_case(client, "gRPC", f"{name}, raw", run)
        typed = (Tensor(name="INPUT0", datatype="BYTES", array=array, binary=False),)
        run = partial(round_trip, model=model, sent=typed)
        yield _strings_case("plain", "gRPC", f"{name}, typed", run)
    run = partial(_check_text, model=model)
    yield _strings_case("plain", "REST", "UTF-8 text, JSON", run)
    run = partial(_check_bytes_as_json, model=model)
    yield _strings_case("plain", "REST", "bytes that are no UTF-8, asked for as JSON", run)
    run = partial(_check_json_to_binary, model=model)
    yield _strings_case("plain", "REST", "JSON in, binary out", run)


def _strings_case(client: str, protocol: str, name: str, run: Any) -> Case:
    return Case(group="L0_string_io", client=client, protocol=protocol, name=name, run=run)


def _check_not_finite(caller: Caller, model: str, sent: Tensor) -> None:
    answer = caller.infer(Ask(model=model, tensors=(sent,), binary_output=True))
    same = np.array_equal(answer.outputs[0].array, sent.array, equal_nan=True)
    expect(same, "OUTPUT0: other values than were sent")


def _check_json_literal(caller: PlainRest, model: str, literal: str) -> None:
    """RFC 8259 has no NaN: a refusal is right; so is taking it, as Triton does."""
    tensor = f'{{"name": "INPUT0", "datatype": "FP32", "shape": [1, 1], "data": [{literal}]}}'
    answer = caller.post_infer(model, f'{{"inputs": [{tensor}]}}'.encode())
    if answer.status_code == 200:
        with np.errstate(over="ignore"):
            true = np.array([[float(literal)]]).astype("<f4")
        got = decode(answer).outputs[0].array
        expect(np.array_equal(got, true, equal_nan=True), f"{literal} became another value")
    else:
        caller.expect_refusal(answer)


def _check_json_answer(caller: PlainRest, model: str, sent: Tensor) -> None:
    """A refusal, or words that a reader of numbers knows; null loses which of the three it was."""
    try:
        answer = caller.infer(Ask(model=model, tensors=(sent,)))
    except RefusedError as refusal:
        expect(refusal.status.startswith("4"), f"status {refusal.status}, expected 4xx or 200")
        return
    except (TypeError, ValueError):
        raise Finding("NaN became null in the answer") from None
    same = np.array_equal(answer.outputs[0].array, sent.array, equal_nan=True)
    expect(same, "NaN or Infinity became null or another value in the answer")


def _check_text(caller: PlainRest, model: str) -> None:
    """BYTES in JSON may be text, or base64 alone: then this text is refused (OIP issue 12)."""
    elements = _STRINGS["UTF-8 text"]
    sent = Tensor(
        name="INPUT0", datatype="BYTES", array=bytes_array(elements, (1, 3)), binary=False
    )
    try:
        answer = caller.infer(Ask(model=model, tensors=(sent,)))
    except RefusedError as refusal:
        expect(refusal.status.startswith("4"), f"status {refusal.status}, expected 4xx or 200")
        return
    got = [bytes(element) for element in answer.outputs[0].array.ravel()]
    expect(got == list(elements), "other text than was sent")


def _check_bytes_as_json(caller: PlainRest, model: str) -> None:
    """JSON holds no such bytes: a refusal, or base64."""
    elements = _STRINGS["bytes that are no UTF-8"]
    sent = Tensor(name="INPUT0", datatype="BYTES", array=bytes_array(elements, (1, 3)))
    try:
        answer = caller.infer(Ask(model=model, tensors=(sent,)))
    except RefusedError as refusal:
        expect(refusal.status.startswith("4"), f"status {refusal.status}, expected 4xx or 200")
        return
    told = [bytes(element) for element in answer.outputs[0].array.ravel()]
    expect(
        told == [base64.b64encode(element) for element in elements], "neither refused nor base64"
    )


def _check_json_to_binary(caller: PlainRest, model: str) -> None:
    """The element is the text, or what the text is base64 of; nothing else."""
    tensor = {"name": "INPUT0", "datatype": "BYTES", "shape": [1, 1], "data": ["QUJD"]}
    document = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    answer = decode(caller.post_infer(model, json.dumps(document).encode()))
    told = [bytes(element) for element in answer.outputs[0].array.ravel()]
    expect(told in ([b"QUJD"], [b"ABC"]), "the element is neither the text nor its base64")
