"""The few routes of a Kubernetes API that a rollout asks, on loopback, with faults to switch on.

Objects are kept; server-side apply merges maps, replaces lists, removes what a manager no longer
names and refuses what another has set otherwise. An InferenceService must fit its published schema.
"""

import copy
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema
import yaml

SCHEMAS = Path(__file__).parents[3] / "shared/schemas"
SERVICES = SCHEMAS / "serving.kserve.io_inferenceservices.yaml"
TOKEN = "a-token"
_ROUTE = re.compile(r"/(api/v1|apis/[^/]+/[^/]+)/namespaces/([^/]+)/([a-z]+)/([^/]+)")
_KNOWN = {"serviceaccounts", "networkpolicies", "poddisruptionbudgets", "inferenceservices"}

Document = dict[str, Any]


def closed(schema: Any) -> Any:
    """The schema with fields that it does not name refused, as strict field validation does."""
    if isinstance(schema, dict):
        schema = {key: closed(value) for key, value in schema.items()}
        if "properties" in schema and "x-kubernetes-preserve-unknown-fields" not in schema:
            schema.setdefault("additionalProperties", False)
    elif isinstance(schema, list):
        schema = [closed(value) for value in schema]
    return schema


@cache
def service_validator() -> jsonschema.Draft202012Validator | None:
    """Of InferenceServices; None when the published schemas are not beside this checkout."""
    if not SERVICES.exists():
        return None
    crd = yaml.load(SERVICES.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (version,) = (v for v in crd["spec"]["versions"] if v["name"] == "v1beta1")
    return jsonschema.Draft202012Validator(closed(version["schema"]["openAPIV3Schema"]))


class KubernetesServer(ThreadingHTTPServer):
    """State and faults; the handler below speaks for it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.objects: dict[str, Document] = {}
        self.applied: dict[tuple[str, str], Document] = {}
        """(path, manager) -> what that manager applied last."""
        self.asked: list[str] = []
        self.validator = service_validator()
        self.namespaces = {"radiology"}
        self.kinds = set(_KNOWN)
        self.fault: tuple[int, str] | None = None
        """Status, and the plural that it befalls ("" for all)."""
        self.fault_times = 0
        self.hang_s = 0.0

    def service(self) -> Document:
        (found,) = (value for key, value in self.objects.items() if "inferenceservices" in key)
        return found

    def fail(self, status: int, plural: str = "", times: int = 10**6) -> None:
        self.fault, self.fault_times = (status, plural), times


@contextmanager
def kubernetes() -> Iterator[KubernetesServer]:
    server = KubernetesServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


def write_kubeconfig(path: Path, url: str, token: str = TOKEN) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": {"token": token}}],
    }
    path.write_text(yaml.safe_dump(config))


class _Handler(BaseHTTPRequestHandler):
    server: KubernetesServer

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self._handle("GET")

    def do_PATCH(self) -> None:
        self._handle("PATCH")

    def _handle(self, method: str) -> None:
        server, url = self.server, urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server.asked.append(f"{method} {url.path}")
        time.sleep(server.hang_s)
        match = _ROUTE.fullmatch(url.path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._refuse(401, "Unauthorized", "Unauthorized")
        if match is None or match[3] not in server.kinds:
            return self._send(404, b"404 page not found\n", "text/plain")
        if server.fault and server.fault_times and server.fault[1] in match[3]:
            server.fault_times -= 1
            return self._refuse(server.fault[0], "Because", f"a {server.fault[0]} was\nasked for")
        if method == "GET":
            if url.path in server.objects:
                return self._answer(server.objects[url.path])
            return self._refuse(404, "NotFound", f'{match[3]} "{match[4]}" not found')
        if match[2] not in server.namespaces:
            return self._refuse(404, "NotFound", f'namespaces "{match[2]}" not found')
        return self._apply(url.path, parse_qs(url.query), json.loads(body))

    def _apply(self, path: str, query: dict[str, list[str]], document: Document) -> None:
        server = self.server
        if self.headers["Content-Type"] != "application/apply-patch+yaml":
            return self._refuse(415, "UnsupportedMediaType", "expected server-side apply")
        if query.get("fieldValidation") != ["Strict"]:
            return self._refuse(400, "BadRequest", "expected strict field validation")
        (manager,) = query["fieldManager"]
        for (at, other), theirs in server.applied.items():
            if at == path and other != manager and (clash := _clash(theirs, document)):
                said = f'Apply failed with 1 conflict: conflict with "{other}": {clash}'
                return self._refuse(409, "Conflict", said)
        live = copy.deepcopy(server.objects.get(path, {}))
        _drop(live, server.applied.get((path, manager), {}), document)
        _merge(live, document)
        if "inferenceservices" in path:
            if server.validator and (wrong := next(server.validator.iter_errors(live), None)):
                where = ".".join(map(str, wrong.path))
                said = f"InferenceService is invalid: {where}: {wrong.message[:300]}"
                return self._refuse(422, "Invalid", said)
            if denied := _denied(live, server.objects.get(path, live)):
                said = f'admission webhook "kserve" denied the request: {denied}'
                return self._refuse(403, "Forbidden", said)
        server.objects[path], server.applied[path, manager] = live, document
        return self._answer(live)

    def _answer(self, document: Document) -> None:
        self._send(200, json.dumps(document).encode(), "application/json")

    def _refuse(self, code: int, reason: str, message: str) -> None:
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}
        body = json.dumps({**status, "reason": reason, "message": message}).encode()
        self._send(code, body, "application/json")

    def _send(self, code: int, body: bytes, content_type: str) -> None:
        try:
            self.send_response(code)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # the client went away: it had a time limit
            self.close_connection = True


def _merge(live: Document, new: Document) -> None:
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(live.get(key), dict):
            _merge(live[key], value)
        else:
            live[key] = copy.deepcopy(value)


def _drop(live: Document, before: Document, new: Document) -> None:
    for key, value in before.items():
        if key not in new:
            live.pop(key, None)
        elif isinstance(value, dict) and isinstance(new[key], dict):
            _drop(live.get(key, {}), value, new[key])


def _clash(theirs: Document, ours: Document, at: str = "") -> str:
    for key, value in theirs.items():
        if key not in ours or key in ("apiVersion", "kind"):
            continue
        if isinstance(value, dict) and isinstance(ours[key], dict):
            if found := _clash(value, ours[key], f"{at}.{key}"):
                return found
        elif value != ours[key]:
            return f"{at}.{key}"
    return ""


def _denied(new: Document, old: Document) -> str:
    """What KServe's validation of a canary refuses (pkg/apis/serving/v1beta1), else nothing."""
    stable, canaries = new["spec"]["predictor"], new["spec"].get("canary", [])
    uris = [_storage_uri(each["spec"]["predictor"]) for each in (old, new)]
    if stable.get("name") != old["spec"]["predictor"].get("name") and uris[0] == uris[1]:
        return "predictor.name change requires a model change"
    if not canaries:
        return ""
    if new["metadata"]["annotations"].get("serving.kserve.io/deploymentMode") != "Standard":
        return "canary is only supported in Standard deployment mode"
    if not uris[1] and "model" not in stable:
        return "canary requires a stable predictor with a model"
    for predictor in (canary["predictor"] for canary in canaries):
        if not predictor.get("name") or predictor["name"] == stable.get("name"):
            return "canary predictor.name is required, and another than the stable one's"
        if {"maxReplicas", "scaleTarget", "scaleMetric", "autoScaling"} & set(predictor):
            return "canary uses fixed replicas"
        if predictor.get("minReplicas", 1) > stable.get("minReplicas", 1):
            return "canary minReplicas must not exceed stable predictor minReplicas"
    return ""


def _storage_uri(predictor: Document) -> str:
    found = (env for each in predictor["containers"] for env in each.get("env", []))
    return next((env["value"] for env in found if env["name"] == "STORAGE_URI"), "")
