"""The circuit breaker, in virtual time: alone, and behind the HTTP client."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import Any

import anyio
import httpx
import pytest

from reverse_etl.breaker import Breaker
from reverse_etl.errors import DestinationError, Interrupted, Unavailable
from reverse_etl.http import Http
from reverse_etl.stop import Stop
from tests.unit.test_http import Destination, client, ok
from tests.virtual_time import VirtualClock, run


def outage(seconds: float, *, before: int = 1) -> Destination:
    """Answers `before` calls, is down for so long, and back then."""
    destination = Destination(ok())

    async def answer(request: httpx.Request) -> httpx.Response:
        began = destination.at[before - 1] if len(destination.at) > before else destination.clock.monotonic()
        is_down = len(destination.at) > before and destination.clock.monotonic() < began + seconds
        return httpx.Response(503) if is_down else ok()

    destination.script = [answer]
    return destination


async def calls(http: Http, count: int) -> list[DestinationError]:
    failures: list[DestinationError] = []

    async def one() -> None:
        try:
            await http.send("GET", "x", idempotent=True)
        except DestinationError as failure:
            failures.append(failure)

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(one)
    return failures


def through(destination: Destination, count: int = 4, **settings: Any) -> list[DestinationError]:
    async def scenario() -> list[DestinationError]:
        http = client(destination, **settings)
        await http.send("GET", "x", idempotent=True)
        return await calls(http, count)

    return run(scenario)


def test_P23_after_five_failures_in_a_row_one_call_in_thirty_seconds_is_made_and_all_go_when_it_is_answered() -> None:
    destination = outage(200)
    assert through(destination) == []
    assert len(destination.at) - 1 <= 5 + 3 + 200 / 30 + 4  # three were under way when it opened
    late = [at - destination.at[0] for at in destination.at[9:]]
    assert all(later - earlier >= 29.9 for earlier, later in pairwise(late[:-4]))
    assert max(late) < 200 + 35


def test_P23_it_gives_up_after_ten_minutes_and_says_so() -> None:
    destination = outage(10_000)
    failures = through(destination, 1)
    assert [type(failure) for failure in failures] == [Unavailable]
    assert "has not answered for 600 s" in failures[0].message
    assert "run again" in str(failures[0].hint)
    assert 500 <= destination.at[-1] - destination.at[0] <= 640
    assert len(destination.at) <= 1 + 5 + 600 / 30 + 1


def test_P23_a_later_run_makes_one_call_to_see_whether_it_is_back() -> None:
    destination = outage(10_000)

    async def scenario() -> tuple[int, int]:
        breaker = Breaker(destination.clock, "the CRM")
        await calls(client(destination, breaker=breaker), 1)
        await calls(client(destination, breaker=breaker), 1)
        await anyio.sleep(900)
        before = len(destination.at)
        (failure,) = await calls(client(destination, breaker=breaker), 1)
        assert "the CRM has not answered for" in failure.message
        return before, len(destination.at)

    before, after = run(scenario)
    assert after == before + 1


def test_P23_other_accounts_do_not_notice() -> None:
    down, well = outage(10_000), Destination(ok())

    async def scenario() -> float:
        out, other = client(down), client(well)
        await calls(out, 1)
        await other.send("GET", "x", idempotent=True)
        started = down.clock.monotonic()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(calls, out, 4)
            await anyio.sleep(100)
            for _ in range(10):
                await other.send("GET", "x", idempotent=True)
            took = down.clock.monotonic() - started - 100
            tasks.cancel_scope.cancel()
        return took

    assert run(scenario) < 1


def test_an_account_that_never_answered_is_not_waited_for() -> None:
    destination = Destination(httpx.ConnectError("nobody there"))

    async def scenario() -> float:
        started = destination.clock.monotonic()
        failures = await calls(client(destination), 1)
        assert "(6 attempts)" in failures[0].message
        return destination.clock.monotonic() - started

    assert run(scenario) < 60


def test_a_refusal_is_an_answer_and_a_patience_of_none_waits_for_nobody() -> None:
    destination = Destination(ok(), *[httpx.Response(400)] * 20)
    assert len(through(destination, 20)) == 20
    destination = outage(10_000)

    async def scenario() -> float:
        http = client(destination, breaker=Breaker(destination.clock, "the CRM", patience=0))
        await calls(http, 1)
        started = destination.clock.monotonic()
        await calls(http, 1)
        return destination.clock.monotonic() - started

    assert run(scenario) < 60


def test_it_opens_and_closes_with_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        through(outage(60))
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("api.example.com has stopped answering: one call every 30 s")
    assert lines[-1] == "api.example.com answers again"


def test_nobody_who_was_asked_to_stop_waits_for_the_account() -> None:
    async def scenario() -> float:
        clock = VirtualClock()
        breaker, stop = Breaker(clock, "the CRM"), Stop()
        breaker.answered()
        for _ in range(5):
            breaker.failed()
        started = clock.monotonic()

        async def ask() -> None:
            await anyio.sleep(3)
            stop.ask()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            with stop.heeded(), pytest.raises(Interrupted):
                await breaker.admit()
        return clock.monotonic() - started

    assert run(scenario) == 3
