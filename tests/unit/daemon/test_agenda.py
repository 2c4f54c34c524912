from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from reverse_etl.daemon.agenda import Decision, Phase
from reverse_etl.daemon.rhythm import Past
from reverse_etl.report import RunStatus
from tests.unit.daemon.day import START, Day, at, sync

MINUTE = timedelta(minutes=1)


def test_an_interval_is_due_at_once_and_then_by_elapsed_time() -> None:
    day = Day()
    day.define(sync(schedule="every 15 minutes"))
    day.until("13:00")
    assert day.times() == ["12:00", "12:15", "12:30", "12:45", "13:00"]


def test_a_cron_line_is_first_due_at_its_first_time() -> None:
    day = Day()
    day.define(sync(schedule="30 * * * *"))
    day.until("15:00")
    assert day.times() == ["12:30", "13:30", "14:30"]


def test_an_interval_goes_on_from_the_last_run_on_record() -> None:
    day = Day()
    day.define(sync(schedule="every 15 minutes"), past=Past(at("11:50"), at("11:51")))
    day.until("12:30")
    assert day.times() == ["12:05", "12:20"]


@pytest.mark.parametrize("schedule", ["every 15 minutes", "*/15 * * * *", "0 6 * * *"])
def test_P55_times_missed_while_the_daemon_was_down_fold_into_one_run(schedule: str) -> None:
    day = Day()
    day.define(sync(schedule=schedule), past=Past(at("2026-05-30 06:00"), at("2026-05-30 06:01")))
    assert day.agenda.missed("people") > 0
    day.until("12:14")
    assert day.times() == ["12:00"]


def test_P55_times_missed_while_the_machine_slept_fold_into_one_run() -> None:
    day = Day()
    day.define(sync(schedule="*/5 * * * *"))
    day.until("12:10")
    day.clock.advance(timedelta(hours=8, minutes=2))
    day.until("20:20")
    assert day.times()[-3:] == ["20:12", "20:15", "20:20"]


def test_P55_a_time_that_comes_during_a_run_is_left_out_and_recorded() -> None:
    day = Day(lasting={"people": timedelta(minutes=35)})
    day.define(sync(schedule="every 15 minutes"))
    day.until("12:34")
    assert day.times() == ["12:00"]
    assert [f"{moment:%H:%M}" for _, moment in day.skipped] == ["12:15", "12:30"]
    assert day.agenda["people"].skips.told() == (
        "2 runs were left out: they were due from 2026-06-01 12:15:00 UTC on, while this one was under way"
    )
    day.until("12:45")
    assert day.times() == ["12:00", "12:45"]


def test_one_that_was_left_out_is_told_as_one() -> None:
    day = Day(lasting={"people": timedelta(minutes=20)})
    day.define(sync(schedule="every 15 minutes"))
    day.until("12:19")
    assert day.agenda["people"].skips.told() == (
        "one run was left out: it was due at 2026-06-01 12:15:00 UTC, while this one was under way"
    )


def test_a_run_that_was_killed_is_gone_on_with_at_once() -> None:
    day = Day()
    day.define(sync(schedule="0 6 * * *"), past=Past(at("11:59"), None, good=False, owed=True))
    day.until("13:00")
    assert day.times() == ["12:00"]


def test_a_run_that_had_to_wait_starts_its_interval_when_it_starts() -> None:
    day = Day()
    day.define(sync(schedule="every 1 minute"))
    assert day.agenda.ring("people") is Decision.START
    day.clock.advance(timedelta(seconds=40))
    day.begin("people")
    day.until("12:02")
    assert day.starts() == ["06-01 12:00:40", "06-01 12:01:40"]


def test_intervals_keep_their_grid_when_runs_start_a_little_late() -> None:
    day = Day()
    day.define(sync(schedule="every 1 minute"))
    for _ in range(3):
        due = day.agenda["people"].due
        assert due is not None
        day.clock.advance(due - day.clock.now() + timedelta(milliseconds=40))
        day.agenda.ring("people")
        day.begin("people")
        day._end("people")
    assert day.agenda["people"].due == START + 3 * MINUTE


