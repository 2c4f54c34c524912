"""What a field takes: parses a value as JSON or CSV brings it, checks it, and gives what would be stored."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any

from reverse_etl.sandbox.salesforce.errors import RowError, Unparsable
from reverse_etl.sandbox.salesforce.fields import NUMBER_TYPES, Field

EMAIL = re.compile(r"[^@\s,;<>\"]+@[^@\s,;<>\".]+(\.[^@\s,;<>\".]+)+")
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,3})?Z?", re.ASCII)


def parse(field: Field, value: Any) -> Any:
    """The value in its field's kind; None clears. Raises `Unparsable`."""
    if value is None or value == "":
        return None
    if field.is_text or field.type in ("id", "reference"):
        if not isinstance(value, str):
            raise _unparsable(field, value)
        return value.strip() or None
    match field.type:
        case "boolean":
            return _boolean(field, value)
        case "int":
            return _int(field, value)
        case "date":
            return _date(field, value)
        case "datetime":
            return _datetime(field, value)
        case "time":
            if not isinstance(value, str) or not TIME.fullmatch(value):
                raise _unparsable(field, value)
            return value
    return _double(field, value) if field.type in NUMBER_TYPES else value


def check(field: Field, value: Any) -> None:
    """Refuses what the field doesn't hold; raises `RowError`."""
    if isinstance(value, str):
        _check_text(field, value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        whole = field.digits or field.precision - field.scale
        if whole and abs(value) >= 10**whole:
            raise RowError(
                "NUMBER_OUTSIDE_VALID_RANGE",
                f"{field.label}: value outside of valid range on numeric field: {value}",
                [field.name],
            )


def _check_text(field: Field, value: str) -> None:
    if field.is_text and field.length and len(value) > field.length:
        raise RowError(
            "STRING_TOO_LONG",
            f"{field.label}: data value too large: {value} (max length={field.length})",
            [field.name],
        )
    if field.type == "email" and not EMAIL.fullmatch(value):
        raise RowError("INVALID_EMAIL_ADDRESS", f"{field.label}: invalid email address: {value}", [field.name])
    if field.restricted and field.picklist:
        for part in value.split(";") if field.type == "multipicklist" else [value]:
            if part not in field.picklist:
                raise RowError(
                    "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
                    f"{field.label}: bad value for restricted picklist field: {part}",
                    [field.name],
                )


def _boolean(field: Field, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "1"):
        return True
    if isinstance(value, str) and value.lower() in ("false", "0"):
        return False
    raise _unparsable(field, value)


def _int(field: Field, value: Any) -> int:
    number = _double(field, value)
    if number != int(number):
        raise _unparsable(field, value)
    return int(number)


def _double(field: Field, value: Any) -> int | float:
    """A number, or its text; whole ones stay whole, so that 18 digits survive."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _unparsable(field, value)
    if isinstance(value, str):
        text = value.strip()
        if not NUMBER.fullmatch(text):
            raise _unparsable(field, value)
        value = float(text) if any(mark in text for mark in ".eE") else int(text)
    if isinstance(value, float) and field.scale == 0 and value.is_integer():
        return int(value)
    return round(value, field.scale) if isinstance(value, float) and field.scale else value


def _date(field: Field, value: Any) -> str:
    try:
        if not isinstance(value, str) or len(value) != 10:
            raise ValueError
        return date.fromisoformat(value).isoformat()
    except ValueError:
        raise _unparsable(field, value) from None


def _datetime(field: Field, value: Any) -> str:
    """To the second, in UTC, with the offset written as the platform writes it."""
    try:
        if not isinstance(value, str) or len(value) < 10:
            raise ValueError
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise _unparsable(field, value) from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return f"{moment.replace(tzinfo=None).isoformat(timespec='seconds')}.000+0000"


def _unparsable(field: Field, value: Any) -> Unparsable:
    kinds = {"reference": "reference", "id": "id", "boolean": "boolean"}
    kind = kinds.get(field.type, "string" if field.is_text else field.type)
    return Unparsable("double" if kind in NUMBER_TYPES else kind, value, field.name, field.label)
