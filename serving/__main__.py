"""Serve the champion: `python -m serving`."""

import argparse
import errno
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from bonexray.command import run_or_exit
from bonexray.errors import ConfigError
from serving.follow import Follower


def main(argv: list[str] | None = None) -> None:
    """Parse the flags and serve until stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m serving",
        description="Serve the champion over HTTP, and follow when another becomes it.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--store", type=Path, default=Path("release"), help="folder of approved bundles"
    )
    parser.add_argument(
        "--trust",
        type=Path,
        help="public key or root certificates that the bundle must be signed under; by default "
        "keys/release.pub beside the store",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 in a container"
    )
    parser.add_argument("--port", type=_integer(0, 65535), default=8080, help="0: any free port")
    parser.add_argument(
        "--threads",
        type=_integer(1, 1024),
        default=os.cpu_count() or 1,
        help="CPU threads, by default one for each core",
    )
    args = parser.parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit_cleanly)
    run_or_exit("serving", lambda: _serve(args))


def _serve(args: argparse.Namespace) -> None:
    trust = args.trust or args.store.parent / "keys/release.pub"
    follower = Follower(args.store, trust, args.threads)
    with _listen(args.host, args.port) as listener:
        follower.run(listener)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        reason = "it is in use" if in_use else error.strerror
        raise ConfigError(f"cannot listen on {host} port {port}: {reason}") from error


def _integer(low: int, high: int) -> Callable[[str], int]:
    def integer(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value}, expected {low} to {high}")
        return value

    return integer


def _exit_cleanly(_: int, __: object) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    main()
