"""One command under way: where it writes, as what, and the project it works on."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from reverse_etl.cli import render
from reverse_etl.cli.details import write_details
from reverse_etl.cli.options import LogFormat, LogLevel
from reverse_etl.cli.progress import Reports
from reverse_etl.cli.render import Commands
from reverse_etl.cli.screen import Block, PlainScreen, Screen

if TYPE_CHECKING:
    from reverse_etl.project import Project
    from reverse_etl.report import SyncResult


class Session:
    """What every command has in common: `--project`, `--json`, the screen, the log."""

    def __init__(
        self,
        project: str | None = None,
        *,
        json: bool = False,
        log_level: LogLevel = LogLevel.WARNING,
        log_format: LogFormat = LogFormat.TEXT,
    ) -> None:
        from reverse_etl.cli.log import configure

        self.where = project
        configure(log_level, log_format, lambda details: write_details(details, self.where))
        self.json = json
        self.commands = Commands(project if project != os.environ.get("REVERSE_ETL_PROJECT") else None)
        self.screen: Screen = open_screen()

    def load(self, only: Sequence[str] | None = None, *, every_connection: bool = False) -> Project:
        """The project, or with `only` as much of it as these syncs need: none of them, with []. Raises ConfigError."""
        from reverse_etl.project import Project

        os.umask(0o077)  # DuckDB and SQLite make files of their own beside ours
        project = Project.load(self.where, only=only, every_connection=every_connection)
        self.where = str(project.root)
        return project

    def show(self, document: Mapping[str, object], blocks: Callable[[], Iterable[Block]]) -> None:
        """The answer of a command: one JSON document with --json, else text."""
        if self.json:
            print_json(document)
        else:
            self.screen.show(*blocks())

    def run(self, start: Callable[[Reports], SyncResult]) -> int:
        """Starts runs, shows them as they go, and returns the gravest exit code."""
        from reverse_etl.localdb import share_heap

        share_heap()
        with self.observer() as observer:
            result = start(observer)
        self.show(result.to_json(), lambda: render.total(result.runs))
        return result.exit_code

    def observer(self) -> Reports:
        """Shows runs as they go; silent with --json."""
        if self.json:
            return Reports(_Silence(), self.commands)
        if isinstance(self.screen, PlainScreen):
            return Reports(self.screen, self.commands)
        from reverse_etl.cli.terminal import Bars, RichScreen

        return Bars(cast(RichScreen, self.screen), self.commands)


class _Silence:
    def show(self, *blocks: Block) -> None:
        return None


def open_screen() -> Screen:
    """Standard output: a terminal if it is one, else plain lines."""
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return PlainScreen(sys.stdout)
    from reverse_etl.cli.terminal import RichScreen

    return RichScreen(sys.stdout)


def print_line(text: str) -> None:
    """One plain line on stdout."""
    sys.stdout.write(f"{text}\n")


def print_json(document: object) -> None:
    """One document, readable in any encoding and harmless in any terminal: all but plain ASCII is escaped."""
    sys.stdout.write(json.dumps(_finite(document), indent=2, default=str, allow_nan=False) + "\n")
    sys.stdout.flush()


def _finite(document: object) -> object:
    """JSON has no NaN and no infinity: a row that was refused for one shows it as text."""
    if isinstance(document, float) and not math.isfinite(document):
        return str(document)
    if isinstance(document, Mapping):
        return {str(name): _finite(value) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [_finite(value) for value in document]
    return document
