"""The protocol over gRPC: messages, calls and errors. The messages are those of the KServe SDK."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc
import numpy as np
from grpc.aio import ServicerContext

from serving.oip.errors import BadRequestError, RequestError, let_go
from serving.oip.messages import SERVICE, pb
from serving.oip.model import Ask, Call, Gate, Kind, Model, Models
from serving.oip.rest import DEFECT, EXTENSIONS, describe, single_headers
from serving.oip.tensors import (
    DATATYPES,
    NUMPY_TYPES,
    InferRequest,
    InferResponse,
    Parameters,
    Tensor,
    Wanted,
    count_elements,
    from_raw,
    to_raw,
)
from serving.oip.wire import parse_message

_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The field that holds each datatype; FP16 has none and is sent raw."""


_CALLS = (
    "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer"
)  # fmt: skip
"""All that is offered: what loads and unloads models is answered UNIMPLEMENTED."""


class Servicer:
    """The six calls."""

    def __init__(self, models: Models, gate: Gate, identity: Mapping[str, str]) -> None:
        """Answer for `models`, through `gate`, as the server of this `name` and `version`."""
        self._models = models
        self._gate = gate
        self._identity = identity

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server of gRPC is given: requests come as bytes, to be parsed within the gate."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                call: grpc.unary_unary_rpc_method_handler(
                    getattr(self, call),
                    response_serializer=getattr(pb, f"{call}Response").SerializeToString,
                )
                for call in _CALLS
            },
        )

    async def ServerLive(self, _: bytes, __: ServicerContext) -> Any:
        """Whether this process answers."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, _: bytes, __: ServicerContext) -> Any:
        """Whether every model is ready and requests are taken."""
        return pb.ServerReadyResponse(ready=self._gate.ready and self._models.ready)

    async def ModelReady(self, request: bytes, context: ServicerContext) -> Any:
        """Whether one model is ready."""
        try:
            asked = parse_message(request, pb.ModelReadyRequest)
            model = self._models.find(asked.name, asked.version)
        except RequestError as error:
            _refuse(context, error)
            return pb.ModelReadyResponse()
        return pb.ModelReadyResponse(ready=self._gate.ready and model.ready)

    async def ServerMetadata(self, _: bytes, context: ServicerContext) -> Any:
        """Name, version and extensions."""

        async def answer(_: Call) -> Any:
            return pb.ServerMetadataResponse(**self._identity, extensions=EXTENSIONS)

        return await self._answer("read", "ServerMetadata", context, answer)

    async def ModelMetadata(self, request: bytes, context: ServicerContext) -> Any:
        """Tensors of one model."""

        async def answer(_: Call) -> Any:
            asked = parse_message(request, pb.ModelMetadataRequest)
            return pb.ModelMetadataResponse(
                **describe(self._models.find(asked.name, asked.version))
            )

        return await self._answer("read", "ModelMetadata", context, answer)

    async def ModelInfer(self, request: bytes, context: ServicerContext) -> Any:
        """The model's answer."""

        async def answer(call: Call) -> Any:
            asked = parse_message(request, pb.ModelInferRequest)
            model = self._models.find(asked.model_name, asked.model_version)
            response = await self._models.infer(model, read_request(asked), call)
            return write_response(response, model, asked)

        return await self._answer("infer", "ModelInfer", context, answer, len(request))

    async def _answer(
        self,
        kind: Kind,
        method: str,
        context: ServicerContext,
        handler: Callable[[Call], Awaitable[Any]],
        num_bytes: int = 0,
    ) -> Any:
        ask = Ask(
            kind=kind,
            route=method,
            protocol="grpc",
            headers=single_headers(context.invocation_metadata() or ()),
            peer=context.peer().partition(":")[2].rpartition(":")[0],  # ipv4:ADDRESS:PORT
            num_bytes=num_bytes,
            timeout_s=context.time_remaining(),
        )
        try:
            with self._gate.admit(ask) as call:
                call.watch.read(num_bytes)
                context.set_trailing_metadata((("traceparent", call.watch.trace.traceparent),))
                return await handler(call)
        except RequestError as error:
            _refuse(context, error)
            let_go(error)
        except Exception as error:  # the gate has seen it; grpc would tell the client its text
            context.set_code(grpc.StatusCode.INTERNAL)
            context.set_details(DEFECT)
            let_go(error)
        return getattr(pb, f"{method}Response")()


