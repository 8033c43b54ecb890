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
from bonexray.errors import ConfigError, RegistryError
from bonexray.store import BundleStore


def main(argv: list[str] | None = None) -> None:
    """Parse the flags and serve until stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m serving", description="Serve the champion over HTTP.", allow_abbrev=False
    )
    parser.add_argument(
        "--store", type=Path, default=Path("release"), help="folder of approved bundles"
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
    run_or_exit("serving", lambda: _serve(args.store, args.host, args.port, args.threads))


def _serve(store_root: Path, host: str, port: int, threads: int) -> None:
    store = BundleStore(store_root)
    champion = store.champion()
    if champion is None:
        raise RegistryError(
            f"no champion in {store_root}/: approve a candidate first: "
            "python -m serving.release approve candidate --by NAME --reason TEXT"
        )
    bundle = store.open(champion.digest)
    listener = _listen(host, port)

    # Imported late: it takes seconds, and what is wrong above is told at once.
    from serving.predictor import MODEL_NAME, BonexrayModel
    from serving.server import serve

    model = BonexrayModel(bundle, champion.version, threads)
    model.load()
    name = f"{MODEL_NAME} version {champion.version} (digest {bundle.digest[:12]})"

    def announce(url: str) -> None:
        print(f"{name} is ready on {url}, {threads} threads; Ctrl-C stops it", flush=True)

    serve(model, listener, announce)


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
    """Also called by uvicorn, which raises the signal again once it has shut down."""
    sys.exit(0)


if __name__ == "__main__":
    main()
