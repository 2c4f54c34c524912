from __future__ import annotations

import re
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from reverse_etl.config.schedule import Cron, Every, parse_duration, parse_schedule


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def firings(line: str, start: str, number: int, zone: str = "UTC") -> list[str]:
    """The next times of a line, in UTC."""
    schedule = parse_schedule(line)
    moment, found = at(start), []
    for _ in range(number):
        moment = schedule.next_after(moment, zone)
        found.append(moment.strftime("%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("every 15 minutes", 900),
        ("every 1 day", 86400),
        ("every day", 86400),
        ("Every 2 Hours", 7200),
        ("every 30 seconds", 30),
        ("every 1 minute", 60),
    ],
)
def test_an_interval_is_a_number_of_units(text: str, seconds: int) -> None:
    schedule = parse_schedule(text)
    assert isinstance(schedule, Every)
    assert schedule.interval == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("line", "weekdays"),
    [
        ("0 0 * * 0", {0}),
        ("0 0 * * 7", {0}),
        ("0 0 * * sun", {0}),
        ("0 0 * * 1-5", {1, 2, 3, 4, 5}),
        ("0 0 * * 5-7", {5, 6, 0}),
        ("0 0 * * sat-sun", {6, 0}),
        ("0 0 * * MON,wed", {1, 3}),
        ("0 0 * * */2", {0, 2, 4, 6}),
    ],
)
def test_P53_weekdays_count_from_sunday(line: str, weekdays: set[int]) -> None:
    schedule = parse_schedule(line)
    assert isinstance(schedule, Cron)
    assert schedule.weekdays == weekdays


@pytest.mark.parametrize(
    ("line", "times"),
    [
        ("*/20 * * * *", ["11-23 10:20", "11-23 10:40", "11-23 11:00"]),
        ("5 4 * * *", ["11-24 04:05", "11-25 04:05", "11-26 04:05"]),
        ("0 9 * * 1-5", ["11-24 09:00", "11-25 09:00", "11-26 09:00"]),
        ("0 0 1,15 * 3", ["11-25 00:00", "12-01 00:00", "12-02 00:00"]),  # either kind of day
        ("0 0 */2 * 3", ["11-25 00:00", "12-09 00:00", "12-23 00:00"]),  # odd days that are Wednesdays
        ("0 0 31 * *", ["12-31 00:00", "01-31 00:00", "03-31 00:00"]),
        ("@monthly", ["12-01 00:00", "01-01 00:00", "02-01 00:00"]),
        ("15 10-12/2 * jan,dec *", ["12-01 10:15", "12-01 12:15", "12-02 10:15"]),
    ],
)
def test_P53_a_cron_line_has_its_standard_meaning(line: str, times: list[str]) -> None:
    assert firings(line, "2026-11-23T10:00:00+00:00", 3) == times


def test_P53_a_leap_day_is_found_years_ahead() -> None:
    schedule = parse_schedule("0 0 29 2 *")
    assert schedule.next_after(at("2097-01-01T00:00:00+00:00"), "UTC") == at("2104-02-29T00:00:00+00:00")


def test_P54_a_daily_time_is_due_once_in_the_night_that_skips_it() -> None:
    # Berlin, 2026-03-29: 02:00 becomes 03:00.
    times = firings("30 2 * * *", "2026-03-28T00:00:00+00:00", 3, "Europe/Berlin")
    assert times == ["03-28 01:30", "03-29 01:30", "03-30 00:30"]


def test_P54_a_daily_time_is_due_once_in_the_night_that_doubles_it() -> None:
    # Berlin, 2026-10-25: 03:00 becomes 02:00.
    times = firings("30 2 * * *", "2026-10-24T12:00:00+00:00", 2, "Europe/Berlin")
    assert times == ["10-25 00:30", "10-26 01:30"]


@pytest.mark.parametrize("start", ["2026-03-28T22:00:00+00:00", "2026-10-24T22:00:00+00:00"])
def test_P54_a_line_of_every_hour_goes_by_the_hours_that_pass(start: str) -> None:
    schedule = parse_schedule("0 * * * *")
    moments = [at(start)]
    for _ in range(8):
        moments.append(schedule.next_after(moments[-1], "Europe/Berlin"))
    assert {after - before for before, after in pairwise(moments)} == {timedelta(hours=1)}


def test_P54_two_times_in_the_skipped_hour_stay_in_order() -> None:
    times = firings("0,30 2,3 * * *", "2026-03-29T00:30:00+00:00", 3, "Europe/Berlin")
    assert times == ["03-29 01:00", "03-29 01:30", "03-30 00:00"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hourly", "should be `every N minutes` (or seconds, hours, days), a cron line of five fields"),
        ("0 0 * * * *", "should be `every N minutes`"),
        ("every fortnight", "should be `every N` with seconds, minutes, hours or days, such as `every 15 minutes`"),
        ("every 1.5 hours", "should be `every N` with"),
        ("every 0 minutes", "an interval should be longer than nothing"),
        ("@reboot", "there is no `@reboot`: write one of @hourly, @daily"),
        ("60 * * * *", "`60` is no minute of a cron line: it should be 0 to 59"),
        ("0 24 * * *", "`24` is no hour of a cron line: it should be 0 to 23"),
        ("0 0 0 * *", "`0` is no day of the month of a cron line: it should be 1 to 31"),
        ("0 0 * 13 *", "`13` is no month of a cron line: it should be 1 to 12, or jan, feb, mar"),
        ("0 0 * * 8", "`8` is no weekday of a cron line: it should be 0 to 7, or sun, mon"),
        ("0 0 * * mom", "`mom` is no weekday of a cron line"),
        ("0 0 L * *", "`L` is no day of the month of a cron line"),
        (
            "0 0 ? * *",
            "`?` is no day of the month of a cron line: write a number, a range (1-5), a list",
        ),
        ("*-5 * * * *", "`*-5` is no minute of a cron line: write a number"),
        ("22-2 * * * *", "`22-2` holds no minute: a range runs from the lesser to the greater number"),
        ("*/0 * * * *", "`*/0` holds no minute"),
        ("5/15 * * * *", "a step needs a range: write `5-59/15` for the minute"),
        (", * * * *", "`` is no minute of a cron line"),
        ("٣ * * * *", "`٣` is no minute of a cron line"),
        ("0 0 30 2 *", "this is never due: no such day is in the calendar"),
    ],
)
def test_a_schedule_that_is_none_says_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(said)):
        parse_schedule(text)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("30s", timedelta(seconds=30)),
        ("10m", timedelta(minutes=10)),
        ("5 min", timedelta(minutes=5)),
        ("1h", timedelta(hours=1)),
        ("2 days", timedelta(days=2)),
        ("1 week", timedelta(weeks=1)),
        ("90 Seconds", timedelta(seconds=90)),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, length: timedelta) -> None:
    assert parse_duration(text) == length


@pytest.mark.parametrize("text", ["", "10", "m", "ten minutes", "-5m", "1.5h", "10 parsecs", "5ms"])
def test_a_duration_that_is_none_says_so(text: str) -> None:
    with pytest.raises(ValueError, match="should be a length of time such as 30s, 10m, 1h or 2 days"):
        parse_duration(text)
