"""What a property takes: checks a value as HubSpot does and gives the text it would store."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from datetime import UTC, date, datetime
from typing import Any

from reverse_etl.sandbox.hubspot.properties import Property

MOST_TEXT = 65_536
NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
DIGITS = re.compile(r"-?\d+", re.ASCII)
CANONICAL = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z", re.ASCII)
DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
EMAIL = re.compile(r"[^@\s,;<>()\[\]\"]+@[^@\s,;<>()\[\]\"]+\.[^@\s.,;<>()\[\]\"]{2,}")

External = Callable[[str], Collection[str]]  # the values that a kind of external options allows now


class Invalid(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def text(value: Any) -> str:
    """A request's JSON value as text. Numbers and booleans are taken though the schema asks for strings."""
    if isinstance(value, str):
        return value
    if value is True or value is False:
        return "true" if value else "false"
    return "" if value is None else str(value)


def stored(prop: Property, value: str, before: str | None, external: External) -> str:
    """The text to store, "" where it clears; raises `Invalid`."""
    if value == "":
        return ""
    check = CHECKS.get(prop.type)
    if prop.name == "email" and prop.type == "string":
        return _email(value)
    if prop.type == "enumeration":
        return _enumeration(prop, value, before, external)
    return check(prop, value) if check else value


def _email(value: str) -> str:
    value = value.strip()
    if not EMAIL.fullmatch(value) or ".." in value or value.startswith("."):
        raise Invalid("INVALID_EMAIL", f"Email address {value} is invalid")
    return value.lower()


def _string(prop: Property, value: str) -> str:
    if len(value) > MOST_TEXT:
        raise Invalid("VALUE_TOO_LONG", f"Property value is too long: {len(value)} characters, at most {MOST_TEXT}.")
    return value


def _number(prop: Property, value: str) -> str:
    if not NUMBER.fullmatch(value.strip()):
        raise Invalid("INVALID_INTEGER", f"{value} was not a valid number.")
    return value.strip()


def _bool(prop: Property, value: str) -> str:
    if value not in ("true", "false"):
        raise Invalid("INVALID_OPTION", f"{value} was not one of the allowed options: [true, false]")
    return value


def _date(prop: Property, value: str) -> str:
    """A calendar day, given as such or as the very midnight in UTC."""
    if DAY.fullmatch(value):
        try:
            return date.fromisoformat(value).isoformat()
        except ValueError:
            raise Invalid("INVALID_DATE", f"{value} was not a valid date.") from None
    moment = _moment(value)
    if moment is None:
        raise Invalid("INVALID_DATE", f"{value} was not a valid date.")
    if (moment.hour, moment.minute, moment.second, moment.microsecond) != (0, 0, 0, 0):
        at = f"{moment.hour}:{moment.minute}:{moment.second}.{moment.microsecond // 1000}"
        raise Invalid("INVALID_DATE", f"{value} is at {at} UTC, not midnight!")
    return moment.date().isoformat()


def _datetime(prop: Property, value: str) -> str:
    moment = _moment(value)
    if moment is None:
        raise Invalid("INVALID_LONG", f"{value} was not a valid long.")
    if CANONICAL.fullmatch(value):
        return value
    return f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _moment(value: str) -> datetime | None:
    """An instant from milliseconds since 1970 or ISO 8601; None when it is neither."""
    try:
        if DIGITS.fullmatch(value):
            return datetime.fromtimestamp(int(value) / 1000, UTC)
        if not value[:4].isdigit():
            return None
        moment = datetime.fromisoformat(value)
    except (ValueError, OverflowError, OSError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _enumeration(prop: Property, value: str, before: str | None, external: External) -> str:
    allowed: Collection[str] = prop.options
    if prop.external is not None:
        allowed = external(prop.external)
    if prop.field_type != "checkbox":
        if value not in allowed:
            raise _not_allowed(prop, value, allowed)
        return value
    chosen = [part for part in value.split(";") if part]
    for part in chosen:
        if part not in allowed:
            raise _not_allowed(prop, part, allowed)
    if value.startswith(";") and before:  # a leading semicolon adds to what is chosen already
        chosen = before.split(";") + chosen
    return ";".join(dict.fromkeys(chosen))


def _not_allowed(prop: Property, value: str, allowed: Collection[str]) -> Invalid:
    listed = ", ".join(allowed)
    if prop.external == "STAGE":
        return Invalid("INVALID_OPTION", f"{value} is not a valid pipeline stage ID. Valid options are: [{listed}]")
    return Invalid("INVALID_OPTION", f"{value} was not one of the allowed options: [{listed}]")


CHECKS: dict[str, Callable[[Property, str], str]] = {
    "string": _string,
    "phone_number": _string,
    "number": _number,
    "bool": _bool,
    "date": _date,
    "datetime": _datetime,
}
