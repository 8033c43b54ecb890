"""The identity models on our own front, by both protocols, with nothing of the radiographs.

    python -m tests.conformance.own_identity --http-port 8090 --grpc-port 8091

Everybody may ask, as often as they like; the limits of size are those that a request meets.
"""

import argparse
import asyncio
from dataclasses import dataclass

import uvicorn

from serving.admission import Admission, Workload
from serving.gate import Front
from serving.grpc_server import GrpcServer
from serving.guard.rates import Rates
from serving.guard.tokens import Doorkeeper
from serving.leaving import Drain
from serving.oip.model import Call, Models, wanted_outputs
from serving.oip.rest import build_app
from serving.oip.rpc import Servicer
from serving.oip.tensors import InferRequest, InferResponse, Tensor, TensorSpec
from serving.watch.metrics import Metrics
from serving.watch.tracing import Tracing
from tests.conformance.case import IDENTITY_MODELS, VERSION, ModelUnderTest

_LIMIT_BYTES = 64 * 2**20
_DEADLINE_S = 60.0


@dataclass(frozen=True)
class Identity:
    """INPUT0 becomes OUTPUT0, INPUT1 becomes OUTPUT1."""

    of: ModelUnderTest
    version: str = VERSION
    platform: str = "python_identity"
    ready: bool = True

    @property
    def name(self) -> str:
        """As in the path."""
        return self.of.name

    @property
    def inputs(self) -> list[TensorSpec]:
        """What it takes."""
        return self._specs("INPUT")

    @property
    def outputs(self) -> list[TensorSpec]:
        """What it gives."""
        return self._specs("OUTPUT")

    async def infer(self, request: InferRequest, call: Call) -> InferResponse:
        """Give back what came, of what was asked for."""
        came = {tensor.name.replace("INPUT", "OUTPUT"): tensor for tensor in request.inputs}
        return InferResponse(
            outputs=tuple(
                Tensor(
                    name=name,
                    datatype=came[name].datatype,
                    shape=came[name].shape,
                    values=came[name].values,
                )
                for name in wanted_outputs(request, self)
            )
        )

    def _specs(self, prefix: str) -> list[TensorSpec]:
        return [
            TensorSpec(name=f"{prefix}{at}", datatype=datatype, shape=(-1, -1))
            for at, datatype in enumerate(self.of.datatypes)
        ]


def open_front() -> Front:
    """A gate that lets everybody in."""
    load = Workload(jobs=1)
    return Front(
        doorkeeper=Doorkeeper(None),
        rates=Rates(per_minute=10**9),
        admission=Admission(load, max_wait_s=_DEADLINE_S, max_held_bytes=4 * _LIMIT_BYTES),
        metrics=Metrics(
            waiting_views=lambda: load.views,
            wait_s=lambda: load.wait_s(0),
            max_wait_s=_DEADLINE_S,
            deadline_s=_DEADLINE_S,
            ready=lambda: True,
            leaving=lambda: False,
            restarts=0,
        ),
        tracing=Tracing(VERSION),
        drain=Drain(),
        deadline_s=_DEADLINE_S,
        max_body_bytes=_LIMIT_BYTES,
    )


async def serve(http_port: int, grpc_port: int) -> None:
    """Answer on loopback until SIGTERM."""
    models = Models([Identity(of) for of in IDENTITY_MODELS])
    front, identity = open_front(), {"name": "identity", "version": VERSION}
    servicer = Servicer(models, front, identity)
    over_grpc = GrpcServer(servicer, f"127.0.0.1:{grpc_port}", _LIMIT_BYTES, None)
    await over_grpc.start()
    app = build_app(models, front, [], identity)
    config = uvicorn.Config(app, host="127.0.0.1", port=http_port, log_config=None, ws="none")
    await uvicorn.Server(config).serve()
    await over_grpc.stop(1)


def main(argv: list[str] | None = None) -> None:
    """Read the ports and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    args = parser.parse_args(argv)
    asyncio.run(serve(args.http_port, args.grpc_port))


if __name__ == "__main__":
    main()
