from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import anyio
import pytest

from reverse_etl.daemon import workforce
from reverse_etl.daemon.workforce import Order, Pool, choose
from reverse_etl.report import RunReport, RunStatus
from reverse_etl.stop import Stop
from tests.unit.daemon.day import START


def order(name: str, priority: Any = "normal", minutes: int = 0) -> Order:
    return Order(name, "because", START + timedelta(minutes=minutes), priority)


def chosen(waiting: list[Order], busy: list[str], places: int, others: Mapping[str, Any] | None = None) -> str | None:
    everyone: dict[str, Any] = {each.sync: each.priority for each in waiting}
    everyone |= others or {}
    found = choose({each.sync: each for each in waiting}, busy, places, everyone)
    return found.sync if found is not None else None


def test_the_most_urgent_goes_first_and_of_equals_the_one_that_has_waited_longest() -> None:
    waiting = [order("late", minutes=5), order("early"), order("low", "low"), order("high", "high", 9)]
    assert chosen(waiting, [], 4) == "high"
    assert chosen(waiting[:3], [], 4) == "early"


def test_nothing_starts_without_a_free_place() -> None:
    assert chosen([order("a")], ["b", "c"], 2) is None
    assert chosen([], [], 2) is None


def test_the_last_place_is_kept_for_what_is_more_urgent() -> None:
    backfill, drip = order("backfill", "low"), {"drip": "high"}
    assert chosen([backfill], [], 2, drip) == "backfill"
    assert chosen([backfill], ["other"], 2, drip) is None
    assert chosen([order("drip", "high"), backfill], ["other"], 2) == "drip"
    assert chosen([backfill], ["drip"], 2, drip) == "backfill", "the urgent one has its place"


def test_a_single_place_is_given_to_everyone() -> None:
    assert chosen([order("backfill", "low")], [], 1, {"drip": "high"}) == "backfill"


def test_equals_share_every_place() -> None:
    assert chosen([order("a")], ["b", "c", "d"], 4, {"b": "normal", "c": "normal", "e": "low"}) == "a"


def test_a_sync_that_is_still_under_way_is_not_started_again() -> None:
    assert chosen([order("a"), order("b", minutes=1)], ["a"], 4) == "b"


class Shift:
    """A pool whose runs last until they are let go."""

    def __init__(self, places: int, **others: Any) -> None:
        self.begun: list[str] = []
        self.ended: list[tuple[str, str]] = []
        self.gates: dict[str, anyio.Event] = {}
        self.stops: dict[str, Stop] = {}
        self.deaf = False
        self.pool = Pool(places, self._carry_out, self, lambda: others)

    def run_begins(self, order: Order) -> None:
        self.begun.append(order.sync)

    def run_ended(self, order: Order, report: RunReport) -> None:
        self.ended.append((order.sync, report.status.value))

    async def _carry_out(self, order: Order, stop: Stop) -> RunReport:
        self.stops[order.sync] = stop
        gate = self.gates[order.sync] = anyio.Event()
        while not gate.is_set() and (self.deaf or not stop.asked):  # noqa: ASYNC110  # a stop doesn't call
            await anyio.sleep(0.001)
        status = RunStatus.SUCCEEDED if gate.is_set() else RunStatus.INTERRUPTED
        return RunReport(order.sync, "run", START, status, finished_at=START)

    async def until(self, *names: str) -> None:
        with anyio.fail_after(2):
            while self.begun != list(names):  # noqa: ASYNC110  # whichever comes first
                await anyio.sleep(0.001)


def test_a_free_place_is_filled_at_once() -> None:
    shift = Shift(2)

    async def scene() -> None:
        async with anyio.create_task_group() as tasks:
            for name in ("a", "b", "c"):
                shift.pool.give(order(name))
            assert shift.begun == [], "nothing starts before the pool is open"
            shift.pool.open(tasks)
            await shift.until("a", "b")
            assert (shift.pool.running, shift.pool.waiting) == (("a", "b"), ("c",))
            await anyio.sleep(0.01)
            shift.gates["a"].set()
            await shift.until("a", "b", "c")
            shift.pool.give(order("d"))
            shift.pool.resize(3)
            await shift.until("a", "b", "c", "d")
            assert await shift.pool.drain(0) != []

    anyio.run(scene)


def test_an_order_is_given_once_and_can_be_withdrawn() -> None:
    shift = Shift(1)

    async def scene() -> None:
        async with anyio.create_task_group() as tasks:
            shift.pool.give(order("a"))
            shift.pool.give(order("a"))
            shift.pool.give(order("b"))
            shift.pool.withdraw("b")
            shift.pool.open(tasks)
            await shift.until("a")
            assert shift.pool.waiting == ()
            await shift.pool.drain(0)

    anyio.run(scene)


def test_draining_waits_for_runs_and_starts_none() -> None:
    shift = Shift(1)

    async def scene() -> list[str]:
        async with anyio.create_task_group() as tasks:
            shift.pool.open(tasks)
            shift.pool.give(order("a"))
            shift.pool.give(order("b"))
            await shift.until("a")
            await anyio.sleep(0.01)
            tasks.start_soon(_later, shift.gates["a"])
            cut = await shift.pool.drain(5)
        return cut

    assert anyio.run(scene) == []
    assert (shift.begun, shift.ended) == (["a"], [("a", "succeeded")])


async def _later(gate: anyio.Event) -> None:
    await anyio.sleep(0.02)
    gate.set()


def test_draining_cuts_what_does_not_end_in_time_and_says_so() -> None:
    shift = Shift(2)

    async def scene() -> list[str]:
        async with anyio.create_task_group() as tasks:
            shift.pool.open(tasks)
            shift.pool.give(order("a"))
            await shift.until("a")
            cut = await shift.pool.drain(0.01)
        return cut

    assert anyio.run(scene) == ["a"]
    assert shift.ended == [("a", "interrupted")]


def test_a_run_that_cannot_be_stopped_is_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workforce, "CLOSING_SECONDS", 0.02)
    shift = Shift(2)
    shift.deaf = True

    async def scene() -> list[str]:
        async with anyio.create_task_group() as tasks:
            shift.pool.open(tasks)
            shift.pool.give(order("a"))
            await shift.until("a")
            cut = await shift.pool.drain(0.01)
            tasks.cancel_scope.cancel()
        return cut

    assert anyio.run(scene) == ["a"]
    assert shift.stops["a"].asked
