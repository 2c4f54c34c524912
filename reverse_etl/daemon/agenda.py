"""Every sync's place in the day: what is due when, what waits, what runs, and what was left out.

The agenda decides and remembers; it starts nothing. Its times come from a clock that a test can set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from reverse_etl.clock import Clock
from reverse_etl.config.schedule import After, Cron, Every
from reverse_etl.config.sync import SyncConfig
from reverse_etl.daemon import rhythm
from reverse_etl.daemon.rhythm import Past
from reverse_etl.report import RunReport, RunStatus

PUNCTUAL = timedelta(seconds=1)  # a start within it counts as on time: intervals keep their grid
BUSY_ELSEWHERE = timedelta(minutes=1)


class Phase(StrEnum):
    IDLE = "idle"
    WAITING = "waiting"
    RUNNING = "running"


class Decision(StrEnum):
    """What came of a time that was due, or of somebody's wish."""

    START = "start"
    SKIP = "skip"  # its last run is still waiting or under way
    EARLY = "early"  # not yet: the clock was set back, or the definition has changed


@dataclass
class Skips:
    """Times that came while a run was waiting or under way."""

    number: int = 0
    first: datetime | None = None
    last: datetime | None = None

    def add(self, due: datetime) -> None:
        self.number += 1
        self.first, self.last = self.first or due, due

    def told(self) -> str:
        times = f"{self.first:%Y-%m-%d %H:%M:%S} UTC" if self.first is not None else ""
        if self.number == 1:
            return f"one run was left out: it was due at {times}, while this one was under way"
        return f"{self.number} runs were left out: they were due from {times} on, while this one was under way"


@dataclass
class Entry:
    """One sync. `anchor` is the time that its last run stands for; `due` the next time that something happens."""

    sync: SyncConfig
    since: datetime
    past: Past
    anchor: datetime | None
    delay: timedelta = timedelta()  # by chance, for the next time
    due: datetime | None = None
    phase: Phase = Phase.IDLE
    phase_since: datetime | None = None
    overdue_since: datetime | None = None  # a run was due then, and none has ended since
    again: bool = False  # somebody asked for a run while one was under way
    before: Past = field(default_factory=Past)  # what was known when the present run started
    not_before: datetime | None = None  # another process holds the sync: what is owed is tried again from then on
    skips: Skips = field(default_factory=Skips)
    skipped: int = 0  # since the daemon started


