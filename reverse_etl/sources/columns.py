"""Rows of a Python driver to Arrow columns whose types are fixed before the first row goes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial
from types import NoneType
from typing import Any
from uuid import UUID

import pyarrow as pa

from reverse_etl.errors import SourceError
from reverse_etl.sources.types import unsupported
from reverse_etl.values import UNTYPED, as_text

EXACT_IN_DOUBLE = 2**53


@dataclass(frozen=True)
class Column:
    """A column of a result: its name, its Arrow type, and what turns a driver's values into some that Arrow takes.

    `kinds` are the Python types it may hold, None where the driver vouches for them: Arrow itself would cut 1.5 to fit
    a whole number and a time to fit a date.
    """

    name: str
    type: pa.DataType
    prepare: Callable[[Sequence[Any]], Any] | None = None
    kinds: frozenset[type] | None = None

    def array(self, values: Sequence[Any]) -> pa.Array:
        """The values in the column's type, exactly; SourceError when one of them doesn't fit."""
        try:
            if self.kinds is not None and not self.kinds.issuperset(map(type, values)):
                raise ValueError("a value of another type")
            ready = values if self.prepare is None else self.prepare(values)
            return ready if isinstance(ready, pa.Array) else pa.array(ready, self.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, ValueError) as failure:
            raise SourceError(
                f"column {self.name!r} is read as {self.type}, but holds a value that isn't one",
                code="source_type",
                hint=f"cast it in the query, for example: cast({self.name} as varchar) as {self.name}",
            ) from failure


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    return pa.schema([pa.field(column.name, column.type) for column in columns])


def to_batches(parts: Iterable[Sequence[Sequence[Any]]], columns: Sequence[Column]) -> Iterator[pa.RecordBatch]:
    """Parts of rows as record batches."""
    schema = schema_of(columns)
    for rows in parts:
        if rows:
            arrays = [column.array(values) for column, values in zip(columns, zip(*rows, strict=True), strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)


# --- for drivers that don't say types -------------------------------------------------------------------------------


def columns_seen(
    names: Sequence[str], rows: Sequence[Sequence[Any]], digits: Sequence[tuple[Any, Any]]
) -> list[Column]:
    """Columns by what the first rows hold. `digits` is what the driver says of precision and scale, None if nothing.

    A column that holds only NULLs so far becomes text.
    """
    values = list(zip(*rows, strict=True)) or [()] * len(names)
    return [_column_seen(name, part, size) for name, part, size in zip(names, values, digits, strict=True)]


def _column_seen(name: str, values: Sequence[Any], digits: tuple[Any, Any]) -> Column:
    kinds = {type(value) for value in values if value is not None}
    if not kinds or kinds in ({str}, {UUID}):
        return Column(name, pa.string(), texts)
    if kinds == {bool}:
        return _strict(name, pa.bool_(), bool)
    if kinds == {int}:
        small = all(-(2**63) <= value < 2**63 for value in values if value is not None)
        return _strict(name, pa.int64() if small else pa.decimal128(38, 0), int)
    if kinds <= {int, float}:
        return _strict(name, pa.float64(), int, float, prepare=_doubles)
    if kinds <= {int, Decimal}:
        return _strict(name, _decimal_type(values, digits), int, Decimal)
    return _moments_seen(name, kinds, values)


def _strict(
    name: str, type: pa.DataType, *kinds: type, prepare: Callable[[Sequence[Any]], Any] | None = None
) -> Column:
    return Column(name, type, prepare, frozenset({*kinds, NoneType}))


def _decimal_type(values: Sequence[Any], digits: tuple[Any, Any]) -> pa.DataType:
    precision, scale = digits
    if isinstance(precision, int) and isinstance(scale, int) and 0 < precision <= 38 and 0 <= scale <= precision:
        return pa.decimal128(precision, scale)
    exponents = [Decimal(value).as_tuple().exponent for value in values if value is not None]
    return pa.decimal128(38, max([0, *(-exponent for exponent in exponents if isinstance(exponent, int))]))


def _moments_seen(name: str, kinds: set[type], values: Sequence[Any]) -> Column:
    if kinds == {date}:
        return _strict(name, pa.date32(), date)
    if kinds == {time}:
        return _strict(name, pa.time64("us"), time)
    if kinds == {datetime}:
        zones = {value.tzinfo is not None for value in values if value is not None}
        if zones == {True}:
            return _strict(name, pa.timestamp("us", "UTC"), datetime, prepare=partial(_all_zoned, zoned=True))
        if zones == {False}:
            return _strict(name, pa.timestamp("us"), datetime, prepare=partial(_all_zoned, zoned=False))
    spelled = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise unsupported(name, spelled, "has no exact form", "varchar")


def _all_zoned(values: Sequence[Any], *, zoned: bool) -> Sequence[Any]:
    if any(value is not None and (value.tzinfo is not None) is not zoned for value in values):
        raise ValueError("times with and without an offset")
    return values


def texts(values: Sequence[Any]) -> list[str | None]:
    """Text of what a column without a declared type may mix: text, numbers, ids."""
    return [value if value is None or isinstance(value, str) else _text(value) for value in values]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return str(as_text(pa.array([value]), UNTYPED)[0])
    if isinstance(value, int | UUID | Decimal):
        return str(value)
    raise ValueError(f"a value of type {type(value).__name__} beside text")


def _doubles(values: Sequence[Any]) -> list[float | None]:
    for value in values:
        if isinstance(value, int) and abs(value) > EXACT_IN_DOUBLE:
            raise ValueError("a whole number beyond 2^53 beside fractions, which a double can't hold")
    return [None if value is None else float(value) for value in values]
