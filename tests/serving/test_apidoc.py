"""The document of the API says what there is: routes, tensors, parameters, answers."""

import jsonschema
import pytest
import yaml

from serving.apidoc import DOCUMENT_FILE
from serving.studies import INPUTS, OUTPUTS
from tests.serving.test_readiness import drain, endpoint  # noqa: F401


@pytest.fixture(scope="module")
def document():
    return yaml.safe_load(DOCUMENT_FILE.read_text(encoding="utf-8"))


def test_every_route_is_in_the_document_and_no_other(document, endpoint):  # noqa: F811
    pages = {"/docs", "/docs/page", "/openapi.json"}
    offered = {
        (route.path, method)
        for route in endpoint.app.routes
        if route.path not in pages
        for method in route.methods - {"HEAD"}
    }
    told = {
        (path, method.upper())
        for path, item in document["paths"].items()
        for method in item
        if method != "parameters"
    }
    assert told == offered


def test_every_tensor_is_in_the_document(document):
    schemas = document["components"]["schemas"]
    assert schemas["OutputName"]["enum"] == [spec.name for spec in OUTPUTS]
    names = schemas["RequestTensor"]["properties"]["name"]
    assert names["enum"] == [spec.name for spec in INPUTS]
    for spec in INPUTS:
        assert f"`{spec.name}` ({spec.datatype}, " in names["description"]


def test_answers_are_as_the_document_says(document, server, png):
    def check(name, instance):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(instance)

    answer = server.infer(png(60)).json()
    check("InferResponse", answer)
    told = document["components"]["schemas"]["AnswerParameters"]["required"]
    assert set(told) == set(answer["parameters"])
    check("Error", server.infer(b"no image").json())


def test_the_page_needs_no_net(server):
    assert server.get("/openapi.json").json()["info"]["title"] == "bonexray"
    page = server.get("/docs")
    assert "://" not in page.text
    for part in ("swagger-ui.css", "swagger-ui-bundle.js"):
        assert f"docs/page/{part}" in page.text
        assert server.get(f"/docs/page/{part}").status_code == 200
