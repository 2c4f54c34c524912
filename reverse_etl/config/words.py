"""The kinds of value that both kinds of file are made of, as pydantic types with errors in plain words."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, WithJsonSchema

from reverse_etl.config.problems import LONG, SEVERAL, SHORT, Misspelt, nearest
from reverse_etl.config.schedule import parse_duration, parse_schedule

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)\s*%")
_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_$-]{0,62}(?:\.[A-Za-z_][A-Za-z0-9_$-]{0,62})?")
_TABLE = re.compile(r"[^\s.;\"'`\[\]]+(?:\.[^\s.;\"'`\[\]]+){0,2}")


class Strict(BaseModel):
    """Part of a file: no unknown keys, no conversions, never changed once read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def form_of(value: Any) -> str:
    """Which of its forms a value is written in."""
    if isinstance(value, dict | BaseModel):
        return LONG
    return SEVERAL if isinstance(value, list | tuple) else SHORT


FORM = Discriminator(form_of)


def words(what: str) -> BeforeValidator:
    """Refuses anything that is not one line of text, saying `what` was wanted."""

    def check(value: Any) -> Any:
        if value is None:
            return value
        if not isinstance(value, str):
            quoted = "" if isinstance(value, dict | list) else " (quote it if it is text)"
            raise ValueError(f"should be {what}{quoted}")
        if not value.strip() or not value.isprintable():
            raise ValueError(f"should be {what}, on one line")
        return value

    return BeforeValidator(check)


def checked_name(name: str) -> str:
    """The name of a sync or a connection; ValueError says what such a name is made of."""
    if NAME.fullmatch(name) is None:
        raise ValueError(
            "a name is made of a-z, 0-9, _ and -, begins with a letter or digit, and has at most 63 of them"
        )
    return name


def _schedule(text: str) -> str:
    parse_schedule(text)
    return text


def _duration(value: str | int) -> str | int:
    if value != 0 or isinstance(value, bool):
        parse_duration(str(value))
    return value


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as failure:
        near = nearest(name, sorted(available_timezones()))
        raise Misspelt("should be a time zone of the IANA list, such as Europe/Berlin or UTC", near) from failure
    return name


def share_of(text: str) -> float | None:
    """`10%` as 0.1; `none` as None. ValueError for anything else."""
    if text == "none":
        return None
    found = _SHARE.fullmatch(text)
    if found is None or float(found[1]) > 100:
        raise ValueError("should be a share such as 10%, or `none` for no guard")
    return float(found[1]) / 100


def _share(value: Any) -> Any:
    share_of(value if isinstance(value, str) else "")
    return value


def _constant(value: Any) -> Any:
    if not isinstance(value, str | int | float):
        raise ValueError("should be a constant: text, a number, true or false")
    return value


def _table(name: str) -> str:
    if _TABLE.fullmatch(name) is None:
        raise ValueError("should be a table such as schema.name, without quotes or blanks; for more, write a query")
    return name


def _schema(name: str) -> str:
    if _SCHEMA.fullmatch(name) is None:
        raise ValueError("should be a schema such as reverse_etl, or database.schema, without quotes or blanks")
    return name


Column = Annotated[str, words("the name of a column")]
FieldName = Annotated[str, words("the name of a field of the destination")]
Text = Annotated[str, words("text")]
Connection = Annotated[str, words("the name of a connection")]
Name = Annotated[str, AfterValidator(checked_name), WithJsonSchema({"type": "string", "pattern": f"^{NAME.pattern}$"})]
Table = Annotated[str, words("a table such as schema.name"), AfterValidator(_table)]
SchemaName = Annotated[str, words("the name of a schema"), AfterValidator(_schema)]
Timezone = Annotated[str, words("a time zone such as Europe/Berlin"), AfterValidator(_timezone)]
ScheduleText = Annotated[str, words("a schedule such as `every 15 minutes`"), AfterValidator(_schedule)]
Duration = Annotated[
    str | Literal[0],
    BeforeValidator(_duration),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": "^[0-9]+ *[a-zA-Z]+$"}, {"const": 0}]}),
]
Share = Annotated[
    str, BeforeValidator(_share), WithJsonSchema({"type": "string", "pattern": "^([0-9]{1,3}(\\.[0-9]+)? *%|none)$"})
]
Constant = Annotated[str | int | float | bool, BeforeValidator(_constant)]
