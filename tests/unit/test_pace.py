"""The limiter, in virtual time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime

import anyio
import anyio.lowlevel
import pytest

from reverse_etl.clock import SYSTEM
from reverse_etl.errors import DailyLimit
from reverse_etl.pace import Pace, shared
from reverse_etl.quota import Quota
from tests.virtual_time import VirtualClock, run


async def call(pace: Pace, arrivals: list[float], latency: float = 0.12) -> None:
    async with pace.slot():
        await anyio.sleep(latency / 2)
        arrivals.append(pace.clock.monotonic())
        await anyio.sleep(latency / 2)


async def work(pace: Pace, arrivals: list[float], *, until: float, workers: int = 16) -> None:
    async def worker() -> None:
        while pace.clock.monotonic() < until:
            await call(pace, arrivals)

    async with anyio.create_task_group() as tasks:
        for _ in range(workers):
            tasks.start_soon(worker)


def most_in_any(window: float, arrivals: Sequence[float]) -> int:
    ordered = sorted(arrivals)
    return max(sum(1 for later in ordered[at:] if later <= first + window) for at, first in enumerate(ordered))


def test_P18_at_least_97_percent_of_the_allowance_is_used_and_never_more_than_all_of_it() -> None:
    arrivals: list[float] = []

    async def scenario() -> float:
        pace = Pace(requests=190, per_seconds=10, clock=VirtualClock())
        started = pace.clock.monotonic()
        await work(pace, arrivals, until=started + 120)
        return started

    started = run(scenario)
    assert most_in_any(10, arrivals) <= 190
    steady = [at for at in arrivals if started + 20 <= at < started + 120]
    assert len(steady) >= 0.97 * 190 * 10


def test_a_learned_allowance_widens_the_window_at_once() -> None:
    arrivals: list[float] = []

    async def scenario() -> float:
        pace = Pace(requests=100, per_seconds=10, clock=VirtualClock())
        await call(pace, arrivals)
        pace.learn(requests=190, remaining=189)
        await work(pace, arrivals, until=pace.clock.monotonic() + 5)
        return pace.requests_per_second

    assert run(scenario) == 19.0
    assert len(arrivals) == 190 + 16  # those that waited when time was up come through in the next window


def test_a_configured_rate_is_an_upper_bound_of_what_is_learned() -> None:
    pace = Pace(requests=100, per_seconds=10, clock=VirtualClock(), most=50)
    assert pace.allowance == 50

    async def scenario() -> int:
        pace.learn(requests=190)
        return pace.allowance

    assert run(scenario) == 50


def test_a_reserve_leaves_its_share_to_others() -> None:
    assert Pace(requests=190, per_seconds=10, clock=VirtualClock(), reserve=0.1).allowance == 171


def test_calls_of_others_are_seen_in_what_remains_and_waited_out() -> None:
    async def scenario() -> float:
        pace = Pace(requests=10, per_seconds=10, clock=VirtualClock())
        async with pace.slot():
            pace.learn(requests=10, remaining=0)
        started = pace.clock.monotonic()
        async with pace.slot():
            return pace.clock.monotonic() - started

    assert 10 <= run(scenario) <= 10.1


def test_jitter_in_the_answers_is_not_mistaken_for_others() -> None:
    arrivals: list[float] = []

    async def scenario() -> float:
        pace = Pace(requests=50, per_seconds=10, clock=VirtualClock())
        started = pace.clock.monotonic()

        async def worker(number: int) -> None:
            while pace.clock.monotonic() < started + 100:
                async with pace.slot():
                    await anyio.sleep(0.02 + 0.01 * number)
                    now = pace.clock.monotonic()
                    arrivals.append(now)
                    remaining = 50 - sum(1 for at in arrivals if at > now - 10)
                    await anyio.sleep(0.02 + 0.01 * ((number * 7 + len(arrivals)) % 5))
                    pace.learn(requests=50, remaining=remaining)

        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(worker, number)
        return started

    started = run(scenario)
    assert most_in_any(10, arrivals) <= 50
    assert len([at for at in arrivals if started + 10 <= at < started + 100]) >= 0.97 * 50 * 9


def test_nothing_starts_during_a_pause_and_a_shorter_one_does_not_cut_it() -> None:
    async def scenario() -> float:
        pace = Pace(requests=10, per_seconds=10, clock=VirtualClock())
        started = pace.clock.monotonic()
        pace.pause(30)
        pace.pause(5)
        async with pace.slot():
            return pace.clock.monotonic() - started

    assert run(scenario) == 30


def test_no_more_calls_are_open_than_allowed() -> None:
    async def scenario() -> int:
        pace = Pace(requests=1000, per_seconds=10, clock=VirtualClock(), in_flight=3)
        now_open = most = 0

        async def one() -> None:
            nonlocal now_open, most
            async with pace.slot():
                now_open += 1
                most = max(most, now_open)
                await anyio.sleep(1)
                now_open -= 1

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(one)
        return most

    assert run(scenario) == 3


def test_a_cancelled_waiter_leaves_no_trace_and_a_cancelled_call_keeps_its_place() -> None:
    async def scenario() -> float:
        pace = Pace(requests=1, per_seconds=10, clock=VirtualClock())
        started = pace.clock.monotonic()
        with anyio.move_on_after(1):
            async with pace.slot():
                await anyio.sleep_forever()
        with anyio.move_on_after(1):
            async with pace.slot():
                raise AssertionError("the window is full")
        async with pace.slot():
            return pace.clock.monotonic() - started

    assert 11 <= run(scenario) <= 11.1


def test_one_limiter_serves_every_sync_of_an_account_across_event_loops_and_threads() -> None:
    clock = VirtualClock()
    first = shared("account", lambda: Pace(requests=100, per_seconds=10, clock=clock))
    second = shared("account", lambda: Pace(requests=100, per_seconds=10, clock=clock, reserve=0.5))
    assert first is second
    assert first.allowance == 50
    assert shared("another", lambda: Pace(requests=1, per_seconds=10, clock=clock)) is not first

    async def scenario() -> None:
        async with first.slot():
            pass

    run(scenario)
    run(scenario)


def test_a_call_that_ends_in_another_thread_lets_a_waiter_go() -> None:
    pace = Pace(requests=10, per_seconds=10, clock=SYSTEM, in_flight=1)
    entered, leave = threading.Event(), threading.Event()

    async def holder() -> None:
        async with pace.slot():
            entered.set()
            await anyio.to_thread.run_sync(leave.wait, 5)

    async def waiter() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(slip_in)
            await anyio.lowlevel.checkpoint()
            leave.set()

    async def slip_in() -> None:
        async with pace.slot():
            pass

    thread = threading.Thread(target=anyio.run, args=(holder,))
    thread.start()
    entered.wait(5)
    anyio.run(waiter)
    thread.join(5)
    assert not thread.is_alive()


# --- the day -------------------------------------------------------------------------------------------------------


class Door:
    """A destination that counts calls by the day, at the moment they arrive, and tells what is left."""

    def __init__(self, allowed: int, reserve: float = 0.0) -> None:
        self.clock = VirtualClock()
        self.allowed = self.left = allowed
        self.refused = 0
        self.quota = Quota(clock=self.clock, reserve=reserve, began=self.began, used_up=self.used_up)
        self.pace = Pace(requests=1000, per_seconds=10, clock=self.clock, quota=self.quota)

    def began(self, now: datetime) -> datetime:
        return now.replace(hour=0, minute=0, second=0, microsecond=0)

    def used_up(self, left: int, allowed: int) -> DailyLimit:
        return DailyLimit(f"{left} of {allowed} left")

    async def call(self, out: float = 0.05, back: float = 0.05) -> None:
        async with self.pace.slot():
            await anyio.sleep(out)
            self.refused += self.left == 0
            self.left = max(0, self.left - 1)
            told = self.left
            await anyio.sleep(back)
            self.quota.learn(self.allowed, told)

    async def crowd(self, workers: int = 8) -> None:
        """Everybody calls until the day is used up; answers come out of order."""

        async def worker(number: int) -> None:
            try:
                for turn in range(10_000):
                    await self.call(0.01 + 0.013 * ((number * 5 + turn) % 7), 0.01 + 0.017 * ((number + turn) % 5))
            except DailyLimit:
                return

        async with anyio.create_task_group() as tasks:
            for number in range(workers):
                tasks.start_soon(worker, number)


@pytest.mark.parametrize(("reserve", "kept"), [(0.0, 0), (0.1, 50)])
def test_P17_the_days_allowance_is_used_up_to_the_reserve_and_never_exceeded(reserve: float, kept: int) -> None:
    door = Door(500, reserve)

    async def scenario() -> None:
        await door.call()  # tells how much there is
        await door.crowd()

    run(scenario)
    assert door.refused == 0
    assert kept <= door.left <= kept + 8


def test_others_who_use_the_same_day_are_seen_in_what_is_left() -> None:
    door = Door(500)

    async def scenario() -> None:
        await door.call()
        door.left = 20
        await door.crowd(2)

    run(scenario)
    assert door.refused == 0


def test_nothing_is_held_back_before_an_answer_has_told_what_is_left() -> None:
    door = Door(0)

    async def scenario() -> None:
        for _ in range(3):
            async with door.pace.slot():
                pass

    run(scenario)


def test_the_next_day_is_another_one_and_a_larger_allowance_is_believed() -> None:
    door = Door(2)

    async def scenario() -> None:
        await door.call()
        await door.call()
        with pytest.raises(DailyLimit, match="0 of 2 left"):
            await door.call()
        await anyio.sleep(22 * 3600)  # it was two in the morning
        door.left = 2
        await door.call()
        door.allowed = door.left = 1000
        await door.call()
        await door.call()

    run(scenario)
    assert door.refused == 0


def test_a_run_that_begins_may_ask_once() -> None:
    door = Door(2)

    async def scenario() -> None:
        await door.call()
        await door.call()
        door.quota.allow_a_look()
        await door.call()
        with pytest.raises(DailyLimit):
            await door.call()

    run(scenario)
    assert door.refused == 1
