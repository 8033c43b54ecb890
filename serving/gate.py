"""The gate that every request passes, by either protocol: who asks, how often, is there room?"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from serving.admission import Admission
from serving.guard.clients import ANONYMOUS, Scope
from serving.guard.rates import Rates
from serving.guard.tokens import Doorkeeper
from serving.leaving import Drain
from serving.oip.errors import (
    BusyError,
    DeadlineError,
    ForbiddenError,
    RequestError,
    TooLargeError,
    UnauthorisedError,
)
from serving.oip.model import Ask, Call
from serving.watch.metrics import Metrics
from serving.watch.request import Watch
from serving.watch.tracing import Tracing

_SCOPES = {"infer": Scope.INFER, "read": Scope.READ}
_CANCELLED: dict[str, int | str] = {"rest": 499, "grpc": "CANCELLED"}
_DEFECT: dict[str, int | str] = {"rest": 500, "grpc": "INTERNAL"}
_ANSWERED: dict[str, int | str] = {"rest": 200, "grpc": "OK"}


class RateError(BusyError):
    """A client that asks more often than it may."""


_REASONS: tuple[tuple[type[RequestError], str], ...] = (
    (UnauthorisedError, "auth"),
    (ForbiddenError, "auth"),
    (RateError, "rate"),
    (BusyError, "admission"),
    (TooLargeError, "size"),
    (DeadlineError, "deadline"),
)
"""Why sound requests are turned away, for the metrics; of each error the first that it is."""


class Front:
    """Identifies, counts, admits and watches."""

    def __init__(
        self,
        *,
        doorkeeper: Doorkeeper,
        rates: Rates,
        admission: Admission,
        metrics: Metrics,
        tracing: Tracing,
        drain: Drain,
        deadline_s: float,
        max_body_bytes: int,
    ) -> None:
        """Let nobody in yet.

        Args:
            doorkeeper: knows the clients.
            rates: counts their requests.
            admission: knows how much is asked of this process.
            metrics: where all is counted.
            tracing: where requests get their ids.
            drain: whether this process is about to leave.
            deadline_s: from a request's first byte to its answer, at most.
            max_body_bytes: the largest body that is read.
        """
        self.max_body_bytes = max_body_bytes
        self._doorkeeper = doorkeeper
        self._rates = rates
        self._admission = admission
        self._metrics = metrics
        self._tracing = tracing
        self._drain = drain
        self._deadline_s = deadline_s

    @property
    def ready(self) -> bool:
        """Whether this process is here to stay."""
        return not self._drain.leaving

    @contextmanager
    def admit(self, ask: Ask) -> Iterator[Call]:
        """Let a request in for as long as the context lasts, and see how it ends.

        Raises:
            UnauthorisedError, ForbiddenError: it is not known who asks, or they may not.
            BusyError: the client asks too often, or there is no room.
        """
        started_s = time.monotonic()
        watch = Watch(
            self._metrics,
            self._tracing,
            protocol=ask.protocol,
            route=ask.route,
            traceparent=ask.headers.get("traceparent"),
        )
        status: int | str = _ANSWERED[ask.protocol]
        try:
            watch.note(client=f"unknown@{ask.peer}")
            client = self._identify(ask, watch)
            own_s = self._deadline_s if ask.timeout_s is None else ask.timeout_s
            # A body of unknown length may grow to the limit.
            size = self.max_body_bytes if ask.num_bytes is None else ask.num_bytes
            room = self._admission.hold(size) if ask.kind == "infer" else nullcontext()
            with room:
                yield Call(
                    client=client, deadline_s=started_s + min(own_s, self._deadline_s), watch=watch
                )
        except RequestError as error:
            status = error.status if ask.protocol == "rest" else error.grpc_code
            _tell(watch, error)
            raise
        except asyncio.CancelledError:
            status = _CANCELLED[ask.protocol]
            raise
        except Exception as error:
            status = _DEFECT[ask.protocol]
            watch.defect(error)
            raise
        finally:
            watch.end(status)

    def _identify(self, ask: Ask, watch: Watch) -> str:
        known = self._doorkeeper.admit(ask.headers.get("authorization"), _SCOPES[ask.kind])
        client = f"{ANONYMOUS}@{ask.peer}" if known == ANONYMOUS else known
        watch.note(client=client)
        wait_s = self._rates.take(client)
        if wait_s is not None:
            raise RateError("too many requests of this client in a minute", wait_s)
        return client


def _tell(watch: Watch, error: RequestError) -> None:
    watch.fail(error.grpc_code.lower())
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            watch.turn_away(reason)
            return
