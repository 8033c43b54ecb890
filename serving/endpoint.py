"""One bundle behind REST, gRPC and a page of metrics: everything wired, and then served."""

import asyncio
import logging
import socket
import sys
from collections.abc import Callable

import httpx
import uvicorn
from starlette.applications import Starlette

from bonexray.bundle import Bundle
from bonexray.errors import BundleError
from serving import __version__
from serving.admission import Admission
from serving.answer_records import AuditLog
from serving.apidoc import api_routes
from serving.drain import DrainingServer, Farewell
from serving.engine import Engine
from serving.gate import Front
from serving.grpc_server import GrpcServer
from serving.guard.rates import Rates
from serving.guard.tls import Tls
from serving.guard.tokens import Doorkeeper
from serving.http_protocol import BoundedProtocol
from serving.leaving import Drain
from serving.oip.model import Models
from serving.oip.rest import Rest, build_app
from serving.oip.rpc import Servicer
from serving.predictor import MODEL_NAME, StudyModel
from serving.setup import Setup
from serving.v1 import v1_routes
from serving.watch.exposition import MetricsServer
from serving.watch.logs import configure_logs
from serving.watch.metrics import Metrics
from serving.watch.tracing import Tracing

_GRACE_S = 30
"""How long it goes on with requests in flight; with the above, less than the worker's limit."""
_KEEP_ALIVE_S = 65
"""Longer than the idle time of the usual proxies, else they meet closed connections."""
_BODIES_HELD = 4
_IDENTITY = {"name": MODEL_NAME, "version": __version__}


class Endpoint:
    """Everything that answers for one bundle."""

    def __init__(
        self, bundle: Bundle, version: str, setup: Setup, drain: Drain, deaths: int
    ) -> None:
        """Load the bundle's network and warm it.

        Args:
            bundle: whose signature and digests were verified.
            version: its version in the registry.
            setup: of the server.
            drain: how far this process has come in leaving.
            deaths: of the processes before this one.

        Raises:
            BonexrayError: the network cannot be run, or a file of the setup cannot be used.
        """
        configure_logs(sys.stderr)
        config = setup.config
        self._setup, self._drain = setup, drain
        self._max_body_bytes = config.max_body_mib * 2**20
        engine = self._engine = Engine(bundle, setup.threads, config.precision)
        self.model = StudyModel(bundle, version, engine, AuditLog(setup.audit), config.max_views)
        self.model.warm()
        self._models = Models([self.model])
        self._tls = Tls(setup.certificate, setup.key) if setup.certificate and setup.key else None
        admission = Admission(
            engine.load, config.deadline_s / 2, _BODIES_HELD * self._max_body_bytes
        )
        self._metrics = Metrics(
            waiting_views=lambda: engine.load.views,
            wait_s=admission.wait_s,
            max_wait_s=config.deadline_s / 2,
            deadline_s=config.deadline_s,
            ready=lambda: self._front.ready and self._models.ready,
            leaving=lambda: drain.leaving,
            restarts=deaths,
        )
        self._metrics.serve(version=version, digest=bundle.digest, precision=engine.precision)
        self._tracing = Tracing(version)
        self._front = Front(
            doorkeeper=Doorkeeper(setup.clients),
            rates=Rates(config.requests_per_minute),
            admission=admission,
            metrics=self._metrics,
            tracing=self._tracing,
            drain=drain,
            deadline_s=config.deadline_s,
            max_body_bytes=self._max_body_bytes,
        )
        self.app = self._build_app()

    def prepare(
        self, http: socket.socket, metrics: socket.socket, grpc_address: str
    ) -> Callable[[Callable[[str], None]], None]:
        """Make everything that serving needs, so that a hand-over does not wait for it.

        Args:
            http: a listening socket, which other processes may hold too.
            metrics: the same for Prometheus.
            grpc_address: `host:port`.

        Returns:
            Serves until SIGTERM, then finishes what is in flight; its argument is told `open` and
            `closed`, as `DrainingServer` says.

        Raises:
            BundleError: the app does not answer.
        """
        rehearse(self.app)
        config = uvicorn.Config(
            Farewell(self.app, self._drain),
            log_config=None,
            access_log=False,
            http=BoundedProtocol,
            server_header=False,
            proxy_headers=False,  # else who asks from this machine says itself which client it is
            ws="none",
            lifespan="off",
            timeout_graceful_shutdown=_GRACE_S,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
        config.load()
        if self._tls is not None:
            config.ssl = self._tls.context()
        servicer = Servicer(self._models, self._front, _IDENTITY)
        grpc = GrpcServer(servicer, grpc_address, self._max_body_bytes, self._tls)

        def serve(say: Callable[[str], None]) -> None:
            self._engine.start()
            page = MetricsServer(self._metrics.registry, metrics)
            try:
                DrainingServer(config, grpc, self._drain, http, say).run(sockets=[http])
            finally:
                page.close()
                self._tracing.close()
                logging.shutdown()

        return serve

    def _build_app(self) -> Starlette:
        rest = Rest(self._front)
        more = [*v1_routes(rest, self._models), *api_routes()]
        return build_app(self._models, self._front, more, _IDENTITY)


def rehearse(app: Starlette) -> None:
    """Ask the app in this process whether it is ready, as a load balancer would.

    Raises:
        BundleError: it is not.
    """

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://rehearsal") as client:
            return await client.get("/v2/health/ready")

    answer = asyncio.run(ask())
    if not answer.is_success:
        raise BundleError(f"loaded, but its server does not answer: {answer.text}")
