"""The wire to a Kubeflow Pipelines server: who asks, how long, how often, and what went wrong.

Where it is and who asks is the environment's to say, by the names that kfp's own client knows:
KF_PIPELINES_ENDPOINT, and for a server that asks KF_PIPELINES_TOKEN, or KF_PIPELINES_SA_TOKEN_PATH
for a token in a file. SSL_CERT_FILE names the certificates of a private authority.

What only reads is asked again when the server stumbles. What makes something is not: whether it
was made is looked up by its name.
"""

import functools
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kfp_server_api as api
import urllib3
from kfp.client import ServiceAccountTokenVolumeCredentials

from bonexray.errors import ConfigError, KubeflowError

ENDPOINT, TOKEN = "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_TOKEN"
TOKEN_FILE, UI = "KF_PIPELINES_SA_TOKEN_PATH", "KF_PIPELINES_UI_ENDPOINT"
TIMEOUT_S = 60
"""For each answer."""
PAUSES_S: tuple[float, ...] = (1.0, 3.0, 9.0)
"""Before each further try of what only reads."""
_STUMBLES = (429, 500, 502, 503, 504)
_REASONS = {
    401: f"it does not know you: the token ({TOKEN}, {TOKEN_FILE}) is missing or expired",
    403: "it does not let you: the token has expired, or may not do this",
    404: "there is none",
    409: "there is one already",
} | dict.fromkeys((301, 302, 303, 307, 308), "it sends you elsewhere, to a login?")


