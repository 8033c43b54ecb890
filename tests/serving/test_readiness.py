"""The app in this process: when it is ready, when no more, and what a defect of ours looks like."""

import asyncio

import httpx
import pytest

from bonexray.errors import BundleError
from serving.drain import Drain
from serving.predictor import BonexrayModel
from serving.server import build_app, rehearse
from tests.serving.live import INFER, STUDY


@pytest.fixture
def cold_model(store):
    champion = store.champion()
    return BonexrayModel(store.open(champion.digest), champion.version, threads=1)


@pytest.fixture
def model(cold_model):
    cold_model.load()
    cold_model.warm()
    return cold_model


def ask(model, method, path, drain=None, **request):
    async def asked():
        transport = httpx.ASGITransport(
            build_app(model, drain or Drain()), raise_app_exceptions=False
        )
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **request)

    return asyncio.run(asked())


def test_a_server_without_a_warm_model_is_not_ready(cold_model):
    assert ask(cold_model, "GET", "/v2/health/ready").status_code == 503
    response = ask(cold_model, "POST", INFER, json=STUDY)
    assert response.status_code == 503
    assert response.json() == {"error": "the model is not ready"}
    cold_model.load()
    cold_model.warm()
    assert ask(cold_model, "GET", "/v2/health/ready").status_code == 200


def test_a_server_that_drains_is_not_ready_and_ends_each_connection_with_an_answer(model):
    drain = Drain()
    before = ask(model, "GET", "/v2/models", drain)
    assert "connection" not in before.headers
    drain.begun = True
    ready = ask(model, "GET", "/v2/health/ready", drain)
    models = ask(model, "GET", "/v2/models", drain)
    assert (ready.status_code, models.status_code) == (503, 200)
    assert ready.headers["connection"] == models.headers["connection"] == "close"


def test_a_defect_of_ours_is_a_500_without_internals(model, monkeypatch):
    monkeypatch.setattr(model, "_network", "PATIENT-NAME-MARKER")
    response = ask(model, "POST", INFER, json=STUDY)
    assert response.status_code == 500
    assert response.json() == {"error": "internal error; its cause is in the server's log"}
    assert response.headers["connection"] == "close"


def test_a_server_that_is_ready_and_does_not_answer_is_found_in_the_rehearsal(model, monkeypatch):
    rehearse(build_app(model, Drain()))
    monkeypatch.setattr(model, "_network", None)
    with pytest.raises(BundleError, match="its server does not answer: .*internal error"):
        rehearse(build_app(model, Drain()))
