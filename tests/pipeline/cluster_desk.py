"""Somebody at a checkout who drives the pipeline on a server."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import runs, wire
from pipeline.__main__ import main
from pipeline.compiling import compile_pipeline
from tests.pipeline.kfp_server import KfpServer, kfp_server

COMMIT = "0123456789abcdef0123456789abcdef01234567"

Drive = Callable[..., str]


_compiled: dict[str, bytes] = {}


def _compiled_once(params: dict[str, Any], image: str, out: Path) -> None:
    """Compiling takes most of a second: the same settings are compiled once for all tests."""
    key = f"{image} {params}"
    if key not in _compiled:
        compile_pipeline(params, image, out)
        _compiled[key] = out.read_bytes()
    out.write_bytes(_compiled[key])


@pytest.fixture
def server() -> Iterator[KfpServer]:
    with kfp_server() as running:
        yield running


@pytest.fixture
def drive(
    server: KfpServer,
    tiny_params: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Drive:
    """`python -m pipeline COMMAND ...` against the server: what it printed."""
    for name in ("KF_PIPELINES_TOKEN", "KF_PIPELINES_SA_TOKEN_PATH", "PRICE_PER_HOUR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
    monkeypatch.setattr(runs, "POLL_S", 0.01)
    monkeypatch.setattr(wire, "PAUSES_S", (0.01, 0.01))
    monkeypatch.setattr(wire, "TIMEOUT_S", 1)
    monkeypatch.setattr(runs, "compile_pipeline", _compiled_once)
    monkeypatch.chdir(tmp_path)

    def call(command: str, *flags: str, **sections: dict[str, Any]) -> str:
        params = yaml.safe_load(tiny_params.read_text())
        for name, fields in sections.items():
            params[name] |= fields
        tiny_params.write_text(yaml.safe_dump(params))
        commit = ["--commit", COMMIT] if command in ("submit", "schedule") else []
        if "--commit" in flags:
            commit = []
        main([command, "--params", str(tiny_params), *commit, *flags])
        return capsys.readouterr().out

    return call


@pytest.fixture
def refused(drive: Drive, capsys: pytest.CaptureFixture[str]) -> Drive:
    """The same, which fails: the one line that it said."""

    def call(command: str, *flags: str, **sections: dict[str, Any]) -> str:
        with pytest.raises(SystemExit, match="1"):
            drive(command, *flags, **sections)
        said = capsys.readouterr().err
        assert said.count("\n") == 1, said
        return said

    return call
