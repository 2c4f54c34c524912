"""Logs: to standard error, as text or as one JSON object a line.

The program logs through the standard library; structlog lays the records out. It is imported with the first record, as
most commands log nothing.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, MutableMapping
from typing import Any

from reverse_etl.cli.options import LogFormat, LogLevel
from reverse_etl.cli.text import printable

PACKAGE = "reverse_etl"
_LEADING = ("timestamp", "level", "event", "exception")


def configure(level: LogLevel, form: LogFormat, keep: Callable[[str], str]) -> None:
    """Sends our own records and other libraries' to standard error.

    Other libraries are heard from WARNING up only, at any level: below that they log addresses, headers and values.
    `keep` stores the details of a bug that are not shown, and returns where.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    handler = _StandardError()
    handler.setLevel(number)
    handler.setFormatter(_Late(form))
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))
    ours = logging.getLogger(PACKAGE)
    ours.setLevel(logging.DEBUG)
    ours.handlers[:] = [_Kept(keep)]
    # A library's warning to its programmers is nothing that a user could act on.
    logging.getLogger("py.warnings").setLevel(logging.WARNING if level is LogLevel.DEBUG else logging.CRITICAL)


class _StandardError(logging.Handler):
    """Writes to whatever standard error is now: a bar on the terminal replaces it while it is drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(self.format(record) + "\n")
        sys.stderr.flush()


class _Kept(logging.Handler):
    """Keeps the details of what was caught and isn't shown, so that it can be reported."""

    def __init__(self, keep: Callable[[str], str]) -> None:
        super().__init__()
        self._keep = keep

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[0] is not None:
            place = self._keep("".join(traceback.format_exception(*record.exc_info)))
            sys.stderr.write(printable(f"{record.getMessage()}: the details are in {place}") + "\n")


class _Late(logging.Formatter):
    """Becomes the formatter it stands for with the first record."""

    def __init__(self, form: LogFormat) -> None:
        super().__init__()
        self._form = form
        self._formatter: logging.Formatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        if self._formatter is None:
            self._formatter = _formatter(self._form)
        return self._formatter.format(record)


def _formatter(form: LogFormat) -> logging.Formatter:
    import structlog

    return structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _with_trace,
            structlog.processors.JSONRenderer() if form is LogFormat.JSON else _as_text,
        ],
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _with_logger_name,
        ],
    )


def _with_trace(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Where an exception came from. Its words may hold values of rows: they are in the file that keeps the details."""
    failure = event.pop("exc_info", None)
    if failure and failure[0] is not None:
        event["exception"] = "".join([*traceback.format_tb(failure[2]), failure[0].__name__])
    return event


def _with_logger_name(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Names the library that speaks, when it isn't us."""
    name: str = event["_record"].name
    if name.partition(".")[0] != PACKAGE:
        event["library"] = name
    return event


def _as_text(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    shown = {name: value for name, value in event.items() if name not in _LEADING and not isinstance(value, dict)}
    pairs = "".join(f" {name}={value}" for name, value in shown.items())
    first = printable(f"{event['timestamp']} {event['level']:<7} {event['event']}{pairs}")
    details = [printable(line) for line in str(event.get("exception") or "").splitlines()]
    return "\n".join([first, *details])
