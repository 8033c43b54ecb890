"""One child of `python -m serving`: it verifies one champion, loads it, and serves it when told.

It speaks with its parent by lines: `ready`, `open` (it answers), `closed` (the listening socket)
and `failed REASON` to it, `serve` and `leave` (say that you are not ready, and go on) from it. The
end of the parent's pipe means that the parent is gone, and then the child goes too.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, NoReturn

from bonexray.errors import BonexrayError
from serving.doors import address_of
from serving.leaving import Drain
from serving.setup import add_flags, read_setup

if TYPE_CHECKING:
    from bonexray.store import Champion
    from serving.doors import Doors
    from serving.setup import Setup

DRAIN_LIMIT_S = 40
"""A child that was told to finish and has not in this time is ended; draining takes less."""
_COLLECT_S = 2.0


@dataclass(kw_only=True, eq=False)
class Child:
    """The parent's end: a process that serves one champion."""

    champion: "Champion"
    process: "subprocess.Popen[bytes]"
    words_from: IO[bytes]
    word_to: IO[bytes]
    since_s: float = field(default_factory=time.monotonic)
    """When it began what it is doing: loading, serving or draining."""
    words: list[str] = field(default_factory=list)
    """The lines that it said."""
    _rest: bytes = b""

    def hear(self) -> bool:
        """Read what it says; False when it has ended."""
        data = os.read(self.words_from.fileno(), 4096)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.words += [line.decode(errors="replace") for line in lines]
        return data != b""

    def serve(self) -> None:
        """Let it take connections."""
        self.since_s = time.monotonic()
        with suppress(BrokenPipeError):  # it has died, which its own pipe says next
            self.word_to.write(b"serve\n")

    def leave(self) -> None:
        """Let it tell load balancers that it is about to go."""
        with suppress(BrokenPipeError):
            self.word_to.write(b"leave\n")

    def drain(self) -> None:
        """Let it finish; one that does not serve yet ends at once."""
        self.since_s = time.monotonic()
        self.process.terminate()

    def end(self) -> str:
        """Collect it, dead or alive, and return why it ended."""
        try:
            status = self.process.wait(timeout=_COLLECT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.words_from.close()
        self.word_to.close()
        for word in self.words:
            if word.startswith("failed "):
                return word.removeprefix("failed ")
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"its process {how}"

    def age_s(self) -> float:
        """Seconds since it began what it is doing."""
        return time.monotonic() - self.since_s


def start_child(champion: "Champion", setup: "Setup", doors: "Doors", deaths: int) -> Child:
    """Start a process that loads a champion and waits to be told to serve it.

    Args:
        champion: what it loads.
        setup: of the server.
        doors: where it will take connections.
        deaths: of the children before it.
    """
    inherited = (doors.http.fileno(), doors.metrics.fileno())
    command = [
        *(sys.executable, "-m", "serving.worker", *setup.flags()),
        *(f"--digest={champion.digest}", f"--version={champion.version}", f"--deaths={deaths}"),
        *("--http", str(inherited[0]), "--metrics", str(inherited[1])),
        *("--grpc", address_of(doors.grpc)),
    ]
    process = subprocess.Popen(
        command,
        bufsize=0,
        stdin=subprocess.PIPE,  # whose end tells the child that this process is gone
        stdout=subprocess.PIPE,
        pass_fds=inherited,
        # gRPC's core writes to stderr by itself, past the log and what may stand in it.
        env={**os.environ, "GRPC_VERBOSITY": "NONE"},
        process_group=0,  # Ctrl-C is for the parent, which lets its children finish
    )
    assert process.stdin is not None
    assert process.stdout is not None
    return Child(
        champion=champion, process=process, words_from=process.stdout, word_to=process.stdin
    )


def main(argv: list[str] | None = None) -> None:
    """Parse the flags, load the champion they name, wait for the parent's word, and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.worker",
        description="Serve one bundle on sockets that `python -m serving` opened.",
        allow_abbrev=False,
    )
    add_flags(parser, cores=1)
    parser.add_argument("--digest", required=True, help="of the bundle")
    parser.add_argument("--version", required=True, help="of the model that the bundle is")
    parser.add_argument("--deaths", type=int, required=True, help="of processes before this one")
    parser.add_argument("--http", type=int, required=True, help="inherited file descriptor")
    parser.add_argument("--metrics", type=int, required=True, help="inherited file descriptor")
    parser.add_argument("--grpc", required=True, help="host:port")
    args = parser.parse_args(argv)
    told, drain = threading.Event(), Drain()
    threading.Thread(target=_watch_parent, args=(told, drain), daemon=True).start()
    say = _speaker()
    try:
        with ThreadPoolExecutor(1, initializer=_stand_back) as aside:
            serve = aside.submit(_prepare, args, drain).result()
    except (BonexrayError, OSError) as error:
        say(f"failed {' '.join(str(error).split())}")
        raise SystemExit(1) from error
    say("ready")
    told.wait()
    # Until here SIGTERM ends the process at once: nothing was accepted. From here on uvicorn takes
    # it, and raises it again when all is answered.
    signal.signal(signal.SIGTERM, _exit_cleanly)
    serve(say)


def _stand_back() -> None:
    """Let this thread give way: who is served meanwhile should not notice.

    Not the lowest priority: beside a server that is asked all it can answer, it would not end.
    """
    if sys.platform == "linux":  # elsewhere it would be the whole process's, and for good
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def _prepare(args: argparse.Namespace, drain: Drain) -> Callable[[Callable[[str], None]], None]:
    """Do what takes time, and return what is left: to serve."""
    # Imported late, as all that follows: the parent, which takes its end from this module, needs
    # none of it, and a bundle that is refused is told at once.
    from bonexray.store import BundleStore
    from serving.signature import open_signed

    setup = read_setup(args)
    bundle = open_signed(BundleStore(setup.store), args.digest, setup.trust)
    from serving.endpoint import Endpoint

    endpoint = Endpoint(bundle, args.version, setup, drain, deaths=args.deaths)
    http, metrics = socket.socket(fileno=args.http), socket.socket(fileno=args.metrics)
    return endpoint.prepare(http, metrics, args.grpc)


def _speaker() -> Callable[[str], None]:
    """Lines to the parent; what else is printed goes to stderr, where a person reads it."""
    pipe = os.dup(1)
    os.dup2(2, 1)

    def say(line: str) -> None:
        with suppress(BrokenPipeError):  # the parent is gone, which _watch_parent sees to
            os.write(pipe, f"{line}\n".encode())

    return say


def _watch_parent(told: threading.Event, drain: Drain) -> None:
    # Not sys.stdin, whose lock a thread that waits in it would hold beyond the process's end.
    while words := os.read(0, 64):
        drain.leaving = drain.leaving or b"leave" in words
        if b"serve" in words:
            told.set()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(DRAIN_LIMIT_S)
    os._exit(1)


def _exit_cleanly(_: int, __: object) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    main()