def test_chance_delays_a_run_and_not_the_rhythm() -> None:
    day = Day()  # the fake clock's chance is always the most
    day.define(sync(schedule="0 * * * *", jitter="5m"))
    day.until("15:30")
    assert day.times() == ["13:05", "14:05", "15:05"]


def test_chance_does_not_add_up_over_an_intervals_runs() -> None:
    day = Day()
    day.define(sync(schedule="every 1 hour", jitter="5m"))
    day.until("15:30")
    assert day.times() == ["12:05", "13:05", "14:05", "15:05"]


def test_a_wish_is_a_start_that_an_interval_counts_from() -> None:
    day = Day()
    day.define(sync(schedule="every 15 minutes"))
    day.until("12:07")
    day.agenda.ask("people")
    day.begin("people")
    day.until("12:40")
    assert day.times() == ["12:00", "12:07", "12:22", "12:37"]


# --- quiet hours ------------------------------------------------------------------------------------------------------


def test_what_falls_into_quiet_hours_is_made_up_for_once_when_they_end() -> None:
    day = Day()
    day.define(sync(schedule="every 1 hour", quiet="14:30-17:15"))
    day.until("19:30")
    assert day.times() == ["12:00", "13:00", "14:00", "17:15", "18:15", "19:15"]
    assert day.skipped == []


def test_a_start_in_quiet_hours_waits_for_their_end() -> None:
    day = Day()
    day.define(
        sync(schedule="0 6 * * *", quiet="08:00-18:00"), past=Past(at("2026-05-30 06:00"), at("2026-05-30 06:01"))
    )
    day.until("23:00")
    assert day.times() == ["18:00"]


def test_a_wish_is_granted_in_quiet_hours_too() -> None:
    day = Day()
    day.define(sync(schedule="0 6 * * *", quiet="08:00-18:00"))
    assert day.agenda.ask("people") is Decision.START


# --- after others -----------------------------------------------------------------------------------------------------


def test_a_child_runs_when_the_last_of_its_parents_has_ended() -> None:
    day = Day(lasting={"a": 5 * MINUTE, "b": 10 * MINUTE})
    day.define(sync("a", "every 1 hour"), sync("b", "every 1 hour"), sync("c", after=["a", "b"]))
    day.until("13:30")
    assert day.times("c") == ["12:10", "13:10"]


def test_a_chain_runs_in_its_order() -> None:
    day = Day(lasting={"a": MINUTE, "b": MINUTE})
    day.define(sync("c", after=["b"]), sync("b", after=["a"]), sync("a", "every 1 hour"))
    day.until("12:30")
    assert [name for name, _ in day.begun] == ["a", "b", "c"]


def test_a_child_of_a_failed_parent_waits_until_it_succeeds() -> None:
    day = Day(ending={"a": RunStatus.FAILED})
    day.define(sync("a", "every 1 hour"), sync("c", after=["a"]))
    day.until("13:30")
    assert day.times("c") == []
    assert day.agenda.held_by("c") == ["a"]
    day.ending["a"] = RunStatus.PARTIAL
    day.until("14:30")
    assert day.times("c") == ["14:00"]
    assert day.agenda.held_by("c") == []


def test_a_child_may_be_told_to_run_after_a_failure_too() -> None:
    day = Day(ending={"a": RunStatus.FAILED})
    day.define(sync("a", "every 1 hour"), sync("c", after=["a"], after_failure="run"))
    day.until("12:30")
    assert day.times("c") == ["12:00"]


def test_parents_that_end_during_a_childs_run_give_it_one_more() -> None:
    day = Day(lasting={"c": 25 * MINUTE})
    day.define(sync("a", "every 10 minutes"), sync("c", after=["a"]))
    day.until("13:00")
    assert day.times("c") == ["12:00", "12:25", "12:50"]


