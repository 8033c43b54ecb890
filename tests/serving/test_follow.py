"""The command as a whole: real processes, switched, killed and fed with bad bundles under load."""

import base64
import json
import pickle
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from itertools import groupby

import httpx
import psutil
import pytest

from bonexray.artifacts import sha256_file
from bonexray.bundle import MODEL_FILE
from bonexray.sealed import MANIFEST_FILE
from bonexray.store import CHAMPION_FILE, BundleStore, Champion
from serving.signature import make_keys, sign_bundle
from tests.small_bundle import add_signed, draw_png, make_store, mean_network, write_bundle

INFER = "/v2/models/bonexray/infer"
VIEW = base64.b64encode(draw_png(60)).decode()
STUDY = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [VIEW]}]}
PATIENCE_S = 30


def wait_until(condition, seconds=PATIENCE_S):
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.02)


class Command:
    """`python -m serving` on a store of its own, whose output goes to files."""

    def __init__(self, folder, repository):
        self.store = BundleStore(folder / "release")
        self.out, self.err = folder / "out.txt", folder / "err.txt"
        command = [sys.executable, "-m", "serving", "--store", str(self.store.root), "--port", "0"]
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [*command, "--threads", "1"], cwd=repository, stdout=out, stderr=err
            )
        wait_until(lambda: " is ready on " in self.said() or self.process.poll() is not None)
        assert self.process.poll() is None, self.err.read_text()
        self.url = self.said().partition(" is ready on ")[2].partition(",")[0]

    def said(self):
        return self.out.read_text()

    def complained(self):
        return self.err.read_text()

    def children(self):
        return psutil.Process(self.process.pid).children()

    def point(self, version, digest):
        """As `set_champion` does, which would refuse the bundles that are tried here."""
        champion = Champion(model_name="bonexray", version=version, digest=digest)
        partial = self.store.root / "champion.partial"
        partial.write_text(champion.model_dump_json())
        partial.replace(self.store.root / CHAMPION_FILE)

    def ask(self):
        answer = httpx.post(self.url + INFER, json=STUDY, timeout=PATIENCE_S, trust_env=False)
        return answer.json()["parameters"]["model_version"]

    def stop(self):
        self.process.terminate()
        return self.process.wait(timeout=PATIENCE_S)


class Client(threading.Thread):
    """Asks again and again, and notes the version of each answer, or the error in its place."""

    def __init__(self, command, keeps_connection):
        super().__init__()
        self.command, self.keeps_connection = command, keeps_connection
        self.heard, self.too_early = [], False
        self.leave = threading.Event()

    def run(self):
        headers = {} if self.keeps_connection else {"Connection": "close"}
        with httpx.Client(trust_env=False, timeout=PATIENCE_S, headers=headers) as client:
            while not self.leave.is_set():
                try:
                    answer = client.post(self.command.url + INFER, json=STUDY)
                    version = answer.json()["parameters"]["model_version"]
                    if version not in self.heard:
                        announced = f"version {version} (" in self.command.said()
                        self.too_early = self.too_early or not announced
                    self.heard.append(version)
                except Exception as error:
                    self.heard.append(repr(error))
                    if isinstance(error, httpx.ConnectError):
                        return
                time.sleep(0.01)

    def versions(self):
        return [version for version, _ in groupby(self.heard)]


@pytest.fixture
def load():
    """Start clients on a command; those that still ask at the end are stopped."""
    with ExitStack() as stack:

        def start(command, keeping, leaving):
            clients = [Client(command, number < keeping) for number in range(keeping + leaving)]
            for client in clients:
                client.start()
                stack.callback(client.join)
                stack.callback(client.leave.set)
            wait_until(lambda: all(len(client.heard) > 5 for client in clients))
            return clients

        yield start


