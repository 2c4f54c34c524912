"""Next times of cron lines against two independent reckonings: croniter's, and a walk through the minutes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from reverse_etl.config.schedule import parse_schedule

ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kolkata", "UTC"]
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]


def numbers(least: int, most: int) -> st.SearchStrategy[str]:
    """One part of a field: a number, a range, or a range with a step."""
    single = st.integers(least, most).map(str)
    # A range of one (`5-5`) and a weekday of 7 in a range are read otherwise by croniter; the walk below has them.
    pairs = st.tuples(st.integers(least, most), st.integers(least, most)).filter(lambda pair: pair[0] < pair[1])
    ranges = pairs.map(lambda pair: f"{pair[0]}-{pair[1]}")
    stepped = st.tuples(ranges, st.integers(1, 12)).map(lambda parts: f"{parts[0]}/{parts[1]}")
    return st.one_of(single, single, ranges, stepped)


def field(least: int, most: int, stars: int = 2) -> st.SearchStrategy[str]:
    several = st.lists(numbers(least, most), min_size=1, max_size=3).map(",".join)
    star = st.one_of(st.just("*"), st.integers(2, 20).map(lambda step: f"*/{step}"))
    return st.one_of(*[star] * stars, several)


# Every line here is due within a few years: a day of the month of at most 28.
LINES = st.tuples(
    field(0, 59),
    field(0, 23),
    st.one_of(st.just("*"), field(1, 28, 0)),
    st.one_of(st.just("*"), st.just("*"), field(1, 12, 0), st.sampled_from(MONTHS)),
    st.one_of(st.just("*"), field(0, 7, 0), st.sampled_from(DAYS), st.just("mon-fri")),
).map(" ".join)
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2031, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC))


@settings(max_examples=300, deadline=None)
@given(line=LINES, moment=MOMENTS)
def test_P53_the_next_time_is_the_one_that_croniter_reckons(line: str, moment: datetime) -> None:
    theirs = croniter(line, moment).get_next(datetime)
    assert parse_schedule(line).next_after(moment, "UTC") == theirs


def written(text: str, names: list[str], least: int, most: int) -> set[int]:
    """What a field of a line means, read in the plainest way."""
    for number, name in enumerate(names):
        text = text.replace(name, str(number + least))
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = (f"{least}-{most}" if span == "*" else span).partition("-")
        found |= set(range(int(first), int(last or first) + 1, int(step or 1)))
    return found


def falls(line: str, wall: datetime) -> bool:
    """Whether a line names this minute of a clock on the wall."""
    minute, hour, day, month, weekday = line.split()
    by_day = wall.day in written(day, [], 1, 31)
    by_weekday = wall.isoweekday() % 7 in {number % 7 for number in written(weekday, DAYS, 0, 7)}
    on_day = by_day or by_weekday if "*" not in day[:1] and "*" not in weekday[:1] else by_day and by_weekday
    return (
        wall.minute in written(minute, [], 0, 59)
        and wall.hour in written(hour, [], 0, 23)
        and wall.month in written(month, MONTHS, 1, 12)
        and on_day
    )


def walked(line: str, moment: datetime, zone: ZoneInfo, minutes: int) -> list[datetime]:
    """Minutes named by a line, one after the other, as a clock on the wall passes them; doubled ones count once."""
    seen: set[datetime] = set()
    found: list[datetime] = []
    start = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
    for ahead in range(minutes):
        now = start + timedelta(minutes=ahead)
        wall = now.astimezone(zone).replace(tzinfo=None)
        if falls(line, wall) and wall not in seen:
            seen.add(wall)
            found.append(now)
    return found


@settings(max_examples=60, deadline=None)
@given(
    line=LINES, zone=st.sampled_from(ZONES), day=st.dates(datetime(2025, 1, 1).date(), datetime(2027, 12, 31).date())
)
def test_P54_away_from_changes_of_the_clock_times_are_those_on_the_wall(line: str, zone: str, day: date) -> None:
    place = ZoneInfo(zone)
    moment = datetime.fromisoformat(f"{day}T12:00:00+00:00")
    around = (moment.astimezone(place).utcoffset(), (moment + timedelta(days=2)).astimezone(place).utcoffset())
    if around[0] != around[1]:
        return  # the nights have tests of their own
    ours, next_time = [], moment
    schedule = parse_schedule(line)
    for _ in range(5):
        next_time = schedule.next_after(next_time, zone)
        ours.append(next_time)
    theirs = walked(line, moment, place, 24 * 60)[:5]
    assert ours[: len(theirs)] == theirs
    if len(theirs) < 5:
        assert ours[len(theirs)] > moment + timedelta(days=1)


@settings(max_examples=100, deadline=None)
@given(line=LINES, zone=st.sampled_from(ZONES), moment=MOMENTS)
def test_P55_times_only_grow_and_none_lies_between_two(line: str, zone: str, moment: datetime) -> None:
    schedule = parse_schedule(line)
    first = schedule.next_after(moment, zone)
    assert first > moment
    assert schedule.next_after(first - timedelta(microseconds=1), zone) == first
    assert schedule.next_after(first, zone) > first
