"""The model whose errors are tried, and a request that it takes, to be spoilt in one place."""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.conformance.case import MARKER, NUMBER, Case, Target
from tests.conformance.plain_rest import CLIENT_ERRORS, PlainRest

Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model and one of its inputs."""

    model: str
    input: str
    datatype: str
    shape: tuple[int, ...]
    """Without -1."""

    @property
    def elements(self) -> int:
        """How many the shape holds."""
        count = 1
        for length in self.shape:
            count *= length
        return count

    def document(self) -> Document:
        """A request in JSON, whose values are the marker where that is possible."""
        value: Any = {"BYTES": MARKER, "BOOL": True, "FP32": NUMBER, "FP64": NUMBER}.get(
            self.datatype, 1
        )
        tensor = {
            "name": self.input,
            "datatype": self.datatype,
            "shape": list(self.shape),
            "data": [value] * self.elements,
        }
        return {"id": MARKER, "inputs": [tensor]}

    def spoilt(self, spoil: Callable[[Document], Any]) -> bytes:
        """The JSON of a request after `spoil` has changed it, or of what it returns instead."""
        document = copy.deepcopy(self.document())
        other = spoil(document)
        return json.dumps(document if other is None else other).encode()


def subject_of(target: Target, datatype: str = "FP32") -> Subject:
    """An identity model of the datatype; without any, whatever the target's model says it takes."""
    if name := target.model_of(datatype):
        # Two elements of BYTES hold the marker twice, four of FP32 are the bytes of `bad_binary`.
        pair = (1, 2) if datatype == "BYTES" else (2, 2)
        return Subject(model=name, input="INPUT0", datatype=datatype, shape=pair)
    first = PlainRest(target).model_metadata(target.model)["inputs"][0]
    shape = tuple(2 if length < 0 else length for length in first["shape"])
    return Subject(model=target.model, input=first["name"], datatype=first["datatype"], shape=shape)


def refusal(
    group: str,
    name: str,
    body: Callable[[PlainRest], Any],
    statuses: tuple[int, ...] = CLIENT_ERRORS,
) -> Case:
    """A case of a REST request that must be refused, in the protocol's words, without echo.

    Args:
        group: of the case.
        name: of the case.
        body: sends the request and returns the answer.
        statuses: those that are right.
    """

    def run(caller: PlainRest) -> None:
        caller.expect_refusal(body(caller), statuses)

    return Case(group=group, client="plain", protocol="REST", name=name, run=run)
