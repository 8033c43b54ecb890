"""A server somewhere, asked about studies over HTTP: the protocol's binary form, no base64."""

import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import orjson

from bonexray.errors import BonexrayError, ConfigError
from serving.answers import HEATMAP, OUTPUTS, StudyReading, read_answer
from serving.oip.errors import RequestError
from serving.oip.json_form import HEADER_LENGTH
from serving.oip.tensors import Tensor, to_raw

DEFAULT_URL = "http://127.0.0.1:8080"
_INFER_PATH = "/v2/models/bonexray/infer"
_TIMEOUT_S = 60
_ASK_AGAIN = (429, 503)
_TRIES = 4
_WAIT_S, _MAX_WAIT_S = 1, 30
"""Before the next try: where the server does not say, and the longest that it may ask for."""
_MAX_REASON = 300
_MAX_ANSWER_BYTES = 256 * 2**20
"""Of a server that may be anybody's; ours says less of as many views as it takes."""


class NoAnswerError(BonexrayError):
    """A server that cannot be reached, refuses the studies, or is not ours."""

    def __init__(self, message: str, status: int = 0) -> None:
        """Say why; `status` is HTTP's, 0 where there was no answer."""
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """Where to ask, and as whom."""

    url: str
    token: str = ""
    """Bearer token; empty for none."""
    ca: Path | None = None
    """PEM file that the server's certificate is verified with; None for the public authorities."""


def ask(
    server: Server,
    studies: Sequence[Sequence[bytes]],
    body_part: str = "",
    with_heatmaps: bool = False,
) -> list[StudyReading]:
    """Send studies in one request, and read what is said of each.

    A server that is busy or not ready is asked again: asking twice changes nothing.

    Args:
        server: to be asked.
        studies: of each its views, one or more, each a whole PNG, JPEG or DICOM file.
        body_part: that all are said to show, such as `XR_WRIST`; empty to say nothing.
        with_heatmaps: whether those of the views are wanted.

    Raises:
        NoAnswerError: with the server's own words when it refused.
        ConfigError: `server.ca` cannot be used.
    """
    study_of = [number for number, views in enumerate(studies) for _ in views]
    views = [view for study in studies for view in study]
    content, headers = _write_request(views, study_of, body_part, with_heatmaps)
    response, body = _send(server, content, headers)
    round_trip_ms = round(response.elapsed.total_seconds() * 1000, 3)
    try:
        header_length = response.headers.get(HEADER_LENGTH)
        return read_answer(body, header_length, study_of, round_trip_ms)
    except (ValueError, LookupError, TypeError, RequestError) as error:
        raise NoAnswerError(f"{server.url}: the answer is not one of a bonexray server") from error


def _write_request(
    views: Sequence[bytes], study_of: Sequence[int], body_part: str, with_heatmaps: bool
) -> tuple[bytes, dict[str, str]]:
    """Body and headers: JSON that describes the tensors, and their bytes behind it."""
    shape = (len(views),)
    tensors = (
        Tensor(name="image", datatype="BYTES", shape=shape, values=views),
        Tensor(name="study", datatype="INT32", shape=shape, values=np.array(study_of, np.int32)),
    )
    blobs = [to_raw(tensor) for tensor in tensors]
    names = [*OUTPUTS, HEATMAP] if with_heatmaps else OUTPUTS
    document = {
        "inputs": [
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": shape,
                "parameters": {"binary_data_size": len(blob)},
            }
            for tensor, blob in zip(tensors, blobs, strict=True)
        ],
        "outputs": [{"name": name} for name in names],
        "parameters": {"binary_data_output": True, "body_part": body_part},
    }
    head = orjson.dumps(document)
    headers = {
        HEADER_LENGTH: str(len(head)),
        "Content-Type": "application/octet-stream",
        "Accept-Encoding": "identity",
    }
    return b"".join([head, *blobs]), headers


def _send(server: Server, content: bytes, headers: dict[str, str]) -> tuple[httpx.Response, bytes]:
    """Ask, and ask again while the server is busy; the answer is a success."""
    if server.token:
        headers["Authorization"] = f"Bearer {server.token}"
    try:
        # No proxy from the environment: the views go to the server that was named, and no other.
        with httpx.Client(timeout=_TIMEOUT_S, trust_env=False, verify=_trust(server.ca)) as client:
            response, body = _post(client, server.url.rstrip("/") + _INFER_PATH, content, headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        why = str(error) or type(error).__name__
        raise NoAnswerError(f"{server.url}: no answer: {why}") from error
    if not response.is_success:
        status = response.status_code
        reason = _reason(body, response.reason_phrase)
        raise NoAnswerError(f"{server.url}: refused ({status}): {reason}", status)
    return response, body


def _post(
    client: httpx.Client, url: str, content: bytes, headers: dict[str, str]
) -> tuple[httpx.Response, bytes]:
    response, body = _post_once(client, url, content, headers)
    for _ in range(_TRIES - 1):
        wait = response.headers.get("Retry-After", "")[:9]
        wait_s = int(wait) if wait.isdecimal() else _WAIT_S
        if response.status_code not in _ASK_AGAIN or wait_s > _MAX_WAIT_S:
            break
        time.sleep(wait_s)
        response, body = _post_once(client, url, content, headers)
    return response, body


def _post_once(
    client: httpx.Client, url: str, content: bytes, headers: dict[str, str]
) -> tuple[httpx.Response, bytes]:
    body = bytearray()
    with client.stream("POST", url, content=content, headers=headers) as response:
        for part in response.iter_raw():  # not inflated, which would be without a bound
            body += part
            if len(body) > _MAX_ANSWER_BYTES:
                raise NoAnswerError(f"{url}: an answer of more than {_MAX_ANSWER_BYTES:,} bytes")
    return response, bytes(body)


def _trust(ca: Path | None) -> ssl.SSLContext | bool:
    if ca is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{ca}: expected a PEM file of certificates") from error


def _reason(body: bytes, default: str) -> str:
    try:
        said = str(orjson.loads(body)["error"])
    except (ValueError, LookupError, TypeError):
        said = default
    # On a terminal, and of a server that may be anybody's.
    return "".join(char if char.isprintable() else " " for char in said[:_MAX_REASON])