def _refuse(context: ServicerContext, error: RequestError) -> None:
    """Let an empty message go out with an error's status.

    `context.abort` raises an exception that keeps the request until garbage is collected, which
    among few and large requests is too late: 60 of 60 MiB took 6 GB.
    """
    context.set_code(grpc.StatusCode[error.grpc_code])
    context.set_details(str(error))
    context.set_trailing_metadata(
        tuple((key.lower(), value) for key, value in error.headers().items())
    )


def read_request(message: Any) -> InferRequest:
    """A message as a request. Raises BadRequestError."""
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise BadRequestError(
            f"raw_input_contents: {len(raw)} entries, expected one for each of "
            f"{len(message.inputs)} inputs"
        )
    return InferRequest(
        id=message.id,
        parameters=_read_parameters(message.parameters),
        inputs=tuple(
            _read_tensor(entry, f"inputs[{number}]", memoryview(raw[number]) if raw else None)
            for number, entry in enumerate(message.inputs)
        ),
        outputs=tuple(Wanted(name=output.name) for output in message.outputs),
    )


def write_response(response: InferResponse, model: Model, request: Any) -> Any:
    """An answer as a message, its tensors raw."""
    return pb.ModelInferResponse(
        model_name=model.name,
        model_version=model.version,
        id=request.id,
        parameters={key: _parameter(value) for key, value in response.parameters.items()},
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(
                name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
            )
            for tensor in response.outputs
        ],
        raw_output_contents=[to_raw(tensor) for tensor in response.outputs],
    )


def _read_tensor(entry: Any, where: str, raw: memoryview | None) -> Tensor:
    if entry.datatype not in DATATYPES:
        raise BadRequestError(f"{where}.datatype: expected one of {', '.join(DATATYPES)}")
    shape = tuple(entry.shape)
    parameters = _read_parameters(entry.parameters)
    if raw is not None:
        if entry.HasField("contents"):
            raise BadRequestError(f"{where}: has both contents and raw_input_contents")
        return from_raw(entry.name, entry.datatype, shape, raw, parameters, where)
    expected = count_elements(shape, f"{where}.shape")
    values = _contents(entry, where)
    if len(values) != expected:
        raise BadRequestError(
            f"{where}.contents: {len(values)} elements, expected {expected} by its shape"
        )
    return Tensor(
        name=entry.name,
        datatype=entry.datatype,
        shape=shape,
        values=values.reshape(shape) if isinstance(values, np.ndarray) else values,
        parameters=parameters,
    )


def _contents(entry: Any, where: str) -> Any:
    field = _CONTENTS.get(entry.datatype)
    if field is None:
        raise BadRequestError(f"{where}: {entry.datatype} is sent in raw_input_contents")
    values: Sequence[Any] = getattr(entry.contents, field)
    if any(name.name != field for name, _ in entry.contents.ListFields()):
        raise BadRequestError(f"{where}.contents: expected {field} for {entry.datatype}")
    if entry.datatype == "BYTES":
        return list(values)
    try:
        return np.array(values, NUMPY_TYPES[entry.datatype])
    except OverflowError:
        raise BadRequestError(f"{where}.contents: a value beyond {entry.datatype}") from None


def _read_parameters(entries: Mapping[str, Any]) -> Parameters:
    parameters: Parameters = {}
    for key, value in entries.items():
        kind = value.WhichOneof("parameter_choice")
        if kind is None:
            raise BadRequestError("parameters: one without a value")
        parameters[key] = getattr(value, kind)
    return parameters


def _parameter(value: bool | int | float | str) -> Any:
    if isinstance(value, bool):
        return pb.InferParameter(bool_param=value)
    if isinstance(value, int):
        return pb.InferParameter(int64_param=value)
    return pb.InferParameter(string_param=str(value))
