"""Waking up at the right time: APScheduler's work, and all that is asked of it. What is due when, `agenda` knows."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.date import DateTrigger

Ring = Callable[[str], None]


class Alarms(Protocol):
    """One alarm a sync. It rings once; a moment that has passed rings at once."""

    def set(self, name: str, moment: datetime) -> None: ...
    def clear(self, name: str) -> None: ...


class ApSchedulerAlarms:
    """APScheduler with one dated job a sync: its own triggers number weekdays from Monday and skip times of DST nights.

    Belongs to the event loop in which it is started.
    """

    def __init__(self, ring: Ring) -> None:
        # It says every job it adds and runs; ours are said by what comes of them.
        logging.getLogger("apscheduler").setLevel(logging.WARNING)
        self._ring = ring
        self._scheduler = AsyncIOScheduler(timezone=UTC)

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        self._scheduler.shutdown(wait=False)

    def look(self) -> None:
        """Look at the clock again: it may have been set, or the machine may have slept."""
        if self._scheduler.running:  # it isn't, while the last runs come to their end
            self._scheduler.wakeup()

    def set(self, name: str, moment: datetime) -> None:
        self._scheduler.add_job(
            self._rings,
            DateTrigger(moment),
            args=(name,),
            id=name,
            replace_existing=True,
            misfire_grace_time=None,  # late is better than never
            max_instances=1000,  # a ring takes no time; none may be lost because the one before is still counted
        )

    def clear(self, name: str) -> None:
        try:
            self._scheduler.remove_job(name)
        except JobLookupError:
            return  # it has rung

    async def _rings(self, name: str) -> None:
        self._ring(name)
