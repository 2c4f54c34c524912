"""Runs that other processes carry out: orders in the state's PostgreSQL, in procrastinate's tables.

An order waits once a sync, and runs alone by its sync's lock; what came of it is left for whoever gave it. The lease
in the state protects the sync itself, whatever happens here.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import psycopg
from anyio import to_thread
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException, UniqueViolation
from procrastinate.jobs import Job, Status

from reverse_etl import clock
from reverse_etl.blame import blame
from reverse_etl.clock import SYSTEM
from reverse_etl.config.timing import Priority
from reverse_etl.daemon.definitions import Definitions
from reverse_etl.daemon.workforce import Order
from reverse_etl.errors import ConfigError, StateError, SyncBusy
from reverse_etl.model import JSON, Problem
from reverse_etl.project import Project
from reverse_etl.report import RunReport
from reverse_etl.stop import Stop

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from reverse_etl.state.scheduling import Seat as Right

NAME = "reverse_etl"
TASK = "reverse_etl.run"
URGENCY: dict[Priority, int] = {"high": 10, "normal": 0, "low": -10}
LOOK_SECONDS = 0.5  # how soon the end of a run is noticed
OUTCOMES = "queue"  # where in the state's memory runs' reports are left
_PREPARING = 0x72657473  # of an advisory lock: the tables are made once
_STANDING = frozenset({"todo", "doing"})
_IN_THEIR_TRANSACTION = App(connector=SyncPsycopgConnector())  # has no connection of its own
_DRIVER = re.compile(r"^postgresql(\+\w+)?://")


def url_of(definitions: Definitions) -> str:
    """Where the queue is. Raises ConfigError where there is none."""
    url = definitions.project.config.state.url.get_secret_value()
    if _DRIVER.match(url) is None:
        message = "workers need the state in PostgreSQL: postgresql+psycopg://..."
        raise ConfigError([Problem("reverse_etl.yml", 0, 0, "state.url", message)])
    return url


class Queue:
    """The orders in one state. Open it before use."""

    def __init__(self, url: str) -> None:
        self._address = _DRIVER.sub("postgresql://", url)
        self.app = App(connector=PsycopgConnector(conninfo=self._address, min_size=1, max_size=4))
        self._there: frozenset[int] = frozenset()
        self._looked = 0.0
        self._looking = anyio.Lock()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Queue]:
        """Raises StateError when the database can't be reached."""
        try:
            await self._prepare()
            await self.app.open_async()
        except (psycopg.Error, ConnectorException) as failure:
            raise StateError(
                f"the queue in the state's database can't be used: {str(failure).splitlines()[0]}",
                hint="check state.url, and whether the database is up",
            ) from failure
        try:
            yield self
        finally:
            await self.app.close_async()

    async def put(self, order: Order, right: Right) -> int:
        """The order's number; that of one which waits already, if there is one. Raises LeaseLost without the right."""
        while True:
            try:
                return await to_thread.run_sync(_ordered, order, right)
            except AlreadyEnqueued:
                waiting = await self.app.job_manager.list_jobs_async(queueing_lock=order.sync, status="todo")
                for job in waiting:
                    if job.id is not None:
                        return job.id

    async def standing(self) -> list[Order]:
        """Orders that have not ended, by whichever daemon they were given: of each sync the youngest."""
        jobs = await self.app.job_manager.list_jobs_async(queue=NAME)
        found = {str(job.lock): job for job in sorted(jobs, key=lambda job: job.id or 0) if job.status in _STANDING}
        return [
            Order(sync, str(job.task_kwargs["reason"]), clock.parse(str(job.task_kwargs["due"])), number=job.id)
            for sync, job in found.items()
        ]

    async def has_ended(self, number: int, given: float) -> bool:
        """Whether an order isn't there any more that was `given` then. One look serves all who wait."""
        async with self._looking:
            now = time.monotonic()
            if not given < self._looked or now - self._looked > LOOK_SECONDS:
                self._looked = now
                jobs = await self.app.job_manager.list_jobs_async(queue=NAME)
                self._there = frozenset(job.id for job in jobs if job.id is not None)
            return number not in self._there

    async def stalled(self, seconds: float) -> Iterable[Job]:
        """Orders whose worker has not been heard of for so long."""
        return await self.app.job_manager.get_stalled_jobs(queue=NAME, seconds_since_heartbeat=seconds)

    async def put_back(self, job: Job) -> bool:
        """For another worker to take. Returns whether it was this call that did it."""
        try:
            await self.app.job_manager.retry_job(job)
        except UniqueViolation:  # a younger order of the sync waits, and does as well
            await self.app.job_manager.finish_job(job, Status.FAILED, delete_job=True)
        except ConnectorException:  # another worker has been quicker
            return False
        return True

    async def _prepare(self) -> None:
        async with await psycopg.AsyncConnection.connect(self._address, autocommit=True) as connection:
            await connection.execute("SELECT pg_advisory_lock(%s)", [_PREPARING])
            found = await (await connection.execute("SELECT to_regclass('procrastinate_jobs')")).fetchone()
            if found is None or found[0] is None:
                await connection.execute(self.app.schema_manager.get_schema().encode())


