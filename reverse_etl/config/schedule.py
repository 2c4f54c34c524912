"""When something is due: `every 15 minutes`, a cron line, or after another sync.

Cron lines mean what cron means (crontab(5), Vixie cron: https://man7.org/linux/man-pages/man5/crontab.5.html, read
2026-11): 0 and 7 are Sunday, and a line that restricts both the day of the month and the weekday is due on either.
A time of day is due once a local day in the nights when clocks change, too; a line whose hour begins with `*` goes by
the minutes that pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_SHORT_UNITS = {"s": "second", "m": "minute", "min": "minute", "h": "hour", "d": "day", "w": "week"}
_EVERY = re.compile(r"every\s+(?:(\d{1,6})\s+)?([a-z]+?)s?", re.IGNORECASE)
_DURATION = re.compile(r"(\d{1,6})\s*([a-z]+)", re.IGNORECASE)
_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_WEEKDAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_FIELDS: tuple[tuple[str, int, int, Mapping[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("weekday", 0, 7, _WEEKDAYS),
)
_PART = re.compile(r"(\*|[a-z0-9]+)(?:-([a-z0-9]+))?(?:/(\d{1,4}))?", re.IGNORECASE)
_DAYS_AHEAD = 366 * 41  # a 29 February that is a Sunday can be forty years away, across 2100


@dataclass(frozen=True)
class Every:
    """So much time after the last start, by elapsed time; at once when there was none."""

    interval: timedelta
    text: str

    def next_after(self, moment: datetime, timezone: str) -> datetime:
        """The first time due after `moment`, in UTC. The zone doesn't matter to an interval."""
        del timezone
        return moment.astimezone(UTC) + self.interval


@dataclass(frozen=True)
class Cron:
    """Minutes of the local calendar; weekdays count from Sunday, 0, to Saturday, 6."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool  # both kinds of day are restricted: one of them is enough
    by_elapsed_time: bool  # the hour begins with `*`: no hour is left out or doubled when clocks change
    text: str

    def next_after(self, moment: datetime, timezone: str) -> datetime:
        """The first time due after `moment`, in UTC; `timezone` is the calendar's."""
        zone = ZoneInfo(timezone)
        first = moment.astimezone(zone).date() - timedelta(days=1)
        for ahead in range(_DAYS_AHEAD):
            due = self._first_on(first + timedelta(days=ahead), zone, moment)
            if due is not None:
                return due
        raise ValueError(f"`{self.text}` is never due")

    def falls_on(self, day: date) -> bool:
        """Whether the line is due on this day of the calendar."""
        if day.month not in self.months:
            return False
        by_date = day.day in self.days
        by_weekday = day.isoweekday() % 7 in self.weekdays
        return (by_date or by_weekday) if self.either_day else (by_date and by_weekday)

    def _first_on(self, day: date, zone: ZoneInfo, moment: datetime) -> datetime | None:
        """The first time due on this day after `moment`, in UTC; None when there is none."""
        if not self.falls_on(day):
            return None
        midnight = datetime.combine(day, time(), zone)
        offset = midnight.utcoffset() or timedelta()
        if (midnight + timedelta(days=1)).utcoffset() != offset:
            return min((due for due in self._instants(day, zone) if due > moment), default=None)
        # The clocks don't change on this day, as on most: the minutes of the wall are those that pass.
        wall = (moment.astimezone(UTC) + offset).replace(tzinfo=None)
        if wall.date() > day:
            return None
        after = wall.hour * 60 + wall.minute if wall.date() == day else -1
        minute = self._minute_after(after)
        if minute is None:
            return None
        return (datetime.combine(day, time(*divmod(minute, 60))) - offset).replace(tzinfo=UTC)

    def _minute_after(self, after: int) -> int | None:
        """The day's first minute that is due after this one; both count from midnight."""
        hour = after // 60
        later = [minute for minute in self.minutes if minute > after % 60] if hour in self.hours else []
        if later:
            return hour * 60 + min(later)
        hours = [each for each in self.hours if each > hour]
        return min(hours) * 60 + min(self.minutes) if hours else None

    def _instants(self, day: date, zone: ZoneInfo) -> Iterator[datetime]:
        for hour in self.hours:
            for minute in self.minutes:
                wall = datetime.combine(day, time(hour, minute), zone)
                if not self.by_elapsed_time:
                    # In the skipped hour this is as long after midnight as on other days; of a doubled one the first.
                    yield wall.astimezone(UTC)
                    continue
                for instant in (wall.astimezone(UTC), wall.replace(fold=1).astimezone(UTC)):
                    if instant.astimezone(zone).replace(tzinfo=None) == wall.replace(tzinfo=None):
                        yield instant


