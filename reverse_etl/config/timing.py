"""What may hold a due run back: quiet hours, chance, priority, and a parent that failed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Literal, Protocol
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Tag

from reverse_etl.config.problems import SEVERAL, SHORT
from reverse_etl.config.schedule import parse_duration, parse_weekdays
from reverse_etl.config.words import FORM, Text, words

Priority = Literal["high", "normal", "low"]
AfterFailure = Literal["skip", "run"]
_WINDOW = re.compile(r"(?:(?P<days>[a-z0-9,-]+)\s+)?(?P<start>\d{1,2}:\d\d)\s*-\s*(?P<end>\d{1,2}:\d\d)", re.IGNORECASE)
_EVERY_DAY = frozenset(range(7))
_MIDNIGHT = 24 * 60


@dataclass(frozen=True)
class QuietWindow:
    """Minutes of the local day, on these weekdays (Sunday is 0); one that ends before it begins ends the day after."""

    days: frozenset[int]
    begins: int
    ends: int

    def end_of(self, moment: datetime, zone: ZoneInfo) -> datetime | None:
        """When the window ends that `moment` lies in, in UTC; None outside of it."""
        today = moment.astimezone(zone).date()
        for day in (today - timedelta(days=1), today):
            if day.isoweekday() % 7 not in self.days:
                continue
            begins = _instant(day, self.begins, zone)
            ends = _instant(day, self.ends + (_MIDNIGHT if self.ends <= self.begins else 0), zone)
            if begins <= moment < ends:
                return ends
        return None


class Timing(BaseModel):
    """How a sync's schedule is kept. Its quiet hours are of the zone that the schedule goes by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    jitter: timedelta = timedelta()
    quiet_hours: tuple[QuietWindow, ...] = ()
    priority: Priority = "normal"
    after_failure: AfterFailure = "skip"

    def awake(self, moment: datetime, timezone: str) -> datetime:
        """The first time from `moment` on that lies in no quiet hours."""
        zone = ZoneInfo(timezone)
        for _ in range(2 * 7 * max(1, len(self.quiet_hours))):
            ends = [end for window in self.quiet_hours if (end := window.end_of(moment, zone)) is not None]
            if not ends:
                return moment
            moment = max(ends)
        raise ValueError("quiet hours that never end")


class WrittenTiming(Protocol):
    """The keys of a definition that say how its schedule is kept."""

    @property
    def jitter(self) -> str | int | None: ...
    @property
    def quiet_hours(self) -> str | list[str] | None: ...
    @property
    def priority(self) -> Priority: ...
    @property
    def after_failure(self) -> AfterFailure | None: ...


def timing_of(written: WrittenTiming) -> Timing:
    """What a definition's keys mean."""
    return Timing(
        jitter=parse_duration(str(written.jitter)) if written.jitter else timedelta(),
        quiet_hours=parse_quiet_hours(written.quiet_hours) if written.quiet_hours else (),
        priority=written.priority,
        after_failure=written.after_failure or "skip",
    )


def parse_quiet_hours(written: str | Iterable[str]) -> tuple[QuietWindow, ...]:
    """`22:00-06:00`, `mon-fri 8:00-18:00`, or several of them. ValueError says what is wrong."""
    windows = tuple(_window(text) for text in ([written] if isinstance(written, str) else written))
    try:
        Timing(quiet_hours=windows).awake(datetime(2024, 1, 1, tzinfo=UTC), "UTC")
    except ValueError as failure:
        raise ValueError("these quiet hours leave no time for a run") from failure
    return windows


def _window(text: str) -> QuietWindow:
    found = _WINDOW.fullmatch(text.strip())
    if found is None:
        raise ValueError("should be hours such as 22:00-06:00, or with weekdays: sat-sun 00:00-24:00")
    begins, ends = _minutes(found["start"]), _minutes(found["end"])
    if begins in (ends, _MIDNIGHT):
        raise ValueError("quiet hours should end at another time than they begin, and begin before 24:00")
    return QuietWindow(parse_weekdays(found["days"]) if found["days"] else _EVERY_DAY, begins, ends)


def _checked(written: str | list[str]) -> str | list[str]:
    parse_quiet_hours(written)
    return written


QuietHours = Annotated[
    Annotated[
        Annotated[str, words("hours such as 22:00-06:00"), Tag(SHORT)]
        | Annotated[list[Text], Field(min_length=1), Tag(SEVERAL)],
        FORM,
    ],
    AfterValidator(_checked),
]


def _minutes(text: str) -> int:
    hour, minute = (int(part) for part in text.split(":"))
    if hour * 60 + minute > _MIDNIGHT or minute > 59:
        raise ValueError(f"`{text}` is no time of day: write 00:00 to 24:00")
    return hour * 60 + minute


def _instant(day: date, minutes: int, zone: ZoneInfo) -> datetime:
    """A local time of day in UTC; minutes beyond midnight are of the next day."""
    ahead, minutes = divmod(minutes, _MIDNIGHT)
    return datetime.combine(day + timedelta(days=ahead), time(*divmod(minutes, 60)), zone).astimezone(UTC)
