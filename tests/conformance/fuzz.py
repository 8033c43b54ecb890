"""Twenty URLs by eight methods (Triton's L0_http_fuzz), and who may unload a model."""

from collections.abc import Iterator
from functools import partial
from urllib.parse import quote

import httpx

from tests.conformance.case import MARKER, SPARE, Case, Target, echoes, expect
from tests.conformance.plain_rest import PlainRest, model_path

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
_BODY = b'{"inputs": "' + MARKER.encode() + b"\xff\0"


def urls(model: str) -> tuple[str, ...]:
    """Twenty paths: the protocol's, Triton's, and such as no server wants."""
    known = model_path(quote(model))
    return (
        "/",
        "/v2",
        "/v2/",
        "//v2//models",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models",
        known,
        f"{known}/ready",
        f"{known}/infer",
        f"{known}/versions/1/infer",
        f"{known}/versions/-1/infer",
        f"{known}/stats",
        f"{known}/config",
        "/v2/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd/infer",
        "/v2/models/%00%0d%0aX:%201/infer",
        f"/v2/models/{'A' * 4000}/infer",
        f"/v2/models/{quote('手 é')}/versions/{quote('💥')}",
        "/v2/repository/index",
        "/v2/systemsharedmemory/region/x/register?a=%ff&b[]=1",
    )


def cases(target: Target) -> Iterator[Case]:
    """A case a URL; and last, since it may cost a model, the unloading of the spare one."""
    model = target.model_of("FP32") or target.model
    for url in urls(model):
        name = url if len(url) < 60 else f"{url[:20]}... of {len(url)} characters"
        yield Case(
            group="L0_http_fuzz",
            client="plain",
            protocol="REST",
            name=name.replace(model, "<model>"),
            run=partial(_check_methods, url=url),
        )
    if any(spare.name == SPARE for spare in target.models):
        for verb in ("load", "unload"):
            yield Case(
                group="L0_model_control",
                client="plain",
                protocol="REST",
                name=f"{verb} without a credential",
                run=partial(_check_control, verb=verb),
            )


def _check_methods(caller: PlainRest, url: str) -> None:
    for method in METHODS:
        try:
            answer = caller.request(method, url, content=_BODY)
        except httpx.TransportError as error:
            expect(False, f"{method}: no answer ({type(error).__name__})")
        expect(answer.status_code < 500, f"{method}: status {answer.status_code}")
        expect(not echoes(answer.text), f"{method}: the answer repeats what was sent")
    expect(caller.server_live(), "the server is not live after it")


def _check_control(caller: PlainRest, verb: str) -> None:
    answer = caller.request("POST", f"/v2/repository/models/{SPARE}/{verb}", content=b"{}")
    told = f"status {answer.status_code}, expected 401, 403, 404 or 405"
    expect(answer.status_code in (401, 403, 404, 405), told)
    expect(caller.model_ready(SPARE), f"{SPARE} is no longer ready")
