"""`python -m serving` on free ports, to be asked by the tests of its clients."""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CONFIG = {
    "precision": "fp32",
    "max_body_mib": 1,
    "max_views": 8,
    "deadline_s": 30,
    "lame_duck_s": 0,
    "requests_per_minute": 6000,
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    url: str
    grpc: str
    metrics: str


@contextmanager
def asked_server(store: Path, audit: Path, *flags: str, **config: object) -> Iterator[Asked]:
    """A server with a setting or two of its own; it is stopped whatever happens."""
    command = [sys.executable, "-m", "serving", "--store", str(store), "--audit", str(audit)]
    command += ["--port=0", "--grpc-port=0", "--metrics-port=0", "--threads=1", *flags]
    command += ["--params", json.dumps(CONFIG | config)]
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            complaints.seek(0)
            found = re.search(r"ready on (\S+), gRPC on (\S+), metrics on (\S+),", line)
            assert found is not None, complaints.read()
            yield Asked(url=found[1], grpc=found[2], metrics=found[3])
        finally:
            process.terminate()
            process.communicate(timeout=30)
