"""What may be told of a request: these fields, each of its form. Logs, metrics and spans use it.

A patient's name or birth date may stand in any text that a client sent or a library made of it. So
nothing is searched for what must not leave: only what is listed here leaves.
"""

import math
import re
from collections.abc import Mapping
from http import HTTPMethod, HTTPStatus

import grpc

from bonexray.verdicts import NOT_ANALYSED

OTHER = "other"
PROTOCOLS = ("rest", "grpc")
STAGES = ("queue", "decode", "infer", "judge", "respond", "total")
REASONS = ("rate", "admission", "auth", "size", "deadline")
"""Why a request is turned away although it may be sound."""
VERDICTS = ("negative", "doubtful", "positive", NOT_ANALYSED)
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_REST_ROUTES = (
    *("/", "/docs", "/openapi.json"),
    *("/v2", "/v2/", "/v2/health/live", "/v2/health/ready", "/v2/models"),
    "/v2/models/{model_name}",
    "/v2/models/{model_name}/ready",
    "/v2/models/{model_name}/infer",
    "/v2/models/{model_name}/versions/{model_version}",
    "/v2/models/{model_name}/versions/{model_version}/ready",
    "/v2/models/{model_name}/versions/{model_version}/infer",
    *("/v1/models", "/v1/models/{model_name}", "/v1/models/{model_name}:predict"),
)
_GRPC_ROUTES = (
    *("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer"),
)
ROUTES = frozenset(_REST_ROUTES + _GRPC_ROUTES)
"""Templates of the paths and names of the gRPC methods that are offered; all else is `other`."""
CLIENT_LEFT = 499
"""In place of a status, when nobody waits for the answer any more."""
_STATUSES = frozenset(
    {
        *(code.name for code in grpc.StatusCode),
        *(str(status.value) for status in HTTPStatus),
        str(CLIENT_LEFT),
    }
)

CODE = re.compile(r"[a-z][a-z_]{0,39}")
"""Why a view or a request was refused, and what happened."""
_FORMS = {
    "event": CODE,
    "code": CODE,
    "trace_id": re.compile(r"[0-9a-f]{32}"),
    "span_id": re.compile(r"[0-9a-f]{16}"),
    "answer_id": re.compile(r"[0-9a-f]{16}-[0-9a-f]{32}"),
    "client": re.compile(r"[A-Za-z0-9._:/@|%-]{1,160}"),
    "version": re.compile(r"[A-Za-z0-9.]{1,32}"),
    "digest": re.compile(r"[0-9a-f]{12,64}"),
}
_CHOICES: dict[str, frozenset[str]] = {
    "level": frozenset(LEVELS),
    "protocol": frozenset(PROTOCOLS),
    "precision": frozenset({"fp32", "fp16", "int8"}),
    "reason": frozenset(REASONS),
}
_NUMBERS = frozenset(
    {
        *("bytes", "views", "refused_views", "studies", *VERDICTS),
        *(f"{stage}_ms" for stage in STAGES),
    }
)


def clean(fields: Mapping[str, object]) -> dict[str, str | int | float]:
    """The fields that may be told, in their order.

    A field that is not listed, or whose value has not its form, is left out; a route or a method
    that is none of ours becomes `other`.

    Args:
        fields: name -> value; a `*_ms` is in milliseconds.
    """
    told: dict[str, str | int | float] = {}
    for name, value in fields.items():
        kept = _clean_one(name, value)
        if kept is not None:
            told[name] = kept
    return told


def route_of(route: str) -> str:
    """The route if it is one of ours, else `other`."""
    return route if route in ROUTES else OTHER


def status_of(status: int | str) -> str:
    """An HTTP status or the name of a gRPC one as text; `other` if it is neither."""
    return str(status) if str(status) in _STATUSES else OTHER


def _clean_one(name: str, value: object) -> str | int | float | None:
    if name in _NUMBERS:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return value if number and math.isfinite(value) else None  # type: ignore[arg-type,return-value]
    if name == "status" and isinstance(value, int | str):
        return status_of(value)
    if not isinstance(value, str):
        return None
    if name == "route":
        return route_of(value)
    if name == "method":
        return value if value in HTTPMethod.__members__ else OTHER
    if name in _FORMS:
        return value if _FORMS[name].fullmatch(value) else None
    return value if value in _CHOICES.get(name, ()) else None
