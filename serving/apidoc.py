"""What the endpoint offers, as an OpenAPI document and a page of it that needs no net."""

from pathlib import Path

import yaml
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from swagger_ui_bundle import swagger_ui_path

from serving.oip.rest import json_response

DOCUMENT_FILE = Path(__file__).with_name("openapi.yaml")
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><title>bonexray: the API</title>
<link rel="stylesheet" href="docs/page/swagger-ui.css">
<style>.topbar { display: none }</style>
</head>
<body>
<div id="page"></div>
<script src="docs/page/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "openapi.json", dom_id: "#page", validatorUrl: null})</script>
</body>
</html>
"""


def api_routes() -> list[BaseRoute]:
    """The document and its page. Everybody may read them: they say nothing of this server."""
    document = yaml.safe_load(DOCUMENT_FILE.read_text(encoding="utf-8"))

    async def openapi(_: Request) -> Response:
        return json_response(document)

    async def page(_: Request) -> Response:
        return HTMLResponse(_PAGE)

    return [
        Route("/openapi.json", openapi),
        Route("/docs", page),
        Mount("/docs/page", StaticFiles(directory=str(swagger_ui_path))),
    ]
