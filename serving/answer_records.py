"""What was answered, to whom, from which bytes: append-only files, each line holding a hash.

No pixels and no names: views are named by the SHA-256 of their files. A line is written before its
answer is sent; an answer that cannot be written down is not given. There is a file a day, in one
chain of hashes. Every process of a server appends to it, one after the other; servers on several
machines have folders of their own.
"""

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bonexray.errors import RecordsError

AUDIT_FILES = "answers-????-??-??.jsonl"
_LOCK_FILE = ".answers.lock"
_NOTHING_BEFORE = "0" * 64
_TAIL_BYTES = 1 << 20


class AuditedView(BaseModel):
    """One view of an answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: int
    sha256: str
    claimed_part: str
    """By the request or by the file."""
    seen_part: str
    probability: float
    refusal: str


class AuditedStudy(BaseModel):
    """One study of an answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    probability: float
    verdict: str
    refusal: str


class Answered(BaseModel):
    """One answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answer_id: str
    client: str
    trace_id: str
    model_version: str
    bundle_digest: str
    precision: Literal["int8", "fp32"]
    preprocessing: int
    studies: tuple[AuditedStudy, ...]
    views: tuple[AuditedView, ...]


class AuditRecord(Answered):
    """An answer in its place in the file."""

    at: str
    """UTC, ISO 8601."""
    number: int = Field(ge=1)
    before: str
    """SHA-256 of the line before."""


class AuditLog:
    """The audit files of a server, to write to."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which is made where it is missing.

        Raises:
            RecordsError: it cannot be written to.
        """
        self._folder = folder
        self._mutex = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._open_lock()
        except OSError as error:
            raise RecordsError(f"{folder}: cannot be written to: {error.strerror}") from error
        self._path: Path | None = None
        self._handle = -1
        self._size = 0
        self._number, self._before = 0, _NOTHING_BEFORE

    def append(self, answered: Answered) -> None:
        """Write an answer down, whole or not at all.

        Raises:
            RecordsError: the last record is none.
            OSError: the disk does not take it.
        """
        now = datetime.now(UTC)
        with self._alone():
            self._turn_to(self._folder / f"answers-{now:%Y-%m-%d}.jsonl")
            record = AuditRecord(
                **dict(answered),
                at=now.isoformat(timespec="milliseconds"),
                number=self._number + 1,
                before=self._before,
            )
            line = record.model_dump_json().encode()
            self._write(line + b"\n")
            self._number, self._before = record.number, hashlib.sha256(line).hexdigest()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait for whoever else writes: threads of this process, and other processes."""
        with self._mutex:
            if not _is_at(self._lock, self._folder / _LOCK_FILE):  # the folder may be another now
                before, self._lock = self._lock, self._open_lock()
                os.close(before)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _open_lock(self) -> int:
        return os.open(self._folder / _LOCK_FILE, os.O_CREAT | os.O_RDWR, 0o640)

    def _turn_to(self, path: Path) -> None:
        """Stand at the end of today's file, where another process may have written meanwhile."""
        # The clock may go backwards: the chain goes on in the last file.
        path = max([path, *self._folder.glob(AUDIT_FILES)])
        if path != self._path or not _is_at(self._handle, path):
            if self._path is not None:
                self._path = None
                os.close(self._handle)
            self._handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o640)
            self._path, self._size = path, -1
        size = os.fstat(self._handle).st_size
        if size != self._size:
            last = _last_line(self._handle, size)
            self._stand_behind(last or _last_line_before(path))
            self._size = os.fstat(self._handle).st_size

    def _stand_behind(self, last: bytes) -> None:
        """Go on after the last record, unless some that stood here are gone or were altered.

        Then what comes next still holds the hash of what was there, and verifying tells.
        """
        if not last:
            return
        try:
            number = AuditRecord.model_validate_json(last).number
        except ValidationError as error:
            raise RecordsError(f"{self._path}: its last line is no record of an answer") from error
        if number > self._number:
            self._number, self._before = number, hashlib.sha256(last).hexdigest()

    def _write(self, line: bytes) -> None:
        try:
            if os.write(self._handle, line) != len(line):
                raise OSError("the disk took a part of the record")
        except OSError:
            os.ftruncate(self._handle, self._size)
            raise
        self._size += len(line)


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file has not been removed, or another put in its place."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _last_line(handle: int, size: int) -> bytes:
    """The last whole line; what a killed process left of one was never answered: it is cut off."""
    begin = max(0, size - _TAIL_BYTES)
    tail = os.pread(handle, size - begin, begin)
    torn = len(tail) - (tail.rfind(b"\n") + 1)
    if torn:
        os.ftruncate(handle, size - torn)
    return tail[: len(tail) - torn].rstrip(b"\n").rpartition(b"\n")[2]


def _last_line_before(path: Path) -> bytes:
    earlier = sorted(other for other in path.parent.glob(AUDIT_FILES) if other < path)
    return earlier[-1].read_bytes().rstrip(b"\n").rpartition(b"\n")[2] if earlier else b""


def read_audit(folder: Path) -> list[AuditRecord]:
    """Every record of an audit folder, the chain verified from its first file that is left.

    Raises:
        RecordsError: there is no answer, or a line is torn, altered, missing or out of its place.
    """
    paths = sorted(folder.glob(AUDIT_FILES))
    if not paths:
        raise RecordsError(f"{folder}: holds no {AUDIT_FILES}")
    records, before = list[AuditRecord](), ""
    for path in paths:
        lines = path.read_bytes().split(b"\n")
        if lines.pop() != b"":
            raise RecordsError(f"{path}, line {len(lines) + 1}: torn: it has no end")
        for at, line in enumerate(lines, start=1):
            try:
                record = AuditRecord.model_validate_json(line)
            except ValidationError as error:
                raise RecordsError(f"{path}, line {at}: not a record of an answer") from error
            # Files that were kept long enough may be gone, from the first on.
            expected = records[-1].number + 1 if records else record.number
            if record.number != expected or record.before != (before or record.before):
                raise RecordsError(
                    f"{path}, line {at}: it is not what followed the line before: a record was "
                    "altered, left out or put in"
                )
            records.append(record)
            before = hashlib.sha256(line).hexdigest()
    if not records:
        raise RecordsError(f"{folder}: its {AUDIT_FILES} hold no answer")
    return records
