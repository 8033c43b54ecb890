"""What a server may do to a caller, and what the caller says and does."""

import pytest

from pipeline import runs
from tests.pipeline.cluster_desk import Drive
from tests.pipeline.kfp_server import KfpServer

pytest_plugins = ["tests.pipeline.cluster_desk"]

CREATES = (
    "POST /apis/v2beta1/pipelines",
    "POST /apis/v2beta1/runs",
    "pipelines/upload_version",
    "POST /apis/v2beta1/experiments",
)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            403,
            "it does not let you: the token has expired, or may not do this: a 403 was asked for",
        ),
        (400, "it refuses with 400: a 400 was asked for"),
        ("login", "it sends you elsewhere, to a login?"),
        ("html", "answers, but not as Kubeflow Pipelines does"),
        ("torn", "answers, but not as Kubeflow Pipelines does"),
        (503, "it failed with 503"),
        ("hang", "no answer in 1 s"),
        ("drop", "Connection"),
    ],
)
def test_what_goes_wrong_is_told_in_a_line(
    refused: Drive, server: KfpServer, fault: int | str, said: str
) -> None:
    server.fail("GET /apis/v2beta1/experiments", *[fault] * 5)
    assert said in refused("status")


def test_a_server_that_is_none_is_said_to_be(refused: Drive, server: KfpServer) -> None:
    server.fail("healthz", *["html"] * 5)
    assert "answers, but not as Kubeflow Pipelines does" in refused("submit")


@pytest.mark.parametrize("fault", [500, 502, 503, 504, 429, "drop", "torn", "html"])
def test_a_read_is_asked_again(drive: Drive, server: KfpServer, fault: int | str) -> None:
    server.fail("GET", fault)
    assert "no runs yet" in drive("status")


@pytest.mark.parametrize("route", CREATES)
@pytest.mark.parametrize("fault", [500, 503, "drop"])
def test_what_was_not_made_is_not_made_twice_but_told(
    refused: Drive, server: KfpServer, route: str, fault: int | str
) -> None:
    server.fail(route, fault)
    refused("submit", "--no-wait")
    assert len([asked for asked in server.asked if asked.endswith(route) and "POST" in asked]) == 1
    assert not server.runs


@pytest.mark.parametrize("route", CREATES)
def test_what_was_made_while_its_answer_was_lost_is_found_and_not_made_again(
    drive: Drive, server: KfpServer, route: str
) -> None:
    server.fail(route, "lost")
    drive("submit", "--no-wait")
    assert (len(server.versions), len(server.experiments), len(server.runs)) == (1, 1, 1)


def test_what_may_have_been_made_and_cannot_be_looked_up_is_told(
    refused: Drive, server: KfpServer
) -> None:
    server.fail("POST /apis/v2beta1/runs", "lost")
    original = server.fault_of

    def deaf(asked: str):
        lost = asked.startswith("GET /apis/v2beta1/runs") and server.runs
        return 503 if lost else original(asked)

    server.fault_of = deaf  # type: ignore[method-assign]
    said = refused("submit", "--no-wait")
    assert "may have been made, and cannot be looked up" in said


def test_an_end_whose_answer_was_lost_is_an_end(drive: Drive, server: KfpServer) -> None:
    server.played = [{"state": "RUNNING"}, {}]
    drive("submit", "--no-wait")
    (run_id,) = server.runs
    server.fail(":terminate", "lost")
    assert "is being ended" in drive("cancel", run_id)


def test_a_version_that_somebody_else_uploaded_meanwhile_is_used(
    drive: Drive, server: KfpServer
) -> None:
    drive("submit", "--no-wait")
    # The first look does not see it; the upload then meets it.
    hidden, server.versions = server.versions, {}
    original = server.fault_of

    def reveal(asked: str):
        if "upload_version" in asked:
            server.versions = hidden
        return original(asked)

    server.fault_of = reveal  # type: ignore[method-assign]
    drive("submit", "--no-wait")
    assert len(server.versions) == 1
    assert len(server.runs) == 2


def test_a_run_that_is_not_there_is_told(refused: Drive) -> None:
    for command in ("status", "cancel"):
        assert "run no-such-run: there is none" in refused(command, "no-such-run")


def test_a_run_is_followed_through_what_passes(drive: Drive, server: KfpServer) -> None:
    server.played = [{"state": "RUNNING"}] * 3 + [{"state": "SUCCEEDED"}]
    server.fail("GET /apis/v2beta1/runs/", 503, "drop", 503, 503, 503, 503, 503, 503, 503)
    said = drive("submit")
    assert said.count("it failed with 503: a 503 was asked for; asking on") == 1
    assert "succeeded" in said.splitlines()[-1]


@pytest.mark.parametrize(("fault", "why"), [(404, "there is none"), (401, "does not know you")])
def test_a_run_that_is_not_to_be_seen_any_more_is_followed_no_longer(
    refused: Drive, server: KfpServer, fault: int, why: str
) -> None:
    server.played = [{"state": "RUNNING"}]
    server.fail("GET /apis/v2beta1/runs/", fault)
    said = refused("submit")
    assert "is followed no longer" in said
    assert why in said


def test_patience_with_a_server_ends(
    refused: Drive, server: KfpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_PATIENCE", 2)
    server.played = [{"state": "RUNNING"}]
    server.fail("GET /apis/v2beta1/runs/", *[502] * 6)
    assert "is followed no longer" in refused("submit")


def test_what_an_upload_is_refused_for_is_told(refused: Drive, server: KfpServer) -> None:
    server.fail("upload_version", 400)
    assert "it refuses with 400: a 400 was asked for" in refused("submit")
