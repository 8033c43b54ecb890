"""The log: one JSON object a line on stderr, of the fields in `fields` and of nothing else.

What a library says may repeat a patient's data, so of it only the logger's name, the level, the
type of an exception and where it was raised are told, never its words.
"""

import json
import logging
import re
import sys
import threading
import traceback
import warnings
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from bonexray.errors import ConfigError
from serving.watch.fields import clean

_OURS = logging.getLogger("serving.watch")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,99}")
_MAX_FRAMES = 40
_MAX_CAUSES = 8
_MEANINGS: dict[type[BaseException], str] = {
    ConnectionError: "the other side left",
    TimeoutError: "waited too long",
    MemoryError: "no memory is left",
    OSError: "the system refused",
    Warning: "a library warns",
    Exception: "a library or the program failed",
}
"""The words for an exception are those of the first of these that it is."""


def tell(event: str, level: int = logging.INFO, **fields: object) -> None:
    """Log one event.

    Args:
        event: what happened, in lower case with underscores.
        level: as in `logging`.
        fields: of the event, as in `serving.watch.fields`.
    """
    if _OURS.isEnabledFor(level):
        _OURS.log(level, event, extra={"told": {"event": event, **fields}})


def tell_problem(event: str, problem: ConfigError) -> None:
    """Log what is wrong with one of our own files, whose errors never repeat what stands in it."""
    _OURS.error(event, extra={"told": {"event": event}, "problem": problem})


def tell_defect(error: BaseException, **fields: object) -> None:
    """Log a defect: the exception's type, its causes' types and where it was raised.

    Args:
        error: whose words are not told.
        fields: of the request, as in `serving.watch.fields`.
    """
    _OURS.error("defect", exc_info=error, extra={"told": {"event": "defect", **fields}})


def configure_logs(stream: IO[str]) -> None:
    """Send all that is logged, warned or not caught in this process to `stream`, as JSON lines.

    Handlers that libraries installed are taken away, and warnings are not shown. To be called once,
    before anything is served.
    """
    handler = _LineHandler(stream)
    handler.setFormatter(JsonLines())
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.propagate = True
            logger.disabled = False
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.WARNING)
    _OURS.setLevel(logging.INFO)
    # pydicom's warnings quote the value that they are about, and without their words a warning says
    # nothing; Python would keep each in memory for good, not to show it twice.
    warnings.simplefilter("ignore")
    logging.captureWarnings(True)
    sys.excepthook = _tell_uncaught
    threading.excepthook = lambda caught: _tell_hooked(caught.exc_value)
    sys.unraisablehook = lambda caught: _tell_hooked(caught.exc_value)


class JsonLines(logging.Formatter):
    """Makes a line of JSON of a record, whoever logged it."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, without what may not be told."""
        line: dict[str, Any] = {
            "time": _moment(record.created),
            **clean({"level": record.levelname}),
        }
        if record.name == _OURS.name:
            line |= clean(getattr(record, "told", {}))
        else:
            line |= {"event": "library", "logger": _name(record.name)}
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            line |= _of_exception(error)
        problem = getattr(record, "problem", None)
        if record.name == _OURS.name and isinstance(problem, ConfigError):
            line["problem"] = str(problem)
        return json.dumps(line, allow_nan=False)


class _LineHandler(logging.StreamHandler[IO[str]]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Nothing: logging's own would print the record's arguments."""


def _of_exception(error: BaseException) -> dict[str, Any]:
    """What may be told of an exception: types, and `file:line:function` from the outermost in."""
    causes: list[str] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and len(causes) < _MAX_CAUSES:
        causes.append(_type_name(cause))
        cause = cause.__cause__ or cause.__context__
    meaning = next((text for kind, text in _MEANINGS.items() if isinstance(error, kind)), "ended")
    told: dict[str, Any] = {"exception": _type_name(error), "meaning": meaning}
    if causes:
        told["causes"] = causes
    if error.__traceback__ is not None:
        told["frames"] = _frames(error.__traceback__)
    return told


def _frames(trace: TracebackType) -> list[str]:
    # Not traceback.extract_tb, which reads the sources.
    places = [
        f"{'/'.join(Path(frame.f_code.co_filename).parts[-2:])}:{line}:{frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(trace)
    ]
    return places[-_MAX_FRAMES:]


def _type_name(error: BaseException) -> str:
    return _name(type(error).__name__)


def _name(given: str) -> str:
    """A name that a program gave, if it looks like one."""
    return given if _NAME.fullmatch(given) else "unnamed"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _tell_hooked(error: BaseException | None) -> None:
    if error is not None:
        tell_defect(error)


def _tell_uncaught(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
    tell_defect(error)
