"""Logs: to standard error, as text or as one JSON object a line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

from reverse_etl.cli.options import LogFormat, LogLevel
from reverse_etl.cli.text import printable


def configure(level: LogLevel, form: LogFormat) -> None:
    """Sends our own events and other libraries' to standard error.

    Other libraries are heard from WARNING up only, at any level: below that they log addresses, headers and values.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer() if form is LogFormat.JSON else _one_line,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers[:] = [_Bridge()]
    root.setLevel(max(number, logging.WARNING))
    logging.getLogger("py.warnings").setLevel(logging.WARNING if level is LogLevel.DEBUG else logging.CRITICAL)


class _Bridge(logging.Handler):
    """Hands other libraries' log records to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(record.levelno, record.getMessage(), library=record.name)


def _one_line(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    time, level, said = event.pop("timestamp"), event.pop("level"), event.pop("event")
    return printable(f"{time} {level:<7} {said}{_pairs(event)}")


def _pairs(event: Mapping[str, Any]) -> str:
    return "".join(f" {name}={value}" for name, value in event.items())
