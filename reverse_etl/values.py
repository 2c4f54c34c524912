"""One table from Arrow types to what goes on the wire, shared by every destination.

    column            as text                                       as typed JSON, where that differs
    boolean           true, false                                   a boolean, for boolean and untyped fields
    integer, decimal  plain digits, no exponent, no trailing zeros  a number of the same digits, never through a float
    float             shortest digits that read back equal          a number of the same digits
    text              as it is; trimmed for other fields, a time    a number or boolean, where field and text are
                      in ISO form in UTC (without an offset: UTC's)
    date              2026-01-31; for a datetime field midnight UTC
    timestamp         2026-01-31T10:20:30.123Z, in UTC and cut to the millisecond; for a date field its UTC day
    time              10:20:30.5; for a time field 10:20:30.500Z
    list              a;b for choice fields, in the options' order and without repeats; else compact JSON, for untyped
                      fields a list
    struct, map       compact JSON; for untyped fields an object

A choice may be given by its label: the option's value goes out. An integer 0 or 1 is false or true for a boolean
field. A naive timestamp is taken as UTC: the mapping has applied the
sync's time zone before. NULL stays None. NaN, infinity and binary never get here: `checks` and the sources refuse them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa

from reverse_etl.exact import earlier_exact, from_exact, least_exact, to_exact
from reverse_etl.late import Late
from reverse_etl.model import JSON, Field, FieldType

pc = Late("pyarrow.compute")

__all__ = ["as_json", "as_text", "canonical", "earlier_exact", "from_exact", "least_exact", "to_exact"]

PLAIN_NUMBER = re.compile(r"-?\d+(\.\d+)?")
NUMERIC = frozenset({FieldType.NUMBER, FieldType.INTEGER})
CHOICE = frozenset({FieldType.CHOICE, FieldType.CHOICES})
VERBATIM = frozenset({FieldType.TEXT, FieldType.OTHER})  # what people wrote goes out as they wrote it
UNTYPED = Field("", FieldType.OTHER)


# --- to the wire -------------------------------------------------------------------------------------------------


def as_text(column: pa.Array, field: Field) -> list[str | None]:
    """A column for a destination that takes strings only."""
    column = _storage(column)
    if field.type in CHOICE:
        return _choices(column, field)
    return _as_text(column, field)


def _as_text(column: pa.Array, field: Field) -> list[str | None]:
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return list(_text_for(column, field.type).to_pylist())
    if field.type is FieldType.BOOLEAN and _is_number(kind):
        return [_TRUTH.get(text, text) if text is not None else None for text in _numbers(column)]
    if _is_number(kind):
        return _numbers(column)
    if pa.types.is_boolean(kind):
        return list(column.cast(pa.string()).to_pylist())
    if pa.types.is_temporal(kind):
        return _moments(column, field.type)
    if pa.types.is_nested(kind):
        return [None if tree is None else orjson.dumps(tree).decode() for tree in _trees(column)]
    if pa.types.is_null(kind):
        return [None] * len(column)
    raise TypeError(f"a column of type {kind} has no text form")


def as_json(column: pa.Array, field: Field) -> list[object]:
    """A column for a destination that takes typed JSON; what isn't a plain value is an `orjson.Fragment`."""
    column = _storage(column)
    kind = column.type
    if field.type in NUMERIC:
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return [_number_in(text) for text in as_text(column, field)]
        if _is_number(kind):
            return _json_numbers(column)
    if field.type is FieldType.BOOLEAN:
        return [None if text is None else _BOOLEANS.get(text.lower(), text) for text in as_text(column, field)]
    if field.type is FieldType.OTHER:
        return _trees(column)
    return list(as_text(column, field))


def _text_for(column: pa.Array, wanted: FieldType) -> pa.Array:
    """Text in a field that takes something else: without blanks around it, `+5` as 5, `TRUE` as true, times in UTC."""
    if wanted in VERBATIM:
        return column
    trimmed = pc.utf8_trim_whitespace(column)
    if wanted in NUMERIC:
        return pc.replace_substring_regex(trimmed, r"^\+", "")
    if wanted is FieldType.DATETIME:
        return pa.array([_in_utc(text) for text in trimmed.to_pylist()], pa.string())
    return pc.utf8_lower(trimmed) if wanted is FieldType.BOOLEAN else trimmed


