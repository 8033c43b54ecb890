"""The command as a whole: real processes, switched, killed and stopped under load."""

import json
import socket
import time

import httpx
import psutil
import pytest

from tests.serving.live import INFER, PATIENCE_S, STUDY, finish, wait_until


def test_a_switch_and_a_rollback_under_load_fail_no_request(command, digests, load):
    clients = load(command, keeping=2, leaving=2)
    command.point("4", digests["4"])
    wait_until(lambda: "version 4 (" in command.said())
    wait_until(lambda: all("4" in client.heard[-3:] for client in clients))
    command.point("3", digests["3"])
    wait_until(lambda: command.said().count("version 3 (") == 2)
    wait_until(lambda: all("3" in client.heard[-3:] for client in clients))
    heard = finish(clients)
    assert len(heard) > 300
    assert [client.versions() for client in clients] == [["3", "4", "3"]] * 4
    assert not any(client.too_early for client in clients)
    assert command.complained() == ""
    wait_until(lambda: len(command.children()) == 1)  # both that were replaced have drained


def test_a_pointer_that_moves_on_stops_the_child_that_was_starting(command, digests):
    served = command.said()
    (serving,) = command.children()
    command.point("4", digests["4"])
    wait_until(lambda: len(command.children()) == 2)
    (starting,) = set(command.children()) - {serving}
    starting.suspend()  # so that it is certainly not ready first
    command.point("3", digests["3"])
    wait_until(lambda: command.children() == [serving])
    assert (command.ask(), command.said()) == ("3", served)


def test_a_starting_child_that_is_killed_leaves_the_one_before(command, digests):
    before = command.complained()
    (serving,) = command.children()
    command.point("4", digests["4"])
    wait_until(lambda: len(command.children()) == 2)
    (starting,) = set(command.children()) - {serving}
    starting.kill()
    told = "not served: its process was killed by signal 9; version 3 goes on\n"
    wait_until(lambda: told in command.complained())
    assert command.complained().removeprefix(before).count("\n") == 1
    assert command.ask() == "3"
    command.point("3", digests["3"])


def test_a_child_that_is_killed_under_load_comes_back_and_costs_what_it_held(command, load):
    clients = load(command, keeping=2, leaving=2)
    (killed,) = command.children()
    killed.kill()
    wait_until(lambda: "(digest " in command.said() and "is served again" in command.said())
    wait_until(lambda: all(client.heard[-3:] == ["3"] * 3 for client in clients))
    heard = finish(clients)
    assert sum(version != "3" for version in heard) <= len(clients)
    assert "died: its process was killed by signal 9; it is started again" in command.complained()
    (again,) = command.children()
    assert again.pid != killed.pid


def connect(command):
    url = httpx.URL(command.url)
    return socket.create_connection((url.host, url.port), timeout=PATIENCE_S)


def request_of(path="/v2/health/ready"):
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


@pytest.mark.slow
def test_a_connection_that_was_silent_during_the_switch_is_answered_and_then_closed(
    command, digests
):
    silent, idle, halfway, unused = (connect(command) for _ in range(4))
    idle.sendall(request_of())
    answered = b""
    while not answered.endswith(b'{"ready":true}'):
        answered += idle.recv(4096)
    body = json.dumps(STUDY).encode()
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    halfway.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body[:100])
    time.sleep(0.2)  # all four were accepted by the child that serves now
    said = command.said()
    command.point("4", digests["4"])
    wait_until(lambda: "version 4 (" in command.said().removeprefix(said))
    time.sleep(1)
    for connection in (silent, idle):
        connection.sendall(request_of())
        answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 503 ")  # the child that drains is not ready
        assert b"connection: close" in answer
    halfway.sendall(body[100:])
    assert b'"model_version":"3"' in halfway.makefile("rb").read()
    assert unused.recv(1) == b""  # closed in the end
    wait_until(lambda: len(command.children()) == 1)
    command.point("3", digests["3"])
    wait_until(lambda: command.said().rstrip().endswith("version 4 answers no more"))
    for connection in (silent, idle, halfway, unused):
        connection.close()


def test_no_child_lives_on_when_the_parent_is_killed(start):
    command = start()
    children = command.children()
    with connect(command) as held:
        held.sendall(request_of())
        assert held.recv(4096)
        command.process.kill()
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert (len(gone), alive) == (1, [])
    with pytest.raises(ConnectionRefusedError):
        connect(command)


def test_a_stop_under_load_fails_no_request_that_was_accepted(start, load):
    command = start()
    clients = load(command, keeping=4, leaving=0)
    assert command.stop() == 0
    for client in clients:
        client.join()
        *answers, last = client.heard
        assert set(answers) == {"3"}
        assert last.startswith("ConnectError")  # the first thing that was refused
    assert command.complained() == ""


@pytest.mark.slow
def test_a_child_that_keeps_dying_is_started_again_later_and_later(start):
    command = start()

    def seconds_to_the_next():
        (killed,) = command.children()
        killed.kill()
        killed_s = time.monotonic()
        wait_until(lambda: command.children() not in ([], [killed]))
        return time.monotonic() - killed_s

    pauses_s = [seconds_to_the_next() for _ in range(4)]
    assert pauses_s[0] < 0.5
    assert pauses_s[1] > 0.9
    assert pauses_s[2] > 1.9
    assert pauses_s[3] > 3.9


@pytest.mark.slow
def test_a_child_that_is_not_ready_in_two_minutes_is_given_up(command, digests):
    (serving,) = command.children()
    command.point("4", digests["4"])
    wait_until(lambda: len(command.children()) == 2)
    (starting,) = set(command.children()) - {serving}
    starting.suspend()
    wait_until(lambda: "not ready in 120 seconds" in command.complained(), seconds=140)
    assert command.children() == [serving]
    command.point("3", digests["3"])
