import errno
import http.client
import socket
import socketserver
import struct
import threading

import httpx
import pytest
from prometheus_client.openmetrics import parser

from serving.watch import exposition
from serving.watch.exposition import MetricsServer
from tests.serving.live import wait_until


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def served(metrics, listener):
    server = MetricsServer(metrics.registry, listener)
    yield listener.getsockname()[1]
    server.close()


def ask(port, method="GET", path="/metrics", **headers):
    url = f"http://127.0.0.1:{port}{path}"
    return httpx.request(method, url, headers=headers, timeout=10, trust_env=False)


def test_metrics_are_told_as_text_and_in_the_form_that_is_asked_for(served):
    answer = ask(served)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "bonexray_ready 1.0" in answer.text
    modern = ask(served, Accept="application/openmetrics-text; version=1.0.0")
    assert list(parser.text_string_to_metric_families(modern.text))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", path) for path in ("/", "/metrics/", "/metrics?name=DOE", "/DOE")),
        *((method, "/metrics") for method in ("POST", "PUT", "DELETE", "OPTIONS", "DOE")),
    ],
)
def test_everything_else_is_404_and_repeats_nothing(served, capfd, method, path):
    answer = ask(served, method, path)
    assert answer.status_code == 404
    assert "DOE" not in answer.text
    assert "server" not in answer.headers
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "sent", [b"DOE\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x00", b"GET /metrics HTTP/9.9\r\n\r\n"]
)
def test_what_is_not_http_is_answered_or_cut_without_a_word_in_the_log(served, capfd, sent):
    with socket.create_connection(("127.0.0.1", served), timeout=10) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(4096)
    assert b"DOE" not in answer
    assert b"200" not in answer
    assert ask(served).status_code == 200
    assert "DOE" not in capfd.readouterr().err


def test_a_client_that_says_nothing_does_not_hold_up_the_next(served):
    with socket.create_connection(("127.0.0.1", served)):
        assert ask(served).status_code == 200


def test_clients_that_are_late_or_gone_leave_no_word_beside_the_log(
    metrics, listener, capfd, monkeypatch
):
    monkeypatch.setattr(exposition, "_PATIENCE_S", 0.1)
    server = MetricsServer(metrics.registry, listener)
    port = listener.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as late:
        late.sendall(b"GET /metr")
        assert late.recv(1) == b""  # it is closed
    for _ in range(20):
        gone = socket.create_connection(("127.0.0.1", port))
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        gone.close()  # by a reset
    assert ask(port).status_code == 200
    server.close()
    assert capfd.readouterr() == ("", "")


def test_without_a_file_to_open_the_next_connection_is_waited_for_and_not_tried_on_and_on(
    metrics, listener, monkeypatch
):
    tries = []

    def refuse(_):
        tries.append(1)
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(socketserver.TCPServer, "get_request", refuse)
    server = MetricsServer(metrics.registry, listener)
    with socket.create_connection(listener.getsockname()):
        wait_until(lambda: tries)
        threading.Event().wait(0.5)
    monkeypatch.undo()
    assert len(tries) <= 2
    server.close()


def test_two_that_share_a_socket_answer_until_the_last_closes(metrics, listener):
    port = listener.getsockname()[1]
    copy = socket.socket(fileno=listener.dup().detach())
    first, second = MetricsServer(metrics.registry, listener), MetricsServer(metrics.registry, copy)
    assert all(ask(port).status_code == 200 for _ in range(20))
    first.close()
    assert all(ask(port).status_code == 200 for _ in range(20))
    second.close()
    with pytest.raises(httpx.ConnectError):
        ask(port)


def test_no_thread_is_left_after_the_end(metrics, listener):
    before = set(threading.enumerate())
    server = MetricsServer(metrics.registry, listener)
    connection = http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=10)
    connection.request("GET", "/metrics")
    assert connection.getresponse().read()
    connection.close()
    server.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive()
