"""The protocol over HTTP: routes, bodies and errors."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive, Scope, Send

from serving.oip.errors import (
    ClientLeftError,
    DeadlineError,
    EncodingError,
    NotReadyError,
    RequestError,
    TooLargeError,
    let_go,
)
from serving.oip.json_form import HEADER_LENGTH, read_request, write_response
from serving.oip.model import Ask, Call, Gate, Kind, Model, Models
from serving.oip.tensors import TensorSpec

Handler = Callable[[Request, Call], Awaitable[Response]]
EXTENSIONS = ("binary_tensor_data",)
DEFECT = "internal error; its cause is in the server's log"
_DRAIN_S = 2.0


class Rest:
    """Makes routes whose requests all pass one gate and whose errors all have one form."""

    def __init__(self, gate: Gate) -> None:
        """Let requests through `gate`."""
        self._gate = gate

    def health(self, path: str, handler: Callable[[Request], Awaitable[Response]]) -> Route:
        """A route that everybody may ask at any time."""

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except RequestError as error:
                return error_response(error)

        return Route(path, answer, methods=["GET"])

    def route(self, path: str, kind: Kind, handler: Handler, method: str = "GET") -> Route:
        """A route to `handler`, which is called when the gate has let the request in."""

        async def answer(request: Request) -> Response:
            headers: dict[str, str] = {}
            try:
                with self._gate.admit(_ask(request, kind, path)) as call:
                    headers["traceparent"] = call.watch.trace.traceparent
                    response = await handler(request, call)
            except RequestError as error:
                response = error_response(error)
                let_go(error)
            except Exception as error:  # the gate has seen it; raised on, it costs the connection
                response = json_response({"error": DEFECT}, 500)
                let_go(error)
            response.headers.update(headers)
            return response

        return Route(path, answer, methods=[method])

    async def body(self, request: Request, call: Call) -> bytearray:
        """The whole body of a request.

        Raises:
            DeadlineError: it did not arrive in time.
            EncodingError: it is compressed.
            TooLargeError: it is larger than what the gate lets in, by its header or by itself.
        """
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise EncodingError(
                "header Content-Encoding: a body that is not compressed is expected"
            )
        limit = self._gate.max_body_bytes
        message = f"the body is larger than {limit // 2**20} MiB"
        if int(request.headers.get("content-length", "0")) > limit:
            raise TooLargeError(message)
        body = bytearray()  # grown in place: joined parts would be held twice
        try:
            async with asyncio.timeout(call.deadline_s - time.monotonic()):
                async for chunk in request.stream():
                    if len(body) + len(chunk) > limit:
                        raise TooLargeError(message)
                    body += chunk
        except TimeoutError:
            raise DeadlineError("the body did not arrive before the deadline") from None
        except ClientDisconnect:
            raise ClientLeftError("the client left") from None
        call.watch.read(len(body))
        return body


def single_headers(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers that came once; which of two would count, no two servers agree on."""
    every = list(pairs)
    names = Counter(name for name, _ in every)
    return {name: value for name, value in every if names[name] == 1}


def _ask(request: Request, kind: Kind, path: str) -> Ask:
    length = request.headers.get("content-length")
    return Ask(
        kind=kind,
        route=path,
        protocol="rest",
        headers=single_headers(request.headers.items()),
        peer=request.client.host if request.client else "",
        num_bytes=int(length) if length is not None else None,
    )


def build_app(
    models: Models, gate: Gate, more: list[BaseRoute], identity: dict[str, Any]
) -> Starlette:
    """The app that answers for these models.

    Args:
        models: what is served.
        gate: what every request passes.
        more: routes beside those of the protocol.
        identity: `name` and `version` of the server, as its metadata tells them.
    """
    one = "/v2/models/{model_name}"
    app = Starlette(
        routes=[
            *_server_routes(models, gate, identity),
            *_model_routes(models, gate, one),
            *_model_routes(models, gate, f"{one}/versions/{{model_version}}"),
            *more,
        ]
    )
    # A redirection would repeat the host and the query that were sent.
    app.router.redirect_slashes = False
    app.add_exception_handler(HTTPException, _answer_http_error)
    return app


