"""KServe's v2 routes around one model, and the process that answers them.

The SDK keeps its model class, data plane, tensor types, metrics and route handlers. What is
replaced, and why: the list of routes (its load and unload need no credential), the errors (422
for bad JSON, and texts that repeat the request), the readiness (always true) and the start (it
always listens on every interface).
"""

import logging
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
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

from bonexray.errors import ImageError
from serving.body_gate import BodyGate
from serving.predictor import MODEL_NAME, BonexrayModel, RequestError

_GRACE_S = 30
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

    async def ready(self) -> bool:
        """Whether every model is loaded and warm."""
        models = self.model_registry.get_models().values()
        return bool(models) and all([await model.healthy() for model in models])

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


def build_app(model: BonexrayModel) -> FastAPI:
    """The routes, the errors and the body limit around one model."""
    repository = ModelRepository()
    repository.update(model)
    data_plane = StudyDataPlane(repository)
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
    return app


def serve(model: BonexrayModel, listener: socket.socket, on_ready: Callable[[str], None]) -> None:
    """Answer requests until SIGTERM or SIGINT, then finish those in flight.

    Args:
        model: a loaded model.
        listener: a listening socket.
        on_ready: called with the server's URL once its own readiness check has passed.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    config = uvicorn.Config(
        build_app(model),
        log_config=None,
        timeout_graceful_shutdown=_GRACE_S,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    url = local_url(listener)
    threading.Thread(target=_announce, args=(url, on_ready), daemon=True).start()
    uvicorn.Server(config).run(sockets=[listener])


def local_url(listener: socket.socket) -> str:
    """The URL under which a socket is reached from this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(url: str, on_ready: Callable[[str], None]) -> None:
    # The socket listens already, so the check waits in its queue until the server takes it.
    with suppress(httpx.TransportError):  # stopped before it was ready
        if httpx.get(f"{url}/v2/health/ready", timeout=60, trust_env=False).is_success:
            on_ready(url)


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
