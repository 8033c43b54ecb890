"""The protocol over REST with bodies made by hand: the first of the three clients."""

import json
import ssl
from functools import cache
from typing import Any

import httpx

from tests.conformance.case import Answer, Ask, RefusedError, Target, echoes, expect
from tests.conformance.tensors import Tensor, from_json, from_raw, to_json, to_raw

HEADER_LENGTH = "Inference-Header-Content-Length"
TIMEOUT_S = 30
CLIENT_ERRORS = tuple(range(400, 500))


class PlainRest:
    """httpx on one kept connection, and JSON by hand."""

    def __init__(self, target: Target) -> None:
        """Connect at the first call."""
        self.target = target
        self._http = httpx.Client(
            base_url=target.url,
            timeout=TIMEOUT_S,
            trust_env=False,
            verify=_trusted(),
            limits=httpx.Limits(max_connections=1),
        )

    def server_live(self) -> bool:
        """Server live: 200, and a body that does not deny it."""
        return _says_yes(self.send("GET", "/v2/health/live"))

    def server_ready(self) -> bool:
        """Server ready."""
        return _says_yes(self.send("GET", "/v2/health/ready"))

    def model_ready(self, model: str, version: str = "") -> bool:
        """Model ready."""
        return _says_yes(self.send("GET", f"{model_path(model, version)}/ready"))

    def server_metadata(self) -> dict[str, Any]:
        """Server metadata."""
        return read_json(self.send("GET", "/v2"))

    def model_metadata(self, model: str, version: str = "") -> dict[str, Any]:
        """Model metadata."""
        return read_json(self.send("GET", model_path(model, version)))

    def infer(self, ask: Ask) -> Answer:
        """Infer, with the tensors in the JSON or as bytes behind it."""
        head, tail = encode(ask)
        answer = self.post_infer(ask.model, head, tail, version=ask.version)
        if answer.status_code != 200:
            raise RefusedError(str(answer.status_code), error_of(answer))
        return decode(answer)

    def post_infer(
        self,
        model: str,
        head: bytes,
        tail: bytes | None = None,
        *,
        version: str = "",
        header_length: str | None = None,
    ) -> httpx.Response:
        """Send a body as it is, well-formed or not.

        Args:
            model: in the path.
            head: the JSON.
            tail: what follows it; None for a body that is JSON alone.
            version: in the path.
            header_length: in place of the true length of the JSON.
        """
        headers = {"Content-Type": "application/json"}
        if tail is not None or header_length is not None:
            headers = {"Content-Type": "application/octet-stream"}
            headers[HEADER_LENGTH] = str(len(head)) if header_length is None else header_length
        path = f"{model_path(model, version)}/infer"
        return self.request("POST", path, content=head + (tail or b""), headers=headers)

    def send(self, method: str, path: str) -> httpx.Response:
        """A request without a body, which must be answered with 200."""
        answer = self.request(method, path)
        if answer.status_code != 200:
            raise RefusedError(str(answer.status_code), error_of(answer))
        return answer

    def request(self, method: str, path: str, **body: Any) -> httpx.Response:
        """Any request at all, on the kept connection."""
        return self._http.request(method, path, **body)

    def expect_refusal(
        self, answer: httpx.Response, statuses: tuple[int, ...] = CLIENT_ERRORS
    ) -> None:
        """Expect a refusal in the protocol's words, after which the server goes on answering.

        Raises:
            Finding: names everything that is wrong with it: the status, the error object, parts
                of the request in it, and a connection that is closed unannounced.
        """
        expect(answer.status_code != 200, "status 200, expected a refusal")
        faults = []
        if answer.status_code not in statuses:
            wanted = "4xx" if statuses == CLIENT_ERRORS else " or ".join(map(str, statuses))
            faults.append(f"status {answer.status_code}, expected {wanted}")
        if not _has_error(answer):
            faults.append(f'status {answer.status_code} without {{"error": text}}')
        if echoes(answer.text):
            faults.append("the error repeats what was sent")
        faults += self._faults_after(answer)
        expect(not faults, "; ".join(faults))

    def _faults_after(self, answer: httpx.Response) -> list[str]:
        port = _own_port(answer)
        try:
            after = self.request("GET", "/v2/health/live")
        except httpx.TransportError:
            return ["the connection is reset after it, unannounced"]
        if after.status_code != 200:
            return ["the server is not live after it"]
        announced = answer.headers.get("Connection", "").lower() == "close"
        if not announced and port != _own_port(after):
            return ["the connection is closed after it, unannounced"]
        return []


