"""The options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from typer import Argument, Option


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


Project = Annotated[
    str | None,
    Option(
        "--project",
        metavar="DIR",
        envvar="REVERSE_ETL_PROJECT",
        help="The project's folder; by default the nearest one upwards that holds reverse_etl.yml.",
    ),
]
Json = Annotated[bool, Option("--json", help="Print exactly one JSON document.")]
Level = Annotated[
    LogLevel,
    Option("--log-level", envvar="REVERSE_ETL_LOG_LEVEL", case_sensitive=False, help="What the log on stderr holds."),
]
Format = Annotated[
    LogFormat,
    Option("--log-format", envvar="REVERSE_ETL_LOG_FORMAT", case_sensitive=False, help="How the log is written."),
]
Sync = Annotated[str, Argument(metavar="SYNC", help="A sync's name: its file's name without the ending.")]
Syncs = Annotated[list[str] | None, Argument(metavar="SYNC", help="Syncs by name; by default every enabled one.")]
KEY_HELP = "The row's key as the tool prints it; a JSON list for several columns."
Key = Annotated[str, Argument(metavar="KEY", help=KEY_HELP)]

INFO = LogLevel.INFO
WARNING = LogLevel.WARNING
TEXT = LogFormat.TEXT
