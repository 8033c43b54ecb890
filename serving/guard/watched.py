"""Files that are read again when they change, and what was last read of them soundly."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from bonexray.errors import ConfigError
from serving.watch.logs import tell, tell_problem

Read = TypeVar("Read")


class Watched(Generic[Read]):
    """What some files say. May be asked by several threads."""

    def __init__(self, read: Callable[[], tuple[Read, Sequence[Path]]]) -> None:
        """Read the files.

        Args:
            read: reads them, and says which they were; it is called again when one of them has
                another time, inode or size. Raises ConfigError.

        Raises:
            ConfigError: they cannot be read now.
        """
        self._read = read
        self._lock = threading.Lock()
        self._value, self._files = read()
        self._identity = _identity(self._files)

    def current(self) -> Read:
        """What the files say; while they cannot be read, which is logged once, what they said."""
        with self._lock:
            # Before they are read: what changes meanwhile is seen the next time.
            identity = _identity(self._files)
            if identity != self._identity:
                self._identity = identity
                try:
                    self._value, self._files = self._read()
                except ConfigError as error:
                    tell_problem("file_refused", error)
                else:
                    tell("file_read_again")
            return self._value


def _identity(files: Sequence[Path]) -> list[tuple[int, ...]]:
    return [_stat(file) for file in files]


def _stat(file: Path) -> tuple[int, ...]:
    try:
        found = file.stat()
    except OSError:
        return ()
    return (found.st_mtime_ns, found.st_ino, found.st_size)
