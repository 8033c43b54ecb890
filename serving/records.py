"""Who decided what, when and why: an append-only file of records, each holding the last one's hash.

A record is the moment of a decision: before its line stands there is none, after it there is, and
the aliases and pointers that follow from it can be made again. Knows no registry and no bundle.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bonexray.errors import RecordsError

RECORDS_FILE = "records.jsonl"
_LOCK_FILE = ".records.lock"
_NOTHING_BEFORE = "0" * 64

Action = Literal["approve", "reject", "rollback"]


class Decision(BaseModel):
    """What a person decided of a version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Action
    by: str = Field(min_length=1)
    reason: str = Field(min_length=1)
    override: str
    """Why the gate's warnings do not matter; empty when there were none."""
    model_name: str
    version: str
    bundle_digest: str
    gate_sha256: str
    """Of gate.json; empty where there is none."""
    pack_sha256: str
    """Of the release pack's manifest; empty where there is none."""
    previous_version: str
    """The champion before; empty when there was none."""
    signature: str
    """Of the bundle, as OpenSSF Model Signing writes it; empty when it is not made the champion."""


class Record(Decision):
    """A decision in its place in the file."""

    at: str
    """UTC, ISO 8601. A clock that went backwards is recorded as it was: the order is the file's."""
    number: int = Field(ge=1)
    before: str
    """SHA-256 of the line before."""


class Records:
    """The records of one release folder."""

    def __init__(self, root: Path) -> None:
        """Use the folder `root`, which need not exist yet."""
        self.path = root / RECORDS_FILE
        self._lock = root / _LOCK_FILE

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep others from deciding meanwhile.

        Raises:
            RecordsError: another decision is under way.
        """
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._lock, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise RecordsError(
                f"{self.path}: another decision is under way; wait for it"
            ) from error
        try:
            self._cut_torn_end()
            yield
        finally:
            os.close(handle)

    def _cut_torn_end(self) -> None:
        """Set aside what a machine that failed left of a line: that decision was not made."""
        whole = self.path.read_bytes() if self.path.exists() else b""
        torn = whole.rpartition(b"\n")[2]
        if torn:
            aside = self.path.with_suffix(".torn")
            aside.write_bytes(torn)
            with self.path.open("r+b") as file:
                file.truncate(len(whole) - len(torn))
            print(f"{self.path}: its last line was torn; that decision was not made, see {aside}")

    def read(self) -> list[Record]:
        """Every record, in order, its chain verified.

        Raises:
            RecordsError: a line is torn, altered, missing or out of its place.
        """
        lines = self.path.read_bytes().split(b"\n") if self.path.exists() else [b""]
        if lines.pop() != b"":
            raise RecordsError(f"{self.path}, line {len(lines) + 1}: torn: it has no end")
        records, before = list[Record](), _NOTHING_BEFORE
        for number, line in enumerate(lines, start=1):
            try:
                record = Record.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                field = ".".join(map(str, first["loc"])) or "not a record"
                raise RecordsError(
                    f"{self.path}, line {number}: {field}: {first['msg']}"
                ) from error
            if (record.number, record.before) != (number, before):
                raise RecordsError(
                    f"{self.path}, line {number}: it is not what followed the line before: "
                    "a record was altered, left out or put in"
                )
            records.append(record)
            before = hashlib.sha256(line).hexdigest()
        return records

    def append(self, decision: Decision) -> Record:
        """Write a decision below the others, whole or not at all; hold the records while doing it.

        Raises:
            RecordsError: as `read`.
        """
        records = self.read()
        last = self.path.read_bytes().rstrip(b"\n").rpartition(b"\n")[2] if records else b""
        record = Record(
            **decision.model_dump(),
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            number=len(records) + 1,
            before=hashlib.sha256(last).hexdigest() if records else _NOTHING_BEFORE,
        )
        line = record.model_dump_json().encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        size = self.path.stat().st_size if self.path.exists() else 0
        handle = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
        try:
            if os.write(handle, line) != len(line):
                raise OSError("the disk took a part of the record")
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, size)
            raise
        finally:
            os.close(handle)
        return record
