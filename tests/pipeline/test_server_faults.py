"""What a server may do to a caller, and what the caller says and does."""

from pathlib import Path

import pytest

from tests.pipeline.cluster_desk import Drive
from tests.pipeline.kfp_server import KfpServer

pytest_plugins = ["tests.pipeline.cluster_desk"]

CREATES = (
    "POST /apis/v2beta1/pipelines",
    "POST /apis/v2beta1/runs",
    "pipelines/upload_version",
    "POST /apis/v2beta1/experiments",
)


@pytest.mark.parametrize("endpoint", ["", "ml-pipeline:8888"])
def test_without_an_address_nothing_is_tried(
    refused: Drive, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    refused("submit", "--set", "x")  # the fixtures' own environment first
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", endpoint)
    assert f"KF_PIPELINES_ENDPOINT = {endpoint!r}: names no Kubeflow Pipelines" in refused("status")


def test_an_endpoint_that_nobody_listens_at_is_named(
    refused: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9: cannot be reached" in refused("status")


def test_an_expired_token_is_told_and_not_shown(
    refused: Drive, server: KfpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.token = "a-fresh-token"
    monkeypatch.setenv("KF_PIPELINES_TOKEN", "a-stale-token")
    said = refused("submit")
    assert "it does not know you: the token (KF_PIPELINES_TOKEN" in said
    assert "a-stale-token" not in said


def test_a_token_may_lie_in_a_file(
    drive: Drive, server: KfpServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.token = "a-token-of-a-file"
    (tmp_path / "token").write_text(server.token)
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    drive("submit", "--no-wait")
    assert len(server.runs) == 1


@pytest.mark.parametrize("content", [None, b"", b"two words", b"\xff"])
def test_a_file_that_holds_no_token_is_told(
    refused: Drive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    assert "KF_PIPELINES_SA_TOKEN_PATH: " in refused("status")


def test_a_password_in_the_address_is_not_printed(
    refused: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", "https://user:hunter2@kubeflow.example.org")
    assert "hunter2" not in refused("status")


def test_a_server_that_cannot_be_trusted_is_told(
    refused: Drive, server: KfpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url.replace("http:", "https:"))
    assert "cannot be trusted or reached" in refused("status")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            403,
            "it does not let you: the token has expired, or may not do this: a 403 was asked for",
        ),
        (418, "it refuses with 418"),
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
    server.fail("GET /apis/v2beta1/runs", *[fault] * 5)
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
    assert "it failed with 503" in said
    assert "succeeded" in said.splitlines()[-1]


def test_a_run_that_is_deleted_while_it_is_followed_is_told(
    refused: Drive, server: KfpServer
) -> None:
    server.played = [{"state": "RUNNING"}]
    server.fail("GET /apis/v2beta1/runs/", 404)
    assert "there is none" in refused("submit")
