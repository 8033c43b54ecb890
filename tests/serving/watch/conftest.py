"""Logs, metrics and a collector of a test's own."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving.watch.metrics import Metrics
from tests.serving.watch.process_logs import logs_in


@pytest.fixture
def log_text(tmp_path: Path) -> Iterator[Callable[[], str]]:
    """The log so far."""
    with logs_in(tmp_path / "log.txt") as read:
        yield read


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(
        waiting_views=lambda: 3,
        wait_s=lambda: 0.5,
        max_wait_s=5,
        deadline_s=10,
        ready=lambda: True,
        leaving=lambda: False,
        restarts=2,
    )


@pytest.fixture
def collector(tmp_path: Path, repository: Path) -> Iterator[tuple[str, Path]]:
    """The URL of a collector in a process of its own, and the file that it writes spans to."""
    spans = tmp_path / "spans.jsonl"
    spans.touch()
    command = [sys.executable, "-m", "tests.serving.watch.collector", str(spans)]
    process = subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip(), spans
    finally:
        process.terminate()
        process.wait(timeout=10)
        process.stdout.close()
