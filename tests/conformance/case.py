"""What a case of the suite is, what it is run against, and what comes of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.conformance.tensors import DATATYPES, Tensor

MARKER = "PATIENT-MARKER"
"""Text planted in what is sent: no error may repeat it."""
NUMBER = 8675309
"""The same, where only a number can stand."""


class Finding(Exception):
    """The server did otherwise than the protocol says; the reason is one line."""


class RefusedError(Exception):
    """A client was told that its request is refused."""

    def __init__(self, status: str, message: str) -> None:
        """Keep the HTTP status or the name of the gRPC code, and what was said."""
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, message


@dataclass(frozen=True, kw_only=True)
class ModelUnderTest:
    """An identity model: INPUT0 becomes OUTPUT0, INPUT1 becomes OUTPUT1."""

    name: str
    datatypes: tuple[str, ...]
    """Of its inputs, in order; every shape is [-1, -1]."""


SPARE = "identity_spare"
"""A model that may be lost: the suite tries whether anybody can unload it."""
IDENTITY_MODELS = (
    *(ModelUnderTest(name=f"identity_{name.lower()}", datatypes=(name,)) for name in DATATYPES),
    ModelUnderTest(name="identity_pair", datatypes=("FP32", "BYTES")),
    ModelUnderTest(name=SPARE, datatypes=("FP32",)),
)
VERSION = "1"
"""Of the identity models, where the server has versions."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server to be judged."""

    url: str
    """Base of the REST routes, without /v2."""
    grpc: str = ""
    """host:port; empty for a server without gRPC, whose gRPC cases are left out."""
    models: tuple[ModelUnderTest, ...] = IDENTITY_MODELS
    """Empty for a server without identity models."""
    model: str = ""
    """Where there is no identity model: the one whose errors are tried."""
    schema: Path | None = None
    """The protocol's open_inference_rest.yaml; None leaves the cases of that group out."""

    def model_of(self, *datatypes: str) -> str | None:
        """The first model with these inputs."""
        return next((m.name for m in self.models if m.datatypes == datatypes), None)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """An output that a request names."""

    name: str
    binary: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Ask:
    """An infer request, whatever client sends it."""

    model: str
    tensors: tuple[Tensor, ...]
    outputs: tuple[Wanted, ...] = ()
    id: str = "conformance-1"
    version: str = ""
    parameters: Mapping[str, str | int | bool] = field(default_factory=dict)
    binary_output: bool = False
    """What REST is asked to answer in; gRPC leaves it to the server."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An infer response, as the client reads it."""

    id: str
    model_name: str
    outputs: tuple[Tensor, ...]


class Caller(Protocol):
    """A client of one protocol. Where the library has no such call there is no case for it.

    Every call raises RefusedError when the server refuses it.
    """

    def server_live(self) -> bool: ...
    def server_ready(self) -> bool: ...
    def model_ready(self, model: str, version: str = "") -> bool: ...
    def server_metadata(self) -> dict[str, Any]: ...
    def model_metadata(self, model: str, version: str = "") -> dict[str, Any]: ...
    def infer(self, ask: Ask) -> Answer: ...


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to be tried with one client; `run` raises Finding when it does not hold."""

    group: str
    """After the folder of Triton's `qa` that tries the same."""
    client: str
    """plain, kserve or triton."""
    protocol: str
    """REST or gRPC."""
    name: str
    run: Callable[[Any], None]
    """Takes the client's Caller."""

    @property
    def key(self) -> str:
        """Unique in the suite."""
        return f"{self.group}/{self.client}/{self.protocol}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a case."""

    key: str
    reason: str
    """One line; empty when it passed."""

    @property
    def passed(self) -> bool:
        """Whether the server did as the protocol says."""
        return not self.reason


def expect(holds: bool, reason: str) -> None:
    """Raise Finding with the reason unless it holds."""
    if not holds:
        raise Finding(reason)


def echoes(answer: str) -> bool:
    """Whether an answer repeats what was planted in the request."""
    return MARKER in answer or str(NUMBER) in answer


def expect_same(sent: Sequence[Tensor], answer: Answer) -> None:
    """Raise Finding unless an identity model gave these tensors back, in this order."""
    names = [tensor.name.replace("INPUT", "OUTPUT") for tensor in sent]
    expect([o.name for o in answer.outputs] == names, f"outputs are not {', '.join(names)}")
    for tensor, output in zip(sent, answer.outputs, strict=True):
        told = f"{output.name} is {output.datatype} of shape {output.shape}"
        expect(
            (output.datatype, output.shape) == (tensor.datatype, tensor.shape),
            f"{told}, expected {tensor.datatype} of {tensor.shape}",
        )
        same = output.array.tolist() == tensor.array.tolist()
        expect(same, f"{output.name}: other values than were sent")