def test_a_child_whose_parent_ended_before_a_crash_runs_after_the_start() -> None:
    day = Day()
    day.define(sync("a", "0 6 * * *"), past=Past(at("06:00"), at("06:05")))
    day.define(sync("c", after=["a"]), past=Past(at("2026-05-31 06:05"), at("2026-05-31 06:06")))
    day.until("12:30")
    assert day.times("c") == ["12:00"]


def test_a_child_that_has_run_since_its_parent_does_not_run_again_after_the_start() -> None:
    day = Day()
    day.define(sync("a", "0 6 * * *"), past=Past(at("06:00"), at("06:05")))
    day.define(sync("c", after=["a"]), past=Past(at("06:05"), at("06:06")))
    day.until("23:00")
    assert day.times("c") == []


def test_a_parents_run_that_never_took_place_starts_no_child() -> None:
    day = Day(ending={"a": RunStatus.SKIPPED})
    day.define(sync("a", "every 1 hour"), sync("c", after=["a"]))
    day.until("13:30")
    assert day.times("c") == []


def test_a_child_that_another_process_holds_is_tried_again_a_minute_later() -> None:
    day = Day(ending={"c": RunStatus.SKIPPED})
    day.define(sync("a", "every 1 hour"), sync("c", after=["a"]))
    day.until("12:02")
    day.ending["c"] = RunStatus.SUCCEEDED
    day.until("12:30")
    assert day.times("c") == ["12:00", "12:01", "12:02"]


# --- wishes -----------------------------------------------------------------------------------------------------------


def test_a_wish_during_a_run_is_remembered_once() -> None:
    day = Day(lasting={"people": 5 * MINUTE})
    day.define(sync(schedule=None))
    assert day.agenda.ask("people") is Decision.START
    assert day.agenda.ask("people") is Decision.SKIP
    assert not day.agenda["people"].again, "it has not begun: it will see the newest rows"
    day.begin("people")
    assert day.agenda.ask("people") is Decision.SKIP
    assert day.agenda["people"].again


def test_a_sync_without_a_schedule_is_never_due() -> None:
    day = Day()
    day.define(sync("a", None), sync("b", "every 1 minute", enabled=False))
    day.until("2026-06-08 12:00")
    assert day.begun == []


# --- definitions that change ------------------------------------------------------------------------------------------


def test_a_new_cron_line_does_not_make_up_for_times_before_it_was_written() -> None:
    day = Day()
    day.define(sync(schedule="0 18 * * *"), past=Past(at("2026-05-31 18:00"), at("2026-05-31 18:01")))
    day.until("12:05")
    day.define(sync(schedule="0 6 * * *"))
    day.until("2026-06-02 12:00")
    assert day.starts() == ["06-02 06:00:00"]


def test_a_shorter_interval_counts_from_the_last_start() -> None:
    day = Day()
    day.define(sync(schedule="every 1 day"), past=Past(at("10:00"), at("10:01")))
    day.until("12:05")
    day.define(sync(schedule="every 3 hours"))
    day.until("17:00")
    assert day.times() == ["13:00", "16:00"]


def test_an_edit_that_is_not_about_time_changes_no_time() -> None:
    day = Day()
    day.define(sync(schedule="every 1 hour"))
    day.until("12:30")
    day.define(sync(schedule="every 1 hour", description="for people"))
    day.until("13:30")
    assert day.times() == ["12:00", "13:00"]


def test_a_sync_that_is_switched_off_and_on_again_goes_on() -> None:
    day = Day()
    day.define(sync(schedule="every 1 hour"))
    day.until("12:30")
    day.define(sync(schedule="every 1 hour", enabled=False))
    day.until("15:30")
    day.define(sync(schedule="every 1 hour"))
    day.until("17:00")
    assert day.times() == ["12:00", "15:30", "16:30"]


# --- clocks -----------------------------------------------------------------------------------------------------------


