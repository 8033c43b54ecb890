"""`ask`, of real servers, and of one that stands before a real one and is busy."""

import gzip
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from bonexray.errors import ConfigError
from serving import remote
from serving.client import TOKEN, main
from serving.guard.clients import Scope
from serving.guard.tokens import add_client, new_token
from serving.remote import NoAnswerError, Server, ask
from tests.serving.asked_server import asked_server
from tests.serving.dicom.files import dicom, radiograph
from tests.serving.guard.certificates import write_pair


@pytest.fixture(scope="module")
def server(store, tmp_path_factory):
    with asked_server(store.root, tmp_path_factory.mktemp("audit")) as asked:
        yield Server(url=asked.url)


@pytest.fixture(scope="module")
def guarded(store, tmp_path_factory):
    """A server with TLS that asks who calls, and what its client needs."""
    folder = tmp_path_factory.mktemp("guarded")
    certificate, key, clients = folder / "tls.pem", folder / "tls.key", folder / "clients.json"
    write_pair(certificate, key, "server")
    token, entry = new_token("pacs", [Scope.INFER], None)
    add_client(clients, entry)
    flags = ("--certificate", certificate, "--key", key, "--clients", clients)
    with asked_server(store.root, folder / "audit", *map(str, flags)) as asked:
        yield Server(url=asked.url, token=token, ca=certificate)


@contextmanager
def standing_before(behind, *refusals):
    """A server that answers so, one after the other, and then as the one behind it."""
    waiting, seen = list(refusals), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append(body)
            if waiting:
                status, headers, said = waiting.pop(0)
            else:
                sent = {name: self.headers[name] for name in ("Inference-Header-Content-Length",)}
                answer = httpx.post(
                    behind.url + self.path, content=body, headers=sent, trust_env=False
                )
                status, headers, said = answer.status_code, sent, answer.content
                headers = {name: answer.headers[name] for name in sent}
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(said))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        try:
            yield Server(url=f"http://127.0.0.1:{proxy.server_port}"), seen
        finally:
            proxy.shutdown()
            thread.join()


BUSY = (429, {"Retry-After": "0"}, b'{"error": "too busy"}')
STARTING = (503, {"Retry-After": "0"}, b'{"error": "not ready"}')


def test_each_study_of_a_request_is_read_by_its_own_views(server, store, png, expected_probability):
    dark, mixed = ask(Server(url=server.url + "/"), [[png(60)], [png(200), png(130), png(190)]])
    assert dark.probability == pytest.approx(expected_probability(60), abs=1e-6)
    assert [view.probability for view in mixed.views] == pytest.approx(
        [expected_probability(level) for level in (200, 130, 190)], abs=1e-6
    )
    assert (dark.verdict, mixed.verdict) == ("negative", "positive")
    assert mixed.category == ("positive", "positive")
    assert dark.origin == mixed.origin
    assert dark.origin.bundle_digest == store.champion().digest
    assert dark.origin.round_trip_ms >= dark.origin.total_ms


def test_a_dicom_file_is_read_by_its_header_and_one_of_another_kind_is_not(server):
    wrist = dicom(radiograph(), SOPInstanceUID="1.2.3.7", BodyPartExamined="WRIST")
    tomogram = dicom(radiograph(), Modality="CT")
    (study,) = ask(server, [[wrist, tomogram]])
    read, refused = study.views
    assert (read.claimed_part, read.instance_uid) == ("XR_WRIST", "1.2.3.7")
    assert (refused.refusal, refused.probability) == ("not_a_radiograph", None)


def test_a_body_part_that_is_claimed_is_held_against_what_is_seen(server, png):
    (study,) = ask(server, [[png(140)]], body_part="XR_WRIST")
    assert study.views[0].claimed_part == "XR_WRIST"
    with pytest.raises(NoAnswerError, match="body_part: expected one of XR_ELBOW") as refused:
        ask(server, [[png(140)]], body_part="XR_HEAD")
    assert refused.value.status == 400


def test_heatmaps_come_when_they_are_asked_for(server, png):
    (plain,), (mapped,) = (
        ask(server, [[png(200)]], with_heatmaps=asked) for asked in (False, True)
    )
    assert plain.views[0].heatmap == b""
    assert mapped.views[0].heatmap.startswith(b"\x89PNG")


def test_a_server_that_is_busy_is_asked_the_same_again(server, png):
    with standing_before(server, BUSY, STARTING, BUSY) as (busy, seen):
        assert ask(busy, [[png(60)]])[0].verdict == "negative"
    assert len(seen) == 4
    assert len(set(seen)) == 1


def test_a_server_that_stays_busy_is_told_after_four_times(server, png):
    with (
        standing_before(server, *[BUSY] * 9) as (busy, seen),
        pytest.raises(NoAnswerError, match=r"refused \(429\): too busy$"),
    ):
        ask(busy, [[png(60)]])
    assert len(seen) == 4


