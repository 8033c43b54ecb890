"""The protocol through KServe's own two clients."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import grpc
import httpx
import numpy as np
from kserve import (
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferRequest,
    InferResponse,
    RESTConfig,
)
from kserve.protocol.infer_type import RequestedOutput

from tests.conformance.case import Answer, Ask, RefusedError, Target
from tests.conformance.tensors import NUMPY_TYPES, Tensor, bytes_array

_TIMEOUT_S = 30


class KserveRest:
    """InferenceRESTClient, which has no call for metadata and none with a version."""

    def __init__(self, target: Target) -> None:
        """Connect at the first call."""
        self.target = target
        self._runner = asyncio.Runner()
        config = RESTConfig(protocol="v2", timeout=_TIMEOUT_S, transport=httpx.AsyncHTTPTransport())
        self._client = InferenceRESTClient(config)

    def server_live(self) -> bool:
        """Server live."""
        return bool(self._wait(self._client.is_server_live(self.target.url)))

    def server_ready(self) -> bool:
        """Server ready."""
        return bool(self._wait(self._client.is_server_ready(self.target.url)))

    def model_ready(self, model: str, version: str = "") -> bool:
        """Model ready."""
        return bool(self._wait(self._client.is_model_ready(self.target.url, model)))

    def infer(self, ask: Ask) -> Answer:
        """Infer."""
        request = to_request(ask)
        return to_answer(self._wait(self._client.infer(self.target.url, request, ask.model)))

    def _wait(self, call: Awaitable[Any]) -> Any:
        async def answer() -> Any:
            return await call

        try:
            return self._runner.run(answer())
        except httpx.HTTPStatusError as error:
            raise RefusedError(str(error.response.status_code), error.response.text) from None


class KserveGrpc:
    """InferenceGRPCClient, which has no call for metadata."""

    def __init__(self, target: Target) -> None:
        """Connect at the first call."""
        self.target = target
        self._runner = asyncio.Runner()
        self._client = self._runner.run(self._connect())

    async def _connect(self) -> Any:
        no_limit = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
        return InferenceGRPCClient(self.target.grpc, timeout=_TIMEOUT_S, channel_args=no_limit)

    def server_live(self) -> bool:
        """ServerLive."""
        return bool(self._wait(self._client.is_server_live()))

    def server_ready(self) -> bool:
        """ServerReady."""
        return bool(self._wait(self._client.is_server_ready()))

    def model_ready(self, model: str, version: str = "") -> bool:
        """ModelReady."""
        return bool(self._wait(self._client.is_model_ready(model)))

    def infer(self, ask: Ask) -> Answer:
        """ModelInfer."""
        return to_answer(self._wait(self._client.infer(to_request(ask))))

    def _wait(self, call: Awaitable[Any]) -> Any:
        async def answer() -> Any:
            return await call

        try:
            return self._runner.run(answer())
        except grpc.RpcError as error:
            raise RefusedError(error.code().name, error.details() or "") from None


def to_request(ask: Ask) -> InferRequest:
    """The library's own request."""
    inputs = []
    for tensor in ask.tensors:
        entry = InferInput(tensor.name, tensor.shape, tensor.datatype)
        entry.set_data_from_numpy(tensor.array, binary_data=tensor.binary)
        inputs.append(entry)
    parameters: dict[str, Any] = dict(ask.parameters)
    if ask.binary_output:
        parameters["binary_data_output"] = True
    outputs = [
        RequestedOutput(
            wanted.name, None if wanted.binary is None else {"binary_data": wanted.binary}
        )
        for wanted in ask.outputs
    ]
    return InferRequest(
        ask.model,
        inputs,
        request_id=ask.id,
        parameters=parameters or None,
        request_outputs=outputs or None,
        model_version=ask.version or None,
    )


def to_answer(response: InferResponse) -> Answer:
    """The library's own response, with its tensors as it reads them."""
    outputs = []
    for output in response.outputs:
        array = output.as_numpy()
        if output.datatype == "BYTES":
            elements = [v.encode() if isinstance(v, str) else bytes(v) for v in array.ravel()]
            array = bytes_array(elements, array.shape)
        dtype = np.dtype(NUMPY_TYPES[output.datatype])
        outputs.append(
            Tensor(name=output.name, datatype=output.datatype, array=array.astype(dtype))
        )
    return Answer(id=response.id, model_name=response.model_name, outputs=tuple(outputs))