def test_P55_a_clock_that_is_set_back_leaves_intervals_as_long_as_they_are() -> None:
    day = Day()
    day.define(sync(schedule="every 15 minutes"))
    day.until("12:10")
    day.clock.advance(-timedelta(hours=2))
    day.agenda.set_back(timedelta(hours=2))
    day.until("10:31")
    assert day.times() == ["12:00", "10:15", "10:30"]


def test_P55_a_clock_that_is_set_back_an_hour_repeats_no_cron_time() -> None:
    day = Day()
    day.define(sync(schedule="0 12,13 * * *"))
    day.until("13:10")
    day.clock.advance(-timedelta(minutes=30))
    day.agenda.set_back(timedelta(minutes=30))
    day.until("2026-06-02 12:30")
    assert day.starts() == ["06-01 13:00:00", "06-02 12:00:00"]


def test_P55_a_clock_that_was_a_year_ahead_does_not_stop_a_cron_line() -> None:
    day = Day()
    day.define(sync(schedule="0 13 * * *"), past=Past(at("2027-06-01 13:00"), at("2027-06-01 13:01")))
    day.until("13:30")
    assert day.times() == ["13:00"]


def test_P55_a_clock_that_jumps_ahead_starts_one_run() -> None:
    day = Day()
    day.define(sync(schedule="every 1 minute"))
    day.until("12:03")
    day.clock.advance(timedelta(days=30))
    day.until(day.clock.now() + timedelta(seconds=59))
    assert len(day.begun) == 5


NIGHTS = [
    # zone, the night that skips an hour, the night that doubles one
    ("Europe/Berlin", "2026-03-28", "2026-10-24"),
    ("America/New_York", "2026-03-07", "2026-10-31"),
    ("Australia/Lord_Howe", "2026-10-03", "2026-04-04"),  # half an hour
    ("America/Santiago", "2026-09-05", "2026-04-04"),  # at midnight
    ("Africa/Casablanca", "2026-03-21", "2026-02-14"),  # around Ramadan
]


@pytest.mark.parametrize(("zone", "spring", "autumn"), NIGHTS)
@pytest.mark.parametrize("line", ["30 2 * * *", "15 0 * * *", "0 3 * * *", "59 23 * * *", "30 1 * * *"])
def test_P54_a_daily_time_is_due_once_a_local_day_in_both_nights(
    zone: str, spring: str, autumn: str, line: str
) -> None:
    from zoneinfo import ZoneInfo  # noqa: PLC0415

    for night in (spring, autumn):
        day = Day()
        begin = datetime.fromisoformat(night).replace(hour=12, tzinfo=UTC)
        day.clock.advance(begin - day.clock.now())
        day.define(sync(schedule=line, zone=zone))
        day.until(begin + timedelta(days=3))
        days = [moment.astimezone(ZoneInfo(zone)).date() for _, moment in day.begun]
        assert len(days) == len(set(days)) == 3, f"{zone} {night}: {day.starts()}"


@pytest.mark.parametrize(("zone", "spring", "autumn"), NIGHTS)
def test_P54_an_interval_counts_elapsed_time_in_both_nights(zone: str, spring: str, autumn: str) -> None:
    for night in (spring, autumn):
        day = Day()
        begin = datetime.fromisoformat(night).replace(hour=12, tzinfo=UTC)
        day.clock.advance(begin - day.clock.now())
        day.define(sync(schedule="every 2 hours", zone=zone))
        day.until(begin + timedelta(days=1))
        moments = [moment for _, moment in day.begun]
        gaps = {after - before for before, after in pairwise(moments)}
        assert gaps == {timedelta(hours=2)}


def test_phases_are_what_is_shown() -> None:
    day = Day(lasting={"people": MINUTE})
    day.define(sync())
    phases = [day.agenda["people"].phase]
    day.agenda.ring("people")
    phases.append(day.agenda["people"].phase)
    day.begin("people")
    phases.append(day.agenda["people"].phase)
    assert phases == [Phase.IDLE, Phase.WAITING, Phase.RUNNING]
