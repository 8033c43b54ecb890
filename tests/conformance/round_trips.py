"""What an identity model is sent it gives back: every datatype, form and client.

Groups: L0_json and L0_binary over REST, L0_grpc, and what one kind of value needs: L0_infer_zero,
L0_large_payload. `special_values` has the rest.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from tests.conformance.case import Ask, Caller, Case, Target, Wanted, expect, expect_same
from tests.conformance.tensors import DATATYPES, Tensor, bytes_array, sample

CLIENTS = ("plain", "kserve", "triton")
_LARGE = np.arange(786_432, dtype="<f4").reshape(768, 1024)
"""3 MiB; in JSON about 7 MB."""


def cases(target: Target) -> Iterator[Case]:
    """All round trips; none without identity models."""
    for datatype in DATATYPES:
        if model := target.model_of(datatype):
            yield from _of_datatype(model, datatype)
    if model := target.model_of("FP32"):
        yield from _of_one_model(model)
    if model := target.model_of("BYTES"):
        yield from _zero(model, "BYTES")
    if pair := target.model_of("FP32", "BYTES"):
        yield from _of_pair(pair)


def _of_datatype(model: str, datatype: str) -> Iterator[Case]:
    array = sample(datatype)
    for client in CLIENTS:
        if datatype != "FP16":  # it has no form in JSON, and no typed contents
            run = partial(round_trip, model=model, sent=(_input(datatype, array, False),))
            yield _rest("L0_json", client, datatype, run)
            if client != "triton":
                yield _grpc(client, f"{datatype}, typed", run)
        binary = (_input(datatype, array, True),)
        run = partial(round_trip, model=model, sent=binary, binary_output=True)
        yield _rest("L0_binary", client, datatype, run)
        yield _grpc(client, f"{datatype}, raw", run)


def _of_one_model(model: str) -> Iterator[Case]:
    array = sample("FP32")
    for client in CLIENTS:
        for name, binary in (("JSON in, binary out", False), ("binary in, JSON out", True)):
            sent = (_input("FP32", array, binary),)
            run = partial(round_trip, model=model, sent=sent, binary_output=not binary)
            yield _rest("L0_binary", client, name, run)
        for protocol, group in (("REST", "L0_http"), ("gRPC", "L0_grpc")):
            for name, check in (("id comes back", _check_id), ("parameters", _check_parameters)):
                run = partial(check, model=model)
                yield Case(group=group, client=client, protocol=protocol, name=name, run=run)
        large = partial(round_trip, model=model, sent=(_input("FP32", _LARGE, True),))
        yield _rest("L0_large_payload", client, "3 MiB, binary", partial(large, binary_output=True))
        yield _grpc(client, "3 MiB, raw", large, "L0_large_payload")
    run = partial(round_trip, model=model, sent=(_input("FP32", _LARGE[:128], False),))
    yield _rest("L0_large_payload", "plain", "131,072 values, JSON", run)
    yield _grpc("plain", "131,072 values, typed", run, "L0_large_payload")
    yield from _zero(model, "FP32")


def _zero(model: str, datatype: str) -> Iterator[Case]:
    for shape in ((0, 4), (3, 0)):
        array = sample(datatype)[:0].reshape(shape)
        for client in CLIENTS:
            for form, binary in (("JSON", False), ("binary", True)):
                # KServe's client sends an empty tensor as null when it is to be binary.
                if (client, form) == ("kserve", "binary"):
                    continue
                run = partial(
                    round_trip,
                    model=model,
                    sent=(_input(datatype, array, binary),),
                    binary_output=binary,
                )
                name = f"{datatype} of {list(shape)}, {form}"
                yield _rest("L0_infer_zero", client, name, run)
            run = partial(round_trip, model=model, sent=(_input(datatype, array, True),))
            yield _grpc(client, f"{datatype} of {list(shape)}, raw", run, "L0_infer_zero")


def _of_pair(model: str) -> Iterator[Case]:
    for client in CLIENTS:
        for first, second in ((True, False), (False, True)):
            sent = _pair(first, second)
            name = f"FP32 {'binary' if first else 'JSON'}, BYTES {'binary' if second else 'JSON'}"
            run = partial(round_trip, model=model, sent=sent, binary_output=True)
            yield _rest("L0_binary", client, name, run)
        for protocol, group in (("REST", "L0_http"), ("gRPC", "L0_grpc")):
            for name, wanted in (
                ("one output of two", ("OUTPUT1",)),
                ("outputs in the order asked for", ("OUTPUT1", "OUTPUT0")),
                ("no output named means all", ()),
            ):
                run = partial(_check_outputs, model=model, wanted=wanted)
                yield Case(group=group, client=client, protocol=protocol, name=name, run=run)
    for first, second in ((True, False), (False, True)):
        name = f"{'OUTPUT0' if first else 'OUTPUT1'} binary, the other JSON"
        run = partial(_check_forms, model=model, forms=(first, second))
        yield _rest("L0_binary", "plain", name, run)
    run = partial(_check_overrides, model=model)
    yield _rest("L0_binary", "plain", "binary_data of an output before binary_data_output", run)


def round_trip(
    caller: Caller, *, model: str, sent: tuple[Tensor, ...], binary_output: bool = False
) -> None:
    """Send tensors to an identity model and expect them back."""
    expect_same(sent, caller.infer(Ask(model=model, tensors=sent, binary_output=binary_output)))


def _check_id(caller: Caller, model: str) -> None:
    sent = (_input("FP32", sample("FP32"), True),)
    answer = caller.infer(Ask(model=model, tensors=sent, id="study 7/é", binary_output=True))
    expect(answer.id == "study 7/é", "id: another than was sent")


def _check_parameters(caller: Caller, model: str) -> None:
    sent = (_input("FP32", sample("FP32"), True),)
    parameters: dict[str, str | int | bool] = {"text": "a", "number": 3, "flag": True}
    expect_same(sent, caller.infer(Ask(model=model, tensors=sent, parameters=parameters)))


def _check_outputs(caller: Caller, model: str, wanted: tuple[str, ...]) -> None:
    sent = _pair(True, True)
    outputs = tuple(Wanted(name=name, binary=True) for name in wanted)
    answer = caller.infer(Ask(model=model, tensors=sent, outputs=outputs, binary_output=True))
    by_name = {tensor.name.replace("INPUT", "OUTPUT"): tensor for tensor in sent}
    expect_same([by_name[name] for name in wanted or by_name], answer)


def _check_forms(caller: Caller, model: str, forms: tuple[bool, bool]) -> None:
    sent = _pair(True, True)
    outputs = tuple(
        Wanted(name=f"OUTPUT{at}", binary=form or None) for at, form in enumerate(forms)
    )
    answer = caller.infer(Ask(model=model, tensors=sent, outputs=outputs))
    expect_same(sent, answer)
    expect([o.binary for o in answer.outputs] == list(forms), "an output in the other form")


def _check_overrides(caller: Caller, model: str) -> None:
    sent = _pair(True, True)
    outputs = (Wanted(name="OUTPUT0"), Wanted(name="OUTPUT1", binary=False))
    answer = caller.infer(Ask(model=model, tensors=sent, outputs=outputs, binary_output=True))
    expect_same(sent, answer)
    expect([o.binary for o in answer.outputs] == [True, False], "an output in the other form")


def _pair(first: bool, second: bool) -> tuple[Tensor, Tensor]:
    # Plain ASCII that is no base64 would be refused by servers that read BYTES in JSON as such.
    texts = bytes_array([b"QUJD", b"YQ=="], (1, 2))
    return (
        Tensor(name="INPUT0", datatype="FP32", array=sample("FP32"), binary=first),
        Tensor(name="INPUT1", datatype="BYTES", array=texts, binary=second),
    )


def _input(datatype: str, array: Any, binary: bool) -> Tensor:
    return Tensor(name="INPUT0", datatype=datatype, array=array, binary=binary)


def _rest(group: str, client: str, name: str, run: Any) -> Case:
    return Case(group=group, client=client, protocol="REST", name=name, run=run)


def _grpc(client: str, name: str, run: Any, group: str = "L0_grpc") -> Case:
    return Case(group=group, client=client, protocol="gRPC", name=name, run=run)
