"""What a Kubernetes API with Kubeflow Trainer answers about TrainJobs, on loopback.

A job must fit its published schema. Its states are played one a look.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jsonschema

from tests.pipeline.test_trainjob import SCHEMA, schema_of_train_jobs

_ROUTE = re.compile(
    r"/apis/trainer\.kubeflow\.org/v1alpha1/namespaces/radiology/trainjobs(?:/([^/?]+))?"
)
RUNNING = {"jobsStatus": [{"name": "node", "active": 2, "ready": 2}]}
COMPLETE = {"conditions": [{"type": "Complete", "status": "True"}]}
FAILED = {
    "conditions": [{"type": "Failed", "status": "True", "message": "node-1 ran out of memory"}]
}


class TrainerServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.jobs: dict[str, dict[str, Any]] = {}
        self.created: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.states: list[dict[str, Any] | int] = []
        """Of a job, a look each; a number is a fault. The last one stays."""
        self.refusal: tuple[int, str] | None = None
        """Of a creation."""


@contextmanager
def trainer() -> Iterator[TrainerServer]:
    server = TrainerServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


class _Handler(BaseHTTPRequestHandler):
    server: TrainerServer

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = job["metadata"]["name"]
        if self.server.refusal:
            return self._status(*self.server.refusal)
        if name in self.server.jobs:
            return self._status(409, f'trainjobs "{name}" already exists')
        if "fieldValidation=Strict" not in self.path:
            return self._status(400, "expected strict field validation")
        if SCHEMA.exists():
            try:
                jsonschema.validate(job, schema_of_train_jobs())
            except jsonschema.ValidationError as error:
                return self._status(422, error.message)
        self.server.jobs[name] = job
        self.server.created.append(job)
        return self._send(201, job)

    def do_GET(self) -> None:
        name = self._name()
        state = self.server.states[0] if self.server.states else RUNNING
        if len(self.server.states) > 1:
            self.server.states.pop(0)
        if isinstance(state, int):
            return self._status(state, f"a {state}")
        if name not in self.server.jobs:
            return self._status(404, f'trainjobs "{name}" not found')
        return self._send(200, self.server.jobs[name] | {"status": state})

    def do_DELETE(self) -> None:
        name = self._name()
        self.server.deleted.append(name)
        if self.server.jobs.pop(name, None) is None:
            return self._status(404, f'trainjobs "{name}" not found')
        return self._status(200, "")

    def _name(self) -> str:
        match = _ROUTE.fullmatch(self.path.partition("?")[0])
        assert match is not None, self.path
        return match[1]

    def _status(self, code: int, message: str) -> None:
        self._send(code, {"kind": "Status", "apiVersion": "v1", "code": code, "message": message})

    def _send(self, code: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
