"""A day that passes as fast as it is asked to: a fake clock, alarms that ring by it, runs that last as long as told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from reverse_etl.config.schedule import After, Schedule, parse_duration, parse_schedule
from reverse_etl.config.sync import SyncConfig
from reverse_etl.config.timing import Timing, parse_quiet_hours
from reverse_etl.daemon.agenda import Agenda, Decision
from reverse_etl.daemon.rhythm import Past
from reverse_etl.report import RunReport, RunStatus
from reverse_etl.testing import FakeClock
from tests.house import sync as plain

START = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)  # a Monday


def at(text: str) -> datetime:
    """A time in UTC: `2026-06-01 12:00`, or of the first day: `12:00`."""
    whole = text if " " in text else f"{START:%Y-%m-%d} {text}"
    return datetime.fromisoformat(whole).replace(tzinfo=UTC)


def sync(
    name: str = "people",
    schedule: str | Schedule | None = "every 15 minutes",
    *,
    after: Iterable[str] = (),
    zone: str = "UTC",
    quiet: str | list[str] = "",
    jitter: str = "",
    after_failure: Any = "skip",
    priority: Any = "normal",
    **more: Any,
) -> SyncConfig:
    """A definition of which only the times matter."""
    if after:
        schedule = After(tuple(after))
    elif isinstance(schedule, str):
        schedule = parse_schedule(schedule)
    timing = Timing(
        jitter=parse_duration(jitter) if jitter else timedelta(),
        quiet_hours=parse_quiet_hours(quiet) if quiet else (),
        priority=priority,
        after_failure=after_failure,
    )
    return plain(name=name, schedule=schedule, timezone=zone, timing=timing, **more)


def report(name: str, status: RunStatus = RunStatus.SUCCEEDED, started: datetime = START) -> RunReport:
    return RunReport(name, f"run-of-{name}", started, status, finished_at=started)


@dataclass
class Day:
    """Lets time pass over an agenda. `lasting` is how long a sync's runs take, `ending` how they end."""

    clock: FakeClock = field(default_factory=lambda: FakeClock(START))
    lasting: dict[str, timedelta] = field(default_factory=dict)
    ending: dict[str, RunStatus] = field(default_factory=dict)
    begun: list[tuple[str, datetime]] = field(default_factory=list)
    skipped: list[tuple[str, datetime]] = field(default_factory=list)
    _ends: dict[str, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.agenda = Agenda(self.clock)

    def define(self, *syncs: SyncConfig, past: Past | None = None) -> None:
        for each in syncs:
            self.agenda.define(each, past or Past())

    def until(self, moment: datetime | str) -> None:
        """Every alarm up to `moment` rings, and every run that ends by then ends."""
        end = at(moment) if isinstance(moment, str) else moment
        while (following := self._next()) is not None and following[0] <= end:
            due, name, what = following
            self.clock.advance(max(timedelta(), due - self.clock.now()))
            if what == "end":
                self._end(name)
            else:
                self._ring(name)
        self.clock.advance(max(timedelta(), end - self.clock.now()))

    def starts(self, name: str = "people") -> list[str]:
        return [f"{moment:%m-%d %H:%M:%S}" for sync, moment in self.begun if sync == name]

    def times(self, name: str = "people") -> list[str]:
        """The hours and minutes of a sync's starts."""
        return [f"{moment:%H:%M}" for sync, moment in self.begun if sync == name]

    def _next(self) -> tuple[datetime, str, str] | None:
        ends = [(moment, name, "end") for name, moment in self._ends.items()]
        rings = [(entry.due, entry.sync.name, "ring") for entry in self.agenda if entry.due is not None]
        return min([*ends, *rings], default=None)

    def _ring(self, name: str) -> None:
        now = self.clock.now()
        decision = self.agenda.ring(name)
        if decision is Decision.SKIP:
            self.skipped.append((name, now))
        elif decision is Decision.START:
            self.begin(name)

    def begin(self, name: str) -> None:
        self.begun.append((name, self.clock.now()))
        self.agenda.begin(name)
        self._ends[name] = self.clock.now() + self.lasting.get(name, timedelta(seconds=1))

    def _end(self, name: str) -> None:
        del self._ends[name]
        status = self.ending.get(name, RunStatus.SUCCEEDED)
        self.agenda.end(name, report(name, status, self.agenda[name].past.started_at or START))
