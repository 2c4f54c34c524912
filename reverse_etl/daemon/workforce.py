"""Who carries due runs out: a pool in this process. The rest of the daemon only knows `Workforce`, so a queue that
other machines take from can stand in its place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import anyio
import anyio.abc

from reverse_etl.config.timing import Priority
from reverse_etl.errors import Interrupted
from reverse_etl.report import RunReport, RunStatus
from reverse_etl.stop import Stop

RANKS: Mapping[Priority, int] = {"high": 0, "normal": 1, "low": 2}
CLOSING_SECONDS = 8.0  # for runs that were asked to stop: what is in flight is answered and recorded


@dataclass(frozen=True)
class Order:
    """A run that is due. `reason` says why, for the log; `number` is that of an order which workers have already."""

    sync: str
    reason: str
    due: datetime
    priority: Priority = "normal"
    number: int | None = None


class Listener(Protocol):
    """Who is told what becomes of orders. Called from the event loop."""

    def run_begins(self, order: Order) -> None: ...
    def run_ended(self, order: Order, report: RunReport) -> None: ...


class Workforce(Protocol):
    """Takes orders, at most one for each sync at a time, and has each carried out once, soon, by priority."""

    def give(self, order: Order) -> None: ...

    def withdraw(self, sync: str) -> None:
        """Nobody needs to start this any more; a run that is under way goes on."""
        ...


CarryOut = Callable[[Order, Stop], Awaitable[RunReport]]


@dataclass
class _Place:
    order: Order
    stop: Stop = field(default_factory=Stop)


class Pool:
    """At most `places` runs at a time on this process's event loop, the most urgent first.

    `others` tells the priorities of all syncs that may become due: the last free place is kept for them. Nothing starts
    while `may` says no.
    """

    def __init__(
        self,
        places: int,
        carry_out: CarryOut,
        listener: Listener,
        others: Callable[[], Mapping[str, Priority]],
        may: Callable[[], bool] = lambda: True,
    ) -> None:
        self.places = places
        self._carry_out = carry_out
        self._listener = listener
        self._others = others
        self._may = may
        self._waiting: dict[str, Order] = {}
        self._busy: dict[str, _Place] = {}
        self._tasks: anyio.abc.TaskGroup | None = None
        self._closed = False
        self._cut: list[str] = []
        self._changed = anyio.Event()

    @property
    def waiting(self) -> Collection[str]:
        return tuple(self._waiting)

    @property
    def running(self) -> Collection[str]:
        return tuple(self._busy)

    def open(self, tasks: anyio.abc.TaskGroup) -> None:
        """Runs start in this task group."""
        self._tasks = tasks
        self.fill()

    def give(self, order: Order) -> None:
        self._waiting.setdefault(order.sync, order)
        self.fill()

    def withdraw(self, sync: str) -> None:
        self._waiting.pop(sync, None)

    def resize(self, places: int) -> None:
        """More places fill at once; with fewer, runs that are under way go on."""
        self.places = places
        self.fill()

    async def drain(self, seconds: float) -> list[str]:
        """Starts nothing more and waits for what is under way; after `seconds` that is asked to stop.

        Returns the syncs whose runs were cut: ended by that request, or still not ended.
        """
        self._closed = True
        with anyio.move_on_after(seconds):
            await self._until_idle()
        for place in self._busy.values():
            place.stop.ask(
                Interrupted("the daemon ends", hint="it goes on from here when it starts again", exit_code=143)
            )
        with anyio.move_on_after(CLOSING_SECONDS):
            await self._until_idle()
        return [*self._cut, *self._busy]

    async def cut(self, reason: Interrupted) -> None:
        """Forgets what waits, asks what is under way to stop, and returns when it has."""
        self._waiting.clear()
        for place in self._busy.values():
            place.stop.ask(reason)
        await self._until_idle()

    async def _until_idle(self) -> None:
        while self._busy:
            if self._changed.is_set():  # several may wait for it
                self._changed = anyio.Event()
            await self._changed.wait()

    def fill(self) -> None:
        """Starts what may start; for whoever knows that something has changed."""
        while self._tasks is not None and not self._closed and self._may():
            order = choose(self._waiting, self._busy, self.places, self._others())
            if order is None:
                return
            del self._waiting[order.sync]
            place = self._busy[order.sync] = _Place(order)
            self._listener.run_begins(order)
            self._tasks.start_soon(self._run, place)

    async def _run(self, place: _Place) -> None:
        order = place.order
        report = await self._carry_out(order, place.stop)
        del self._busy[order.sync]
        if self._closed and report.status is RunStatus.INTERRUPTED:
            self._cut.append(order.sync)
        self._listener.run_ended(order, report)
        self._changed.set()
        self.fill()


def choose(
    waiting: Mapping[str, Order], busy: Collection[str], places: int, others: Mapping[str, Priority]
) -> Order | None:
    """The order that starts next: the most urgent, then the one that has waited longest. None: none may.

    The last free place is not given away while a sync of higher priority could become due: a run may take hours, and
    what is urgent should find a place.
    """
    free = places - len(busy)
    startable = [order for order in waiting.values() if order.sync not in busy]
    if free <= 0 or not startable:
        return None
    first = min(startable, key=lambda order: (RANKS[order.priority], order.due))
    if free > 1 or places == 1:
        return first
    more_urgent = any(RANKS[priority] < RANKS[first.priority] for name, priority in others.items() if name not in busy)
    return None if more_urgent else first
