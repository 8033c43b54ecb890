"""The suite itself: its forms of tensors, and that no server passes by saying yes."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from tritonclient.utils import (  # type: ignore[import-untyped]
    deserialize_bytes_tensor,
    serialize_byte_tensor,
)

from tests.conformance.__main__ import main, read_models
from tests.conformance.case import Outcome, Target
from tests.conformance.suite import Score, run
from tests.conformance.tensors import DATATYPES, from_json, from_raw, sample, to_json, to_raw


class _YesMan(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer: a second would wait for the first to be acknowledged

    def _say_yes(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"{}")

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = _say_yes

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def yes_man() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _YesMan)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


def test_a_server_that_says_yes_to_everything_passes_for_live_and_for_nothing_else(
    yes_man: str,
) -> None:
    outcomes = list(run("plain", Target(url=yes_man)))
    passed = {o.key for o in outcomes if o.passed and "/L0_http_fuzz/" not in f"/{o.key}"}
    assert passed == {
        "L0_http/plain/REST/server live",
        "L0_http/plain/REST/server ready",
        "L0_http/plain/REST/model ready",
        "L0_http/plain/REST/model ready, with version",
    }


def test_a_server_that_is_not_there_fails_every_case_in_one_line() -> None:
    outcomes = list(run("plain", Target(url="http://127.0.0.1:9")))
    assert len(outcomes) > 100
    assert all(o.reason and "\n" not in o.reason for o in outcomes)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_a_tensor_comes_back_from_both_of_its_forms(datatype: str) -> None:
    array = sample(datatype)
    raw = from_raw(datatype, array.shape, to_raw(array))
    assert raw.tolist() == array.tolist()
    if datatype != "FP16":
        text = from_json(datatype, array.shape, to_json(array))
        assert text.tolist() == array.tolist()


def test_bytes_are_written_and_read_as_tritonclient_does() -> None:
    array = sample("BYTES")
    assert to_raw(array) == serialize_byte_tensor(array).item()
    assert list(deserialize_bytes_tensor(to_raw(array))) == array.ravel().tolist()


@pytest.mark.parametrize("raw", [b"\x05\0\0\0ab", b"\x02\0\0\0ab", b""])
def test_bytes_that_are_cut_off_or_too_few_are_no_tensor(raw: bytes) -> None:
    with pytest.raises(ValueError, match="beyond the data|cannot reshape"):
        from_raw("BYTES", (2,), raw)


def test_numbers_keep_their_extremes() -> None:
    assert sample("INT64").max() == np.iinfo(np.int64).max
    assert to_json(sample("UINT64"))[3] == 2**64 - 1


def test_a_score_counts_by_group_and_client() -> None:
    score = Score(
        outcomes=(
            Outcome(key="L0_json/plain/REST/a", reason=""),
            Outcome(key="L0_json/plain/REST/b", reason="status 500"),
            Outcome(key="L0_json/triton/REST/a", reason=""),
        )
    )
    assert (score.passed, score.total) == (2, 3)
    assert score.by_group() == {"L0_json": {"plain": (1, 2), "triton": (1, 1)}}
    assert score.failures() == {"L0_json/plain/REST/b": "status 500"}
    assert "2 of 3 cases (66.7%)" in score.table()
    assert "plain/REST/b: status 500" in score.table()


def test_models_are_read_from_one_text() -> None:
    models = read_models("echo:FP32,two:FP32+BYTES")
    assert [(m.name, m.datatypes) for m in models] == [
        ("echo", ("FP32",)),
        ("two", ("FP32", "BYTES")),
    ]


@pytest.mark.parametrize("text", ["", "echo", ":FP32", "echo:FP31", "echo:FP32+"])
def test_a_model_without_a_datatype_that_there_is_is_refused(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--url", "http://127.0.0.1:9", "--models", text])
    assert "invalid" in capsys.readouterr().err
