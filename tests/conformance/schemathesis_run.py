"""Requests that schemathesis makes of the protocol's own open_inference_rest.yaml.

The document is used with three changes, without which almost every request ends at an unknown
model: `${NAME}` in a path becomes `{NAME}`, as OpenAPI writes it; the paths without a version,
which its text has and the document lacks, are added; and in two requests of three the names of
models, versions, tensors and datatypes are such as there are.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests  # type: ignore[import-untyped]
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from tests.conformance.case import VERSION
from tests.conformance.tensors import DATATYPES

_TIMEOUT_S = 30
_WITH_VERSION = "/versions/{MODEL_VERSION}"


@dataclass(frozen=True, kw_only=True)
class FuzzCount:
    """What schemathesis met."""

    cases: int
    statuses: dict[int, int]
    """How many answers had each status; 0 when there was no answer."""
    server_errors: int
    """Answers 5xx, and requests without an answer."""
    without_error: int
    """Answers 4xx whose body is not the protocol's error object."""
    examples: tuple[str, ...]
    """Of both, ten at most: method, path template and status."""


def open_document(schema: Path, known: bool) -> dict[str, Any]:
    """The protocol's document with its paths mended.

    Args:
        schema: open_inference_rest.yaml.
        known: whether names of tensors and datatypes are those of the identity models.
    """
    document: dict[str, Any] = yaml.safe_load(schema.read_text().replace("${", "{"))
    paths: dict[str, Any] = document["paths"]
    for path in list(paths):
        if _WITH_VERSION in path:
            paths[path.replace(_WITH_VERSION, "")] = _without_version(paths[path])
    if known:
        schemas = document["components"]["schemas"]
        tensor = schemas["request_input"]["properties"]
        tensor |= {"name": _one_of(["INPUT0"]), "datatype": _one_of(DATATYPES)}
        schemas["request_output"]["properties"]["name"] = _one_of(["OUTPUT0"])
    return document


def fuzz(url: str, schema: Path, models: Sequence[str], *, cases: int, start: int = 0) -> FuzzCount:
    """Ask a server `cases` generated questions, valid by the document and otherwise.

    Args:
        url: base of its REST routes, without /v2.
        schema: open_inference_rest.yaml.
        models: names of models that it holds.
        cases: how many requests.
        start: seed of what is drawn.
    """
    statuses: Counter[int] = Counter()
    found: list[tuple[str, str]] = []
    with requests.Session() as session:
        session.trust_env = False

        @seed(start)
        @settings(
            max_examples=cases,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.one_of(_all_requests(schema, models)))
        def ask(case: Any) -> None:
            status, fault = _ask(case, url, session)
            statuses[status] += 1
            if fault:
                found.append((fault, f"{case.method} {case.path}: {status}"))

        ask()
    return FuzzCount(
        cases=statuses.total(),
        statuses=dict(sorted(statuses.items())),
        server_errors=sum(fault == "server" for fault, _ in found),
        without_error=sum(fault == "error" for fault, _ in found),
        examples=tuple(sorted({example for _, example in found})[:10]),
    )


def _all_requests(schema: Path, models: Sequence[str]) -> list[st.SearchStrategy[Any]]:
    strategies = _requests(open_document(schema, known=False), {}) * max(1, len(models) // 2)
    document = open_document(schema, known=True)
    for model in models:
        strategies += _requests(document, {"MODEL_NAME": model, "MODEL_VERSION": VERSION})
    return strategies


def _requests(document: dict[str, Any], path: dict[str, str]) -> list[st.SearchStrategy[Any]]:
    """Of each operation; `path` holds the parameters of the path that are not drawn."""
    strategies = []
    for result in schemathesis.openapi.from_dict(document).get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]  # the document is valid
        modes = [GenerationMode.POSITIVE]
        if operation.method.upper() == "POST":  # infer has the most to be got wrong
            modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE] * 4
        fixed = {name: value for name, value in path.items() if f"{{{name}}}" in operation.path}
        strategies += [
            operation.as_strategy(generation_mode=mode, path_parameters=fixed or None)
            for mode in modes
        ]
    return strategies


def _ask(case: Any, url: str, session: requests.Session) -> tuple[int, str]:
    try:
        answer = case.call(base_url=url, session=session, timeout=_TIMEOUT_S)
    except requests.RequestException:
        return 0, "server"
    if answer.status_code >= 500:
        return answer.status_code, "server"
    if answer.status_code >= 400:
        try:
            said = answer.json().get("error")
        except (ValueError, AttributeError):
            said = None
        if not isinstance(said, str) or not said:
            return answer.status_code, "error"
    return answer.status_code, ""


def _one_of(known: Sequence[str]) -> dict[str, Any]:
    return {"type": "string", "enum": list(known)}


def _without_version(operations: dict[str, Any]) -> dict[str, Any]:
    kept = [p for p in operations["parameters"] if p["name"] != "MODEL_VERSION"]
    copy: dict[str, Any] = operations | {"parameters": kept}
    for method in ("get", "post"):
        if method in copy:
            copy[method] = copy[method] | {"operationId": f"{copy[method]['operationId']}-newest"}
    return copy
