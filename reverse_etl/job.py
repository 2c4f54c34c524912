"""What a run is given: one sync, everything that it may touch, and who watches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from reverse_etl.clock import SYSTEM, Clock
from reverse_etl.config.sync import SyncConfig
from reverse_etl.ledgers import Ledger
from reverse_etl.protocols import Destination, Source
from reverse_etl.report import RunReport
from reverse_etl.stop import Stop
from reverse_etl.writeback import WarehouseLog


class Observer(Protocol):
    """Whoever watches a run. Called from the event loop: be quick."""

    def stage(self, sync: str, stage: str) -> None: ...
    def planned(self, report: RunReport) -> None: ...
    def progress(self, sync: str, done: int, total: int, requests: int) -> None: ...
    def finished(self, report: RunReport) -> None: ...


class Unwatched:
    """Nobody watches."""

    def stage(self, sync: str, stage: str) -> None: ...
    def planned(self, report: RunReport) -> None: ...
    def progress(self, sync: str, done: int, total: int, requests: int) -> None: ...
    def finished(self, report: RunReport) -> None: ...


@dataclass(frozen=True)
class Job:
    """One sync, and everything that a run of it may touch."""

    sync: SyncConfig
    run_id: str
    ledger: Ledger
    source: Callable[[], Source]
    destination: Callable[[], Destination]
    observer: Observer = field(default_factory=Unwatched)
    clock: Clock = SYSTEM
    stop: Stop = field(default_factory=Stop)
    dry_run: bool = False
    full: bool = False
    limit: int | None = None
    approve: str | None = None
    live: bool = False  # a dry run that looks at the records, too
    refused_only: bool = False  # only rows that were refused before
    log_to: WarehouseLog | None = None

    @property
    def moves_cursor(self) -> bool:
        return self.limit is None and not self.refused_only
