"""Rate limits that several processes keep together, on a real PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
import sqlalchemy as sa

from reverse_etl.clock import SYSTEM
from reverse_etl.errors import DailyLimit
from reverse_etl.pace import Pace
from reverse_etl.quota import Quota
from reverse_etl.state import places
from reverse_etl.state.places import SharedPlaces
from reverse_etl.state.store import StateStore

ROOT = Path(__file__).parents[3]

# One process of many: calls as fast as it may, and says when each arrived. Their steady clock is the machine's.
WORKER = """
import random, sys, time
import anyio
from reverse_etl.clock import SYSTEM
from reverse_etl.pace import Pace
from reverse_etl.state.places import SharedPlaces

url, requests, per_seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
pace = Pace(requests=requests, per_seconds=per_seconds, clock=SYSTEM, places=SharedPlaces(url, "account"))
arrivals = []
print("ready", flush=True)
until = float(sys.stdin.readline())

async def caller():
    while time.monotonic() < until:
        async with pace.slot():
            await anyio.sleep(random.uniform(0.0, 0.02))
            arrivals.append(time.monotonic())
            await anyio.sleep(random.uniform(0.0, 0.02))

async def work():
    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(caller)

anyio.run(work)
print(*arrivals)
"""


@pytest.fixture
def url(postgres: str) -> str:
    store = StateStore(postgres)
    store.prepare()
    store.close()
    return postgres


@pytest.fixture
def process(url: str) -> Iterator[Callable[..., SharedPlaces]]:
    """Makes what another process would have: its own count of the same places."""
    made: list[SharedPlaces] = []

    def make(limiter: str = "account") -> SharedPlaces:
        made.append(SharedPlaces(url, limiter))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def shared(process: Callable[..., SharedPlaces]) -> SharedPlaces:
    return process()


def most_in_any(window: float, arrivals: list[float]) -> int:
    ordered = sorted(arrivals)
    return max(sum(1 for later in ordered[at:] if later < first + window) for at, first in enumerate(ordered))


def started(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_P18_several_processes_never_exceed_the_account_s_allowance_and_use_nine_tenths_of_it(url: str) -> None:
    allowance, window, seconds = 100, 5.0, 11.0
    workers = [started(url, str(allowance), str(window)) for _ in range(3)]
    assert all(worker.stdout is not None and worker.stdout.readline() == "ready\n" for worker in workers)
    until = time.monotonic() + seconds
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(f"{until}\n")
        worker.stdin.flush()
    arrivals = [[float(moment) for moment in worker.communicate()[0].split()] for worker in workers]
    assert all(worker.returncode == 0 for worker in workers)
    together = sorted(moment for each in arrivals for moment in each)
    assert most_in_any(window, together) <= allowance
    steady = [moment for moment in together if until - 2 * window <= moment < until]
    assert len(steady) > 0.9 * 2 * allowance
    assert all(each for each in arrivals)


def taken(
    mine: SharedPlaces, requests: int = 10, per_seconds: float = 10.0, within: float = 10.0, most: int = 99
) -> int:
    """How many places can be had."""
    number, until = 0, time.monotonic() + within
    while time.monotonic() < until and number < most:
        if mine.take(requests, per_seconds, lambda told: told):
            number += 1
        else:
            time.sleep(0.005)
    return number


def eventually(is_so: object) -> bool:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if callable(is_so) and is_so():
            return True
        time.sleep(0.01)
    return False


def test_an_allowance_is_given_out_once_among_two(process: Callable[..., SharedPlaces], shared: SharedPlaces) -> None:
    other = process()
    assert taken(shared, most=6) == 6
    assert taken(other, within=1.0) == 4
    assert taken(process("another account"), most=10) == 10


def test_places_that_nobody_uses_go_back_at_once(process: Callable[..., SharedPlaces], shared: SharedPlaces) -> None:
    other = process()
    for _ in range(30):  # it asks for many, and uses none of what it is given
        other.take(10, 10.0, lambda told: told)
    other.close()
    assert taken(shared, most=10 - other._open) == 10 - other._open


def test_an_answered_call_holds_its_place_for_a_window_more(shared: SharedPlaces) -> None:
    assert taken(shared, requests=2, per_seconds=0.5, most=2) == 2
    for _ in range(2):
        shared.give_back()
    answered = time.monotonic()
    assert taken(shared, requests=2, per_seconds=0.5, most=1) == 1
    assert time.monotonic() - answered >= 0.5


def test_a_killed_process_keeps_its_places_as_long_as_its_calls_could_have_taken(
    process: Callable[..., SharedPlaces], shared: SharedPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "LONGEST_CALL", 0.5)
    dead = process()
    assert taken(dead, requests=2, per_seconds=0.3, most=2) == 2  # and it never speaks again
    died = time.monotonic()
    assert taken(shared, requests=2, per_seconds=0.3, most=2) == 2
    assert time.monotonic() - died > 0.6


def test_what_one_process_is_told_of_the_window_holds_for_the_other(
    process: Callable[..., SharedPlaces], shared: SharedPlaces
) -> None:
    other = process()
    assert taken(other, most=1) == 1
    other.tell(5, 20.0)
    other.give_back()
    assert taken(shared, within=1.0) == 4
    assert (shared.heard.requests, shared.heard.per_seconds) == (5, 20.0)


def test_a_pause_that_one_process_is_asked_for_holds_for_the_other(
    url: str, process: Callable[..., SharedPlaces], shared: SharedPlaces
) -> None:
    other = Pace(requests=10, per_seconds=10, clock=SYSTEM, places=process())

    async def refused() -> None:
        async with other.slot():
            pass
        other.pause(30.0)

    anyio.run(refused)
    pace = Pace(requests=10, per_seconds=10, clock=SYSTEM, places=shared)

    async def waits() -> bool:
        with anyio.move_on_after(1.0) as patience:
            async with pace.slot():
                pass
        return patience.cancelled_caught

    assert eventually(lambda: _row(url) is not None)
    assert anyio.run(waits)
    assert 20 < shared.heard.not_before - time.monotonic() <= 30


def _row(url: str) -> object:
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        return connection.scalar(sa.text("SELECT not_before FROM limiters"))


def test_calls_of_strangers_take_places_too(process: Callable[..., SharedPlaces], shared: SharedPlaces) -> None:
    pace = Pace(requests=10, per_seconds=10, clock=SYSTEM, places=shared)

    async def call() -> None:
        async with pace.slot():
            pace.learn(remaining=2)  # one call was ours, seven were not

    anyio.run(call)
    other = process()
    shared.close()
    assert taken(other, within=1.0) == 2


def test_a_call_that_the_day_forbids_gives_its_place_back(shared: SharedPlaces) -> None:
    day = Quota(clock=SYSTEM, began=lambda now: now, used_up=lambda left, allowed: DailyLimit("none left"))
    pace = Pace(requests=10, per_seconds=10, clock=SYSTEM, places=shared, quota=day)

    async def call() -> None:
        async with pace.slot():
            day._began = lambda now: now.replace(year=2000)
            day.learn(100, 0)
        with pytest.raises(DailyLimit):
            await pace.acquire()

    anyio.run(call)
    assert shared._open == 0


def test_before_the_first_run_there_is_nothing_to_share(postgres: str) -> None:
    alone = SharedPlaces(postgres, "account")
    assert taken(alone, requests=3, most=5) == 5
    alone.close()
    engine = sa.create_engine(postgres, poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == []


def test_an_outage_of_the_database_gives_nobody_a_place_and_is_got_over(
    url: str, shared: SharedPlaces, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(places, "DISTURBED", 0.1)
    rename = "ALTER TABLE {} RENAME TO {}"
    assert taken(shared, most=1) == 1
    _execute(url, rename.format("places", "gone"))
    taken(shared, within=0.5)  # what had been given out before
    assert taken(shared, within=0.5) == 0
    assert "rate limit in the database was not reached" in caplog.text
    _execute(url, rename.format("gone", "places"))
    assert taken(shared, most=1) == 1


def _execute(url: str, sql: str) -> None:
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text(sql))


def test_an_idle_process_keeps_no_thread_and_no_connection(
    shared: SharedPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "IDLE", 0.1)
    assert taken(shared, most=1) == 1
    shared.give_back()
    assert eventually(lambda: shared._thread is None)
    assert taken(shared, most=1) == 1


def test_a_file_of_one_machine_shares_nothing(tmp_path: Path) -> None:
    assert places.places_of(f"sqlite:///{tmp_path}/state.db", "account") is None
