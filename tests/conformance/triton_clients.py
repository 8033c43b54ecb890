"""The protocol through NVIDIA's two clients of Triton, which speak binary by default.

Its gRPC stubs and KServe's define the same messages, so one process can hold only one of them.
"""

from typing import Any

import tritonclient.grpc as over_grpc  # type: ignore[import-untyped]
import tritonclient.http as over_http  # type: ignore[import-untyped]
from tritonclient.utils import InferenceServerException  # type: ignore[import-untyped]

from tests.conformance.case import Answer, Ask, RefusedError, Target, Wanted
from tests.conformance.tensors import Tensor, bytes_array

_TIMEOUT_S = 30


class TritonRest:
    """tritonclient.http."""

    def __init__(self, target: Target) -> None:
        """Connect at the first call."""
        self.target = target
        self._client = over_http.InferenceServerClient(
            target.url.split("://")[-1], network_timeout=_TIMEOUT_S
        )

    def server_live(self) -> bool:
        """Server live."""
        return bool(self._client.is_server_live())

    def server_ready(self) -> bool:
        """Server ready."""
        return bool(self._client.is_server_ready())

    def model_ready(self, model: str, version: str = "") -> bool:
        """Model ready."""
        return bool(self._client.is_model_ready(model, version))

    def server_metadata(self) -> dict[str, Any]:
        """Server metadata."""
        return dict(_told(self._client.get_server_metadata))

    def model_metadata(self, model: str, version: str = "") -> dict[str, Any]:
        """Model metadata."""
        return dict(_told(self._client.get_model_metadata, model, version))

    def infer(self, ask: Ask) -> Answer:
        """Infer."""
        inputs = []
        for tensor in ask.tensors:
            entry = over_http.InferInput(tensor.name, tensor.shape, tensor.datatype)
            inputs.append(entry.set_data_from_numpy(tensor.array, binary_data=tensor.binary))
        wanted = ask.outputs
        if not (wanted or ask.binary_output):  # it gets JSON only of outputs that it names
            wanted = tuple(Wanted(name=t.name.replace("INPUT", "OUTPUT")) for t in ask.tensors)
        outputs = [
            over_http.InferRequestedOutput(output.name, binary_data=bool(output.binary))
            for output in wanted
        ]
        result = _told(self._client.infer, ask.model, inputs, **_common(ask, outputs))
        document = result.get_response()
        return Answer(
            id=document.get("id") or "",
            model_name=document["model_name"],
            outputs=tuple(
                _tensor(result, output["name"], output["datatype"])
                for output in document["outputs"]
            ),
        )


class TritonGrpc:
    """tritonclient.grpc, which sends raw contents only."""

    def __init__(self, target: Target) -> None:
        """Connect at the first call."""
        self.target = target
        self._client = over_grpc.InferenceServerClient(target.grpc)

    def server_live(self) -> bool:
        """ServerLive."""
        return bool(_told(self._client.is_server_live))

    def server_ready(self) -> bool:
        """ServerReady."""
        return bool(_told(self._client.is_server_ready))

    def model_ready(self, model: str, version: str = "") -> bool:
        """ModelReady."""
        return bool(_told(self._client.is_model_ready, model, version))

    def server_metadata(self) -> dict[str, Any]:
        """ServerMetadata."""
        document: dict[str, Any] = _told(self._client.get_server_metadata, as_json=True)
        return {"name": "", "version": ""} | document

    def model_metadata(self, model: str, version: str = "") -> dict[str, Any]:
        """ModelMetadata; protobuf's JSON writes shapes as text and leaves out what is empty."""
        document: dict[str, Any] = _told(
            self._client.get_model_metadata, model, version, as_json=True
        )
        for side in ("inputs", "outputs"):
            for tensor in document.get(side, []):
                tensor["shape"] = [int(length) for length in tensor.get("shape", [])]
        return {"platform": ""} | document

    def infer(self, ask: Ask) -> Answer:
        """ModelInfer."""
        inputs = []
        for tensor in ask.tensors:
            entry = over_grpc.InferInput(tensor.name, tensor.shape, tensor.datatype)
            inputs.append(entry.set_data_from_numpy(tensor.array))
        outputs = [over_grpc.InferRequestedOutput(wanted.name) for wanted in ask.outputs]
        result = _told(self._client.infer, ask.model, inputs, **_common(ask, outputs))
        message = result.get_response()
        return Answer(
            id=message.id,
            model_name=message.model_name,
            outputs=tuple(
                _tensor(result, output.name, output.datatype) for output in message.outputs
            ),
        )


def _common(ask: Ask, outputs: list[Any]) -> dict[str, Any]:
    return {
        "model_version": ask.version,
        "request_id": ask.id,
        "outputs": outputs or None,
        "parameters": dict(ask.parameters) or None,
    }


def _told(call: Any, *arguments: Any, **named: Any) -> Any:
    try:
        return call(*arguments, **named)
    except InferenceServerException as error:
        status = (error.status() or "").removeprefix("StatusCode.")
        raise RefusedError(status, error.message()) from None


def _tensor(result: Any, name: str, datatype: str) -> Tensor:
    array = result.as_numpy(name)
    if datatype == "BYTES":
        elements = [v.encode() if isinstance(v, str) else bytes(v) for v in array.ravel()]
        array = bytes_array(elements, array.shape)
    return Tensor(name=name, datatype=datatype, array=array)
