"""Asked to stop: pauses end at once, what is on the wire is finished and recorded."""

from __future__ import annotations

import anyio
import httpx
import pytest

from reverse_etl.deliver import deliver
from reverse_etl.errors import AuthError, InDoubt, Interrupted
from reverse_etl.model import Batch
from reverse_etl.pace import Pace
from reverse_etl.plan import Parcel
from reverse_etl.stop import Stop, unless_asked
from reverse_etl.testing import MemoryAccount, MemoryDestination
from reverse_etl.verdicts import Outcomes, Verdict
from tests.house import FIELDS
from tests.unit.test_deliver import Book, parcel
from tests.unit.test_http import Destination, client, ok
from tests.virtual_time import VirtualClock, run, run_beside_threads


class Posting(MemoryDestination):
    """A destination that makes one real call a batch; every row of an answered one is created."""

    def __init__(self, http: object) -> None:
        super().__init__(account=MemoryAccount(*FIELDS))
        self.http = http

    async def write(self, batch: Batch) -> Outcomes:
        await self.http.send("POST", "x", json={"keys": batch.keys.to_pylist()}, idempotent=True)  # type: ignore[attr-defined]
        outcomes = Outcomes(len(batch))
        for place in range(len(batch)):
            outcomes.created(place, f"r{place}")
        return outcomes


def delivering(
    destination: Destination, *parcels: Parcel, after: float, pace: Pace | None = None, slots: int = 2
) -> tuple[Book, float]:
    """What was recorded of these parcels when asked to stop after so many seconds, and how long it then took."""
    book, stop = Book(), Stop()

    async def scenario() -> float:
        http = client(destination, **({"pace": pace} if pace is not None else {}))

        async def ask() -> None:
            await anyio.sleep(after)
            stop.ask(Interrupted("by a signal", exit_code=143))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            started = destination.clock.monotonic()
            with stop.heeded(), pytest.raises(Interrupted, match="by a signal") as caught:
                await deliver(iter([list(parcels)]), Posting(http), book.record, stop, slots=slots)
            assert caught.value.exit_code == 143
        return destination.clock.monotonic() - started - after

    return book, run_beside_threads(scenario)


async def slowly(request: httpx.Request) -> httpx.Response:
    await anyio.sleep(5)
    return ok()


def test_a_call_on_the_wire_is_finished_and_recorded_and_one_that_waits_for_a_place_is_not_made() -> None:
    destination = Destination(slowly)
    pace = Pace(requests=1, per_seconds=100, clock=destination.clock)
    book, took = delivering(destination, parcel(["a"]), parcel(["b"]), parcel(["c"]), after=2, pace=pace)
    assert (book.verdicts, took) == ({"a": Verdict.CREATED}, 3)
    assert len(destination.asked) == 1


def test_a_pause_before_a_repeat_is_not_sat_out_and_its_rows_stay_pending() -> None:
    destination = Destination(httpx.Response(429, headers={"retry-after": "600"}))
    book, took = delivering(destination, parcel(["a"]), after=10)
    assert (book.verdicts, took) == ({}, 0)


def test_rows_of_a_call_that_may_have_been_carried_out_are_in_doubt_when_no_repeat_settles_it() -> None:
    destination = Destination(httpx.Response(500, headers={"retry-after": "600"}))
    book, took = delivering(destination, parcel(["a"]), after=10)
    assert (book.verdicts, took) == ({"a": Verdict.NO_ANSWER}, 0)


def test_nothing_begins_to_wait_after_the_stop() -> None:
    stop = Stop()
    stop.ask()
    with pytest.raises(Interrupted), stop.heeded():
        run(_waiting)


async def _waiting() -> None:
    with unless_asked():
        await anyio.sleep(100)


def test_a_wait_that_nobody_interrupts_is_a_wait() -> None:
    async def scenario() -> float:
        clock, stop = VirtualClock(), Stop()
        started = clock.monotonic()
        await _waiting()
        with stop.heeded():
            await _waiting()
        return clock.monotonic() - started

    assert run(scenario) == 200


def test_the_failure_of_another_call_is_no_reason_for_doubt() -> None:
    async def scenario() -> None:
        stop = Stop()
        stop.ask(InDoubt("another call was cut"))
        with stop.heeded(), unless_asked():
            await anyio.sleep(1)

    with pytest.raises(Interrupted, match="asked to stop"):
        run(scenario)


def test_a_failure_of_one_slot_ends_the_waits_of_the_others() -> None:
    destination = Destination(httpx.Response(401), ok())
    pace = Pace(requests=1, per_seconds=1000, clock=destination.clock)
    book, stop = Book(), Stop()

    async def scenario() -> float:
        started = destination.clock.monotonic()
        http = client(destination, pace=pace)
        with stop.heeded(), pytest.raises(AuthError):
            await deliver(iter([[parcel(["a"]), parcel(["b"])]]), Posting(http), book.record, stop, slots=2)
        return destination.clock.monotonic() - started

    assert run_beside_threads(scenario) == 0
    assert book.verdicts == {}


def test_who_cancels_a_delivery_from_outside_waits_for_what_is_on_the_wire_and_has_it_recorded() -> None:
    destination = Destination(slowly)
    book = Book()

    async def scenario() -> float:
        started = destination.clock.monotonic()
        with anyio.move_on_after(1):
            await deliver(iter([[parcel(["a"])]]), Posting(client(destination)), book.record, Stop(), slots=2)
        return destination.clock.monotonic() - started

    assert run_beside_threads(scenario) == 5
    assert book.verdicts == {"a": Verdict.CREATED}


def test_everybody_who_wants_to_know_is_told_and_later_comers_at_once() -> None:
    stop, told = Stop(), list[str]()
    with stop.telling(lambda: told.append("first")), stop.telling(lambda: told.append("second")):
        stop.ask()
        with stop.telling(lambda: told.append("third")):
            pass
    stop.ask()
    assert told == ["first", "second", "third"]
