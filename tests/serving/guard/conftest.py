"""Logs of a test's own."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.watch.process_logs import logs_in


@pytest.fixture
def json_lines(tmp_path: Path) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """The log so far, as objects."""
    with logs_in(tmp_path / "log.txt") as read:
        yield lambda: [json.loads(line) for line in read().splitlines()]
