"""How numbers, times, keys and other people's text are written for a person to read."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reverse_etl.model import JSON

LONGEST_VALUE = 60

# Categories that steer a terminal or can't be encoded: controls, surrogates, line and paragraph separators.
_STEERING = frozenset({"Cc", "Cs", "Zl", "Zp"})
# Format characters that turn the direction of the text around them (UAX #9).
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """The text with everything that could steer a terminal written as an escape, line breaks included."""
    if text.isprintable():
        return text
    return "".join(_escape(char) for char in text)


def _escape(char: str) -> str:
    if char not in _TURNING and unicodedata.category(char) not in _STEERING:
        return char
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def count(number: int) -> str:
    return f"{number:,}"


def plural(number: int, noun: str, many: str | None = None) -> str:
    """A count with its noun: 1 row, 2 rows."""
    return f"{number:,} {noun if number == 1 else many or noun + 's'}"


def duration(seconds: float) -> str:
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def moment(time: datetime | None) -> str:
    """UTC to the second; a dash for no time at all."""
    return "-" if time is None else time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def since(time: datetime, now: datetime) -> str:
    """A time, and how long ago that is in its largest unit: for who asks whether something has arrived yet."""
    seconds = (now - time).total_seconds()
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= unit:
            return f"{moment(time)} ({plural(int(seconds // unit), name)} ago)"
    return f"{moment(time)} (just now)"


def key(value: JSON) -> str:
    """A row's key as `explain` takes it: plain for one column, a JSON list for several."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def cursor(reached: object) -> str:
    """How far a cursor is, without the six zeros of a time that has whole seconds."""
    return value(reached).replace(".000000Z", "Z")


def value(content: object) -> str:
    """A field's value in one short line."""
    if content is None:
        return "(empty)"
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, default=str)
    if text == "":
        return '""'
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"