class Agenda:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[str, Entry] = {}

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def define(self, sync: SyncConfig, past: Past) -> None:
        """A new sync, or a new version of one. What is waiting or under way stays; `past` counts for a new one only."""
        now = self._clock.now()
        entry = self._entries.get(sync.name)
        if entry is None:
            entry = Entry(sync, now, past, past.started_at)
            self._entries[sync.name] = entry
        elif _schedule(entry.sync) != _schedule(sync):
            entry.since = now
            # Times of a line that was not in force yet are not missed.
            entry.anchor = now if isinstance(sync.schedule, Cron) else entry.past.started_at
        entry.sync = sync
        self._draw(entry)
        self._reckon(entry)

    def drop(self, name: str) -> None:
        self._entries.pop(name, None)

    def ring(self, name: str) -> Decision:
        """The time that an entry was due has come. START: it waits for its run from now on."""
        entry, now = self._entries[name], self._clock.now()
        if entry.due is None or now < entry.due:
            return Decision.EARLY
        due = entry.due
        entry.overdue_since = entry.overdue_since or now
        entry.anchor = due - entry.delay if now - due <= PUNCTUAL else now
        if entry.phase is not Phase.IDLE:
            entry.skips.add(due)
            entry.skipped += 1
            decision = Decision.SKIP
        else:
            self._wait(entry)
            decision = Decision.START
        self._draw(entry)
        self._reckon(entry)
        return decision

    def ask(self, name: str) -> Decision:
        """Somebody wants a run now, whatever the schedule says. SKIP: one that waits will do, or one follows."""
        entry = self._entries[name]
        if entry.phase is Phase.IDLE:
            self._wait(entry)
            if isinstance(entry.sync.schedule, Every):
                entry.anchor = self._clock.now()
            self._reckon(entry)
            return Decision.START
        entry.again = entry.phase is Phase.RUNNING
        return Decision.SKIP

    def adopt(self, name: str, due: datetime) -> None:
        """An order for `due` that another daemon has given stands for the times up to then."""
        entry = self._entries[name]
        entry.anchor = due if entry.anchor is None else max(entry.anchor, due)
        self._wait(entry)
        self._reckon(entry)

    def begin(self, name: str, since: datetime | None = None) -> None:
        """The run starts now. An interval counts from here when it had to wait for a free place.

        `since`: it is one that was ordered then, by another daemon.
        """
        entry, now = self._entries[name], self._clock.now()
        waited = entry.phase_since is not None and now - entry.phase_since > PUNCTUAL
        if waited and isinstance(entry.sync.schedule, Every):
            entry.anchor = now
        entry.phase, entry.phase_since = Phase.RUNNING, now
        entry.before, entry.not_before = entry.past, None
        entry.past = Past(since or now, entry.past.ended_at, entry.past.good)
        self._reckon(entry)

    def end(self, name: str, report: RunReport) -> list[str]:
        """The run has ended. Returns the syncs whose time may have changed by that, itself included."""
        entry, now = self._entries[name], self._clock.now()
        entry.phase, entry.phase_since = Phase.IDLE, None
        entry.skips = Skips()
        if report.status is RunStatus.SKIPPED:
            entry.past, entry.not_before = entry.before, now + BUSY_ELSEWHERE
        else:
            interrupted = report.status is RunStatus.INTERRUPTED
            entry.past = Past(entry.past.started_at, now, report.status in rhythm.GOOD, owed=interrupted)
            entry.overdue_since = None
        return self._affected(entry)

    def learn(self, name: str, report: RunReport) -> list[str]:
        """Somebody else's run has ended. It counts like one of our own; returns what `end` does."""
        entry = self._entries[name]
        if entry.past.started_at is not None and report.started_at < entry.past.started_at:
            return []
        entry.past, entry.not_before, entry.overdue_since = Past.of(report), None, None
        if isinstance(entry.sync.schedule, Every):
            entry.anchor = max(entry.anchor or report.started_at, report.started_at)
        return self._affected(entry)

    def abandon(self, name: str) -> None:
        """Somebody else's run will never end: its process is gone, and its work is still to be done."""
        entry = self._entries[name]
        entry.past, entry.not_before = replace(entry.past, owed=True), None
        self._reckon(entry)

    def set_back(self, by: timedelta) -> None:
        """The machine's clock was set back: intervals go on by the time that has really passed."""
        now = self._clock.now()
        for entry in self:
            if isinstance(entry.sync.schedule, Every) and entry.anchor is not None:
                entry.anchor -= by
            entry.anchor = rhythm.anchored(entry.sync, entry.anchor, now)
            self._reckon(entry)

    def reckon(self, name: str) -> None:
        """Another sync has changed that this one waits for."""
        self._reckon(self._entries[name])

    def held_by(self, name: str) -> list[str]:
        """The parents whose failure keeps this sync from running."""
        entry = self._entries[name]
        return rhythm.held_by(entry.sync, entry.past, self._parents(entry.sync))

    def missed(self, name: str) -> int:
        """How many times have passed that the run which is due now makes up for, beside its own."""
        entry = self._entries[name]
        return rhythm.missed(entry.sync, entry.anchor, self._clock.now())

    def _affected(self, entry: Entry) -> list[str]:
        """The syncs whose time may have changed by the end of a run of this one."""
        affected = [entry, *self._children(entry.sync.name)]
        for each in affected:
            self._reckon(each)
        return [each.sync.name for each in affected]

    def _wait(self, entry: Entry) -> None:
        entry.phase, entry.phase_since = Phase.WAITING, self._clock.now()

    def _draw(self, entry: Entry) -> None:
        entry.delay = timedelta(seconds=self._clock.jitter(entry.sync.timing.jitter.total_seconds()))

    def _reckon(self, entry: Entry) -> None:
        sync, now = entry.sync, self._clock.now()
        entry.due = None
        if not sync.enabled or sync.schedule is None:
            return
        if entry.past.owed and entry.phase is Phase.IDLE:
            due: datetime | None = max(now, entry.not_before or now)
        elif isinstance(sync.schedule, After):
            due = rhythm.due_after(sync, entry.past, self._parents(sync)) if entry.phase is Phase.IDLE else None
            due = None if due is None else max(due + entry.delay, entry.not_before or due)
        else:
            due = rhythm.next_time(sync, rhythm.anchored(sync, entry.anchor, now), entry.since)
            due = None if due is None else due + entry.delay
        entry.due = None if due is None else rhythm.awake(sync, due, now)

    def _parents(self, sync: SyncConfig) -> dict[str, Past]:
        names = sync.schedule.syncs if isinstance(sync.schedule, After) else ()
        return {name: self._entries[name].past for name in names if name in self._entries}

    def _children(self, name: str) -> Iterable[Entry]:
        for entry in self:
            if isinstance(entry.sync.schedule, After) and name in entry.sync.schedule.syncs:
                yield entry


def _schedule(sync: SyncConfig) -> tuple[object, ...]:
    return sync.schedule, sync.timezone, sync.enabled
