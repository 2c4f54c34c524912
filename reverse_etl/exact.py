"""A cursor's value as text and back, exact to the last digit and nanosecond; sources bind what comes back."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pyarrow as pa

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_NAIVE = datetime(1970, 1, 1)  # a naive column's own epoch
_EXACT_MOMENT = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(Z?)")
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclass(frozen=True, order=True)
class Nanoseconds:
    """A time to the nanosecond, which Python's own can't hold; counted from 1970, in UTC if `zoned`."""

    ticks: int
    zoned: bool

    def __str__(self) -> str:
        return _exact_moment(self.ticks, pa.timestamp("ns", "UTC" if self.zoned else None))


def to_exact(value: object) -> str:
    """A cursor's value as text that `from_exact` reads back equal, to the last digit and nanosecond.

    Takes Arrow scalars and Python values alike; raises ValueError for what has no place on a calendar of four-digit
    years (DuckDB's `infinity`), and for NaN.
    """
    if isinstance(value, pa.Scalar):
        value = _python(value)
    if isinstance(value, Nanoseconds):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | str):
        return str(value)
    if isinstance(value, float) and not math.isnan(value):
        return repr(value)
    if isinstance(value, Decimal) and value.is_finite():
        return format(value, "f")
    if isinstance(value, datetime):
        zone = "" if value.tzinfo is None else "UTC"
        since = value - (EPOCH if zone else EPOCH_NAIVE)
        return _exact_moment(since // timedelta(microseconds=1), pa.timestamp("us", zone or None))
    if isinstance(value, date | time):
        return value.isoformat()
    raise ValueError(f"a value of type {type(value).__name__} can't be a cursor")


def from_exact(text: str, arrow_type: pa.DataType) -> object:
    """The value behind `to_exact`'s text, to be bound: a Python value, or `Nanoseconds`."""
    kind = arrow_type.value_type if pa.types.is_dictionary(arrow_type) else arrow_type
    if pa.types.is_timestamp(kind):
        return _moment_from(text, kind)
    if pa.types.is_boolean(kind):
        return text == "true"
    if pa.types.is_integer(kind):
        return int(text)
    if pa.types.is_decimal(kind):
        return Decimal(text)
    if pa.types.is_floating(kind):
        return float(text)
    if pa.types.is_date(kind):
        return date.fromisoformat(text)
    if pa.types.is_time(kind):
        return time.fromisoformat(text)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return text
    raise ValueError(f"a column of type {kind} can't be a cursor")


def least_exact(arrow_type: pa.DataType) -> str:
    """Where a cursor of this type starts when nobody says otherwise: 1970 for times, else the type's least value."""
    kind = arrow_type.value_type if pa.types.is_dictionary(arrow_type) else arrow_type
    if pa.types.is_timestamp(kind):
        return _exact_moment(0, kind)
    if pa.types.is_date(kind):
        return "1970-01-01"
    if pa.types.is_decimal(kind):
        return format(Decimal((1, (9,) * kind.precision, -kind.scale)), "f")
    if pa.types.is_unsigned_integer(kind):
        return "0"
    if pa.types.is_integer(kind):
        return str(-(2 ** (kind.bit_width - 1)))
    if pa.types.is_floating(kind):
        return "-inf"
    if pa.types.is_time(kind):
        return "00:00:00"
    return "false" if pa.types.is_boolean(kind) else ""


def earlier_exact(text: str, arrow_type: pa.DataType, lag: timedelta) -> str:
    """A cursor's text moved back by a lag; only times and dates (by whole days, rounded up) can be moved."""
    if pa.types.is_timestamp(arrow_type):
        ticks = (
            _ticks(text, arrow_type.unit) - (lag // timedelta(microseconds=1)) * _PER_SECOND[arrow_type.unit] // 10**6
        )
        return _exact_moment(ticks, arrow_type)
    if pa.types.is_date(arrow_type):
        return (date.fromisoformat(text) + (-lag // timedelta(days=1)) * timedelta(days=1)).isoformat()
    if lag:
        raise ValueError(f"a column of type {arrow_type} has no lag")
    return text


def _python(value: pa.Scalar) -> object:
    if pa.types.is_timestamp(value.type) and value.type.unit == "ns" and value.is_valid:
        return Nanoseconds(value.value, value.type.tz is not None)
    try:
        return value.as_py()
    except (OverflowError, ValueError) as beyond:
        raise ValueError("a time before year 1 or after year 9999 can't be a cursor") from beyond


def _exact_moment(ticks: int, kind: pa.TimestampType) -> str:
    per_second = _PER_SECOND[kind.unit]
    seconds, fraction = divmod(ticks, per_second)
    try:
        whole = (EPOCH_NAIVE + timedelta(seconds=seconds)).isoformat()
    except OverflowError as beyond:
        raise ValueError("a time before year 1 or after year 9999 can't be a cursor") from beyond
    digits = len(str(per_second)) - 1
    tail = f".{fraction:0{digits}d}" if digits else ""
    return f"{whole}{tail}{'' if kind.tz is None else 'Z'}"


def _ticks(text: str, unit: str) -> int:
    parts = _EXACT_MOMENT.fullmatch(text)
    if parts is None:
        raise ValueError(f"{text!r} is not an exact time")
    whole = datetime(*(int(part) for part in parts.groups()[:6]))  # type: ignore[arg-type]
    nanoseconds = int((parts[7] or "").ljust(9, "0"))
    seconds = (whole - EPOCH_NAIVE) // timedelta(seconds=1)
    return (seconds * 10**9 + nanoseconds) * _PER_SECOND[unit] // 10**9


def _moment_from(text: str, kind: pa.TimestampType) -> object:
    ticks = _ticks(text, kind.unit)
    if kind.unit == "ns":
        return Nanoseconds(ticks, kind.tz is not None)
    since = timedelta(microseconds=ticks * (10**6 // _PER_SECOND[kind.unit]))
    return (EPOCH_NAIVE if kind.tz is None else EPOCH) + since
