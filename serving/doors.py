"""The sockets that requests come by. A parent opens them once; its children share them."""

import errno
import socket
from dataclasses import dataclass

from bonexray.errors import ConfigError


@dataclass(frozen=True, kw_only=True, eq=False)
class Doors:
    """Where a server is reached."""

    http: socket.socket
    """Listens; whoever connects while children change waits in its queue."""
    metrics: socket.socket
    """Listens."""
    grpc: socket.socket
    """Only holds the address, where each child listens by itself: gRPC takes no socket."""

    def close(self) -> None:
        """Close all; who connects from now on is refused, and does not wait for nobody."""
        for door in (self.http, self.metrics, self.grpc):
            door.close()


def open_doors(host: str, port: int, grpc_port: int, metrics_port: int) -> Doors:
    """Open the sockets.

    Args:
        host: address to listen on.
        port: of HTTP; 0 for any that is free, as with the others.
        grpc_port: of gRPC.
        metrics_port: of what Prometheus reads.

    Raises:
        ConfigError: one is in use, or is no address of this machine.
    """
    return Doors(
        http=_listen(host, port),
        metrics=_listen(host, metrics_port),
        grpc=_hold(host, grpc_port),
    )


def address_of(door: socket.socket) -> str:
    """`host:port` that a socket is bound to."""
    host, port = door.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reached_at(door: socket.socket) -> str:
    """`host:port` under which a socket is reached from this machine."""
    host, port = door.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        raise _cannot(host, port, error) from error


def _hold(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    door = socket.socket(family, kind, protocol)
    try:
        if port:
            # Sharing is for our own children; another server there is told of.
            door.bind(address)
            door.close()
            door = socket.socket(family, kind, protocol)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        door.bind(address)
    except OSError as error:
        door.close()
        raise _cannot(host, port, error) from error
    return door


def _cannot(host: str, port: int, error: OSError) -> ConfigError:
    in_use = error.errno == errno.EADDRINUSE
    reason = "it is in use" if in_use else error.strerror
    return ConfigError(f"cannot listen on {host} port {port}: {reason}")
