"""The app in this process: when it is ready, when no more, and what a defect of ours looks like."""

import asyncio
import json
from io import StringIO

import httpx
import pytest

from bonexray.errors import BundleError
from serving.drain import Farewell
from serving.endpoint import Endpoint, rehearse
from serving.leaving import Drain
from serving.setup import Setup
from serving.watch.logs import configure_logs
from tests.serving.live import INFER, QUICK, STUDY

MARKER = "PATIENT-NAME-MARKER"


@pytest.fixture
def drain():
    return Drain()


@pytest.fixture
def endpoint(store, drain, tmp_path):
    champion = store.champion()
    setup = Setup(
        store=store.root,
        trust=store.root.parent / "keys/release.pub",
        threads=1,
        config=QUICK,
        audit=tmp_path / "audit",
        clients=None,
        certificate=None,
        key=None,
    )
    return Endpoint(store.open(champion.digest), champion.version, setup, drain, deaths=0)


def ask(app, method, path, **request):
    async def asked():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **request)

    return asyncio.run(asked())


def test_a_server_whose_model_is_not_warm_is_not_ready_and_does_not_answer(endpoint):
    endpoint.model.ready = False
    for path in ("/v2/health/ready", "/v2/models/bonexray/ready", "/v1/models/bonexray"):
        assert ask(endpoint.app, "GET", path).status_code == 503
    response = ask(endpoint.app, "POST", INFER, json=STUDY)
    assert response.status_code == 503
    assert response.json() == {"error": "model bonexray is not ready"}
    endpoint.model.warm()
    assert ask(endpoint.app, "GET", "/v2/health/ready").status_code == 200


def test_a_server_that_was_told_to_stop_says_so_and_still_answers(endpoint, drain):
    drain.leaving = True
    ready = ask(endpoint.app, "GET", "/v2/health/ready")
    assert ready.status_code == 503
    assert ask(endpoint.app, "GET", "/v2/models/bonexray/ready").status_code == 503
    assert ask(endpoint.app, "GET", "/v2/health/live").status_code == 200
    assert ask(endpoint.app, "POST", INFER, json=STUDY).status_code == 200


def test_a_server_that_drains_ends_each_connection_with_an_answer(endpoint, drain):
    app = Farewell(endpoint.app, drain)
    assert "connection" not in ask(app, "GET", "/v2/models").headers
    drain.begun = True
    assert ask(app, "GET", "/v2/models").headers["connection"] == "close"


def test_a_defect_of_ours_is_a_500_without_internals_and_is_logged_without_values(
    endpoint, monkeypatch
):
    def broken(*_, **__):
        raise ValueError(MARKER)

    monkeypatch.setattr("serving.predictor.judge", broken)
    log = StringIO()
    configure_logs(log)
    response = ask(endpoint.app, "POST", INFER, json=STUDY)
    assert response.status_code == 500
    assert response.json() == {"error": "internal error; its cause is in the server's log"}
    defect, request = map(json.loads, log.getvalue().splitlines())
    assert defect["exception"] == "ValueError"
    assert (request["status"], request["trace_id"]) == ("500", defect["trace_id"])
    assert MARKER not in log.getvalue()


def test_an_answer_that_cannot_be_written_down_is_not_given(endpoint, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(endpoint.model._audit, "append", full)
    response = ask(endpoint.app, "POST", INFER, json=STUDY)
    assert response.status_code == 503
    assert "cannot be written down" in response.json()["error"]


def test_a_server_that_does_not_answer_is_found_in_the_rehearsal(endpoint):
    rehearse(endpoint.app)
    endpoint.model.ready = False
    with pytest.raises(BundleError, match="its server does not answer: .*not ready"):
        rehearse(endpoint.app)
