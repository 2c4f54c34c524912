"""The daemon from its start to its end: signals, files, drain. What is scheduled, `scheduler` knows."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
from anyio import to_thread

from reverse_etl import pace
from reverse_etl.clock import SYSTEM
from reverse_etl.daemon import days
from reverse_etl.daemon.alarms import ApSchedulerAlarms
from reverse_etl.daemon.alerts import Watch
from reverse_etl.daemon.books import Books, Standing
from reverse_etl.daemon.courier import Courier
from reverse_etl.daemon.definitions import Changes, Definitions
from reverse_etl.daemon.front import Front
from reverse_etl.daemon.life import Life
from reverse_etl.daemon.listener import Listener
from reverse_etl.daemon.metrics import Metrics
from reverse_etl.daemon.notebook import TOLD, UNSENT, Notebook
from reverse_etl.daemon.routes import application
from reverse_etl.daemon.scheduler import Scheduler
from reverse_etl.daemon.systemd import READY, STOPPING, WATCHDOG, Notifier
from reverse_etl.daemon.turn import Turn
from reverse_etl.errors import ConfigError, ReverseEtlError
from reverse_etl.model import Problem
from reverse_etl.quota import Forecast
from reverse_etl.redaction import SECRETS

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0  # how soon a changed file is noticed
HANDED_OVER = 10_000  # runs that workers may have at the same time
DRAINED, TERMINATED = 0, 128
ROWS_SECONDS = 60.0  # how often rows that stand refused are looked at
OWN_THREADS, THREADS_A_RUN = 16, 4  # the daemon's own looks must never wait for a warehouse


async def serve(root: Path, env: Mapping[str, str]) -> int:
    """Runs the project's syncs until SIGTERM or SIGINT; the exit code says whether everything could be finished.

    Raises ConfigError when reverse_etl.yml can't be used, SyncBusy when another daemon has the project.
    """
    notebook = Notebook(root)
    notebook.open()
    with notebook.alone() as lock, anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        service = Service(root, env, notebook, lock)
        return await service.run(signals)


class Service:
    """The parts, put together."""

    def __init__(self, root: Path, env: Mapping[str, str], notebook: Notebook, lock: Path) -> None:
        self.life = Life(SYSTEM)
        self.definitions = Definitions(root, env)
        self.scheduler = Scheduler(SYSTEM)
        self.turn = Turn(SYSTEM, self.definitions, notebook, self.scheduler, self.life)
        self.pool = self.turn.pool
        self.metrics = Metrics(
            self.scheduler.agenda, self.pool, lambda: self.definitions.broken, lambda: self.turn.schedules
        )
        self.courier = Courier(
            lambda: self.definitions.settings.alerts,
            lambda page: self.turn.pages.write(UNSENT, page),
            SECRETS.clean,
            SYSTEM,
        )
        self.alerts = Watch(SYSTEM, self.courier.take, lambda page: self.turn.pages.write(TOLD, page))
        self.turn.listen(self.metrics, self.alerts, self.courier)
        self._alarms = ApSchedulerAlarms(self.scheduler.ring)
        self._notifier = Notifier(env)
        self._lock = lock
        self._look = anyio.Event()

    async def run(self, signals: AsyncIterator[signal.Signals]) -> int:
        """From the first look at the files to the exit code."""
        await to_thread.run_sync(self.definitions.begin)
        listener = Listener(self.definitions.settings)
        async with self._workers():
            self.scheduler.attach(self._alarms, self.pool)
            self._alarms.start()
            self._make_room()
            if await self.turn.seat.tried():
                await self.turn.begin()
            self._lock.write_text(f"process {os.getpid()}\n{listener.url}\n")
            return await self._serve(listener, signals)

    async def _serve(self, listener: Listener, signals: AsyncIterator[signal.Signals]) -> int:
        async with anyio.create_task_group() as tasks:
            self.pool.open(tasks)
            self.life.sign()
            tasks.start_soon(listener.serve, application(self._front(), self.definitions.settings))
            tasks.start_soon(self.turn.run)
            tasks.start_soon(self.courier.run)
            tasks.start_soon(self._watch)
            tasks.start_soon(self._watch_runs)
            tasks.start_soon(self._watch_rows)
            self._tell_started(listener.url)
            number = await self._first_end(signals)
            tasks.start_soon(_end_at_once, signals)
            code = await self._end(number)
            await listener.stop()
            tasks.cancel_scope.cancel()
        return code

    @asynccontextmanager
    async def _workers(self) -> AsyncIterator[None]:
        """With `workers: queue`, other processes carry runs out for as long as this lasts."""
        if self.definitions.settings.workers == "here":
            yield
            return
        try:
            from reverse_etl.daemon.queue import Office, Queue, url_of  # noqa: PLC0415  # an optional extra
        except ModuleNotFoundError as missing:
            message = f"`queue` needs {missing.name}: pip install 'reverse-etl[workers]'"
            raise ConfigError([Problem("reverse_etl.yml", 0, 0, "daemon.workers", message)]) from missing
        async with Queue(url_of(self.definitions)).open() as queue:
            self.scheduler.away = self.turn.away = Office(queue, self.turn.seat.right_now)
            yield

    def _make_room(self) -> None:
        """Places for runs, and threads for them: a run reads, compares and records in threads of its own."""
        places = self.definitions.settings.runs
        to_thread.current_default_thread_limiter().total_tokens = OWN_THREADS + THREADS_A_RUN * places
        self.pool.resize(places if self.scheduler.away is None else HANDED_OVER)

    def _front(self) -> Front:
        return Front(
            self.life,
            self.scheduler,
            self.pool,
            self.definitions,
            lambda: self.turn.pages,
            self.turn.used,
            self.metrics.text,
            SYSTEM,
            lambda: self.turn.schedules,
            lambda: self.turn.seat.other,
        )

    def _tell_started(self, url: str) -> None:
        syncs = [each.sync for each in self.definitions.current.values()]
        scheduled = sum(sync.enabled and sync.schedule is not None for sync in syncs)
        by = f"{self.pool.places} at a time" if self.scheduler.away is None else "carried out by workers"
        message = "the daemon has started at %s: %d syncs, %d of them with a schedule, %s"
        log.info(message, url, len(syncs), scheduled, by, extra={"url": url})
        self._notifier.tell(READY, f"STATUS={scheduled} syncs scheduled")

    async def _watch(self) -> None:
        """Every few seconds: changed files, the clock, a sign of life."""
        while True:
            with anyio.move_on_after(LOOK_SECONDS):
                await self._look.wait()
            self._look = anyio.Event()
            try:
                changes = await to_thread.run_sync(self.definitions.read)
                if changes is not None:
                    await self._take(changes)
            except (OSError, ReverseEtlError) as failure:
                log.error("the project's files could not be looked at, and are again soon: %s", failure)
            self.turn.look()
            self.scheduler.look()
            self.alerts.look(self.scheduler.agenda)
            self._alarms.look()
            self.life.sign()
            self._notifier.tell(WATCHDOG)

    async def _watch_runs(self) -> None:
        """Every few seconds: runs of others that have ended."""
        while True:
            await anyio.sleep(LOOK_SECONDS)
            await self.turn.look_elsewhere()

    async def _watch_rows(self) -> None:
        """Every minute: rows that stand refused, and the calls of the day."""
        while True:
            await anyio.sleep(ROWS_SECONDS)
            if not self.life.ready:
                continue
            try:
                standing, forecasts = await to_thread.run_sync(self._look_at_rows)
            except ReverseEtlError as failure:
                log.error("the state could not be looked at, and is again soon: %s", failure.message)
            else:
                self.alerts.look_at_days(forecasts)
                self.alerts.look_at_rows(self.scheduler.agenda, standing)

    def _look_at_rows(self) -> tuple[dict[str, Standing], list[Forecast]]:
        """Refused rows, and how long the calls of the day will last: what workers know of that stands in the state."""
        elsewhere = [] if self.scheduler.away is None else days.left(self.definitions.project, SYSTEM.now())
        return Books(self.definitions.current).standing(), days.soonest([*pace.forecasts(), *elsewhere])

    async def _take(self, changes: Changes) -> None:
        if self.life.ready:
            await self.turn.take(changes)
        if changes.settings:
            self._make_room()
            log.info("reverse_etl.yml: `runs` and `alerts` are in force; the daemon's other settings need a restart")

    async def _first_end(self, signals: AsyncIterator[signal.Signals]) -> int:
        async for number in signals:
            if number != signal.SIGHUP:
                return number
            log.info("SIGHUP: the files are looked at now")
            self._look.set()
        raise AssertionError("signals never end")

    async def _end(self, number: int) -> int:
        """Let runs finish; those that can't in time stop where the next ones go on."""
        # What workers do goes on without the daemon.
        seconds = self.definitions.settings.drain if self.scheduler.away is None else 0.0
        self._alarms.stop()
        await self.turn.leave()
        waiting, running = sorted(self.pool.waiting), sorted(self.pool.running)
        name = signal.Signals(number).name
        busy = f"{', '.join(running)} may go on for {seconds:g} s" if running else "no run is under way"
        later = f"; {', '.join(waiting)} will run after the next start" if waiting else ""
        log.info("%s: the daemon ends; %s%s", name, busy, later)
        self._notifier.tell(STOPPING, f"STATUS={len(running)} runs are finishing")
        cut = await self.pool.drain(seconds)
        if not cut:
            log.info("the daemon has ended, and every run with it")
            return DRAINED
        log.warning("the daemon has ended; %s cut short, and will be gone on with", _were(cut))
        if self.pool.running:  # a warehouse that can't be interrupted: the process would wait for its thread
            logging.shutdown()
            os._exit(TERMINATED + number)
        return TERMINATED + number


async def _end_at_once(signals: AsyncIterator[signal.Signals]) -> None:
    """A second signal: what is in flight may arrive or not, which the next run finds out."""
    async for number in signals:
        if number != signal.SIGHUP:
            log.warning("%s again: the daemon ends at once", signal.Signals(number).name)
            logging.shutdown()
            os._exit(TERMINATED + number)


def _were(names: list[str]) -> str:
    return f"{', '.join(sorted(names))} {'was' if len(names) == 1 else 'were'}"
