"""A day of a daemon in a few minutes: the real scheduler by a clock that is moved, to see whether anything grows."""

from __future__ import annotations

import heapq
import logging
import os
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

import anyio
from anyio import to_thread

from benchmarks import daemon
from reverse_etl.daemon.alerts import Alert, Watch
from reverse_etl.daemon.definitions import Changes, Definitions
from reverse_etl.daemon.metrics import Metrics
from reverse_etl.daemon.notebook import TOLD, Notebook
from reverse_etl.daemon.scheduler import Scheduler
from reverse_etl.daemon.workforce import Order, Pool
from reverse_etl.report import RunReport, RunStatus
from reverse_etl.stop import Stop
from reverse_etl.testing import FakeClock

HOURS = 24
REAL_EVERY = 150  # of the runs one is carried out; the others end at once
FAILS_EVERY = 997  # so that alerts come and go


class Alarms:
    """What is due next, for whoever moves the clock."""

    def __init__(self) -> None:
        self.due: dict[str, datetime] = {}
        self._order: list[tuple[datetime, str]] = []

    def set(self, name: str, moment: datetime) -> None:
        self.due[name] = moment
        heapq.heappush(self._order, (moment, name))

    def clear(self, name: str) -> None:
        self.due.pop(name, None)

    def next(self) -> tuple[datetime, str]:
        while True:
            moment, name = heapq.heappop(self._order)
            if self.due.get(name) == moment:
                return moment, name


class Day:
    """A daemon without its process, and what it has done."""

    def __init__(self, root: Path, places: int) -> None:
        self.clock = FakeClock()
        self.definitions = Definitions(root, {})
        self.scheduler = Scheduler(self.clock)
        self.alarms = Alarms()
        self.alerts: list[Alert] = []
        self.pool = Pool(places, self._carry_out, self, self.scheduler.priorities)
        self.metrics = Metrics(self.scheduler.agenda, self.pool, lambda: self.definitions.broken)
        self.runs = self.real = 0
        self._notebook = Notebook(root)
        self._notebook.open()
        watch = Watch(self.clock, self._told, lambda page: self._notebook.write(TOLD, page))
        self.scheduler.watchers += [self.metrics, watch]
        self.scheduler.attach(self.alarms, self.pool)
        self.told = 0
        self._ended = anyio.Event()

    async def passes(self) -> list[tuple[float, int, int]]:
        """Megabytes, threads and open files after every hour."""
        self.definitions.read()
        current = self.definitions.current
        self.scheduler.take(current, Changes(defined=list(current)), {})
        sizes: list[tuple[float, int, int]] = []
        begun = self.clock.now()
        async with anyio.create_task_group() as tasks:
            self.pool.open(tasks)
            while len(sizes) < HOURS:
                moment, name = self.alarms.next()
                self.clock.advance(max(timedelta(), moment - self.clock.now()))
                self.scheduler.ring(name)
                while self.pool.running:
                    self._ended = anyio.Event()
                    await self._ended.wait()
                if self.clock.now() - begun >= timedelta(hours=len(sizes) + 1):
                    self.metrics.text()
                    sizes.append(usage())
        return sizes

    def run_begins(self, order: Order) -> None:
        self.scheduler.run_begins(order)

    def run_ended(self, order: Order, report: RunReport) -> None:
        self.scheduler.run_ended(order, report)
        self._ended.set()

    def _told(self, alert: Alert) -> None:
        self.told += 1

    async def _carry_out(self, order: Order, stop: Stop) -> RunReport:
        self.runs += 1
        if self.runs % REAL_EVERY == 0:
            self.real += 1
            return await self.scheduler.carry_out(order, stop)
        status = RunStatus.FAILED if self.runs % FAILS_EVERY == 0 else RunStatus.SUCCEEDED
        now = self.clock.now()
        return RunReport(order.sync, f"run-{self.runs}", now, status, finished_at=now)


def usage() -> tuple[float, int, int]:
    return daemon.megabytes(os.getpid()), threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))


def day(folder: Path, syncs: int, places: int) -> None:
    logging.disable()  # a day's lines are of no use to anybody
    project = daemon.prepared(folder, syncs, places)
    passed = Day(project, places)

    async def live() -> list[tuple[float, int, int]]:
        to_thread.current_default_thread_limiter().total_tokens = 16 + 4 * places
        return await passed.passes()

    began = time.monotonic()
    sizes = anyio.run(live)
    first, last = sizes[1], sizes[-1]
    print(
        f"a day of {syncs} syncs every minute in {time.monotonic() - began:.0f} s: {passed.runs:,} runs, "
        f"{passed.real:,} of them carried out, {passed.told} alerts\n"
        f"  memory {first[0]:.0f} MB after two hours, {last[0]:.0f} MB at the end; "
        f"threads {first[1]} and {last[1]}, open files {first[2]} and {last[2]}",
        flush=True,
    )
