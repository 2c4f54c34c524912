"""When a sync is due: a function of its schedule, of what is known of its runs, and of the time.

Nothing here has a clock or waits; `agenda` keeps what is asked of it, and `alarms` wakes the program up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from reverse_etl.config.schedule import After, Cron, Every
from reverse_etl.config.sync import SyncConfig
from reverse_etl.report import RunReport, RunStatus

GOOD = frozenset({RunStatus.SUCCEEDED, RunStatus.PARTIAL})
MOST_COUNTED = 1000  # of a long pause's missed times: nobody needs to know that there were more
# A cron time that has had its run doesn't get another when the clock is set back by no more than this. Further back,
# the clock was wrong before, and waiting for that time to come again could take years.
SET_BACK_BY_HAND = timedelta(hours=3)


@dataclass(frozen=True)
class Past:
    """What is known of a sync's runs. `owed`: the last one was cut short, so its work is still to be done."""

    started_at: datetime | None = None
    ended_at: datetime | None = None
    good: bool = True  # the last one that ended has delivered what it could
    owed: bool = False

    @classmethod
    def of(cls, report: RunReport | None, *, alive: bool = False) -> Past:
        """As the last run on record tells. One that never ended was killed, unless it is `alive` elsewhere."""
        if report is None:
            return cls()
        ended = None if report.status is RunStatus.RUNNING else report.finished_at
        return cls(
            started_at=report.started_at,
            ended_at=ended,
            good=report.status in GOOD,
            owed=report.status is RunStatus.INTERRUPTED or (report.status is RunStatus.RUNNING and not alive),
        )


def next_time(sync: SyncConfig, anchor: datetime | None, since: datetime) -> datetime | None:
    """The first time of the sync's own schedule after `anchor`, the time that its last run stands for.

    Without one an interval is due at once, and a cron line at its first time after `since`. None when the schedule
    names no times. The time may have passed: one run makes up for all that were missed.
    """
    schedule = sync.schedule
    if isinstance(schedule, Every) and anchor is None:
        return since
    if isinstance(schedule, Every | Cron):
        return schedule.next_after(anchor or since, sync.timezone)
    return None


def due_after(sync: SyncConfig, past: Past, parents: Mapping[str, Past]) -> datetime | None:
    """When a sync that waits for others became due: all of them have ended since its last start. None: not yet."""
    if not isinstance(sync.schedule, After):
        return None
    ends: list[datetime] = []
    for name in sync.schedule.syncs:
        parent = parents.get(name, Past())
        if parent.ended_at is None or (past.started_at is not None and parent.ended_at <= past.started_at):
            return None
        if not parent.good and sync.timing.after_failure == "skip":
            return None
        ends.append(parent.ended_at)
    return max(ends)


def held_by(sync: SyncConfig, past: Past, parents: Mapping[str, Past]) -> list[str]:
    """The parents whose failure keeps a sync from running."""
    if not isinstance(sync.schedule, After) or sync.timing.after_failure == "run":
        return []
    known = {name: parents.get(name, Past()) for name in sync.schedule.syncs}
    return [
        name
        for name, parent in known.items()
        if parent.ended_at is not None
        and not parent.good
        and (past.started_at is None or parent.ended_at > past.started_at)
    ]


def awake(sync: SyncConfig, due: datetime, now: datetime) -> datetime:
    """`due`, or the end of the quiet hours that it, or already now, lies in."""
    moment = max(due, now)
    later = sync.timing.awake(moment, sync.timezone)
    return due if later == moment else later.astimezone(UTC)


def anchored(sync: SyncConfig, anchor: datetime | None, now: datetime) -> datetime | None:
    """The anchor, unless the clock has been set back behind it so that waiting for it again would be wrong."""
    if anchor is None or anchor <= now:
        return anchor
    if isinstance(sync.schedule, Cron) and anchor - now <= SET_BACK_BY_HAND:
        return anchor
    return now


def missed(sync: SyncConfig, anchor: datetime | None, now: datetime) -> int:
    """How many times of the schedule lie in (anchor, now] beside the one that a run is now started for."""
    schedule = sync.schedule
    if anchor is None or anchor >= now:
        return 0
    if isinstance(schedule, Every):
        return min(MOST_COUNTED, max(0, (now - anchor) // schedule.interval - 1))
    found = 0
    while isinstance(schedule, Cron) and found <= MOST_COUNTED:
        anchor = schedule.next_after(anchor, sync.timezone)
        if anchor > now:
            break
        found += 1
    return max(0, found - 1)
