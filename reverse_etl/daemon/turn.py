"""A daemon's turn: from taking the seat, with all that is known of the syncs, to the moment another daemon has it."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Protocol

import anyio
import anyio.abc
from anyio import to_thread

from reverse_etl.clock import Clock, parse, text
from reverse_etl.config.schedule import Cron
from reverse_etl.daemon.alerts import Known, Watch
from reverse_etl.daemon.books import Books
from reverse_etl.daemon.courier import Courier
from reverse_etl.daemon.definitions import Changes, Definitions
from reverse_etl.daemon.elsewhere import Elsewhere
from reverse_etl.daemon.life import Life
from reverse_etl.daemon.metrics import Metrics
from reverse_etl.daemon.notebook import SEEN, SIGNATURES, TOLD, UNSENT, WISHES, Notebook, Pages, SharedNotebook
from reverse_etl.daemon.rhythm import Past
from reverse_etl.daemon.scheduler import Scheduler
from reverse_etl.daemon.seat import Seat
from reverse_etl.daemon.signature import Used
from reverse_etl.daemon.workforce import Order, Pool
from reverse_etl.errors import Interrupted, ReverseEtlError
from reverse_etl.project import Project
from reverse_etl.report import RunReport
from reverse_etl.stop import Stop

log = logging.getLogger(__name__)

MOST_NAMED = 10


class Standing(Protocol):
    """Who has orders carried out elsewhere, and knows those that have not ended."""

    async def standing(self) -> list[Order]: ...


class Turn:
    """What is remembered and what is due, for as long as this daemon schedules. `pages` is where it is remembered."""

    def __init__(
        self, clock: Clock, definitions: Definitions, notebook: Notebook, scheduler: Scheduler, life: Life
    ) -> None:
        self.pages: Pages = notebook
        self.seat = Seat(self._project)
        self.used = Used({})
        self.pool = Pool(1, self._carry_out, scheduler, scheduler.priorities, lambda: self.seat.mine)
        self.away: Standing | None = None
        self._clock = clock
        self._definitions = definitions
        self._scheduler = scheduler
        self._life = life
        self._elsewhere = Elsewhere(clock, self._project)
        self._over = anyio.Event()
        self._turns: anyio.CancelScope
        self._trouble = ""

    def listen(self, metrics: Metrics, alerts: Watch, courier: Courier) -> None:
        """Who hears of runs. Called once, before anything else."""
        self._metrics, self._alerts, self._courier = metrics, alerts, courier
        self._scheduler.watchers += [metrics, alerts]

    @property
    def schedules(self) -> bool:
        """Whether orders are given now: the seat is had, and all is known that belongs to it."""
        return self._life.ready and self.seat.mine

    async def run(self) -> None:
        """One turn after the other, until cancelled; the first has been begun, if the seat was free."""
        try:
            with anyio.CancelScope() as self._turns:
                while True:
                    await self._one()
                    await self._stand_down()
        finally:
            with anyio.CancelScope(shield=True):  # it may have been taken in the moment in which all ends
                await self.seat.leave()

    async def _one(self) -> None:
        """From the seat, or the wait for it, to the news that another daemon has it."""
        async with anyio.create_task_group() as tasks:
            if not self._life.ready:
                await self.seat.take()
                await self._begin_in_time()
            if isinstance(self.pages, SharedNotebook):
                tasks.start_soon(self.pages.run)
            await self._over.wait()
            tasks.cancel_scope.cancel()

    async def begin(self) -> None:
        """From what is on record: last runs, orders that stand, wishes. Raises StateError."""
        orders = [] if self.away is None else await self.away.standing()  # before the runs: none is in neither
        past = await to_thread.run_sync(self._known)
        self.used.recall(self.pages.page(SIGNATURES))
        self._alerts.known = {name: Known.of(page) for name, page in self.pages.page(TOLD).items()}
        self._courier.recall(self.pages.page(UNSENT))
        current = self._definitions.current
        self._scheduler.take(current, Changes(defined=list(current), broken=self._definitions.broken), past)
        self._note_lines()
        for order in orders:
            self._scheduler.adopt(order)
        for name in list(self.pages.page(WISHES)):
            if name in self._scheduler.agenda:
                self._scheduler.ask(name, "asked for before the daemon was restarted")
        self._scheduler.asked = lambda names: self.pages.write(WISHES, dict.fromkeys(names, True))
        self._life.ready = True
        self.pool.fill()

    async def take(self, changes: Changes) -> None:
        """Changed files take effect."""
        past: dict[str, Past] = {}
        if any(name not in self._scheduler.agenda for name in changes.defined):
            try:
                last = await to_thread.run_sync(Books(self._definitions.current).last_runs)
                past = {name: Past.of(report) for name, report in last.items()}
            except ReverseEtlError as failure:
                log.error("the state could not be looked at; new syncs start as if they had never run: %s", failure)
        self._tell(changes)
        self._scheduler.take(self._definitions.current, changes, past)
        self._note_lines()
        for name in changes.removed:
            self._alerts.forget(name)
            self._metrics.forget(name)

    def look(self) -> None:
        """Called every few seconds: notices that another daemon schedules, or that the seat could be kept after all."""
        if self.seat.lost:
            self._over.set()
        elif self._life.ready:
            self.pool.fill()

    async def look_elsewhere(self) -> None:
        """What became of runs that others carry out. Called every few seconds; waits for the database."""
        if not self._life.ready or not self.seat.mine:
            return
        try:
            news = await to_thread.run_sync(self._elsewhere.look, frozenset(self.pool.running))
        except ReverseEtlError as failure:
            if failure.message != self._trouble:  # once is enough: it is looked at every other second
                log.error("runs of others are not seen, and looked at again: %s", failure.message)
            self._trouble = failure.message
            return
        self._trouble = ""
        for report in self._scheduler.noticed(news.ended):
            self._elsewhere.later(report)
        for name in news.abandoned:
            self._scheduler.abandoned(name)

    async def leave(self) -> None:
        """The daemon ends: another one may schedule at once, and tells of the runs that still end here."""
        if not self._life.ready:
            self._turns.cancel()
        self._life.ready = False
        if self.seat.shared:
            self._scheduler.watchers.remove(self._alerts)
            self._courier.forget()
        await self.seat.leave()
        await to_thread.run_sync(self._elsewhere.close)

    def _tell(self, changes: Changes) -> None:
        """Who is woken up asks first what has changed."""
        new = [name for name in changes.defined if name not in self._scheduler.agenda]
        anew = [name for name in changes.defined if name in self._scheduler.agenda]
        for names, what in ((new, "new"), (anew, "read anew, as its file or one that it uses has changed")):
            if names:
                more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
                log.info("%s%s: %s", ", ".join(names[:MOST_NAMED]), more, what, extra={"syncs": len(names)})

    async def _begin_in_time(self) -> None:
        while True:
            try:
                await self.begin()
            except ReverseEtlError as failure:
                log.error("this daemon could not begin to schedule, and tries again: %s", failure.message)
                await anyio.sleep(1)
            else:
                log.info("this daemon schedules from now on")
                return

    async def _stand_down(self) -> None:
        """Nothing starts here any more; runs that are under way stop where the next ones go on."""
        log.warning("another daemon schedules by now, as this one was cut off or stood still; it stands by")
        self._life.ready = False
        self._over = anyio.Event()
        self._scheduler.asked = lambda names: None
        self._scheduler.clear()
        self._metrics.stand_down()
        self._courier.forget()
        await self.pool.cut(Interrupted("another daemon schedules", hint="it goes on from here", exit_code=143))
        await self.seat.leave()

    def _known(self) -> dict[str, Past]:
        """What is on record of each sync's runs; and the pages of who scheduled before."""
        last = Books(self._definitions.current).last_runs()
        self._elsewhere.begin(last.values())
        news = self._elsewhere.look(frozenset())
        last |= {report.sync: report for report in news.ended}
        if self.seat.right is not None:
            self.pages = shared = SharedNotebook(self._project())
            shared.open()
        self._metrics.remember(last)
        past = self._lines()
        past |= {name: Past.of(report, alive=name in news.alive) for name, report in last.items()}
        for name, due in self.seat.ordered().items():
            known = past.get(name, Past())
            past[name] = replace(known, started_at=due if known.started_at is None else max(due, known.started_at))
        return past

    def _note_lines(self) -> None:
        """Since when each cron line is in force."""
        before, now = self.pages.page(SEEN), text(self._clock.now())
        lines = {entry.sync.name: entry.sync.schedule for entry in self._scheduler.agenda}
        seen = {name: {"line": line.text, "since": now} for name, line in lines.items() if isinstance(line, Cron)}
        same = {name: before[name] for name in seen if _line(before.get(name)) == seen[name]["line"]}
        self.pages.write(SEEN, seen | same)

    def _lines(self) -> dict[str, Past]:
        """Syncs that have never run, from the moment on at which their cron line was first in force."""
        seen = self.pages.page(SEEN)
        lines = {name: each.sync.schedule for name, each in self._definitions.current.items()}
        return {
            name: Past(started_at=parse(seen[name]["since"]))
            for name, line in lines.items()
            if isinstance(line, Cron) and _line(seen.get(name)) == line.text
        }

    async def _carry_out(self, order: Order, stop: Stop) -> RunReport:
        report = await self._scheduler.carry_out(order, stop)
        self._elsewhere.mine(report)
        return report

    def _project(self) -> Project:
        return self._definitions.project


def _line(noted: object) -> str | None:
    return str(noted["line"]) if isinstance(noted, dict) and noted.keys() == {"line", "since"} else None