class Office:
    """Hands a run to the queue and waits for what comes of it: `scheduler.CarryOut` for runs that workers do."""

    def __init__(self, queue: Queue, right: Callable[[], Right]) -> None:
        self._queue = queue
        self._right = right

    async def standing(self) -> list[Order]:
        """Orders that another daemon has given, and that have not ended."""
        return await self._queue.standing()

    async def carry_out(self, project: Project, order: Order, stop: Stop) -> RunReport:
        """The run's report. Raises SyncBusy when the daemon ends before the run does."""
        number, given = order.number or await self._put(order), time.monotonic()
        while not await self._has_ended(number, given):
            if stop.asked:
                raise SyncBusy(f"{order.sync} is with the workers", hint="it runs without the daemon")
            await anyio.sleep(LOOK_SECONDS)
        return await to_thread.run_sync(outcome, project, order.sync, number)

    async def _put(self, order: Order) -> int:
        try:
            return await self._queue.put(order, self._right())
        except ConnectorException as failure:
            raise StateError(f"the queue can't be used: {failure}", hint="the next due time tries again") from failure

    async def _has_ended(self, number: int, given: float) -> bool:
        """False during an outage of the database: what workers do goes on meanwhile."""
        try:
            return await self._queue.has_ended(number, given)
        except ConnectorException as failure:
            log.debug("the queue was not reached", exc_info=failure)
            return False


def _ordered(order: Order, right: Right) -> int:
    with right.ordering(order.sync, order.due) as connection:
        deferrer = _IN_THEIR_TRANSACTION.configure_task(
            TASK,
            queue=NAME,
            lock=order.sync,
            queueing_lock=order.sync,
            priority=URGENCY[order.priority],
            connection=connection,
        )
        return deferrer.defer(sync=order.sync, reason=order.reason, due=clock.text(order.due))


def leave(project: Project, number: int, report: RunReport) -> None:
    """Keep what came of an order for whoever gave it."""
    with project.parts.store() as store:
        if store is not None:
            document = report.to_json() | {"exit_code": report.exit_code}
            if report.error is not None:
                document["error"] = report.error.to_json() | {"said": report.error.said}
            text = json.dumps(document)
            store.remembered.put(OUTCOMES, str(number), text)


def outcome(project: Project, sync: str, number: int) -> RunReport:
    """What `leave` kept, once."""
    with project.parts.store() as store:
        found = None if store is None else store.remembered.get(OUTCOMES, str(number))
        if store is not None and found is not None:
            store.remembered.put(OUTCOMES, str(number), None)
            document: dict[str, JSON] = json.loads(found)
            return RunReport.from_json(document)
    latest = project.runs(sync, limit=1)
    if latest and latest[0].finished_at is not None:
        return latest[0]
    report = RunReport(sync, "", SYSTEM.now())
    report.finished_at = report.started_at
    blame(report, SyncBusy(f"the order to run {sync} was taken back", hint="the next time that it is due it runs"))
    return report
