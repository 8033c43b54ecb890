"""Follow the store's pointer: one child process serves, and another takes over when it changes.

The parent holds the listening sockets, so that whoever connects during a switch waits in a queue.
It loads no model and never answers. Children are `serving.worker`.
"""

import selectors
import subprocess
import sys
import time
from contextlib import suppress
from typing import TextIO

from bonexray.errors import BundleError, RegistryError, WorkerError
from bonexray.store import CHAMPION_FILE, BundleStore, Champion
from serving.doors import Doors, reached_at
from serving.setup import Setup
from serving.worker import DRAIN_LIMIT_S, Child, start_child

_LOOK_EVERY_S = 1.0
_RETRY_S = 60.0
_READY_LIMIT_S = 120.0
_CLOSE_LIMIT_S = 2.0
"""A child that does not close the listening socket in this time does not hold up its successor."""
_LONGEST_PAUSE_S = 30.0
_SOUND_S = 60.0
"""A child that served this long and died is started again at once."""


class _Pointer:
    """The store's champion, as last read."""

    def __init__(self, store: BundleStore) -> None:
        self._store = store
        self._looked_s = 0.0
        self._identity: tuple[int, ...] = ()
        self._complaint = ""
        self.champion: Champion | None = None

    def look(self) -> bool:
        """Look once in a while; True when another pointer has been written."""
        if time.monotonic() - self._looked_s < _LOOK_EVERY_S:
            return False
        self._looked_s = time.monotonic()
        try:
            identity = self._stat()
            if identity == self._identity:
                return False
            champion = self._store.champion()
        except (BundleError, OSError) as error:
            complaint = " ".join(str(error).split())
            if complaint != self._complaint:
                _complain(f"{complaint}; what is served goes on")
            self._complaint = complaint
            return False
        self._identity, self._complaint = identity, ""
        self.champion = champion or self.champion
        return champion is not None

    def _stat(self) -> tuple[int, ...]:
        try:
            found = (self._store.root / CHAMPION_FILE).stat()
        except FileNotFoundError:
            return ()
        return (found.st_mtime_ns, found.st_ino, found.st_size)