def _in_utc(text: str | None) -> str | None:
    """A time in ISO form, as other times go out; what isn't one goes as it came, for the destination to judge."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return text
    return f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _choices(column: pa.Array, field: Field) -> list[str | None]:
    """Options by their values; text keeps the order and the blanks that it came with where the options are known."""
    named = field.by_label
    if _is_list(column.type):
        rank = {option: place for place, option in enumerate(field.options or ())}
        rows = _rows_of(column, _present_text)
        chosen = [None if row is None else dict.fromkeys(named.get(part, part) for part in row) for row in rows]
        return [
            None if row is None else ";".join(sorted(row, key=lambda part: rank.get(part, len(rank)))) for row in chosen
        ]
    texts = _as_text(column, field if field.options is None else UNTYPED)
    if not named:
        return texts
    if field.type is FieldType.CHOICES:
        return [None if text is None else ";".join(named.get(part, part) for part in text.split(";")) for text in texts]
    return [None if text is None else named.get(text, text) for text in texts]


def _numbers(column: pa.Array) -> list[str | None]:
    kind = column.type
    if pa.types.is_integer(kind):
        return list(column.cast(pa.string()).to_pylist())
    if pa.types.is_float16(kind):
        column = column.cast(pa.float32())
    texts = column.cast(pa.string())
    exponent = "E" if pa.types.is_decimal(kind) else "e"
    if pa.types.is_decimal(kind) and kind.scale > 0:
        texts = pc.ascii_rtrim(pc.ascii_rtrim(texts, "0"), ".")
    plain = list(texts.to_pylist())
    # Arrow writes the very large and very small with an exponent and a float's zero with its sign.
    for position, text in enumerate(plain):
        if text is not None and (exponent in text or text == "-0"):
            source = str(column[position].as_py()) if pa.types.is_decimal(kind) else text
            plain[position] = _plain(Decimal(source))
    return plain


def _plain(number: Decimal) -> str:
    """Every digit, no exponent, no trailing zeros, no signed zero."""
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _json_numbers(column: pa.Array) -> list[object]:
    if pa.types.is_integer(column.type):
        return list(column.to_pylist())
    return [None if text is None else orjson.Fragment(text) for text in _numbers(column)]


def _number_in(text: str | None) -> object:
    """Text for a number field: as a number when it is one, else as it came, for the destination to judge."""
    if text is None or not PLAIN_NUMBER.fullmatch(text):
        return text
    return orjson.Fragment(_plain(Decimal(text)))


def _moments(column: pa.Array, wanted: FieldType) -> list[str | None]:
    kind = column.type
    if pa.types.is_timestamp(kind):
        column = _naive_utc(column)
        if wanted is FieldType.DATE:
            return list(pc.utf8_slice_codeunits(column.cast(pa.string()), 0, 10).to_pylist())
        # Text keeps the day and cuts the fraction downwards, before 1970 too; casting to ms would round towards 1970.
        tail = ".000Z" if kind.unit == "s" else "Z"
        return [
            None if text is None else f"{text[:10]}T{text[11:23]}{tail}"
            for text in column.cast(pa.string()).to_pylist()
        ]
    texts = column.cast(pa.string()).to_pylist() if not pa.types.is_date64(kind) else _days(column)
    if pa.types.is_date(kind):
        midnight = "T00:00:00.000Z" if wanted is FieldType.DATETIME else ""
        return [None if text is None else text + midnight for text in texts]
    if pa.types.is_time(kind):
        return [None if text is None else _clock_time(text, wanted) for text in texts]
    raise TypeError(f"a column of type {kind} has no text form")


def _days(column: pa.Array) -> list[str | None]:
    return list(column.cast(pa.date32()).cast(pa.string()).to_pylist())


def _clock_time(text: str, wanted: FieldType) -> str:
    whole, _, fraction = text.partition(".")
    if wanted is FieldType.TIME:
        return f"{whole}.{fraction[:3].ljust(3, '0')}Z"
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def _naive_utc(column: pa.Array) -> pa.Array:
    return column if column.type.tz is None else column.cast(pa.timestamp(column.type.unit))


# --- lists, structs, maps ------------------------------------------------------------------------------------------


def _trees(column: pa.Array) -> list[object]:
    """A column as JSON values, nested ones included."""
    column = _storage(column)
    kind = column.type
    if _is_number(kind):
        return _json_numbers(column)
    if pa.types.is_boolean(kind):
        return list(column.to_pylist())
    if pa.types.is_map(kind):
        return [None if row is None else dict(row) for row in _map_rows(column)]
    if pa.types.is_struct(kind):
        return _structs(column)
    if _is_list(kind):
        return list(_rows_of(column, _trees))
    return list(as_text(column, UNTYPED))


def _structs(column: pa.StructArray) -> list[object]:
    names = [column.type.field(position).name for position in range(column.type.num_fields)]
    parts = [_trees(part) for part in column.flatten()]
    present = column.is_valid().to_pylist()
    return [
        {name: part[row] for name, part in zip(names, parts, strict=True)} if there else None
        for row, there in enumerate(present)
    ]


def _rows_of(column: pa.Array, render: Callable[[pa.Array], Sequence[Any]]) -> list[list[Any] | None]:
    """Each list of the column with its elements rendered; the elements of all rows are rendered as one column."""
    if pa.types.is_fixed_size_list(column.type):
        column = column.cast(pa.list_(column.type.value_type))
    elements = render(column.flatten())
    lengths = pc.list_value_length(column).to_pylist()
    rows: list[list[Any] | None] = []
    start = 0
    for length in lengths:
        end = start + (length or 0)
        rows.append(None if length is None else [value for value in elements[start:end] if value is not _ABSENT])
        start = end
    return rows


def _present_text(elements: pa.Array) -> list[Any]:
    return [_ABSENT if text is None else text for text in _as_text(elements, UNTYPED)]


def _map_rows(column: pa.MapArray) -> list[list[tuple[str | None, object]] | None]:
    offsets = column.offsets.to_pylist()  # of the whole child arrays, also when the column is a slice
    first, last = offsets[0], offsets[-1]
    names = as_text(column.keys.slice(first, last - first), UNTYPED)
    parts = _trees(column.items.slice(first, last - first))
    pairs = list(zip(names, parts, strict=True))
    present = column.is_valid().to_pylist()
    return [
        pairs[offsets[row] - first : offsets[row + 1] - first] if there else None for row, there in enumerate(present)
    ]


def _storage(column: pa.Array) -> pa.Array:
    """The plain array behind dictionaries, chunks and extension types."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


