"""Who schedules, and what goes over to the next one: on a real PostgreSQL, by its clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
import sqlalchemy as sa

from reverse_etl.daemon import notebook
from reverse_etl.daemon.notebook import SIGNATURES, WISHES, SharedNotebook
from reverse_etl.daemon.seat import Seat
from reverse_etl.errors import StateError, SyncBusy
from reverse_etl.project import Project
from reverse_etl.state import lease
from reverse_etl.state.lease import Term
from tests.unit.daemon.day import START

PROJECT = 'sources: {{w: {{url: "duckdb:///w.duckdb"}}}}\nstate: {{url: "{url}"}}\n'


@pytest.fixture
def project(tmp_path: Path, postgres: str) -> Project:
    (tmp_path / "reverse_etl.yml").write_text(PROJECT.format(url=postgres))
    return Project.load(tmp_path)


@pytest.fixture
def seats(project: Project) -> Iterator[Callable[[], Seat]]:
    """Seats of daemons on one state, given up in the end."""
    with ExitStack() as stack:

        def make() -> Seat:
            seat = Seat(lambda: project)
            stack.callback(anyio.run, seat.leave)
            return seat

        yield make


def tried(seat: Seat) -> bool:
    return anyio.run(seat.tried)


def execute(url: str, statement: str) -> None:
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text(statement))


def test_P36_one_daemon_has_the_seat_and_the_next_one_when_it_is_left(seats: Callable[[], Seat]) -> None:
    first, second = seats(), seats()
    assert (tried(first), tried(second)) == (True, False)
    assert (first.mine, second.mine, second.shared) == (True, False, False)
    assert second.other.startswith("another daemon schedules for this state (process ")
    anyio.run(first.leave)
    assert (tried(second), second.mine, second.other) == (True, True, "")


def test_P37_a_dead_daemon_s_seat_is_free_when_its_lease_has_ended(
    seats: Callable[[], Seat], postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "DAEMON", Term(lasts=30.0, beat=60.0))  # dead: it never beats
    dead, other = seats(), seats()
    assert (tried(dead), tried(other)) == (True, False)
    execute(postgres, "UPDATE leases SET expires_at = clock_timestamp() - interval '1 second'")
    assert tried(other)


def test_P36_a_daemon_whose_seat_was_taken_gives_no_order_any_more(
    seats: Callable[[], Seat], postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "DAEMON", Term(lasts=30.0, beat=60.0))
    slept, other = seats(), seats()
    assert tried(slept)
    with slept.right_now().ordering("people", START):
        pass
    execute(postgres, "UPDATE leases SET expires_at = '-infinity'")
    assert tried(other)
    with pytest.raises(SyncBusy, match="another daemon schedules by now"), slept.right_now().ordering("people", START):
        raise AssertionError("an order was given")


def test_a_daemon_hears_with_its_next_beat_that_it_lost_the_seat(
    seats: Callable[[], Seat], postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "DAEMON", Term(lasts=30.0, beat=0.2))
    slept = seats()
    assert tried(slept)
    execute(postgres, "UPDATE leases SET token = token + 1")

    async def heard() -> None:
        with anyio.fail_after(30):
            while not slept.lost:  # noqa: ASYNC110  # a thread tells
                await anyio.sleep(0.05)

    anyio.run(heard)
    assert not slept.mine


def test_a_daemon_that_does_not_reach_the_database_starts_nothing_after_its_lease(
    seats: Callable[[], Seat], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "DAEMON", Term(lasts=0.2, beat=60.0))
    cut_off = seats()
    assert tried(cut_off)
    anyio.run(anyio.sleep, 0.25)
    assert (cut_off.mine, cut_off.lost) == (False, False)


def test_the_next_daemon_knows_for_which_times_syncs_were_ordered(seats: Callable[[], Seat]) -> None:
    first, second = seats(), seats()
    assert tried(first)
    for name, due in (("people", START), ("people", START - timedelta(hours=1)), ("companies", START)):
        with first.right_now().ordering(name, due):
            pass
    with pytest.raises(ZeroDivisionError), first.right_now().ordering("leads", START):
        raise ZeroDivisionError  # the order could not be given: nothing of it stands
    anyio.run(first.leave)
    assert tried(second)
    assert second.ordered() == {"people": START, "companies": START}


def test_a_seat_in_a_file_s_state_is_always_free(tmp_path: Path) -> None:
    (tmp_path / "reverse_etl.yml").write_text('sources: {w: {url: "duckdb:///w.duckdb"}}\n')
    seat = Seat(lambda: Project.load(tmp_path))
    assert tried(seat)
    assert (seat.mine, seat.lost, seat.shared, seat.ordered()) == (True, False, False, {})


# --- what daemons remember together -----------------------------------------------------------------------------------


def test_what_one_daemon_remembers_the_next_one_knows(project: Project, seats: Callable[[], Seat]) -> None:
    assert tried(seats())  # makes the tables
    first, second = SharedNotebook(project), SharedNotebook(project)

    async def remembers() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.run)
            first.write(WISHES, {"people": True})
            first.write(SIGNATURES, {"message-1": 7})
            await first.settled()
            first.write(WISHES, {})
            await first.settled()
            tasks.cancel_scope.cancel()

    anyio.run(remembers)
    second.open()
    assert (second.page(WISHES), second.page(SIGNATURES)) == ({}, {"message-1": 7})


def test_a_wish_that_the_database_does_not_take_is_not_promised(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook, "SETTLE_SECONDS", 0.1)

    async def remembers() -> None:
        pages = SharedNotebook(project)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pages.run)  # there are no tables
            pages.write(WISHES, {"people": True})
            with pytest.raises(StateError, match="doesn't take what the daemon must remember"):
                await pages.settled()
            tasks.cancel_scope.cancel()

    anyio.run(remembers)
