import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.serving.live import ANY_PORTS, complaints


@pytest.fixture
def serve(repository):
    def run(*flags):
        command = [sys.executable, "-m", "serving", *ANY_PORTS, *map(str, flags)]
        return subprocess.run(
            command, cwd=repository, capture_output=True, text=True, timeout=30, check=False
        )

    return run


def assert_one_line(ended, pattern):
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert re.fullmatch(f"serving: {pattern}\n", ended.stderr), ended.stderr


def test_a_store_without_champion_is_told_in_one_line(serve, tmp_path):
    ended = serve("--store", tmp_path)
    assert_one_line(ended, r"no champion in .*/: approve a candidate first: python -m .*")


def test_an_altered_champion_is_never_served(serve, store, tmp_path):
    root = shutil.copytree(store.root, tmp_path / "release")
    with next(root.glob("bundles/*/model.onnx")).open("ab") as file:
        file.write(b"\0")
    trust = store.root.parent / "keys/release.pub"
    ended = serve("--store", root, "--trust", trust, "--port", "0")
    assert_one_line(ended, r".*/model\.onnx: SHA-256 is .*, expected .*")


def test_a_port_in_use_is_told_in_one_line(serve, store):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = serve("--store", store.root, "--port", port)
    assert_one_line(ended, rf"cannot listen on 127\.0\.0\.1 port {port}: it is in use")


def test_a_host_that_is_none_of_ours_is_told_in_one_line(serve, store):
    ended = serve("--store", store.root, "--host", "192.0.2.1", "--port", "0")
    assert_one_line(ended, r"cannot listen on 192\.0\.2\.1 port 0: .+")


@pytest.mark.parametrize("flags", [("--port", "65536"), ("--threads", "0")])
def test_a_flag_out_of_range_is_refused(serve, flags):
    ended = serve(*flags)
    assert ended.returncode == 2
    assert "expected" in ended.stderr


def test_what_can_be_told_at_once_waits_for_no_heavy_import(repository):
    heavy = {"kserve", "onnxruntime", "mlflow", "cryptography"}
    check = f"import sys, serving.__main__; sys.exit(len({heavy} & {{*sys.modules}}))"
    assert subprocess.run([sys.executable, "-c", check], cwd=repository).returncode == 0


def test_ctrl_c_stops_a_server_cleanly_after_the_study_in_flight(start_server, png):
    server = start_server()
    slow_study = [png(200, side_px=4000)] * 16
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(server.infer, *slow_study)
        time.sleep(0.3)
        assert not answer.done()
        server.process.send_signal(signal.SIGINT)
        assert answer.result().status_code == 200
    printed, _ = server.process.communicate(timeout=20)
    assert (server.process.returncode, printed) == (0, "")
    assert complaints(server.stderr.read_text()) == ""