_ABSENT = object()
_TRUTH = {"0": "false", "1": "true"}
_BOOLEANS: dict[str, object] = {"true": True, "false": False, "1": True, "0": False}


# --- to people -----------------------------------------------------------------------------------------------------


def canonical(value: object) -> JSON:
    """One value as people and `--json` see it. Digits are never lost: what JSON's numbers can't hold becomes text."""
    if isinstance(value, pa.Scalar):
        return canonical(value.as_py()) if not _is_nanoseconds(value.type) else to_exact(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return _shown_float(value)
    if isinstance(value, Decimal):
        return _shown_decimal(value)
    if isinstance(value, dict):
        return {str(canonical(name)): canonical(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(part) for part in value]
    if isinstance(value, datetime | date | time):
        return _shown_moment(value)
    return str(value)


def _shown_float(value: float) -> JSON:
    if not math.isfinite(value):
        return str(value)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _shown_decimal(value: Decimal) -> JSON:
    if not value.is_finite():
        return str(value)
    plain = _plain(value)
    if "." not in plain:
        return int(plain)
    return float(plain) if _plain(Decimal(repr(float(plain)))) == plain else plain


def _shown_moment(value: date | time) -> str:
    if not isinstance(value, datetime):
        return value.isoformat()
    moment = value.astimezone(UTC) if value.tzinfo is not None else value
    precision = "microseconds" if moment.microsecond % 1000 else "milliseconds"
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


def _is_nanoseconds(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) and kind.unit == "ns")
