"""KServe's v2 routes around one model, and the process that answers them.

The SDK keeps its model class, data plane, tensor types, metrics and route handlers. What is
replaced, and why: the list of routes (its load and unload need no credential), the errors (422
for bad JSON, and texts that repeat the request), the readiness (always true) and the start (it
always listens on every interface).
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from kserve import InferRequest, InferResponse, ModelRepository
from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady, ServerNotReady
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.rest.server import metrics_handler
from kserve.protocol.rest.v2_datamodels import InferenceRequest
from kserve.protocol.rest.v2_endpoints import V2Endpoints
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from bonexray.errors import BundleError, ImageError
from serving.body_gate import BodyGate
from serving.drain import Drain, DrainingServer, Farewell
from serving.predictor import MODEL_NAME, BonexrayModel, RequestError, grey_view

_GRACE_S = 30
"""How long it goes on with requests in flight; with the above, less than the worker's limit."""
_KEEP_ALIVE_S = 65
"""Longer than the idle time of the usual proxies, else they meet closed connections."""

_SDK_ERRORS: dict[type[Exception], tuple[int, str]] = {
    InvalidInput: (400, f"not a request that this model reads; see GET /v2/models/{MODEL_NAME}"),
    ModelNotFound: (404, f"no such model; this server holds {MODEL_NAME!r}"),
    ModelNotReady: (503, "the model is not ready"),
    ServerNotReady: (503, "the server is not ready"),
}
"""Our own words for the SDK's errors, since its texts repeat parts of the request."""


class StudyDataPlane(DataPlane):  # type: ignore[misc]  # kserve is not typed
    """KServe's data plane, ready only with its model, in JSON only."""

    def __init__(self, repository: ModelRepository, drain: Drain) -> None:
        """Stand before the models of `repository`, until `drain` has begun."""
        super().__init__(repository)
        self._drain = drain

    async def ready(self) -> bool:
        """Whether every model is loaded and warm, and more than what is held is taken."""
        models = self.model_registry.get_models().values()
        warm = bool(models) and all([await model.healthy() for model in models])
        return warm and not self._drain.begun

    def metadata(self) -> dict[str, Any]:
        """Server metadata; the SDK's announces routes that are not mounted here."""
        return {**super().metadata(), "extensions": []}

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        """Model metadata, with the version that the SDK leaves out."""
        metadata: dict[str, Any] = await super().model_metadata(model_name)
        model = self.get_model_from_registry(model_name)
        return {**metadata, "platform": "onnx", "versions": [model.version]}

    def decode(
        self,
        body: InferenceRequest | bytes,
        headers: dict[str, str],
        protocol_version: str = "v2",
        model_name: str | None = None,
    ) -> tuple[InferRequest, dict[str, Any]]:
        """Read a request that was sent as JSON.

        Raises:
            RequestError: it was not sent as JSON.
        """
        if not isinstance(body, InferenceRequest):
            raise RequestError("body: expected JSON, with Content-Type: application/json")
        return InferRequest.from_inference_request(body, model_name), {}

    def encode(
        self,
        model_name: str,
        response: InferResponse,
        headers: dict[str, str],
        req_attributes: dict[str, Any],
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """The answer as JSON, whatever binary or CloudEvents form the headers ask for."""
        return response.to_rest()[0], {}


def build_app(model: BonexrayModel, drain: Drain) -> FastAPI:
    """The routes, the errors and the body limit around one model."""
    repository = ModelRepository()
    repository.update(model)
    data_plane = StudyDataPlane(repository, drain)
    endpoints = V2Endpoints(data_plane)
    app = FastAPI(title=MODEL_NAME, docs_url=None, redoc_url=None, openapi_url=None)
    # A list of what is offered, so that a route added to the SDK is not offered by itself.
    for path, endpoint in (
        ("/", data_plane.live),
        ("/metrics", metrics_handler),
        ("/v2", endpoints.metadata),
        ("/v2/health/live", endpoints.live),
        ("/v2/health/ready", endpoints.ready),
        ("/v2/models", endpoints.models),
        ("/v2/models/{model_name}", endpoints.model_metadata),
        ("/v2/models/{model_name}/ready", endpoints.model_ready),
    ):
        app.add_api_route(path, endpoint, methods=["GET"], response_model=None)
    app.add_api_route(
        "/v2/models/{model_name}/infer", endpoints.infer, methods=["POST"], response_model=None
    )
    _add_error_handlers(app)
    app.add_middleware(BodyGate)
    app.add_middleware(Farewell, drain=drain)
    return app


def rehearse(app: FastAPI) -> None:
    """Ask the app in this process whether it is ready, and for a grey view: as a client would.

    Raises:
        BundleError: it is not ready, or does not answer.
    """
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [grey_view()]}

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://rehearsal") as client:
            ready = await client.get("/v2/health/ready")
            read = await client.post(f"/v2/models/{MODEL_NAME}/infer", json={"inputs": [tensor]})
            return [ready, read]

    for answer in asyncio.run(ask()):
        if not answer.is_success:
            raise BundleError(f"loaded, but its server does not answer: {answer.text}")


def configured(app: FastAPI) -> uvicorn.Config:
    """How the app is served, with all loaded that it takes: a hand-over does not wait for it."""
    config = uvicorn.Config(
        app,
        log_config=None,
        ws="none",
        timeout_graceful_shutdown=_GRACE_S,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    config.load()
    return config


def serve(
    config: uvicorn.Config, drain: Drain, listener: socket.socket, on_closed: Callable[[], None]
) -> None:
    """Answer requests until SIGTERM, then finish those in flight.

    Args:
        config: of the app around a loaded model.
        drain: the app's; begun when no more connections are taken.
        listener: a listening socket, which other processes may hold too.
        on_closed: called when this process has closed it.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    DrainingServer(config, drain, listener, on_closed).run(sockets=[listener])


def _add_error_handlers(app: FastAPI) -> None:
    for error_class, (status, message) in _SDK_ERRORS.items():
        app.add_exception_handler(error_class, _answer_always(status, message))
    app.add_exception_handler(RequestError, _answer_fault)
    app.add_exception_handler(ImageError, _answer_fault)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(Exception, _answer_defect)


def _answer_always(
    status: int, message: str
) -> Callable[[Request, Exception], Awaitable[JSONResponse]]:
    async def answer(_: Request, __: Exception) -> JSONResponse:
        return JSONResponse({"error": message}, status)

    return answer


async def _answer_fault(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, 400)


async def _answer_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return JSONResponse({"error": explain_invalid(error)}, 400)


async def _answer_http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def _answer_defect(_: Request, __: Exception) -> JSONResponse:
    # Starlette raises the error again for the log, and uvicorn then drops the connection: say so,
    # or a pooled client's next request meets the reset.
    message = "internal error; its cause is in the server's log"
    return JSONResponse({"error": message}, 500, headers={"Connection": "close"})


def explain_invalid(error: RequestValidationError) -> str:
    """Name the first field that is not what it should be, and repeat nothing of the request."""
    problems = [problem for problem in error.errors() if "bytes" not in problem["loc"]]
    first = (problems or error.errors())[0]
    if first["type"] == "json_invalid":
        return f"body: not JSON: {first['ctx']['error']} at character {first['loc'][-1]}"
    return f"{_field(first['loc'])}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _field(location: tuple[str | int, ...]) -> str:
    field = ""
    for step in location[2:]:
        field += f"[{step}]" if isinstance(step, int) else f".{step}"
        if step == "parameters":
            break  # what follows is a name of the client's choice
    return field.removeprefix(".") or "body"