@dataclass(frozen=True)
class After:
    """When the last of these syncs has ended."""

    syncs: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"after {', '.join(self.syncs)}"


Schedule = Every | Cron | After


def parse_schedule(text: str) -> Every | Cron:
    """`every N units`, or a cron line of five fields. ValueError says what is wrong with it."""
    words = text.strip()
    if words.lower().startswith("every"):
        return _every(words)
    if words.startswith("@"):
        if words.lower() not in _MACROS:
            raise ValueError(
                f"there is no `{words}`: write one of {', '.join(_MACROS)}, or the five fields of a cron line"
            )
        words = _MACROS[words.lower()]
    fields = words.split()
    if len(fields) != len(_FIELDS):
        raise ValueError(
            "should be `every N minutes` (or seconds, hours, days), a cron line of five fields "
            "(minute, hour, day of the month, month, weekday), or {after: other_sync}"
        )
    return _cron(fields, text.strip())


def parse_duration(text: str) -> timedelta:
    """`10m`, `90 seconds`, `2 days`. ValueError when it isn't one."""
    found = _DURATION.fullmatch(text.strip())
    unit = found[2].lower() if found else ""
    name = _SHORT_UNITS.get(unit, unit.removesuffix("s"))
    if found is None or name not in _UNITS:
        raise ValueError("should be a length of time such as 30s, 10m, 1h or 2 days")
    return timedelta(seconds=int(found[1]) * _UNITS[name])


def parse_weekdays(text: str) -> frozenset[int]:
    """`mon-fri` or `sat,sun` as a cron line has them, from Sunday, 0, to Saturday, 6."""
    return frozenset(day % 7 for day in _numbers(text, *_FIELDS[4]))


def _every(text: str) -> Every:
    found = _EVERY.fullmatch(text)
    unit = found[2].lower() if found else ""
    if found is None or unit not in _UNITS:
        raise ValueError("should be `every N` with seconds, minutes, hours or days, such as `every 15 minutes`")
    number = int(found[1] or 1)
    if number == 0:
        raise ValueError("an interval should be longer than nothing")
    return Every(timedelta(seconds=number * _UNITS[unit]), text)


def _cron(fields: list[str], text: str) -> Cron:
    minutes, hours, days, months, weekdays = (
        _numbers(written, *spec) for written, spec in zip(fields, _FIELDS, strict=True)
    )
    cron = Cron(
        minutes=minutes,
        hours=hours,
        days=days,
        months=months,
        weekdays=frozenset(day % 7 for day in weekdays),
        either_day=not fields[2].startswith("*") and not fields[4].startswith("*"),
        by_elapsed_time=fields[1].startswith("*"),
        text=text,
    )
    calendar = (date(2024, 1, 1) + timedelta(days=ahead) for ahead in range(_DAYS_AHEAD))
    if not any(cron.falls_on(day) for day in calendar):
        raise ValueError("this is never due: no such day is in the calendar")
    return cron


def _numbers(written: str, name: str, least: int, most: int, names: Mapping[str, int]) -> frozenset[int]:
    numbers: set[int] = set()
    for part in written.split(","):
        found = _PART.fullmatch(part)
        if found is None or (found[1] == "*" and found[2]):
            raise ValueError(
                f"`{part}` is no {name} of a cron line: write a number, a range (1-5), a list or a step (*/10)"
            )
        step = int(found[3]) if found[3] else 1
        if found[1] == "*":
            first, last = least, min(most, 6) if names is _WEEKDAYS else most
        else:
            first = _number(found[1], name, least, most, names)
            last = _number(found[2], name, least, most, names) if found[2] else first
            if names is _WEEKDAYS and last == 0 and first > 0:
                last = 7  # sat-sun
            if found[3] and not found[2]:
                raise ValueError(f"a step needs a range: write `{found[1]}-{most}/{step}` for the {name}")
        if step == 0 or first > last:
            raise ValueError(
                f"`{part}` holds no {name}: a range runs from the lesser to the greater number, a step is at least 1"
            )
        numbers.update(range(first, last + 1, step))
    return frozenset(numbers)


def _number(word: str, name: str, least: int, most: int, names: Mapping[str, int]) -> int:
    number = names.get(word.lower())
    if number is None and word.isdecimal() and word.isascii() and len(word) <= 4:
        number = int(word)
    if number is None or not least <= number <= most:
        choices = f"{least} to {most}" + (f", or {', '.join(names)}" if names else "")
        raise ValueError(f"`{word}` is no {name} of a cron line: it should be {choices}")
    return number
