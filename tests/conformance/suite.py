"""All cases, run against a server, and its score.

What the protocol leaves open is read so, and `special_values` says what is taken where:

- BYTES in JSON (issue 12 of the protocol): text, or base64 alone. What is sent is both.
- NaN and Infinity in JSON, which RFC 8259 has not: refused, or taken and kept; never null.
- Elements of another type: what can be coerced is the server's choice; what cannot is refused.
- A version in the path, where metadata names none: answered, or refused with 400 or 404.
- Bodies of the health routes: empty, or one that does not say no.
- A refusal is 4xx with `{"error": text}`; what it says repeats nothing of the request, which is
  this suite's own rule, and the next request on the same connection is answered.

The clients run in processes of their own: KServe's and Triton's stubs define the same messages
under the same names, and one process takes only one of them.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.conformance import (
    bad_binary,
    bad_grpc,
    bad_json,
    by_schema,
    calls,
    fuzz,
    round_trips,
    special_values,
)
from tests.conformance.case import Case, ModelUnderTest, Outcome, Target
from tests.conformance.plain_rest import PlainRest

CLIENTS = ("triton", "kserve", "plain")
"""In this order: the last cases of `plain` may cost the server a model."""
_MODULES = (
    calls,
    round_trips,
    special_values,
    bad_json,
    bad_binary,
    bad_grpc,
    by_schema,
    fuzz,
)
_ROOT = Path(__file__).parents[2]
_LIMIT_S = 600


@dataclass(frozen=True, kw_only=True)
class Score:
    """What came of a whole run."""

    outcomes: tuple[Outcome, ...]

    @property
    def passed(self) -> int:
        """How many cases held."""
        return sum(outcome.passed for outcome in self.outcomes)

    @property
    def total(self) -> int:
        """How many were tried."""
        return len(self.outcomes)

    @property
    def share(self) -> float:
        """Of the cases that held, from 0 to 1."""
        return self.passed / self.total

    def failures(self) -> dict[str, str]:
        """The reason of each case that did not hold, by its key."""
        return {o.key: o.reason for o in self.outcomes if not o.passed}

    def by_group(self) -> dict[str, dict[str, tuple[int, int]]]:
        """How many held and how many were tried, by group and client."""
        counts: dict[str, dict[str, tuple[int, int]]] = {}
        for outcome in self.outcomes:
            group, client, *_ = outcome.key.split("/")
            held, tried = counts.setdefault(group, {}).get(client, (0, 0))
            counts[group][client] = (held + outcome.passed, tried + 1)
        return counts

    def as_json(self) -> dict[str, Any]:
        """Everything, for a file."""
        return {
            "passed": self.passed,
            "total": self.total,
            "groups": self.by_group(),
            "cases": [asdict(outcome) for outcome in self.outcomes],
        }

    def table(self) -> str:
        """Groups by clients, then the cases that did not hold."""
        lines = ["".join(f"{head:>14}" for head in ("plain", "kserve", "triton"))]
        lines[0] = f"{'':<26}" + lines[0]
        for group, counts in sorted(self.by_group().items()):
            cells = ["{}/{}".format(*counts[c]) if c in counts else "" for c in CLIENTS[::-1]]
            plain, kserve, triton = cells
            lines.append(f"{group:<26}{plain:>14}{kserve:>14}{triton:>14}")
        lines.append(f"{self.passed} of {self.total} cases ({self.share:.1%})")
        failures = sorted(self.failures().items())
        for group, cases in groupby(failures, key=lambda failure: failure[0].split("/")[0]):
            lines += ["", group]
            lines += [f"  {key.split('/', 1)[1]}: {reason}" for key, reason in cases]
        return "\n".join(lines)


def cases(target: Target) -> Iterator[Case]:
    """Every case that fits the target."""
    for module in _MODULES:
        for case in module.cases(target):
            if target.grpc or case.protocol == "REST":
                yield case


def score(
    url: str,
    grpc_target: str = "",
    *,
    models: tuple[ModelUnderTest, ...] | None = None,
    model: str = "",
    schema: Path | None = None,
) -> Score:
    """Run the suite against a server.

    Args:
        url: base of its REST routes, without /v2.
        grpc_target: its host:port; empty when it has no gRPC.
        models: identity models that it holds; those of `IDENTITY_MODELS` unless `model` is given.
        model: of a server without identity models: the one whose errors are tried.
        schema: the protocol's open_inference_rest.yaml.

    Raises:
        RuntimeError: a client's process broke down, or took longer than ten minutes.
    """
    target = Target(url=url.rstrip("/"), grpc=grpc_target, model=model, schema=schema)
    if models is not None or model:
        target = Target(**{**vars(target), "models": models or ()})
    outcomes = [outcome for client in CLIENTS for outcome in _run_apart(client, target)]
    return Score(outcomes=tuple(outcomes))


def run(client: str, target: Target) -> Iterator[Outcome]:
    """Run the cases of one client in this process."""
    callers = _callers(client, target)
    for case in cases(target):
        if case.client == client:
            outcome = Outcome(key=case.key, reason=_reason(case, callers[case.protocol]))
            if not outcome.passed:  # a connection that was spoilt is no fault of the next case
                callers = _callers(client, target)
            yield outcome


def _reason(case: Case, caller: Any) -> str:
    try:
        case.run(caller)
    except Exception as error:  # whatever a client meets is the server's failing, told in one line
        return " ".join(f"{type(error).__name__}: {error}".removeprefix("Finding: ").split())[:160]
    return ""


def _callers(client: str, target: Target) -> dict[str, Any]:
    # Imported here, since no process can hold the stubs of both.
    if client == "triton":
        from tests.conformance.triton_clients import TritonGrpc, TritonRest

        return _both(TritonRest, TritonGrpc, target)
    if client == "kserve":
        from tests.conformance.kserve_clients import KserveGrpc, KserveRest

        return _both(KserveRest, KserveGrpc, target)
    if not target.grpc:
        return {"REST": PlainRest(target)}
    from tests.conformance.plain_grpc import PlainGrpc

    return _both(PlainRest, PlainGrpc, target)


def _both(rest: Any, over_grpc: Any, target: Target) -> dict[str, Any]:
    callers = {"REST": rest(target)}
    if target.grpc:
        callers["gRPC"] = over_grpc(target)
    return callers


def _run_apart(client: str, target: Target) -> list[Outcome]:
    words = asdict(target) | {"schema": target.schema and str(target.schema)}
    command = [sys.executable, "-m", "tests.conformance.suite", client, json.dumps(words)]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=_LIMIT_S)
    if done.returncode:
        raise RuntimeError(f"the client {client} broke down: {done.stderr[-2000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    return [Outcome(**outcome) for outcome in told]


def main(client: str, words: str) -> None:
    """The process of one client: prints its outcomes as one line of JSON."""
    told = json.loads(words)
    told["schema"] = told["schema"] and Path(told["schema"])
    told["models"] = tuple(
        ModelUnderTest(name=m["name"], datatypes=tuple(m["datatypes"])) for m in told["models"]
    )
    print(json.dumps([asdict(outcome) for outcome in run(client, Target(**told))]))


if __name__ == "__main__":
    main(*sys.argv[1:])
