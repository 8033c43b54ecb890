"""What the endpoint offers, as an OpenAPI document and a page of it that needs no net."""

from starlette.routing import BaseRoute

from serving.oip.rest import Rest


def api_routes(rest: Rest) -> list[BaseRoute]:
    return []