@pytest.mark.parametrize(
    "refusal",
    [
        (429, {"Retry-After": "31"}, b'{"error": "too busy"}'),
        (504, {"Retry-After": "0"}, b'{"error": "too late"}'),
        (400, {"Retry-After": "0"}, b'{"error": "no view"}'),
        (429, {"Retry-After": "9" * 5000}, b'{"error": "too busy"}'),
    ],
)
def test_one_who_would_ask_in_vain_or_wait_for_long_does_not(server, png, refusal):
    with (
        standing_before(server, refusal) as (strict, seen),
        pytest.raises(NoAnswerError, match=rf"refused \({refusal[0]}\)"),
    ):
        ask(strict, [[png(60)]])
    assert len(seen) == 1


@pytest.mark.parametrize("said", [b"{}", b"<html>", b"", b'{"outputs": []}'])
def test_an_answer_that_is_not_ours_is_told(server, png, said):
    with (
        standing_before(server, (200, {}, said)) as (other, _),
        pytest.raises(NoAnswerError, match="the answer is not one of a bonexray server"),
    ):
        ask(other, [[png(60)]])


def test_an_answer_without_end_is_not_kept_in_memory(server, png, monkeypatch):
    monkeypatch.setattr(remote, "_MAX_ANSWER_BYTES", 1000)
    with (
        standing_before(server, (200, {}, b"a" * 1001)) as (other, _),
        pytest.raises(NoAnswerError, match="an answer of more than 1,000 bytes"),
    ):
        ask(other, [[png(60)]])


def test_an_answer_that_is_packed_is_not_unpacked(server, png):
    packed = gzip.compress(bytes(1000))
    with (
        standing_before(server, (200, {"Content-Encoding": "gzip"}, packed)) as (other, _),
        pytest.raises(NoAnswerError, match="the answer is not one of a bonexray server"),
    ):
        ask(other, [[png(60)]])


def test_a_refusal_whose_words_are_nested_too_deep_is_told_by_its_status(server, png):
    with (
        standing_before(server, (400, {}, b"[" * 100_000)) as (other, _),
        pytest.raises(NoAnswerError, match=r"refused \(400\): Bad Request"),
    ):
        ask(other, [[png(60)]])


def test_what_a_server_says_is_told_in_one_line_without_control_characters(server, png):
    hostile = b'{"error": "a\\nb\\u001b[31m' + b"c" * 1000 + b'"}'
    with (
        standing_before(server, (400, {}, hostile)) as (other, _),
        pytest.raises(NoAnswerError) as refused,
    ):
        ask(other, [[png(60)]])
    assert "refused (400): a b [31mc" in str(refused.value)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 400


def test_a_refusal_without_words_is_told_by_its_status(server, png):
    with (
        standing_before(server, (502, {}, b"<html>")) as (proxy, _),
        pytest.raises(NoAnswerError, match=r"refused \(502\): Bad Gateway"),
    ):
        ask(proxy, [[png(60)]])


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8080", "http://[", "ftp://127.0.0.1", "http://127.0.0.1:1"]
)
def test_a_url_that_leads_nowhere_is_told(url, png):
    with pytest.raises(NoAnswerError, match="no answer: .") as refused:
        ask(Server(url=url), [[png(60)]])
    assert refused.value.status == 0


def test_a_server_with_tls_answers_who_has_its_certificate_and_a_token(guarded, png):
    assert ask(guarded, [[png(60)]])[0].verdict == "negative"


def test_without_a_token_the_server_says_what_it_expects(guarded, png):
    for token, words in (("", "expected a header of the form Bearer"), ("wrong", "not known here")):
        with pytest.raises(NoAnswerError, match=words) as refused:
            ask(Server(url=guarded.url, token=token, ca=guarded.ca), [[png(60)]])
        assert refused.value.status == 401


def test_a_certificate_that_cannot_be_verified_ends_it(guarded, png):
    with pytest.raises(NoAnswerError, match="certificate"):
        ask(Server(url=guarded.url, token=guarded.token), [[png(60)]])


def test_a_file_of_certificates_that_is_none_is_told(guarded, png, tmp_path):
    (tmp_path / "text.pem").write_text("no certificate")
    for name in ("text.pem", "gone.pem"):
        with pytest.raises(ConfigError, match=f"{name}: expected a PEM file of certificates"):
            ask(Server(url=guarded.url, ca=tmp_path / name), [[png(60)]])


def test_the_command_takes_a_token_from_a_file_or_from_the_environment(
    guarded, png, tmp_path, monkeypatch, capsys
):
    (tmp_path / "1.png").write_bytes(png(60))
    (tmp_path / "token").write_text(f"{guarded.token}\n")
    (tmp_path / "another").write_text("mistaken")
    asked = [str(tmp_path / "1.png"), "--url", guarded.url, "--ca", str(guarded.ca)]
    main([*asked, "--token-file", str(tmp_path / "token")])
    monkeypatch.setenv(TOKEN, guarded.token)
    main(asked)
    assert capsys.readouterr().out.count("verdict      negative") == 2
    with pytest.raises(SystemExit, match="1"):
        main([*asked, "--token-file", str(tmp_path / "another")])
    complaint = capsys.readouterr().err
    assert complaint.startswith(f"serving.client: {guarded.url}: refused (401): authorization: ")
    assert "mistaken" not in complaint
