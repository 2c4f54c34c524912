"""What is said while runs go on. On a terminal there is a bar as well: `terminal.Bars`."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import TYPE_CHECKING, Self

from reverse_etl.cli import render
from reverse_etl.cli.screen import Screen

if TYPE_CHECKING:
    from reverse_etl.report import RunReport

log = logging.getLogger(__name__)


class Reports:
    """An observer that prints each run's report when the run has ended; enter it around the runs."""

    def __init__(self, screen: Screen, commands: render.Commands) -> None:
        self._screen = screen
        self._commands = commands

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def stage(self, sync: str, stage: str) -> None:
        log.debug("stage", extra={"sync": sync, "stage": stage})

    def planned(self, report: RunReport) -> None:
        return None

    def progress(self, sync: str, done: int, total: int, requests: int) -> None:
        return None

    def finished(self, report: RunReport) -> None:
        facts = {"sync": report.sync, "run_id": report.run_id, "status": report.status.value, "read": report.rows.read}
        log.info("run ended", extra={**facts, "requests": report.requests, "rejected": report.rejected})
        self._screen.show(*render.run(report, self._commands))
