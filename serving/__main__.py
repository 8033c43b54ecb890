"""Serve the champion: `python -m serving`."""

import argparse
import signal
import sys
from contextlib import closing
from typing import NoReturn

from bonexray.command import run_or_exit
from serving.doors import open_doors
from serving.follow import Follower
from serving.setup import add_flags, integer, read_setup, usable_cores


def main(argv: list[str] | None = None) -> None:
    """Parse the flags and serve until stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m serving",
        description="Serve the champion over REST and gRPC, and follow when another becomes it.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 in a container"
    )
    port = integer(0, 65535)
    parser.add_argument("--port", type=port, default=8080, help="of REST; 0: any free port")
    parser.add_argument("--grpc-port", type=port, default=8081, help="of gRPC")
    parser.add_argument("--metrics-port", type=port, default=8082, help="of Prometheus' metrics")
    add_flags(parser, usable_cores())
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _exit_cleanly)
    run_or_exit("serving", lambda: _serve(args))


def _serve(args: argparse.Namespace) -> None:
    follower = Follower(read_setup(args))
    with closing(open_doors(args.host, args.port, args.grpc_port, args.metrics_port)) as doors:
        try:
            follower.run(doors)
        except KeyboardInterrupt:
            sys.exit(0)


def _exit_cleanly(_: int, __: object) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    main()
