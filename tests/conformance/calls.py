"""The six calls, with and without a version in the path: Triton's L0_http and L0_grpc."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tests.conformance.case import (
    VERSION,
    Ask,
    Caller,
    Case,
    Finding,
    ModelUnderTest,
    RefusedError,
    Target,
    expect,
    expect_same,
)
from tests.conformance.tensors import DATATYPES, Tensor, sample

GROUPS = {"REST": "L0_http", "gRPC": "L0_grpc"}
REFUSED = ("400", "404", "NOT_FOUND", "INVALID_ARGUMENT")
"""How a server says no; also to a version in the path, when its metadata names none."""

Check = Callable[[Caller], None]


def cases(target: Target) -> Iterator[Case]:
    """The cases of the six calls; KServe's clients have no metadata and no versions."""
    for protocol, group in GROUPS.items():
        for client in ("plain", "kserve", "triton"):
            for name, run in _checks(target, client != "kserve"):
                yield Case(group=group, client=client, protocol=protocol, name=name, run=run)


def _checks(target: Target, whole: bool) -> Iterator[tuple[str, Check]]:
    model = target.models[0].name if target.models else target.model
    yield "server live", lambda caller: expect(caller.server_live(), "not live")
    yield "server ready", lambda caller: expect(caller.server_ready(), "not ready")
    yield "model ready", lambda caller: expect(caller.model_ready(model), "not ready")
    if whole:
        yield "server metadata", _check_server_metadata
        yield "model ready, with version", partial(_check_version_ready, model=model)
        yield "model metadata, with version", partial(_check_version_metadata, model=model)
        if not target.models:
            yield f"model metadata of {model}", partial(_check_any_metadata, model=model)
    for under_test in target.models:
        if whole:
            check = partial(_check_metadata, model=under_test)
            yield f"model metadata of {under_test.name}", check
    fp32 = target.model_of("FP32")
    if fp32:
        yield "infer", partial(_check_infer, model=fp32)
        if whole:
            yield "infer, with version", partial(_check_version_infer, model=fp32)
        for name, model, datatype in (
            ("a refused model is told", "no-such-model", "FP32"),
            ("a refused datatype is told", fp32, "INT16"),
        ):
            yield name, partial(_check_refusal, model=model, datatype=datatype)


def _check_server_metadata(caller: Caller) -> None:
    metadata = caller.server_metadata()
    for field in ("name", "version"):
        expect(isinstance(metadata.get(field), str), f"{field}: expected a text")
    extensions = metadata.get("extensions", [])  # protobuf's JSON leaves an empty list out
    texts = isinstance(extensions, list) and all(isinstance(text, str) for text in extensions)
    expect(texts, "extensions: expected a list of texts")


def _check_any_metadata(caller: Caller, model: str) -> None:
    metadata = caller.model_metadata(model)
    expect(metadata.get("name") == model, "another name than was asked for")
    expect(isinstance(metadata.get("platform"), str), "platform: expected a text")
    for side in ("inputs", "outputs"):
        expect(bool(metadata.get(side)), f"{side}: none")
        for tensor in metadata[side]:
            expect(tensor.get("datatype") in DATATYPES, f"{side}: a datatype that there is not")


def _check_metadata(caller: Caller, model: ModelUnderTest) -> None:
    _check_any_metadata(caller, model.name)
    metadata = caller.model_metadata(model.name)
    for side, prefix in (("inputs", "INPUT"), ("outputs", "OUTPUT")):
        told = [(t["name"], t["datatype"], t["shape"]) for t in metadata[side]]
        true = [(f"{prefix}{at}", name, [-1, -1]) for at, name in enumerate(model.datatypes)]
        expect(told == true, f"{side}: other names, datatypes or shapes than the model's")


def _check_infer(caller: Caller, model: str, version: str = "") -> None:
    sent = (Tensor(name="INPUT0", datatype="FP32", array=sample("FP32")),)
    answer = caller.infer(Ask(model=model, tensors=sent, version=version, binary_output=True))
    expect_same(sent, answer)
    expect(answer.model_name == model, "model_name: another than was asked")


def _check_refusal(caller: Caller, model: str, datatype: str) -> None:
    """The client raises its own error, with the server's words in it."""
    sent = (Tensor(name="INPUT0", datatype=datatype, array=sample(datatype)),)
    try:
        caller.infer(Ask(model=model, tensors=sent, binary_output=True))
    except RefusedError as refused:
        told = f"{refused.status}, expected one of {', '.join(REFUSED)}"
        expect(refused.status in REFUSED, told)
        expect(bool(refused.message), "the client found no words in the refusal")
        expect("exception occurred in the client" not in refused.message, "unreadable refusal")
    else:
        raise Finding("the client was not refused")


def _check_version_ready(caller: Caller, model: str) -> None:
    def ask(version: str) -> None:
        expect(caller.model_ready(model, version), f"version {version} is not ready")

    _with_version(caller, model, ask)


def _check_version_metadata(caller: Caller, model: str) -> None:
    def ask(version: str) -> None:
        metadata = caller.model_metadata(model, version)
        expect(metadata.get("name") == model, "another name than was asked for")

    _with_version(caller, model, ask)


def _check_version_infer(caller: Caller, model: str) -> None:
    _with_version(caller, model, lambda version: _check_infer(caller, model, version))


def _with_version(caller: Caller, model: str, ask: Callable[[str], Any]) -> None:
    versions = caller.model_metadata(model).get("versions") or []
    if versions:
        ask(versions[0])
        return
    try:
        ask(VERSION)
    except RefusedError as refusal:
        told = f"{refusal.status} for a version, of which there are none: expected 400 or 404"
        expect(refusal.status in REFUSED, told)