class FinalError(KubeflowError):
    """A refusal that is the same however often it is asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """What a server says of itself."""

    version: str
    """Of its release; `unknown` where it does not say."""
    multi_user: bool


class Wire:
    """To the server that the environment names."""

    def __init__(self, namespace: str) -> None:
        """Read the environment; nothing is asked yet.

        Args:
            namespace: of the runs, on a server of several users.

        Raises:
            ConfigError: no server is named.
        """
        self.host = os.environ.get(ENDPOINT, "").strip().rstrip("/")
        if not self.host.startswith(("http://", "https://")):
            raise ConfigError(
                f"{ENDPOINT} = {self.host!r}: names no Kubeflow Pipelines server, expected its "
                "address (https://...)"
            )
        self._namespace = namespace
        if "@" in self.host:
            raise ConfigError(f"{ENDPOINT} holds a password, expected {TOKEN} to say who asks")
        token = os.environ.get(TOKEN, "").strip() or None  # a line's end may come with it
        by_file = TOKEN_FILE in os.environ and token is None
        # What kfp's `Client` stands on. That one may open a browser, and reads a file at home.
        configuration = api.Configuration(host=self.host)
        configuration.ssl_ca_cert = os.environ.get("SSL_CERT_FILE")
        configuration.retries = False  # else urllib3 repeats calls that make something
        configuration.api_key_prefix["authorization"] = "Bearer"
        if token or by_file:
            configuration.api_key["authorization"] = token or "read before each call"
        if by_file:
            _refuse_no_token(Path(os.environ[TOKEN_FILE]))
            configuration.refresh_api_key_hook = (
                ServiceAccountTokenVolumeCredentials().refresh_api_key_hook
            )
        self.client = api.ApiClient(configuration)
        # Without a limit a call waits for ever.
        self.client.call_api = functools.partial(_limited, self.client, self.client.call_api)

    def link(self, run_id: str) -> str:
        """Where a person sees a run."""
        return f"{os.environ.get(UI, self.host).rstrip('/')}/#/runs/details/{run_id}"

    @functools.cached_property
    def health(self) -> Health:
        """What the server says of itself. Raises KubeflowError."""
        ask = api.HealthzServiceApi(self.client).healthz_service_get_healthz
        said = self.read("health", ask, _preload_content=False)
        try:
            told = json.loads(said.data)
            return Health(
                version=str(told.get("tag_name", "unknown")),
                multi_user=bool(told.get("multi_user", False)),
            )
        except (ValueError, AttributeError) as error:
            raise KubeflowError(
                f"{self.host}: answers, but not as Kubeflow Pipelines does"
            ) from error

    def place(self) -> dict[str, str]:
        """The namespace to name: a server of one user refuses one, one of several needs it."""
        return {"namespace": self._namespace} if self.health.multi_user else {}

    def read(self, what: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Ask what may be asked again, and ask again when the server stumbles.

        Args:
            what: is asked for, in a message.
            call: of kfp's client, with its arguments.
            args: of the call.
            kwargs: of the call.

        Raises:
            FinalError: the server refuses.
            KubeflowError: it cannot be reached, or answers what it should not.
        """
        for pause_s in (*PAUSES_S, None):
            try:
                return call(*args, **kwargs)
            except api.ApiException as error:
                if pause_s is None or error.status not in _STUMBLES:
                    raise self._explained(what, error) from error
            except (urllib3.exceptions.HTTPError, ValueError) as error:
                if pause_s is None or isinstance(error, urllib3.exceptions.NewConnectionError):
                    raise self._unreached(what, error) from error
            time.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    def make(self, what: str, create: Callable[[], Any], find: Callable[[], Any]) -> Any:
        """Create something once; when nobody knows whether it was, look.

        Args:
            what: is made, in a message.
            create: makes and returns it.
            find: returns it if it is there, else None.

        Raises:
            KubeflowError: as `read`, and it is not there.
        """
        try:
            return create()
        except api.ApiException as error:
            unknown = error.status in (*_STUMBLES, 404, 409)
            if unknown and (found := self._found(what, find)) is not None:
                return found
            raise self._explained(what, error) from error
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            reached = not isinstance(error, urllib3.exceptions.NewConnectionError)
            if reached and (found := self._found(what, find)) is not None:
                return found
            raise self._unreached(what, error) from error

    def _found(self, what: str, find: Callable[[], Any]) -> Any:
        try:
            return find()
        except KubeflowError as error:
            raise KubeflowError(
                f"{what} may have been made, and cannot be looked up (`status` may tell): {error}"
            ) from error

    def _explained(self, what: str, error: api.ApiException) -> KubeflowError:
        said = _said(error)
        status = error.status
        if not status:  # no answer at all: a certificate that does not hold, say
            return KubeflowError(
                f"{self.host}: cannot be trusted or reached (SSL_CERT_FILE may name a file of "
                f"authorities): {said}"
            )
        if status in _STUMBLES:
            return KubeflowError(f"{self.host}: {what}: it failed with {status}: {said}")
        reason = _REASONS.get(status, f"it refuses with {status}")
        return FinalError(f"{self.host}: {what}: {reason}: {said}")

    def _unreached(self, what: str, error: Exception) -> KubeflowError:
        if isinstance(error, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ProxyError):
            return KubeflowError(f"{self.host}: cannot be reached: {_line(str(error))}")
        if isinstance(error, urllib3.exceptions.TimeoutError):
            return KubeflowError(f"{self.host}: {what}: no answer in {TIMEOUT_S:g} s")
        if isinstance(error, ValueError):
            return KubeflowError(
                f"{self.host}: {what}: answers, but not as Kubeflow Pipelines does"
            )
        return KubeflowError(f"{self.host}: {what}: {_line(str(error))}")


def _refuse_no_token(path: Path) -> None:
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{TOKEN_FILE}: {path} cannot be read as a token: {error}") from error
    if not token or len(token.split()) != 1:
        raise ConfigError(f"{TOKEN_FILE}: {path} holds no token, expected one word")


def _limited(wire: Any, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        answer = call(*args, **kwargs | {"_request_timeout": TIMEOUT_S})
    except AttributeError as error:  # of a certificate's fault, which kfp's client cannot print
        raise (
            error.__context__ if isinstance(error.__context__, api.ApiException) else error
        ) from None
    json.loads(wire.last_response.data)  # of a page, kfp's client makes an answer without fields
    return answer


def _said(error: api.ApiException) -> str:
    """Most of a server says `message`, its uploads `error_message`, and some of it bare text."""
    try:
        told = json.loads(error.body)
        return _line(str(told.get("message") or told["error_message"]))
    except (AttributeError, KeyError, TypeError, ValueError):
        text = _line(str(error.body or ""))
        return text if text and "<" not in text else _line(str(error.reason or "no reason given"))


def _line(text: str) -> str:
    return " ".join(text.split())[:500]
