from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from reverse_etl.config.alerts import AlertRules
from reverse_etl.config.sync import SyncConfig
from reverse_etl.daemon.agenda import Agenda
from reverse_etl.daemon.alerts import Alert, Known, Watch
from reverse_etl.daemon.books import Standing
from reverse_etl.quota import Forecast
from reverse_etl.report import RowCounts, RunError, RunReport, RunStatus
from reverse_etl.testing import FakeClock
from tests.unit.daemon.day import START, sync

FAILED = RunError("source_connection", "the warehouse can't be reached", "check the network")


class Newsroom:
    """A watch over one sync, the runs it hears of, and the alerts that come of them."""

    def __init__(self, **rules: Any) -> None:
        self.clock = FakeClock(START)
        self.agenda = Agenda(self.clock)
        self.alerts: list[Alert] = []
        self.kept: dict[str, Any] = {}
        self.watch = Watch(self.clock, self.alerts.append, self._keep)
        self.define(sync(schedule="every 1 hour", alerts=AlertRules(**rules)))

    def define(self, definition: SyncConfig) -> None:
        from reverse_etl.daemon.rhythm import Past  # noqa: PLC0415

        self.agenda.define(definition, Past())

    def ends(self, status: str, error: RunError | None = None, **facts: Any) -> None:
        report = RunReport("people", "run-1", START, RunStatus(status), finished_at=START, error=error, **facts)
        self.watch.ended(self.agenda["people"], report)

    def events(self) -> list[str]:
        told = [str(alert.event) for alert in self.alerts]
        self.alerts.clear()
        return told

    def restart(self) -> None:
        """The daemon starts anew, with what it had kept."""
        known = {name: Known.of(page) for name, page in self.kept.items()}
        self.watch = Watch(self.clock, self.alerts.append, self._keep, known)

    def _keep(self, page: dict[str, Any]) -> None:
        self.kept = page


def test_only_changes_are_told() -> None:
    news = Newsroom()
    story: Iterable[tuple[str, list[str]]] = [
        ("succeeded", []),
        ("failed", ["failed"]),
        ("failed", []),
        ("failed", []),
        ("succeeded", ["recovered"]),
        ("succeeded", []),
    ]
    for status, told in story:
        news.ends(status, FAILED if status == "failed" else None)
        assert news.events() == told, status


def test_a_change_between_two_troubles_is_told() -> None:
    news = Newsroom()
    news.ends("failed", FAILED)
    news.ends("guarded", RunError("guard", "900 of 1,000 records would be removed", "look at the plan"))
    news.ends("partial", rejected=3)
    news.ends("succeeded")
    assert news.events() == ["failed", "guarded", "partial", "recovered"]


def test_an_alert_says_what_happened_and_what_is_next() -> None:
    news = Newsroom(to=("ops",))
    news.ends("failed", FAILED)
    (alert,) = news.alerts
    assert alert.text == "people has failed: the warehouse can't be reached"
    assert (alert.hint, alert.code, alert.run_id, alert.to) == (
        "check the network",
        "source_connection",
        "run-1",
        ("ops",),
    )


def test_a_partial_run_says_how_many_rows_and_where_to_look() -> None:
    news = Newsroom()
    news.ends("partial", rejected=1, in_doubt=1, rows=RowCounts(invalid=3))
    (alert,) = news.alerts
    assert alert.text == "people has delivered all but 5 rows, which stand refused"
    assert alert.hint == "`reverse-etl rejected people` tells which, and why"


def test_a_single_failure_may_be_no_news() -> None:
    news = Newsroom(failures=3)
    news.ends("failed", FAILED)
    news.ends("failed", FAILED)
    assert news.events() == []
    news.ends("failed", FAILED)
    assert news.alerts[0].text.startswith("people has failed 3 times in a row: ")
    news.ends("succeeded")
    assert news.events() == ["failed", "recovered"]


def test_a_failure_that_was_no_news_recovers_in_silence() -> None:
    news = Newsroom(failures=2)
    news.ends("failed", FAILED)
    news.ends("succeeded")
    news.ends("failed", FAILED)
    assert news.events() == []


def test_a_few_refused_rows_may_be_no_news() -> None:
    news = Newsroom(rejected=10)
    news.ends("partial", rejected=9)
    assert news.events() == []
    news.ends("partial", rejected=10)
    news.ends("partial", rejected=9)
    assert news.events() == ["partial", "recovered"]


def test_a_daily_limit_is_told_whatever_the_number_of_rows() -> None:
    news = Newsroom(rejected=10)
    news.ends("partial", RunError("daily_limit", "the allowance is used up until midnight"), pending=4)
    assert news.alerts[0].text == "people has ended early: the allowance is used up until midnight"


@pytest.mark.parametrize("status", ["skipped", "interrupted"])
def test_a_run_that_did_not_take_place_changes_nothing(status: str) -> None:
    news = Newsroom()
    news.ends("failed", FAILED)
    news.ends(status)
    news.ends("failed", FAILED)
    assert news.events() == ["failed"]


def test_what_was_told_is_not_told_again_after_a_restart() -> None:
    news = Newsroom()
    news.ends("failed", FAILED)
    news.restart()
    news.ends("failed", FAILED)
    assert news.events() == ["failed"]
    news.restart()
    news.ends("succeeded")
    assert news.events() == ["recovered"]
    assert news.kept == {}


