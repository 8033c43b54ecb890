"""Messages that must be refused: Triton's L0_grpc and L0_input_validation."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tests.conformance.case import (
    MARKER,
    NUMBER,
    Case,
    Finding,
    RefusedError,
    Target,
    echoes,
    expect,
)

if TYPE_CHECKING:  # its messages and tritonclient's do not fit into one process
    from tests.conformance.plain_grpc import PlainGrpc

Spoil = Callable[[Any], Any]
_REFUSED = ("INVALID_ARGUMENT", "NOT_FOUND")


def _shape(*lengths: int) -> Spoil:
    def spoil(request: Any) -> None:
        del request.inputs[0].shape[:]
        request.inputs[0].shape.extend(lengths)

    return spoil


def _tensor(**fields: str) -> Spoil:
    def spoil(request: Any) -> None:
        for field, value in fields.items():
            setattr(request.inputs[0], field, value)

    return spoil


def _contents(field: str, values: list[Any]) -> Spoil:
    def spoil(request: Any) -> None:
        request.inputs[0].ClearField("contents")
        getattr(request.inputs[0].contents, field).extend(values)

    return spoil


def _raw(*blobs: bytes, keep: bool = False) -> Spoil:
    def spoil(request: Any) -> None:
        if not keep:
            request.inputs[0].ClearField("contents")
        request.raw_input_contents.extend(blobs)

    return spoil


def _twice(request: Any) -> None:
    request.inputs.append(request.inputs[0])


FP32: dict[str, Spoil] = {
    "no inputs": lambda request: request.ClearField("inputs"),
    "no contents": lambda request: request.inputs[0].ClearField("contents"),
    "contents of another datatype": _contents("int_contents", [NUMBER] * 4),
    "contents too few": _contents("fp32_contents", [NUMBER] * 3),
    "contents too many": _contents("fp32_contents", [NUMBER] * 5),
    "raw and typed contents": _raw(b"PATIENT-MARKER--", keep=True),
    "raw contents too short": _raw(MARKER.encode()[:12]),
    "raw contents too long": _raw(MARKER.encode() * 2),
    "raw contents empty": _raw(b""),
    "raw contents of more inputs than there are": _raw(b"PATIENT-MARKER--", MARKER.encode()),
    "negative shape": _shape(-1, -1),
    "negative shape of the right product": _shape(-2, -2),
    "shape whose product overflows to 0": _shape(2**62, 4),
    "shape of more elements": _shape(200, 2),
    "shape of another rank than the model's": _shape(1, 1, 2, 2),
    "shape of no dimension": _shape(),
    "datatype that there is not": _tensor(datatype=MARKER),
    "datatype of another model": _tensor(datatype="INT16"),
    "no datatype": _tensor(datatype=""),
    "input that there is not": _tensor(name=MARKER),
    "no name": _tensor(name=""),
    "input twice": _twice,
    "output that there is not": lambda request: request.outputs.add(name=MARKER),
}
OTHERS: dict[str, tuple[str, Spoil]] = {
    "300 for INT8": ("INT8", _contents("int_contents", [300] * 4)),
    "300 for UINT8": ("UINT8", _contents("uint_contents", [300] * 4)),
    "FP16 typed": ("FP16", _contents("fp32_contents", [NUMBER] * 4)),
    "the length of an element of BYTES lies": ("BYTES", _raw(b"\xff\0\0\0" + MARKER.encode())),
    "BYTES without lengths": ("BYTES", _raw(MARKER.encode() * 2)),
    "BYTES, an element too few": ("BYTES", _raw(b"\x0e\0\0\0" + MARKER.encode())),
}


def cases(target: Target) -> Iterator[Case]:
    """The cases on identity models, and those of names that there are not."""
    if model := target.model_of("FP32"):
        for name, spoil in FP32.items():
            yield _refusal("L0_input_validation", name, model, "FP32", spoil)
    for name, (datatype, spoil) in OTHERS.items():
        if other := target.model_of(datatype):
            yield _refusal("L0_input_validation", name, other, datatype, spoil)
    if (pair := target.model_of("FP32", "BYTES")) and model:
        yield _refusal("L0_input_validation", "an input of two is missing", pair, "FP32", _whole)
    known = model or target.model
    yield _refusal("L0_grpc", "infer of a model that there is not", "no-such-model", "FP32", _whole)
    yield _refusal(
        "L0_grpc", "infer of a version that there is not", known, "FP32", _tensor(), "987"
    )
    for call in ("ModelReady", "ModelMetadata"):
        for name, version in (("no-such-model", ""), (known, "987")):
            shown = f"{call} of a {'version' if version else 'model'} that there is not"
            yield _absent(call, shown, name, version)


def _whole(request: Any) -> None:
    """Nothing is spoilt but whom it is sent to."""


def _refusal(
    group: str, name: str, model: str, datatype: str, spoil: Spoil, version: str = ""
) -> Case:
    def run(caller: "PlainGrpc") -> None:
        request = caller.pb.ModelInferRequest(id=MARKER, model_name=model, model_version=version)
        tensor = request.inputs.add(name="INPUT0", datatype=datatype, shape=[2, 2])
        if datatype == "FP32":
            tensor.contents.fp32_contents.extend([NUMBER] * 4)
        spoil(request)
        _expect_refusal(caller, "ModelInfer", request)

    return Case(group=group, client="plain", protocol="gRPC", name=name, run=run)


def _absent(call: str, name: str, model: str, version: str) -> Case:
    def run(caller: "PlainGrpc") -> None:
        request = getattr(caller.pb, f"{call}Request")(name=model, version=version)
        _expect_refusal(caller, call, request, may_say_no=call == "ModelReady")

    return Case(group="L0_grpc", client="plain", protocol="gRPC", name=name, run=run)


def _expect_refusal(caller: "PlainGrpc", call: str, request: Any, may_say_no: bool = False) -> None:
    try:
        answer = caller.call(call, request)
    except RefusedError as refused:
        told = f"{refused.status}, expected {' or '.join(_REFUSED)}"
        expect(refused.status in _REFUSED, told)
        expect(not echoes(refused.message), "the error repeats what was sent")
    else:
        if not (may_say_no and not answer.ready):
            raise Finding("OK, expected a refusal")
    expect(caller.server_live(), "the server is not live after it")
