"""The protocol over gRPC with messages made by hand."""

from typing import Any

import grpc
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as stubs

from tests.conformance.case import Answer, Ask, RefusedError, Target, expect
from tests.conformance.tensors import Tensor, from_json, from_raw, to_raw

TIMEOUT_S = 30
FIELDS = {
    "BOOL": "bool_contents",
    **{f"INT{bits}": "int_contents" for bits in (8, 16, 32)},
    "INT64": "int64_contents",
    **{f"UINT{bits}": "uint_contents" for bits in (8, 16, 32)},
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Of InferTensorContents. FP16 has none: it travels raw."""


class PlainGrpc:
    """The stubs that protoc makes of the protocol's file, and nothing above them."""

    pb = pb

    def __init__(self, target: Target) -> None:
        """Connect at the first call."""
        self.target = target
        no_limit = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
        self._stub = stubs.GRPCInferenceServiceStub(grpc.insecure_channel(target.grpc, no_limit))

    def server_live(self) -> bool:
        """ServerLive."""
        return bool(self.call("ServerLive", pb.ServerLiveRequest()).live)

    def server_ready(self) -> bool:
        """ServerReady."""
        return bool(self.call("ServerReady", pb.ServerReadyRequest()).ready)

    def model_ready(self, model: str, version: str = "") -> bool:
        """ModelReady."""
        request = pb.ModelReadyRequest(name=model, version=version)
        return bool(self.call("ModelReady", request).ready)

    def server_metadata(self) -> dict[str, Any]:
        """ServerMetadata."""
        answer = self.call("ServerMetadata", pb.ServerMetadataRequest())
        return {
            "name": answer.name,
            "version": answer.version,
            "extensions": list(answer.extensions),
        }

    def model_metadata(self, model: str, version: str = "") -> dict[str, Any]:
        """ModelMetadata."""
        request = pb.ModelMetadataRequest(name=model, version=version)
        return metadata_of(self.call("ModelMetadata", request))

    def infer(self, ask: Ask) -> Answer:
        """ModelInfer, with raw or with typed contents."""
        return decode(self.call("ModelInfer", encode(ask)))

    def call(self, method: str, request: Any) -> Any:
        """Any call at all.

        Raises:
            RefusedError: with the name of the status code.
        """
        try:
            return getattr(self._stub, method)(request, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise RefusedError(error.code().name, error.details() or "") from None


def encode(ask: Ask) -> pb.ModelInferRequest:
    """The message of a request; its tensors are all raw or all typed."""
    request = pb.ModelInferRequest(id=ask.id, model_name=ask.model, model_version=ask.version)
    for key, value in ask.parameters.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param"}[type(value)]
        setattr(request.parameters[key], kind, value)
    for tensor in ask.tensors:
        entry = request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if tensor.binary:
            request.raw_input_contents.append(to_raw(tensor.array))
        else:
            values = tensor.array.ravel().tolist()
            getattr(entry.contents, FIELDS[tensor.datatype]).extend(values)
    for wanted in ask.outputs:
        request.outputs.add(name=wanted.name)
    return request


def decode(answer: pb.ModelInferResponse) -> Answer:
    """Read a response, whose outputs are raw or typed.

    Raises:
        Finding: it holds some outputs raw and has others without contents.
    """
    raw = answer.raw_output_contents
    expect(len(raw) in (0, len(answer.outputs)), "raw contents of some outputs only")
    outputs = []
    for number, output in enumerate(answer.outputs):
        if raw:
            expect(not output.HasField("contents"), f"{output.name} is raw and typed")
            array = from_raw(output.datatype, output.shape, raw[number])
        else:
            expect(output.datatype in FIELDS, f"{output.name}: typed {output.datatype}")
            typed = list(getattr(output.contents, FIELDS[output.datatype]))
            array = from_json(output.datatype, output.shape, typed)
        outputs.append(
            Tensor(name=output.name, datatype=output.datatype, array=array, binary=bool(raw))
        )
    return Answer(id=answer.id, model_name=answer.model_name, outputs=tuple(outputs))


def metadata_of(answer: Any) -> dict[str, Any]:
    """Model metadata as REST has it."""
    return {
        "name": answer.name,
        "versions": list(answer.versions),
        "platform": answer.platform,
        **{
            side: [
                {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
                for tensor in getattr(answer, side)
            ]
            for side in ("inputs", "outputs")
        },
    }