@cache
def _trusted() -> ssl.SSLContext:
    # Read once: a client is made anew after each case that did not hold.
    return ssl.create_default_context()


def model_path(model: str, version: str = "") -> str:
    """The path of a model, or of one of its versions."""
    return f"/v2/models/{model}" + (f"/versions/{version}" if version else "")


def encode(ask: Ask) -> tuple[bytes, bytes | None]:
    """The JSON of a request, and the bytes that follow it; None when all is in the JSON."""
    inputs, blobs = [], []
    for tensor in ask.tensors:
        entry: dict[str, Any] = {
            "name": tensor.name,
            "shape": tensor.shape,
            "datatype": tensor.datatype,
        }
        if tensor.binary:
            blobs.append(to_raw(tensor.array))
            entry["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            entry["data"] = to_json(tensor.array)
        inputs.append(entry)
    document: dict[str, Any] = {"id": ask.id, "inputs": inputs}
    parameters: dict[str, Any] = dict(ask.parameters)
    if ask.binary_output:
        parameters["binary_data_output"] = True
    if parameters:
        document["parameters"] = parameters
    if ask.outputs:
        document["outputs"] = [
            {"name": wanted.name}
            | ({} if wanted.binary is None else {"parameters": {"binary_data": wanted.binary}})
            for wanted in ask.outputs
        ]
    return json.dumps(document).encode(), b"".join(blobs) if blobs else None


def decode(answer: httpx.Response) -> Answer:
    """Read the answer to an infer request.

    Raises:
        Finding: it is not what the protocol and its binary extension say.
    """
    length = answer.headers.get(HEADER_LENGTH)
    size = len(answer.content) if length is None else int(length)
    document = json.loads(answer.content[:size])
    expect(isinstance(document, dict) and "outputs" in document, "the answer has no outputs")
    at, outputs = size, []
    for output in document["outputs"]:
        datatype, shape = output["datatype"], output["shape"]
        bytes_here = (output.get("parameters") or {}).get("binary_data_size")
        if bytes_here is None:
            expect("data" in output, f"{output['name']} has neither data nor binary_data_size")
            array = from_json(datatype, shape, output["data"])
        else:
            expect("data" not in output, f"{output['name']} has data and binary_data_size")
            array = from_raw(datatype, shape, answer.content[at : at + bytes_here])
            at += bytes_here
        tensor = Tensor(
            name=output["name"], datatype=datatype, array=array, binary=bytes_here is not None
        )
        outputs.append(tensor)
    expect(at == len(answer.content), "bytes at the end of the answer belong to no output")
    return Answer(
        id=document.get("id") or "", model_name=document["model_name"], outputs=tuple(outputs)
    )


def error_of(answer: httpx.Response) -> str:
    """The text of the protocol's error object.

    Raises:
        Finding: the body is no such object.
    """
    expect(_has_error(answer), f'status {answer.status_code} without {{"error": text}}')
    return str(answer.json()["error"])


def read_json(answer: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer.

    Raises:
        Finding: it is none.
    """
    kind = answer.headers.get("Content-Type", "")
    expect(kind.startswith("application/json"), f"Content-Type {kind!r}, expected application/json")
    document = answer.json()
    expect(isinstance(document, dict), "the answer is not a JSON object")
    return dict(document)


def _has_error(answer: httpx.Response) -> bool:
    try:
        document = answer.json()
    except ValueError:
        return False
    said = document.get("error") if isinstance(document, dict) else None
    return isinstance(said, str) and bool(said)


def _says_yes(answer: httpx.Response) -> bool:
    # The texts disagree: an empty body, {"live": true} of readiness too, or {"ready": true}.
    document = answer.json() if answer.content else {}
    said = [value for key, value in document.items() if key in ("live", "ready")]
    return all(value is True for value in said)


def _own_port(answer: httpx.Response) -> object:
    """Of the connection that the answer came on; None when it is closed already."""
    try:
        return answer.extensions["network_stream"].get_extra_info("client_addr")
    except OSError:
        return None