def finish(clients):
    for client in clients:
        client.leave.set()
    for client in clients:
        client.join()
    return [version for client in clients for version in client.heard]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A folder with keys and a store, which holds two signed bundles; version 3 is champion."""
    folder = tmp_path_factory.mktemp("shelf")
    store = make_store(folder)
    for version, gain in (("4", 3.0), ("3", 2.0)):
        write_bundle(folder / version, mean_network(gain=gain).SerializeToString())
        digest = add_signed(store, folder / version)
        store.set_champion(Champion(model_name="bonexray", version=version, digest=digest))
        (folder / f"{version}.digest").write_text(digest)
    return folder


@pytest.fixture(scope="module")
def digests(shelf):
    return {version: (shelf / f"{version}.digest").read_text() for version in ("3", "4")}


@pytest.fixture(scope="module")
def start(shelf, repository, tmp_path_factory):
    with ExitStack() as stack:

        def begin():
            folder = shutil.copytree(shelf, tmp_path_factory.mktemp("served") / "own")
            command = Command(folder, repository)
            stack.callback(command.stop)
            return command

        yield begin


@pytest.fixture(scope="module")
def command(start):
    """One that serves version 3 whenever a test begins, and ends."""
    return start()


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


def altered(folder, _):
    with (folder / MODEL_FILE).open("ab") as file:
        file.write(b"\0")


def with_an_extra_file(folder, _):
    (folder / "notes.txt").write_text("harmless")


def with_a_pickle(folder, _):
    (folder / "model.pkl").write_bytes(pickle.dumps(dict))


def unsigned(_, signature):
    signature.unlink()


def signed_with_another_key(folder, signature):
    keys = signature.parent / "other"
    make_keys(keys / "key", keys / "pub")
    signature.write_text(sign_bundle(folder, keys / "key", []))


def with_anothers_signature(folder, signature):
    other = next(path for path in signature.parent.glob("*.sig") if path != signature)
    shutil.copyfile(other, signature)


def not_a_graph(folder):
    write_bundle(folder, model=pickle.dumps(dict))


def reaching_out_of_its_folder(folder):
    write_bundle(folder, mean_network(gain=5.0).SerializeToString())
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    (folder.parent / "outside").write_bytes((folder / MODEL_FILE).read_bytes())
    manifest["sha256"]["../outside"] = manifest["sha256"].pop(MODEL_FILE)
    (folder / MODEL_FILE).unlink()
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))


SPOILED = {
    altered: r".*/model.onnx: SHA-256 is .*",
    with_an_extra_file: r".*: holds \['notes.txt'\] beside its manifest.*",
    with_a_pickle: r".*: holds \['model.pkl'\] beside its manifest.*",
    unsigned: r".*\.sig: no such signature.*",
    signed_with_another_key: r".*\.sig: Key mismatch: .*",
    with_anothers_signature: r".*\.sig: .*",
}
"""What is done to a good bundle in the store, or to its signature -> what is told."""

MADE = {
    not_a_graph: r"model.onnx: cannot be run: .*",
    reaching_out_of_its_folder: r".*: holds \[\] beside its manifest, and lacks \['../outside'\].*",
}
"""Bundles that are bad, but signed by whom we trust -> what is told."""


def put_bad_bundle(store, case):
    """Put a bundle into a store that nobody must serve, and return its digest."""
    folder = store.root / "made"
    if case in MADE:
        case(folder)
    else:
        gain = 10 + list(SPOILED).index(case)
        write_bundle(folder, mean_network(gain=gain).SerializeToString())
    digest = sha256_file(folder / MANIFEST_FILE)
    folder.rename(store.folder(digest))
    signature = store.signature(digest)
    key = store.root.parent / "keys/release.key"
    signature.write_text(sign_bundle(store.folder(digest), key, []))
    if case in SPOILED:
        case(store.folder(digest), signature)
    return digest


@pytest.mark.parametrize("case", [*SPOILED, *MADE], ids=lambda case: case.__name__)
def test_a_bad_champion_is_told_in_one_line_and_the_one_before_goes_on(command, digests, case):
    before, served = command.complained(), command.said()
    digest = put_bad_bundle(command.store, case)
    command.point("9", digest)
    wait_until(lambda: command.complained() != before)
    line = command.complained().removeprefix(before)
    reason = (SPOILED | MADE)[case]
    expected = rf"serving: version 9 \(digest {digest[:12]}\) is not served: {reason}"
    assert re.fullmatch(rf"{expected}; version 3 goes on\n", line), line
    assert (command.ask(), command.said()) == ("3", served)
    command.point("3", digests["3"])


QUICK = (unsigned, not_a_graph)
FIRST = [
    pytest.param(case, marks=[] if case in QUICK else pytest.mark.slow, id=case.__name__)
    for case in (*SPOILED, *MADE)
]


@pytest.mark.parametrize("case", FIRST)
def test_a_bad_first_champion_ends_the_command_and_is_never_ready(
    shelf, repository, tmp_path, case
):
    folder = shutil.copytree(shelf, tmp_path / "own")
    store = BundleStore(folder / "release")
    digest = put_bad_bundle(store, case)
    pointer = {"model_name": "bonexray", "version": "9", "digest": digest}
    (store.root / CHAMPION_FILE).write_text(json.dumps(pointer))
    ended = subprocess.run(
        [sys.executable, "-m", "serving", "--store", str(store.root), "--port", "0"],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch(f"serving: {(SPOILED | MADE)[case]}\n", ended.stderr), ended.stderr


def test_a_champion_that_was_mended_is_served_when_it_is_pointed_to_again(start):
    command = start()
    digest = put_bad_bundle(command.store, unsigned)
    command.point("9", digest)
    wait_until(lambda: "version 9 (" in command.complained())
    key = command.store.root.parent / "keys/release.key"
    command.store.signature(digest).write_text(sign_bundle(command.store.folder(digest), key, []))
    command.point("9", digest)
    wait_until(lambda: "version 9 (" in command.said())
    assert command.ask() == "9"


def test_a_pointer_that_cannot_be_read_is_told_once_and_one_that_is_gone_changes_nothing(
    command, digests
):
    before = command.complained()
    pointer = command.store.root / CHAMPION_FILE
    pointer.write_text("{}")
    wait_until(lambda: command.complained() != before)
    pointer.unlink()
    time.sleep(2.5)
    line = command.complained().removeprefix(before)
    assert re.fullmatch(r"serving: .*/champion.json: .*; what is served goes on\n", line), line
    assert command.ask() == "3"
    command.point("3", digests["3"])


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
def test_a_champion_that_was_refused_is_tried_again_in_a_minute_and_told_once(start):
    command = start()
    digest = put_bad_bundle(command.store, unsigned)
    command.point("9", digest)
    wait_until(lambda: "version 9 (" in command.complained())
    key = command.store.root.parent / "keys/release.key"
    signature = sign_bundle(command.store.folder(digest), key, [])
    command.store.signature(digest).write_text(signature)
    time.sleep(40)
    assert command.ask() == "3"
    wait_until(lambda: "version 9 (" in command.said())
    assert command.complained().count("\n") == 1


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