def _server_routes(models: Models, gate: Gate, identity: dict[str, Any]) -> list[Route]:
    rest = Rest(gate)

    async def live(_: Request) -> Response:
        return json_response({"live": True})

    async def ready(_: Request) -> Response:
        if not (gate.ready and models.ready):
            raise NotReadyError("the server is not ready")
        return json_response({"ready": True})

    async def server(_: Request, __: Call) -> Response:
        return json_response({**identity, "extensions": EXTENSIONS})

    async def list_models(_: Request, __: Call) -> Response:
        return json_response({"models": models.names})

    return [
        rest.health("/", live),
        rest.health("/v2/health/live", live),
        rest.health("/v2/health/ready", ready),
        rest.route("/v2", "read", server),
        rest.route("/v2/", "read", server),
        rest.route("/v2/models", "read", list_models),
    ]


def _model_routes(models: Models, gate: Gate, base: str) -> list[Route]:
    rest = Rest(gate)

    def model_of(request: Request) -> Model:
        path = request.path_params
        return models.find(path["model_name"], path.get("model_version", ""))

    async def ready(request: Request) -> Response:
        model = model_of(request)
        if not (gate.ready and model.ready):
            raise NotReadyError(f"model {model.name} is not ready")
        return json_response({"name": model.name, "ready": True})

    async def metadata(request: Request, _: Call) -> Response:
        return json_response(describe(model_of(request)))

    async def infer(request: Request, call: Call) -> Response:
        model = model_of(request)
        body = await rest.body(request, call)
        asked = read_request(body, request.headers.get(HEADER_LENGTH), model.inputs)
        response = await models.infer(model, asked, call)
        envelope = {"model_name": model.name, "model_version": model.version, "id": asked.id}
        writing_s = time.perf_counter()
        parts, head = write_response(response, envelope, asked, model.outputs)
        call.watch.stage("respond", writing_s, time.perf_counter())
        if head is None:
            return Response(parts[0], media_type="application/json")
        headers = {HEADER_LENGTH: str(head)}
        return Response(b"".join(parts), headers=headers, media_type="application/octet-stream")

    return [
        rest.route(base, "read", metadata),
        rest.health(f"{base}/ready", ready),
        rest.route(f"{base}/infer", "infer", infer, "POST"),
    ]


def describe(model: Model) -> dict[str, Any]:
    """The metadata of a model, as both protocols tell it."""
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": model.platform,
        "inputs": [_describe_tensor(spec) for spec in model.inputs],
        "outputs": [_describe_tensor(spec) for spec in model.outputs],
    }


def _describe_tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def json_response(document: object, status: int = 200) -> Response:
    """A document as JSON."""
    return Response(orjson.dumps(document), status, media_type="application/json")


def error_response(error: RequestError) -> Response:
    """`{"error": ...}`; what is too large to be read also ends the connection."""
    body = orjson.dumps({"error": str(error)})
    kind = LastResponse if isinstance(error, TooLargeError) else Response
    return kind(body, error.status, error.headers(), media_type="application/json")


class LastResponse(Response):
    """An answer after which the connection is closed, what the client still sends thrown away.

    Closing on unread bytes resets the connection, and a reset may overtake the answer.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, read on for a while, and close."""
        self.headers["Connection"] = "close"

        async def send_unfinished(part: Message) -> None:
            if part["type"] == "http.response.body":
                part = {**part, "more_body": True}
            await send(part)

        await super().__call__(scope, receive, send_unfinished)
        try:
            async with asyncio.timeout(_DRAIN_S):
                while (await receive()).get("more_body", False):
                    pass
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b""})


async def _answer_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = json_response({"error": error.detail}, error.status_code)
    response.headers.update(error.headers or {})
    return response
