"""The part of Kubeflow Pipelines' v2beta1 API that we call, on loopback, with faults to switch on.

What it takes and gives goes through the published client's own models: a field that they do not
know is refused, as is a package that kfp's own loader does not take. Runs are played, one look
after the other. Tasks and refusals have the form that the server's sources, at 2.17, give them.
"""

import datetime
import json
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from email.policy import HTTP
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api as api
import yaml
from kfp import components

TOKEN = "a-token"
ROOT = "/apis/v2beta1"
_SDK = api.ApiClient()
NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)

Document = dict[str, Any]


@cache
def _loaded(package: bytes) -> None:
    """Kfp's own loader takes it, which takes it half a second."""
    components.load_component_from_text(package.decode())


def through(model: str, document: Document) -> Document:
    """A document as the published model reads and writes it; ValueError on a field it lacks."""
    known = set(getattr(api, model).attribute_map.values())
    if unknown := set(document) - known:
        raise ValueError(f"{model}: unknown field {sorted(unknown)[0]!r}")
    read = _SDK.deserialize(SimpleNamespace(data=json.dumps(document)), model)
    return _SDK.sanitize_for_serialization(read)  # type: ignore[no-any-return]


def nodes_of_argo() -> list[Document]:
    """What a server tells beside the tasks: the workflow, tries, drivers, groups, the exit hook."""
    names = ["bonexray-x7k2p", "root", "root-driver", "train-driver", "executor(0)", "executor"]
    names += ["for-loop-1", "iteration-iterations(0)", "exit-handler-1", "exit-handler-1.onExit"]
    states = ["SUCCEEDED" if name.endswith("-driver") else "FAILED" for name in names]
    return [task(names[index], state, index, 4000) for index, state in enumerate(states)]


def task(
    name: str, state: str, start_s: float = 0, end_s: float | None = None, **more: Any
) -> Document:
    """A task of a run, as V2beta1PipelineTaskDetail has it."""
    start = NOW + datetime.timedelta(seconds=start_s)
    told = {"task_id": f"id-{name}-{start_s}", "display_name": name, "state": state}
    told |= {"create_time": NOW.isoformat(), "start_time": start.isoformat()}
    never = datetime.datetime(1, 1, 1, tzinfo=datetime.UTC)  # what a server says of no end
    end = never if end_s is None else NOW + datetime.timedelta(seconds=end_s)
    told["end_time"] = end.isoformat()
    return told | more


def cached(name: str, at_s: float) -> list[Document]:
    """What a server tells of a task whose result came from the cache."""
    return [task(name, "SUCCEEDED", at_s, at_s), task("executor", "SKIPPED", at_s, at_s)]


