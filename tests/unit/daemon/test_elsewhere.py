"""Runs and orders that others give or carry out: commands, workers, and the daemon that scheduled before."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverse_etl.clock import text
from reverse_etl.daemon.agenda import Agenda, Phase
from reverse_etl.daemon.alerts import Watch
from reverse_etl.daemon.courier import Courier
from reverse_etl.daemon.definitions import Definitions
from reverse_etl.daemon.elsewhere import Elsewhere
from reverse_etl.daemon.forecast import outlooks
from reverse_etl.daemon.life import Life
from reverse_etl.daemon.metrics import Metrics
from reverse_etl.daemon.notebook import Notebook
from reverse_etl.daemon.rhythm import Past
from reverse_etl.daemon.scheduler import Scheduler
from reverse_etl.daemon.turn import Turn
from reverse_etl.project import Project
from reverse_etl.report import RunReport, RunStatus
from reverse_etl.state.scheduling import Seen
from reverse_etl.testing import FakeClock
from tests.unit.daemon.day import START, Day, at, report, sync
from tests.unit.daemon.desk import Clocks, Desk

# --- the agenda -------------------------------------------------------------------------------------------------------


def told(name: str, started: str, ended: str, status: RunStatus = RunStatus.SUCCEEDED) -> RunReport:
    return RunReport(name, f"run-of-{name}", at(started), status, finished_at=at(ended))


def test_a_parent_that_was_run_by_a_command_is_followed_by_its_children() -> None:
    day = Day()
    day.define(sync("a", None), sync("c", after=["a"]))
    day.until("12:10")
    assert set(day.agenda.learn("a", told("a", "12:08", "12:09"))) == {"a", "c"}
    day.until("12:11")
    assert day.times("c") == ["12:10"]


def test_a_command_that_ran_parent_and_child_leaves_nothing_to_do() -> None:
    day = Day()
    day.define(sync("a", None), sync("c", after=["a"]))
    day.until("12:10")
    day.agenda.learn("a", told("a", "12:08", "12:09"))
    day.agenda.learn("c", told("c", "12:09", "12:10"))
    day.until("13:00")
    assert day.times("c") == []


def test_a_parent_that_failed_for_a_command_holds_its_children() -> None:
    day = Day()
    day.define(sync("a", None), sync("c", after=["a"]))
    day.agenda.learn("a", told("a", "11:00", "11:01", RunStatus.FAILED))
    day.until("13:00")
    assert (day.times("c"), day.agenda.held_by("c")) == ([], ["a"])


def test_an_interval_counts_from_the_start_of_a_command_s_run() -> None:
    day = Day()
    day.define(sync(schedule="every 15 minutes"))
    day.until("12:10")
    day.agenda.learn("people", told("people", "12:09", "12:10"))
    day.until("12:30")
    assert day.times() == ["12:00", "12:24"]


def test_news_of_a_run_before_the_last_one_change_nothing() -> None:
    day = Day()
    day.define(sync(schedule="every 15 minutes"))
    day.until("12:16")
    assert day.agenda.learn("people", told("people", "12:01", "12:02")) == []
    day.until("12:30")
    assert day.times() == ["12:00", "12:15", "12:30"]


def test_P37_a_run_that_lost_its_process_elsewhere_is_gone_on_with_at_once() -> None:
    day = Day()
    running = RunReport("people", "run", at("11:58"), RunStatus.RUNNING)
    day.define(sync(schedule="every 1 hour"), past=Past.of(running, alive=True))
    day.until("12:10")
    assert day.times() == [], "it is under way elsewhere"
    day.agenda.abandon("people")
    day.until("12:20")
    assert day.times() == ["12:10"]


def test_an_order_that_stands_counts_for_its_time() -> None:
    day = Day()
    day.define(sync(schedule="*/10 * * * *"), past=Past(at("11:50"), at("11:51")))
    day.agenda.adopt("people", at("12:00"))
    assert (day.agenda["people"].phase, day.agenda["people"].due) == (Phase.WAITING, at("12:10"))
    day.agenda.begin("people", at("12:00"))
    day.agenda.end("people", report("people"))
    day.until("12:25")
    assert day.times() == ["12:10", "12:20"]


def test_a_parent_that_ended_while_nobody_scheduled_is_followed_once_more() -> None:
    day = Day()
    day.define(sync("a", None), past=Past(at("11:54"), at("11:55")))
    day.define(sync("c", after=["a"]), past=Past(at("11:00"), at("11:01")))
    day.agenda.adopt("c", at("11:50"))  # ordered for an end before
    day.agenda.begin("c", at("11:50"))
    day.agenda.end("c", report("c"))
    day.until("12:10")
    assert day.times("c") == ["12:00"]


@given(st.lists(st.integers(1, 1200), min_size=1, max_size=4), st.integers(0, 90))
def test_P55_whenever_another_daemon_takes_over_every_time_is_run_once(after: list[int], gap: int) -> None:
    """Each daemon is gone so many seconds after it took over; the next one knows only what is on record."""
    clock, last, starts = FakeClock(START), Past(START), []  # in force since then
    for seconds in after:
        day = Day(clock)
        day.define(sync(schedule="*/5 * * * *"), past=last)
        day.until(clock.now() + timedelta(seconds=seconds))
        starts += [moment for _, moment in day.begun]
        entry = day.agenda["people"]
        last = replace(entry.past, owed=entry.phase is Phase.RUNNING)
        if last.owed:  # killed during a run: the next one goes on with it
            starts.pop()
            last = replace(last, started_at=starts[-1] if starts else START, owed=False)
        clock.advance(timedelta(seconds=gap))
    ticks = [int((moment - START).total_seconds() // 300) for moment in starts]
    assert len(ticks) == len(set(ticks)), "one time was run twice"
    assert starts == sorted(starts)
    missed = set(range(1, ticks[-1] + 1)) - set(ticks) if ticks else set()
    assert not missed, "a gap of 90 seconds lets no time of five minutes go by"


def a_turn(root: Path, clock: FakeClock) -> Agenda:
    """What a daemon that starts now makes of the folder."""
    definitions, scheduler, notebook = Definitions(root, {}), Scheduler(clock), Notebook(root)
    definitions.read()
    notebook.open()
    turn = Turn(clock, definitions, notebook, scheduler, Life(clock))
    metrics = Metrics(scheduler.agenda, turn.pool, lambda: {})
    courier = Courier(lambda: {}, lambda page: None, str, clock)
    turn.listen(metrics, Watch(clock, courier.take, lambda page: None), courier)
    scheduler.attach(Clocks(), turn.pool)

    async def begins() -> None:
        assert await turn.seat.tried()
        await turn.begin()

    anyio.run(begins)
    return scheduler.agenda


def test_a_first_time_that_came_while_nobody_scheduled_is_made_up_for(tmp_path: Path) -> None:
    desk, clock = Desk(tmp_path), FakeClock(START)
    desk.define("people", "schedule: 0 13 * * *")
    assert a_turn(tmp_path, clock)["people"].due == at("13:00")
    clock.advance(timedelta(hours=2))
    assert a_turn(tmp_path, clock)["people"].due == at("13:00"), "it is owed"
    desk.define("people", "schedule: 30 13 * * *")
    assert a_turn(tmp_path, clock)["people"].due == at("2026-06-02 13:30"), "another line counts from now on"


# --- the record -------------------------------------------------------------------------------------------------------


class Book:
    """`state.scheduling.Lookout` over a list."""

    def __init__(self) -> None:
        self.runs: dict[str, Seen] = {}

    def write(self, run_id: str, sync: str = "people", *, ended: bool = True, held: bool | None = None) -> None:
        self.runs[run_id] = Seen(run_id, sync, ended, held)

    def look(self, since: str, known: set[str]) -> list[Seen]:
        return [each for run_id, each in sorted(self.runs.items()) if run_id > since or run_id in known]

    def report(self, run_id: str) -> dict[str, object]:
        moment = datetime.strptime(run_id[:15], "%Y%m%dT%H%M%S")
        found = RunReport(self.runs[run_id].sync, run_id, START, RunStatus.SUCCEEDED, finished_at=START)
        return {**found.to_json(), "started_at": text(moment.replace(tzinfo=START.tzinfo))}


class Shelf:
    """A project and its parts, as far as `Elsewhere` needs them."""

    def __init__(self, book: Book) -> None:
        self.parts = self
        self.lookout = lambda: book


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def elsewhere(book: Book) -> Elsewhere:
    return Elsewhere(FakeClock(START), lambda: cast(Project, Shelf(book)))


def test_the_end_of_a_run_is_told_once(book: Book, elsewhere: Elsewhere) -> None:
    book.write("20260601T115959-a", ended=False)
    assert elsewhere.look(()).ended == []
    book.write("20260601T115959-a")
    assert [run.run_id for run in elsewhere.look(()).ended] == ["20260601T115959-a"]
    assert elsewhere.look(()).ended == []


def test_a_run_that_began_long_ago_is_told_when_it_ends(book: Book, elsewhere: Elsewhere) -> None:
    elsewhere.begin([RunReport("people", "20260601T080000-a", at("08:00"), RunStatus.RUNNING)])
    book.write("20260601T080000-a")
    assert [run.sync for run in elsewhere.look(()).ended] == ["people"]


def test_what_is_known_at_the_start_and_runs_of_one_s_own_are_no_news(book: Book, elsewhere: Elsewhere) -> None:
    mine = RunReport("people", "20260601T115959-b", START, RunStatus.SUCCEEDED)
    elsewhere.begin([RunReport("people", "20260601T115959-a", START, RunStatus.SUCCEEDED)])
    elsewhere.mine(mine)
    book.write("20260601T115959-a")
    book.write("20260601T115959-b")
    assert elsewhere.look(()).ended == []


def test_runs_of_a_busy_sync_are_told_later(book: Book, elsewhere: Elsewhere) -> None:
    book.write("20260601T115959-a")
    assert elsewhere.look(["people"]).ended == []
    assert len(elsewhere.look(()).ended) == 1
    elsewhere.later(RunReport("people", "20260601T115959-a", START))
    assert len(elsewhere.look(()).ended) == 1


def test_P37_a_run_whose_lease_has_ended_without_it_is_abandoned(book: Book, elsewhere: Elsewhere) -> None:
    book.write("20260601T115959-a", ended=False, held=True)
    news = elsewhere.look(())
    assert (news.alive, news.abandoned) == (frozenset({"people"}), [])
    book.write("20260601T115959-a", ended=False, held=False)
    assert elsewhere.look(()).abandoned == ["people"]
    assert elsewhere.look(()).abandoned == []


def test_a_dead_run_that_another_has_followed_is_no_news(book: Book, elsewhere: Elsewhere) -> None:
    book.write("20260601T115958-a", ended=False, held=True)
    book.write("20260601T115959-b", ended=False, held=True)
    elsewhere.look(())
    book.write("20260601T115958-a", ended=False, held=False)
    book.write("20260601T115959-b")
    assert elsewhere.look(()).abandoned == []


# --- without a daemon -------------------------------------------------------------------------------------------------


def test_next_runs_are_what_a_daemon_would_make_of_the_record() -> None:
    syncs = {
        each.name: each
        for each in (
            sync("often", "every 15 minutes", jitter="5m"),
            sync("daily", "0 6 * * *"),
            sync("child", after=["often"]),
            sync("waiting", after=["failed"]),
            sync("failed", None),
        )
    }
    last = {
        "often": told("often", "11:50", "11:51"),
        "child": told("child", "11:52", "11:53"),
        "failed": told("failed", "11:00", "11:01", RunStatus.FAILED),
    }
    found = outlooks(syncs, last, FakeClock(START))
    assert {name: each.next_run_at for name, each in found.items()} == {
        "often": at("12:05"),
        "daily": at("2026-06-02 06:00"),
        "child": None,
        "waiting": None,
        "failed": None,
    }
    assert found["waiting"].held_by == ["failed"]
