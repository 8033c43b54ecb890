"""The process's server of gRPC. Its port is shared: a successor listens before it stops."""

import grpc

from serving.guard.tls import Tls
from serving.oip.rpc import Servicer

_MOST_CALLS = 64
"""At a time; each holds its message. Further ones are told RESOURCE_EXHAUSTED at once."""


class GrpcServer:
    """Answers the calls of the protocol on one address."""

    def __init__(
        self, servicer: Servicer, address: str, max_message_bytes: int, tls: Tls | None
    ) -> None:
        """Listen to nothing yet.

        Args:
            servicer: answers.
            address: `host:port`; the port is not 0.
            max_message_bytes: of a request.
            tls: certificate and key; None for plain text.
        """
        self._servicer = servicer
        self._address = address
        self._max_message_bytes = max_message_bytes
        self._tls = tls

    async def start(self) -> None:
        """Begin to take calls."""
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", self._max_message_bytes),
                ("grpc.so_reuseport", 1),
                # Only what is not compressed: a small message would unpack to the limit.
                ("grpc.compression_enabled_algorithms_bitset", 1),
            ],
            maximum_concurrent_rpcs=_MOST_CALLS,
        )
        self._server.add_generic_rpc_handlers((self._servicer.handler(),))
        if self._tls is None:
            self._server.add_insecure_port(self._address)
        else:
            self._server.add_secure_port(self._address, self._tls.credentials())
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, and wait for those that run."""
        await self._server.stop(grace_s)
