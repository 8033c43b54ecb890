"""The process's logging, sent to a file for as long as a test runs."""

import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.watch.logs import configure_logs


@contextmanager
def logs_in(path: Path) -> Iterator[Callable[[], str]]:
    """Configure the logs, and put everything back at the end."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    kept = [
        (logger, list(logger.handlers), logger.level, logger.propagate)
        for logger in loggers
        if isinstance(logger, logging.Logger)
    ]
    hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook)
    with warnings.catch_warnings(), path.open("w", buffering=1) as stream:
        try:
            configure_logs(stream)
            yield path.read_text
        finally:
            logging.captureWarnings(False)
            sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
            for logger, handlers, level, propagate in kept:
                logger.handlers[:], logger.propagate = handlers, propagate
                logger.setLevel(level)
