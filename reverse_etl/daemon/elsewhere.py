"""Runs that the daemon did not start: by a command, a script or another daemon. Their ends count for schedules too."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from reverse_etl.clock import Clock
from reverse_etl.project import Project
from reverse_etl.report import RunReport, RunStatus

if TYPE_CHECKING:
    from reverse_etl.state.scheduling import Lookout

LOOK_BACK = timedelta(minutes=2)  # ids begin with the start by their own machine's clock, which may go behind


@dataclass(frozen=True)
class News:
    """What another look at the record has brought: runs that have ended, and syncs whose run has lost its process.

    `alive` are syncs of which a run is under way somewhere; it is only known with the state in PostgreSQL.
    """

    ended: list[RunReport] = field(default_factory=list)
    abandoned: list[str] = field(default_factory=list)
    alive: frozenset[str] = frozenset()


class Elsewhere:
    """Looks at the record every few seconds. Synchronous, for one worker thread at a time."""

    def __init__(self, clock: Clock, project: Callable[[], Project]) -> None:
        self._clock = clock
        self._project = project
        self._lookout: Lookout | None = None
        self._open: set[str] = set()  # ids of runs without an end
        self._told: set[str] = set()
        self._mine: set[str] = set()

    def begin(self, last: Iterable[RunReport]) -> None:
        """From what is known already: every sync's last run."""
        self._open, self._told = set(), set()
        for report in last:
            (self._open if report.status is RunStatus.RUNNING else self._told).add(report.run_id)

    def mine(self, report: RunReport) -> None:
        """A run of this daemon's own has ended, which is no news."""
        self._mine.add(report.run_id)

    def later(self, report: RunReport) -> None:
        """Tell of this end once more: nothing could be made of it."""
        self._told.discard(report.run_id)
        self._open.add(report.run_id)

    def look(self, busy: Collection[str]) -> News:
        """Runs of `busy` syncs, which this daemon has under way, are left for another look. Raises StateError."""
        since = f"{self._clock.now() - LOOK_BACK:%Y%m%dT%H%M%S}"
        if self._lookout is None:
            self._lookout = self._project().parts.lookout()
        known = self._told | self._mine
        seen = [each for each in self._lookout.look(since, self._open) if each.run_id not in known]
        newest = {each.sync: each.run_id for each in seen}
        news = News(alive=frozenset(each.sync for each in seen if not each.ended and each.held))
        for each in seen:
            if each.sync in busy or not (each.ended or each.held is False):
                self._open.add(each.run_id)
                continue
            self._open.discard(each.run_id)
            self._told.add(each.run_id)
            if each.ended:
                news.ended.append(RunReport.from_json(self._lookout.report(each.run_id)))
            elif newest[each.sync] == each.run_id:
                news.abandoned.append(each.sync)
        self._told = {run_id for run_id in self._told if run_id > since}
        self._mine = {run_id for run_id in self._mine if run_id > since}
        self._open -= self._mine
        return news

    def close(self) -> None:
        if self._lookout is not None:
            self._lookout.close()
            self._lookout = None