class KfpServer(ThreadingHTTPServer):
    """State and faults; the handler below speaks for it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.version, self.multi_user, self.token = "2.17.0", False, ""
        self.pipelines: dict[str, Document] = {}
        self.versions: dict[str, Document] = {}
        self.experiments: dict[str, Document] = {}
        self.runs: dict[str, Document] = {}
        self.recurring: dict[str, Document] = {}
        self.played: list[Document] = [{"state": "SUCCEEDED"}]
        """What each further look at a run adds to it; the last one stays."""
        self.asked: list[str] = []
        self.faults: dict[str, list[Any]] = {}
        """Part of "METHOD /path" -> what befalls the next calls: a status, or a word."""

    def fail(self, route: str, *faults: Any) -> None:
        """Statuses, or `drop`, `hang`, `html`, `torn`, `login`, `lost` (done, its answer not)."""
        self.faults.setdefault(route, []).extend(faults)

    def fault_of(self, asked: str) -> Any:
        for route, left in self.faults.items():
            if route in asked and left:
                return left.pop(0)
        return None


@contextmanager
def kfp_server() -> Iterator[KfpServer]:
    server = KfpServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


class _Handler(BaseHTTPRequestHandler):
    server: KfpServer

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_DELETE(self) -> None:
        self._handle("DELETE")

    def _handle(self, method: str) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = f"{method} {url.path}"
        self.server.asked.append(asked)
        fault = self.server.fault_of(asked)
        if fault == "hang":
            time.sleep(3)
        if fault in ("drop", "hang"):
            self.close_connection = True
            return None
        if fault == "html":
            return self._send(200, b"<html>sign in</html>", "text/html")
        if fault == "torn":
            return self._send(200, b'{"runs": [{"run_id"', "application/json")
        if fault == "login":
            return self._send(302, b"", "text/html", Location="/dex/auth")
        if isinstance(fault, int):
            return self._refuse(fault, f"a {fault} was\nasked for")
        if self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self._refuse(401, "Unauthenticated: token is expired")
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        try:
            answer = self._answer(method, url.path.removeprefix(ROOT), query, body)
        except ValueError as error:
            return self._refuse(400, str(error))
        except KeyError as error:
            return self._refuse(404, f"{error} not found")
        except FileExistsError as error:
            return self._refuse(409, str(error))
        if fault == "lost":
            self.close_connection = True
            return None
        return self._send(200, json.dumps(answer).encode(), "application/json")

    def _answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> Document:
        server = self.server
        if path == "/healthz":
            return {"tag_name": server.version, "multi_user": server.multi_user}
        if path.startswith("/pipelines/upload"):
            return self._upload(path, query, body)
        if match := re.fullmatch(r"/pipelines/([^/]+)/versions", path):
            own = [v for v in server.versions.values() if v["pipeline_id"] == match[1]]
            return {"pipeline_versions": _filtered(own, query)}
        if match := re.fullmatch(r"/pipelines/[^/]+/versions/([^/]+)", path):
            return server.versions[match[1]]
        if path == "/pipelines":
            if method == "POST":
                self._refuse_twice(server.pipelines, json.loads(body)["display_name"])
                return self._keep(server.pipelines, "V2beta1Pipeline", "pipeline_id", body)
            self._check_place(query)
            return {"pipelines": _filtered(list(server.pipelines.values()), query)}
        if path == "/experiments":
            if method == "POST":
                return self._keep(server.experiments, "V2beta1Experiment", "experiment_id", body)
            self._check_place(query)
            return {"experiments": _filtered(list(server.experiments.values()), query)}
        return self._of_runs(method, path, query, body)

    def _of_runs(self, method: str, path: str, query: dict[str, str], body: bytes) -> Document:
        server = self.server
        if path == "/runs":
            if method == "POST":
                return self._keep(server.runs, "V2beta1Run", "run_id", body)
            self._check_place(query)
            runs = _filtered(list(reversed(server.runs.values())), query)
            within = query.get("experiment_id")
            return {"runs": [run for run in runs if within in (None, run["experiment_id"])]}
        if path == "/recurringruns":
            if method == "POST":
                return self._keep(server.recurring, "V2beta1RecurringRun", "recurring_run_id", body)
            self._check_place(query)
            return {"recurringRuns": _filtered(list(server.recurring.values()), query)}
        if match := re.fullmatch(r"/recurringruns/([^/]+)", path):
            del server.recurring[match[1]]
            return {}
        if match := re.fullmatch(r"/runs/([^/]+):terminate", path):
            if server.runs[match[1]]["state"] not in ("PENDING", "RUNNING", "PAUSED"):
                raise ValueError("Row not found")  # as the server puts it
            server.runs[match[1]]["state"] = "CANCELING"
            return {}
        match = re.fullmatch(r"/runs/([^/]+)", path)
        if match is None:
            raise KeyError(path)
        return self._look(server.runs[match[1]])

    def _look(self, run: Document) -> Document:
        if run["state"] in ("PENDING", "RUNNING"):
            run |= self.server.played[0]
            if len(self.server.played) > 1:
                self.server.played.pop(0)
        return through("V2beta1Run", run)

    def _upload(self, path: str, query: dict[str, str], body: bytes) -> Document:
        server = self.server
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        (part,) = BytesParser(policy=HTTP).parsebytes(head + body).iter_parts()
        package = part.get_payload(decode=True)
        assert isinstance(package, bytes)
        _loaded(package)
        if path != "/pipelines/upload_version":
            raise KeyError(path)
        own = {k: v for k, v in server.versions.items() if v["pipeline_id"] == query["pipelineid"]}
        self._refuse_twice(own, query["name"])
        made = {"pipeline_version_id": str(uuid.uuid4()), "display_name": query["name"]}
        made |= {"pipeline_id": query["pipelineid"], "description": query["description"]}
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        parts = zip(("pipeline_spec", "platform_spec"), yaml.load_all(package, loader), strict=True)
        made["pipeline_spec"] = dict(parts)
        server.versions[made["pipeline_version_id"]] = through("V2beta1PipelineVersion", made)
        return made

    def _refuse_twice(self, kept: dict[str, Document], name: str) -> None:
        if any(document["display_name"] == name for document in kept.values()):
            raise FileExistsError(f"The name {name} already exist")

    def _keep(self, kept: dict[str, Document], model: str, key: str, body: bytes) -> Document:
        document = through(model, json.loads(body))
        if model in ("V2beta1Experiment", "V2beta1Pipeline"):
            self._check_place(document)
        document[key] = str(uuid.uuid4())
        if model == "V2beta1Run":
            document |= {"state": "PENDING", "created_at": NOW.isoformat()}
            document["finished_at"] = "1970-01-01T00:00:00Z"  # what a server says of no end
        kept[document[key]] = document
        return document

    def _check_place(self, told: dict[str, Any]) -> None:
        """As the server does: one of several users needs a namespace, one of one refuses it."""
        if self.server.multi_user != bool(told.get("namespace")):
            raise ValueError("In single-user mode, namespace must be empty, else it is required")

    def _refuse(self, code: int, message: str) -> None:
        told = {"code": 2, "message": message}
        if "/pipelines/upload" in self.path:
            told = {"error_message": message, "error_details": message}
        self._send(code, json.dumps(told).encode(), "application/json")

    def _send(self, code: int, body: bytes, content_type: str, **headers: str) -> None:
        try:
            self.send_response(code)
            for name, value in {"Content-Type": content_type, **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # the client went away: it had a time limit
            self.close_connection = True


def _filtered(documents: list[Document], query: dict[str, str]) -> list[Document]:
    if "filter" not in query:
        return documents
    (predicate,) = json.loads(query["filter"])["predicates"]
    return [found for found in documents if found[predicate["key"]] == predicate["stringValue"]]
