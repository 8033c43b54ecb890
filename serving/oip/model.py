"""What stands behind both protocols: models, and the gate that every request passes."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from serving.oip.errors import BadRequestError, NotFoundError, NotReadyError
from serving.oip.tensors import InferRequest, InferResponse, TensorSpec
from serving.watch.request import Watch

Kind = Literal["read", "infer"]
"""What a request wants: to know what is served, or an answer. Whether we are there all may know."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """A request as it is known before its body is read."""

    kind: Kind
    route: str
    """The path's template, or the method of gRPC."""
    protocol: Literal["rest", "grpc"]
    headers: Mapping[str, str]
    """Names in lower case."""
    peer: str
    """Address of the client."""
    num_bytes: int | None
    """Of the body; None when it is not said."""
    timeout_s: float | None = None
    """What the client itself allows, where the protocol tells."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A request that was let in."""

    client: str
    deadline_s: float
    """On the clock of `time.monotonic`."""
    watch: Watch
    """Is told what happens to it."""


class Gate(Protocol):
    """Lets requests in, and watches them until they are answered."""

    def admit(self, ask: Ask) -> AbstractContextManager[Call]:
        """Let a request in for as long as the context lasts. Raises RequestError."""

    @property
    def max_body_bytes(self) -> int:
        """The largest body that is read."""

    @property
    def ready(self) -> bool:
        """Whether requests are taken: false as soon as this process is about to leave."""


class Model(Protocol):
    """One version of a model."""

    @property
    def name(self) -> str:
        """As in the path."""

    @property
    def version(self) -> str:
        """The only one that is served under this name."""

    @property
    def platform(self) -> str:
        """`framework_format`, as the metadata tells it."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """What it takes."""

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """What it gives."""

    @property
    def ready(self) -> bool:
        """Whether it is loaded and warm."""

    async def infer(self, request: InferRequest, call: Call) -> InferResponse:
        """Answer a request whose tensors fit `inputs`. Raises RequestError."""


class Models:
    """The models of a server, by name."""

    def __init__(self, models: Sequence[Model]) -> None:
        """Serve these."""
        self._models = {model.name: model for model in models}

    @property
    def names(self) -> list[str]:
        """Of all of them."""
        return sorted(self._models)

    @property
    def ready(self) -> bool:
        """Whether there is one, and all of them are ready."""
        return bool(self._models) and all(model.ready for model in self._models.values())

    def find(self, name: str, version: str = "") -> Model:
        """The model of this name and, where one is given, of this version.

        Raises:
            NotFoundError: there is none.
        """
        model = self._models.get(name)
        if model is None:
            raise NotFoundError(f"no such model; this server holds {', '.join(self.names)}")
        if version not in ("", model.version):
            raise NotFoundError(
                f"no such version of {model.name}; this server holds {model.version}"
            )
        return model

    async def infer(self, model: Model, request: InferRequest, call: Call) -> InferResponse:
        """Check a request against a model's metadata, and let it answer. Raises RequestError."""
        check_request(request, model)
        if not model.ready:
            raise NotReadyError(f"model {model.name} is not ready")
        return await model.infer(request, call)


def check_request(request: InferRequest, model: Model) -> None:
    """Compare the tensors of a request with what a model takes and gives.

    Raises:
        BadRequestError: names the first field that does not fit.
    """
    specs = {spec.name: spec for spec in model.inputs}
    seen: set[str] = set()
    for number, tensor in enumerate(request.inputs):
        where = f"inputs[{number}]"
        spec = specs.get(tensor.name)
        if spec is None:
            raise BadRequestError(f"{where}.name: expected one of {', '.join(specs)}")
        if tensor.name in seen:
            raise BadRequestError(f"{where}.name: {spec.name} a second time")
        seen.add(tensor.name)
        if tensor.datatype != spec.datatype:
            raise BadRequestError(f"{where}.datatype: expected {spec.datatype}")
        fits = len(tensor.shape) == len(spec.shape) and all(
            wanted in (-1, length) for wanted, length in zip(spec.shape, tensor.shape, strict=True)
        )
        if not fits:
            raise BadRequestError(
                f"{where}.shape: expected {list(spec.shape)}, -1 being any length"
            )
    for spec in model.inputs:
        if not spec.optional and spec.name not in seen:
            raise BadRequestError(f"inputs: no tensor {spec.name!r}")
    known = [spec.name for spec in model.outputs]
    for number, wanted in enumerate(request.outputs):
        if wanted.name not in known:
            raise BadRequestError(f"outputs[{number}].name: expected one of {', '.join(known)}")
    if len({wanted.name for wanted in request.outputs}) != len(request.outputs):
        raise BadRequestError("outputs: one is named a second time")


def wanted_outputs(request: InferRequest, model: Model) -> list[str]:
    """Names of the outputs that a request asks for, in its order."""
    if request.outputs:
        return [wanted.name for wanted in request.outputs]
    return [spec.name for spec in model.outputs if not spec.on_request]