@pytest.mark.parametrize("page", [{}, {"state": "failed"}, {"state": 1, "failures": "x", "silent": 0, "stuck": 0}])
def test_a_memory_that_reads_otherwise_is_none(page: dict[str, Any]) -> None:
    assert Known.of(page) == Known()


def test_a_sync_may_tell_some_kinds_of_news_only() -> None:
    news = Newsroom(events=("guarded",))
    news.ends("failed", FAILED)
    news.ends("guarded", RunError("guard", "too many"))
    news.ends("succeeded")
    assert news.events() == ["guarded"]


# --- silence ----------------------------------------------------------------------------------------------------------


def test_a_run_that_does_not_end_is_told_once() -> None:
    news = Newsroom(silent_after=timedelta(minutes=90))
    news.agenda.ring("people")
    news.agenda.begin("people")
    for minutes, told in ((89, []), (1, ["silent"]), (60, [])):
        news.clock.advance(timedelta(minutes=minutes))
        news.watch.look(news.agenda)
        if told:
            assert news.alerts[0].text == (
                "people is silent: a run was due at 2026-06-01T12:00:00.000Z, "
                "and it has been under way since 2026-06-01T12:00:00.000Z without an end"
            )
        assert news.events() == told
    news.agenda.end("people", RunReport("people", "r", START, finished_at=START))
    news.ends("succeeded")
    assert news.events() == ["recovered"]


def test_a_run_that_finds_no_place_is_told() -> None:
    news = Newsroom(silent_after=timedelta(minutes=10))
    news.agenda.ring("people")
    news.clock.advance(timedelta(minutes=10))
    news.watch.look(news.agenda)
    assert "it has been waiting for a free place since" in news.alerts[0].text


def test_a_sync_that_another_process_holds_for_long_is_told() -> None:
    news = Newsroom(silent_after=timedelta(minutes=10))
    for _ in range(2):
        news.agenda.ring("people")
        news.agenda.begin("people")
        news.agenda.end("people", RunReport("people", "", START, RunStatus.SKIPPED, finished_at=START))
        news.clock.advance(timedelta(hours=1))
    news.watch.look(news.agenda)
    assert "none has ended since: another process holds the sync" in news.alerts[0].text


def test_a_daemon_that_was_down_for_days_does_not_cry_at_its_start() -> None:
    from reverse_etl.daemon.rhythm import Past  # noqa: PLC0415

    news = Newsroom()
    past = Past(START - timedelta(days=3), START - timedelta(days=3))
    news.agenda.define(sync("late", "every 1 hour"), past)
    news.agenda.ring("late")
    news.watch.look(news.agenda)
    assert news.events() == []


def test_an_idle_sync_is_not_silent() -> None:
    news = Newsroom()
    news.agenda.define(sync("people", None), news.agenda["people"].past)
    news.clock.advance(timedelta(days=10))
    news.watch.look(news.agenda)
    assert news.events() == []


# --- rows -------------------------------------------------------------------------------------------------------------


def test_rows_that_stand_refused_for_long_are_told_once_and_when_they_are_gone() -> None:
    news = Newsroom(stuck_after=timedelta(hours=6))
    standing = {"people": Standing(rejected=2, in_doubt=1, oldest=START)}
    for hours, told in ((5, []), (1, ["stuck"]), (5, [])):
        news.clock.advance(timedelta(hours=hours))
        news.watch.look_at_rows(news.agenda, standing)
        if told:
            (alert,) = news.alerts
            assert alert.text == "people has 3 rows that stand refused, the oldest since 2026-06-01T12:00:00.000Z"
        assert news.events() == told
    news.watch.look_at_rows(news.agenda, {})
    assert news.events() == ["recovered"]


def test_a_sync_whose_file_is_gone_is_forgotten() -> None:
    news = Newsroom()
    news.ends("failed", FAILED)
    news.watch.forget("people")
    assert news.kept == {}


def test_an_account_whose_day_will_not_last_is_told_once_and_when_it_does_again() -> None:
    news = Newsroom(to=("ops",))
    midnight = START + timedelta(hours=12)
    short, long = (Forecast("the crm", 100, 1000, START + timedelta(hours=hours), midnight) for hours in (2, 20))
    for forecasts, told in (([], []), ([long], []), ([short], ["quota"]), ([short], []), ([], [])):
        news.watch.look_at_days(forecasts)
        assert news.events() == told
    news.restart()
    news.watch.look_at_days([short])
    assert news.events() == []
    news.watch.look_at_days([long])
    assert news.events() == ["recovered"]


def test_an_account_s_alert_says_when_its_calls_end_and_goes_to_everyone() -> None:
    news = Newsroom(to=("ops",))
    news.watch.look_at_days([Forecast("the crm", 100, 1000, START + timedelta(hours=2), START + timedelta(hours=12))])
    (alert,) = news.alerts
    assert alert.text == (
        "the crm: 100 of the day's 1,000 calls are left, which at the rate of the last hour end at "
        "2026-06-01T14:00:00.000Z; new ones come at 2026-06-02T00:00:00.000Z"
    )
    assert (alert.sync, alert.to) == ("the crm", None)
