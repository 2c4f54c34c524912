"""A worker: takes runs from the queue and carries them out, until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import signal
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import anyio
from anyio import to_thread
from procrastinate import JobContext
from procrastinate.exceptions import ConnectorException, ProcrastinateException

from reverse_etl import clock, pace
from reverse_etl.blame import blame, bug
from reverse_etl.clock import SYSTEM
from reverse_etl.daemon import days
from reverse_etl.daemon.definitions import Definition, Definitions
from reverse_etl.daemon.life import Life
from reverse_etl.daemon.listener import Listener
from reverse_etl.daemon.metrics import Metrics
from reverse_etl.daemon.post import Bench, Post, settings_for
from reverse_etl.daemon.queue import NAME, TASK, Queue, leave, url_of
from reverse_etl.daemon.routes import watched
from reverse_etl.daemon.scheduler import LEVELS, facts, told
from reverse_etl.daemon.service import OWN_THREADS, THREADS_A_RUN
from reverse_etl.daemon.workforce import CLOSING_SECONDS
from reverse_etl.errors import Interrupted, ReverseEtlError
from reverse_etl.report import RunReport, RunStatus
from reverse_etl.stop import Stop

HEARTBEAT = 5.0
DEAD_AFTER = 15.0  # a worker that has not been heard of for so long
LOOK_FOR_DEAD = 5.0
BUSY_SECONDS, TRY_AGAIN = 75.0, 3.0  # a dead holder's lease ends within the first; a living one's run is left alone
AFTER_OUTAGE = 5.0
TELL_DAYS = 60.0
TERMINATED = 128

log = logging.getLogger(__name__)

_NAME = f"process {os.getpid()} on {platform.node()}"


async def work(root: Path, env: Mapping[str, str], listen: str | None = None) -> int:
    """Carries out runs until SIGTERM or SIGINT; the exit code says whether each could be finished.

    Answers about its health at `listen`, where it is given. Raises ConfigError when reverse_etl.yml or this address
    can't be used, StateError when the database can't be reached.
    """
    logging.getLogger("procrastinate").setLevel(logging.CRITICAL)  # what comes of runs and outages is said here
    definitions = Definitions(root, env)
    await to_thread.run_sync(definitions.begin)
    queue = Queue(url_of(definitions))
    worker = Worker(definitions, queue)
    watcher = None if listen is None else Listener(settings_for(listen, definitions.settings))
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with queue.open():
            return await worker.serve(signals, watcher)


class Worker:
    def __init__(self, definitions: Definitions, queue: Queue) -> None:
        self.life = Life(SYSTEM)
        self._definitions = definitions
        self._queue = queue
        self._runs: list[tuple[str, Stop]] = []
        self._cut: list[str] = []
        bench = Bench(definitions.settings.runs, self._runs)
        self._metrics = Metrics((), bench, lambda: definitions.broken)
        queue.app.task(name=TASK, queue=NAME, pass_context=True)(self._take)

    async def serve(self, signals: AsyncIterator[signal.Signals], watcher: Listener | None) -> int:
        runs = self._definitions.settings.runs
        to_thread.current_default_thread_limiter().total_tokens = OWN_THREADS + THREADS_A_RUN * runs
        async with anyio.create_task_group() as tasks:
            working = asyncio.create_task(self._work(runs))
            tasks.start_soon(self._watch_others)
            tasks.start_soon(self._give_signs)
            tasks.start_soon(self._tell_days)
            if watcher is not None:
                post = Post(self.life, self._definitions, self._metrics.text)
                tasks.start_soon(watcher.serve, watched(post, watcher.settings))
            self._tell_started(runs, watcher)
            number = await anext(signals)
            tasks.start_soon(_end_at_once, signals)
            code = await self._end(number, working)
            if watcher is not None:
                await watcher.stop()
            tasks.cancel_scope.cancel()
        return code

    def _tell_started(self, runs: int, watcher: Listener | None) -> None:
        where = f" at {watcher.url}" if watcher is not None else ""
        extra = {"url": watcher.url} if watcher is not None else {}
        number = len(self._definitions.current)
        log.info("the worker has started%s: %d syncs, %d at a time", where, number, runs, extra=extra)

    async def _give_signs(self) -> None:
        while True:
            self.life.sign()
            await anyio.sleep(LOOK_FOR_DEAD)

    async def _tell_days(self) -> None:
        """What this worker has learned of accounts' days, for the daemon to warn of."""
        told = False
        while True:
            await anyio.sleep(TELL_DAYS)
            forecasts = pace.forecasts()
            if not forecasts and not told:
                continue
            try:
                await to_thread.run_sync(days.leave, self._definitions.project, _NAME, forecasts, SYSTEM.now())
                told = bool(forecasts)
            except ReverseEtlError as failure:
                log.debug("the daemon was not told of the day's calls", exc_info=failure)

    async def _work(self, runs: int) -> None:
        """Goes on after an outage of the database."""
        out = False
        while True:
            try:
                await self._queue.app.check_connection_async()
                if out:
                    log.info("the queue in the database is reached again")
                out, self.life.ready = False, True
                await self._queue.app.run_worker_async(
                    queues=[NAME],
                    concurrency=runs,
                    install_signal_handlers=False,
                    delete_jobs="always",
                    update_heartbeat_interval=HEARTBEAT,
                    stalled_worker_timeout=DEAD_AFTER,
                )
            except ProcrastinateException as failure:
                log.debug("the queue failed", exc_info=failure)
            self.life.ready = False
            if not out:  # once is enough
                log.error("the queue in the database was not reached, and is tried again every few seconds")
            out = True
            await anyio.sleep(AFTER_OUTAGE)

    async def _watch_others(self) -> None:
        """Runs of workers that died are given to those that live."""
        while True:
            await anyio.sleep(LOOK_FOR_DEAD)
            try:
                for job in await self._queue.stalled(DEAD_AFTER):
                    if await self._queue.put_back(job):
                        log.warning("%s: its worker is gone, and another one takes it over", job.lock)
            except ConnectorException as failure:
                log.debug("nobody looked after the others", exc_info=failure)

    async def _take(self, context: JobContext, *, sync: str, reason: str, due: str) -> None:
        await to_thread.run_sync(self._definitions.read)
        definition = self._definitions.current.get(sync)
        if definition is None or context.job.id is None:
            log.error("%s: there is no such sync in this worker's project, or its file is broken", sync)
            return
        log.info("%s: run begins: %s", sync, reason, extra={"sync": sync, "due": due})
        self._metrics.started(SYSTEM.now() - clock.parse(due))
        stop = Stop()
        self._runs.append((sync, stop))
        try:
            report = await self._run(definition, stop)
        finally:
            self._runs.remove((sync, stop))
        self._metrics.count(definition.sync, report)
        if report.status is RunStatus.INTERRUPTED:
            self._cut.append(sync)
        said = told(report, values=definition.sync.log_values)
        log.log(LEVELS.get(report.status, logging.WARNING), "%s", said, extra=facts(report))
        await to_thread.run_sync(leave, definition.project, context.job.id, report)

    async def _run(self, definition: Definition, stop: Stop) -> RunReport:
        """One run; a sync that is held is tried again as long as a dead process may hold it."""
        until = time.monotonic() + BUSY_SECONDS
        while True:
            report = await _carried_out(definition, stop)
            if report.status is not RunStatus.SKIPPED or time.monotonic() > until or stop.asked:
                return report
            await anyio.sleep(TRY_AGAIN)

    async def _end(self, number: int, working: asyncio.Task[None]) -> int:
        """Takes nothing more; runs may finish, and those that can't in time stop where the next ones go on."""
        self.life.ready = False
        seconds = self._definitions.settings.drain
        running = ", ".join(sorted(sync for sync, _ in self._runs))
        busy = f"{running} may go on for {seconds:g} s" if running else "no run is under way"
        log.info("%s: the worker ends; %s", signal.Signals(number).name, busy)
        working.cancel()
        await asyncio.wait([working], timeout=seconds)
        for _, stop in self._runs:
            stop.ask(Interrupted("the worker ends", hint="the next run goes on from here", exit_code=143))
        _, left = await asyncio.wait([working], timeout=CLOSING_SECONDS)
        if left:  # a warehouse that can't be interrupted: the process would wait for its thread
            log.warning("the worker has ended; %s cut short, and will be gone on with", running)
            logging.shutdown()
            os._exit(TERMINATED + number)
        log.info("the worker has ended")
        return TERMINATED + number if self._cut else 0


async def _carried_out(definition: Definition, stop: Stop) -> RunReport:
    """One run, to its report, whatever happens in it."""
    report = RunReport(definition.sync.name, "", SYSTEM.now())
    try:
        report = await definition.project.carry_out(definition.sync.name, stop)
    except ReverseEtlError as failure:
        blame(report, failure)
    except Exception as failure:
        log.debug("a run broke", exc_info=failure, extra={"sync": report.sync})
        blame(report, bug(failure))
    report.finished_at = report.finished_at or SYSTEM.now()
    return report


async def _end_at_once(signals: AsyncIterator[signal.Signals]) -> None:
    """A second signal: what is in flight may arrive or not, which the next run finds out."""
    async for number in signals:
        logging.shutdown()
        os._exit(TERMINATED + number)
