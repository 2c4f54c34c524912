"""What is sent again, and how often: bounds of a call, of a batch, of a run."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import httpx
import pytest

from reverse_etl.answer import Answer
from reverse_etl.errors import BatchRefused, DestinationError, InDoubt, Throttled, Unavailable
from reverse_etl.http import Http
from reverse_etl.retries import Budget, of_one_batch
from tests.unit.test_http import Destination, classify, client, dripping, ok
from tests.virtual_time import run


def gateways(answer: Answer) -> DestinationError | None:
    if answer.status in (502, 504, 524):
        return InDoubt("a gateway lost patience", status=answer.status)
    return classify(answer)


def tried(destination: Destination, failing: type[DestinationError], *, splittable: bool) -> tuple[int, float]:
    """How many calls were made, and how long they took together."""

    async def scenario() -> float:
        started = destination.clock.monotonic()
        with pytest.raises(failing) as caught:
            http = client(destination, classify=gateways)
            await http.send("POST", "x", idempotent=True, splittable=splittable, deadline=100)
        assert type(caught.value) is failing
        return destination.clock.monotonic() - started

    seconds = run(scenario)
    return len(destination.asked), seconds


def test_P24_a_batch_that_meets_its_deadline_is_refused_as_a_whole_at_once_so_that_it_is_halved() -> None:
    assert tried(Destination(dripping), BatchRefused, splittable=True) == (1, 100)


def test_P24_a_single_row_that_meets_its_deadline_is_tried_three_times_and_in_doubt() -> None:
    count, seconds = tried(Destination(dripping), InDoubt, splittable=False)
    assert (count, 300 <= seconds <= 305) == (3, True)


@pytest.mark.parametrize("status", [502, 504, 524])
def test_a_batch_that_a_gateway_gives_up_on_twice_is_refused_as_a_whole(status: int) -> None:
    assert tried(Destination(httpx.Response(status)), BatchRefused, splittable=True)[0] == 2
    assert tried(Destination(httpx.Response(status)), InDoubt, splittable=False)[0] == 6


def test_a_call_that_must_not_be_repeated_is_not_halved_either() -> None:
    destination = Destination(dripping)

    async def scenario() -> None:
        with pytest.raises(InDoubt):
            await client(destination).send("POST", "x", idempotent=False, splittable=True)

    run(scenario)
    assert len(destination.asked) == 1


def failing(kind: type[DestinationError], tries: int) -> Callable[[Answer], DestinationError | None]:
    def meaning(answer: Answer) -> DestinationError | None:
        error = None if answer.status < 300 else kind("no", status=answer.status)
        if error is not None:
            error.tries = tries
        return error

    return meaning


def test_an_error_may_say_that_fewer_tries_are_worth_it() -> None:
    destination = Destination(httpx.Response(522))

    async def scenario() -> None:
        with pytest.raises(Unavailable, match="3 attempts"):
            await client(destination, classify=failing(Unavailable, 3)).send("GET", "x", idempotent=True)

    run(scenario)
    assert len(destination.asked) == 3


def every_other(destination: Destination, count: int, budget: Budget) -> int:
    """So many calls, of which each is refused once; how many failed for good."""
    state = {"calls": 0}

    async def answer(request: httpx.Request) -> httpx.Response:
        state["calls"] += 1
        return httpx.Response(503) if state["calls"] % 2 else ok()

    destination.script = [answer]

    async def scenario() -> int:
        http, failed = client(destination, budget=budget), 0
        for _ in range(count):
            try:
                await http.send("GET", "x", idempotent=True)
            except Unavailable:
                failed += 1
        return failed

    return run(scenario)


def test_P19_a_run_repeats_no_more_than_a_fifth_of_its_calls_and_ten() -> None:
    destination, budget = Destination(ok()), Budget()
    assert every_other(destination, 100, budget) > 0
    assert budget.first == 100
    assert len(destination.asked) - budget.first <= 10 + 0.2 * 100
    assert every_other(Destination(ok()), 10, Budget()) == 0


def test_P19_two_clients_of_one_run_share_what_may_be_repeated() -> None:
    budget = Budget()
    every_other(Destination(ok()), 40, budget)
    assert every_other(Destination(ok()), 10, budget) > 0


async def one(http: Http) -> None:
    with pytest.raises(Throttled):
        await http.send("GET", "x", idempotent=True)


def test_P19_all_calls_of_a_batch_together_are_repeated_six_times_at_most() -> None:
    destination = Destination(httpx.Response(429))

    async def scenario() -> None:
        http = client(destination)
        with of_one_batch():
            await one(http)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one, http)
                tasks.start_soon(one, http)

    run(scenario)
    assert len(destination.asked) == 3 + 6


def test_P19_another_batch_has_tries_of_its_own() -> None:
    destination = Destination(httpx.Response(429))

    async def scenario() -> None:
        http = client(destination)
        for _ in range(2):
            with of_one_batch():
                await one(http)

    run(scenario)
    assert len(destination.asked) == 2 * 6


def test_a_pause_told_to_be_very_long_holds_for_all_and_is_sat_out_by_nobody() -> None:
    destination = Destination(httpx.Response(429, headers={"Retry-After": "7200"}))

    async def scenario() -> None:
        http = client(destination)
        await one(http)
        started = destination.clock.monotonic()
        with pytest.raises(Throttled, match="120 minutes of it are left"):
            await http.send("GET", "x", idempotent=True)
        assert destination.clock.monotonic() == started
        await anyio.sleep(7200 - 600)
        destination.script = [ok()]
        await http.send("GET", "x", idempotent=True)
        assert destination.clock.monotonic() >= started + 7200

    run(scenario)
    assert len(destination.asked) == 2