class Follower:
    """Serves the champion of a store, whichever that is at the time."""

    def __init__(self, setup: Setup) -> None:
        """Serve nothing yet.

        Args:
            setup: the store, whose pointer is followed, and what every child is told.
        """
        self._setup = setup
        self._store = BundleStore(setup.store)
        self._pointer = _Pointer(self._store)
        self._selector = selectors.DefaultSelector()
        self._current: Child | None = None
        self._starting: Child | None = None
        self._draining: list[Child] = []
        self._served: Champion | None = None
        self._greeted = False
        self._refused: Champion | None = None
        self._refusal = ""
        self._retry_s = 0.0
        self._deaths = self._deaths_in_a_row = 0
        self._pause_until_s = 0.0

    def run(self, doors: Doors) -> None:
        """Serve until a signal's handler raises; then let all children finish.

        After SystemExit requests are taken for a while longer, and readiness is denied; after
        KeyboardInterrupt not, for somebody waits before the screen.

        Args:
            doors: are closed at the end.

        Raises:
            BonexrayError: there is no champion, or the first one cannot be served.
        """
        if self._store.champion() is None:
            raise RegistryError(
                f"no champion in {self._store.root}/: approve a candidate first: "
                "python -m serving.release approve candidate --by NAME --reason TEXT"
            )
        try:
            while True:
                if self._pointer.look():
                    self._refused, self._refusal = None, ""
                self._steer(doors)
                for key, _ in self._selector.select(timeout=0.1):
                    self._hear(key.data, doors)
                self._end_overdue()
        except SystemExit:
            self._linger()
            raise
        finally:
            doors.close()
            self._stop()

    def _linger(self) -> None:
        """Go on while load balancers learn that this server leaves: they ask now and then only."""
        if self._current is not None:
            self._current.leave()
            with suppress(SystemExit):  # told a second time, it hurries
                time.sleep(self._setup.config.lame_duck_s)

    def _goal(self) -> Champion | None:
        """The champion that should be served now."""
        wanted = self._pointer.champion
        due = self._current is not None and time.monotonic() >= self._retry_s
        if wanted == self._refused and not due:
            return self._served
        return wanted or self._served

    def _steer(self, doors: Doors) -> None:
        """Start and stop children until the right one serves."""
        goal, starting = self._goal(), self._starting
        if starting is not None and "ready" in starting.words:
            self._hand_over(starting, doors)
        elif starting is not None and starting.champion != goal:
            self._forget(starting)
            starting.process.kill()
            starting.end()
            self._starting = None
        elif starting is None and goal is not None:
            current = self._current and self._current.champion
            paused = goal == self._served and time.monotonic() < self._pause_until_s
            if current != goal and not paused:
                self._starting = start_child(goal, self._setup, doors, self._deaths)
                self._selector.register(
                    self._starting.words_from, selectors.EVENT_READ, self._starting
                )

    def _hand_over(self, starting: Child, doors: Doors) -> None:
        """Let a child that is ready serve, as soon as the one before takes no more connections.

        One after the other, or a client could be answered by the new, and then by the old again.
        """
        before = self._current
        if before is not None:
            before.drain()
            self._draining.append(before)
            self._current = None
        if any(
            "closed" not in old.words and old.age_s() < _CLOSE_LIMIT_S for old in self._draining
        ):
            return
        served, self._served = self._served, starting.champion
        self._current, self._starting = starting, None
        if served is not None:  # before its first answer, so that none comes unannounced
            again = served == starting.champion
            what = " again" if again else f"; version {served.version} answers no more"
            _tell(f"bonexray {_name(starting.champion)} is served{what}", sys.stdout)
        starting.serve()

    def _greet(self, child: Child, doors: Doors) -> None:
        """Say where the first child is reached, when it is."""
        scheme = "https" if self._setup.certificate else "http"
        _tell(
            f"bonexray {_name(child.champion)} is ready on {scheme}://{reached_at(doors.http)}, "
            f"gRPC on {reached_at(doors.grpc)}, metrics on "
            f"http://{reached_at(doors.metrics)}/metrics, {self._setup.threads} threads; "
            "Ctrl-C stops it",
            sys.stdout,
        )
        self._greeted = True

    def _hear(self, child: Child, doors: Doors) -> None:
        if child.hear():
            self._steer(doors)
            if "open" in child.words and not self._greeted:
                self._greet(child, doors)
            return
        self._forget(child)
        reason = child.end()
        if child is self._starting:
            self._starting = None
            self._refuse(child.champion, reason)
        elif child is self._current:
            self._current = None
            self._mourn(child, reason)
        else:
            self._draining.remove(child)

    def _refuse(self, champion: Champion, reason: str) -> None:
        """Go on without a champion that could not be started, and try again later."""
        if self._served is None:
            raise WorkerError(reason)
        if champion == self._served:
            self._pause()
            again = f"{_name(champion)} could not be started again: {reason}"
        else:
            self._refused, self._retry_s = champion, time.monotonic() + _RETRY_S
            again = f"{_name(champion)} is not served: {reason}"
            again += f"; version {self._served.version} goes on"
        if again != self._refusal:
            _complain(again)
        self._refusal = again

    def _mourn(self, child: Child, reason: str) -> None:
        _complain(f"{_name(child.champion)} died: {reason}; it is started again")
        self._deaths += 1
        if child.age_s() > _SOUND_S:
            self._deaths_in_a_row = 0
        self._pause()

    def _pause(self) -> None:
        deaths = self._deaths_in_a_row
        pause_s = min(2 ** (deaths - 1), _LONGEST_PAUSE_S) if deaths else 0.0
        self._deaths_in_a_row += 1
        self._pause_until_s = time.monotonic() + pause_s

    def _end_overdue(self) -> None:
        for child in self._draining:
            if child.age_s() > DRAIN_LIMIT_S:
                child.process.kill()
        starting = self._starting
        if starting and "ready" not in starting.words and starting.age_s() > _READY_LIMIT_S:
            starting.words.append(f"failed not ready in {_READY_LIMIT_S:.0f} seconds")
            starting.process.kill()

    def _forget(self, child: Child) -> None:
        self._selector.unregister(child.words_from)

    def _stop(self) -> None:
        """Let every child finish what it holds."""
        children = [child for child in (self._current, self._starting) if child] + self._draining
        for child in children:
            child.drain()
        deadline_s = time.monotonic() + DRAIN_LIMIT_S
        for child in children:
            try:
                child.process.wait(timeout=max(deadline_s - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                child.process.kill()
            child.end()


def _name(champion: Champion) -> str:
    return f"version {champion.version} (digest {champion.digest[:12]})"


def _complain(line: str) -> None:
    _tell(f"serving: {line}", sys.stderr)


def _tell(line: str, stream: TextIO) -> None:
    with suppress(OSError):  # who read it is gone, which is no reason to stop
        print(line, file=stream, flush=True)
