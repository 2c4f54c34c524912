"""What a run asks the warehouse: the sync's query, bound to the cursor, and refused rows once more by their keys."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from reverse_etl import clock, values
from reverse_etl.config.sync import SyncConfig
from reverse_etl.diff import Comparison
from reverse_etl.errors import SourceError
from reverse_etl.localdb import literal
from reverse_etl.mapping import shape_of
from reverse_etl.model import Query
from reverse_etl.protocols import Source
from reverse_etl.standing import RefusedRow, SyncState

READ_ATTEMPTS = 3
KEYS_A_QUERY = 200
TIME_LAG = timedelta(minutes=10)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Bound:
    """A cursor's value with its exact type: as the source has it, never rounded."""

    text: str
    type: pa.DataType

    @property
    def type_text(self) -> str:
        schema = pa.schema([pa.field("c", self.type)])
        return base64.b64encode(schema.serialize().to_pybytes()).decode("ascii")

    @classmethod
    def stored(cls, text: str, type_text: str) -> Bound:
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(type_text)))
        return cls(text, schema.field(0).type)

    def less(self, lag: timedelta) -> Any:
        """The value to bind: this much earlier, for times."""
        text = values.earlier_exact(self.text, self.type, lag) if lag else self.text
        return values.from_exact(text, self.type)


@dataclass(frozen=True)
class Question:
    """What one run reads. `complete` means that a row's absence from the answer is its absence from the result."""

    sql: str
    parameters: dict[str, Any]
    complete: bool
    cursor: Bound | None
    asked_at: datetime

    @property
    def query(self) -> Query:
        return Query(self.sql, self.parameters)


def question(sync: SyncConfig, source: Source, state: SyncState | None, *, complete: bool) -> Question:
    """The sync's query as this run asks it. `complete` reads from the beginning, whatever the cursor says."""
    sql = statement(sync, source)
    named = source.names(sql)
    asked_at = source.clock() if sync.cursor is not None else clock.SYSTEM.now()
    parameters: dict[str, Any] = {}
    if "last_run_at" in named:
        last = state.last_run_at if state is not None else None
        parameters["last_run_at"] = clock.parse(last) if last else EPOCH
    if sync.cursor is None:
        return Question(sql, parameters, complete=True, cursor=None, asked_at=asked_at)
    cursor = _cursor_of(sync, source, state, sql, named)
    fresh = complete or state is None or state.cursor_value is None
    wraps = "cursor" not in named
    bound = _start(sync, cursor.type) if fresh else cursor.less(_lag(sync, cursor.type))
    if wraps and not fresh:
        column = f"q.{source.quote(sync.cursor.column)}"
        sql = _among(sql, f"{column} >= :cursor or {column} is null")
    if not wraps or not fresh:
        parameters["cursor"] = bound
    return Question(sql, parameters, complete=fresh, cursor=None if fresh else cursor, asked_at=asked_at)


def statement(sync: SyncConfig, source: Source) -> str:
    """The sync's own SQL, ready to be wrapped."""
    if sync.table is not None:
        return "select * from " + ".".join(source.quote(part) for part in sync.table.split("."))
    return (sync.sql or "").strip().rstrip(";").rstrip()


def take_in(asked: Question, source: Source, sync: SyncConfig, comparison: Comparison) -> pa.Schema:
    """Spool the whole result and let the warehouse go. A lost connection starts the read again, up to three times."""
    for attempt in range(1, READ_ATTEMPTS + 1):
        try:
            return _take_in_once(asked, source, sync, comparison)
        except SourceError as failure:
            if failure.code != "source_connection" or attempt == READ_ATTEMPTS:
                raise
            comparison.discard()
    raise AssertionError("unreachable")


def take_nothing(asked: Question, source: Source, sync: SyncConfig, comparison: Comparison) -> pa.Schema:
    """Prepare for rows that are only read again by their keys."""
    schema = source.describe(asked.query)
    comparison.begin(shape_of(sync, schema))
    comparison.take_in(schema, iter(()))
    return schema


def take_again(
    asked: Question,
    source: Source,
    sync: SyncConfig,
    schema: pa.Schema,
    comparison: Comparison,
    rows: Sequence[RefusedRow],
) -> None:
    """Read refused rows once more by their keys, with the cursor in force when each was first refused."""
    keyed = [row for row in rows if row.key_text is not None]
    for start in range(0, len(keyed), KEYS_A_QUERY):
        with source.read(_query_by_key(asked, source, sync, schema, keyed[start : start + KEYS_A_QUERY])) as batches:
            comparison.take_in(schema, batches, reread=True)
    if len(keyed) < len(rows) and not comparison.has_null_keys():
        nulls = " or ".join(f"q.{source.quote(column)} is null" for column in sync.key)
        query = Query(_among(statement(sync, source), nulls), asked.parameters)
        with source.read(query) as batches:
            comparison.take_in(schema, batches, reread=True)


def by_key(
    asked: Question, source: Source, sync: SyncConfig, schema: pa.Schema, rows: Sequence[RefusedRow]
) -> pa.Table:
    """The result's rows with these keys, all columns."""
    with source.read(_query_by_key(asked, source, sync, schema, rows)) as batches:
        found = list(batches)
    return pa.Table.from_batches(found, found[0].schema if found else schema)


def _query_by_key(
    asked: Question, source: Source, sync: SyncConfig, schema: pa.Schema, rows: Sequence[RefusedRow]
) -> Query:
    sql = statement(sync, source)
    clauses, parameters = [], dict(asked.parameters)
    if sync.cursor is not None and "cursor" in source.names(sql):
        parameters["cursor"] = min(_bound_of(row, sync, schema) for row in rows)
    for nth, row in enumerate(rows):
        typed = key_values(row.key_text or "", sync, schema)
        parameters |= {f"key_{nth}_{at}": value for at, value in enumerate(typed)}
        same = [f"q.{source.quote(column)} = :key_{nth}_{at}" for at, column in enumerate(sync.key)]
        clauses.append(f"({' and '.join(same)})")
    return Query(_among(sql, " or ".join(clauses)), parameters)


def _among(sql: str, condition: str) -> str:
    return f"select * from (\n{sql}\n) as q where {condition}"


def key_values(text: str, sync: SyncConfig, schema: pa.Schema) -> list[Any]:
    """A key's text as values that the source can compare with its own."""
    parts = (
        [text]
        if len(sync.key) == 1
        else [part if isinstance(part, str) else json.dumps(part) for part in json.loads(text)]
    )
    zone = ZoneInfo(sync.timezone)
    return [_typed(part, schema.field(name).type, zone) for part, name in zip(parts, sync.key, strict=True)]


def reached(asked: Question, sync: SyncConfig, schema: pa.Schema, comparison: Comparison) -> Bound | None:
    """How far the cursor may move: the greatest value read, for times at most the source's clock at the start."""
    if sync.cursor is None:
        return None
    type = schema.field(sync.cursor.column).type
    newest = comparison.newest_cursor(at_most=ceiling(asked, sync, type))
    if newest is None:
        return None
    here = Bound(values.to_exact(newest), type)
    before: Any = None if asked.cursor is None else values.from_exact(asked.cursor.text, type)
    if before is not None and before > values.from_exact(here.text, type):
        return None  # only late rows inside the lag were read: a cursor never goes back
    return here


def ceiling(asked: Question, sync: SyncConfig, type: pa.DataType) -> str | None:
    """The source's clock at the start, as SQL of the cursor's type; None for a cursor that isn't a time."""
    if pa.types.is_date(type):
        return f"CAST({literal(asked.asked_at.astimezone(ZoneInfo(sync.timezone)).date().isoformat())} AS DATE)"
    if not pa.types.is_timestamp(type):
        return None
    if type.tz is not None:
        return f"CAST({literal(asked.asked_at.isoformat())} AS TIMESTAMPTZ)"
    local = asked.asked_at.astimezone(ZoneInfo(sync.timezone)).replace(tzinfo=None)
    return f"CAST({literal(local.isoformat(sep=' '))} AS TIMESTAMP)"


def _take_in_once(asked: Question, source: Source, sync: SyncConfig, comparison: Comparison) -> pa.Schema:
    with source.read(asked.query) as batches:
        first = next(batches, None)
        schema = source.describe(asked.query) if first is None else first.schema
        comparison.begin(shape_of(sync, schema))
        comparison.take_in(schema, batches if first is None else _with(first, batches))
    return schema


def _with(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest


def _cursor_of(sync: SyncConfig, source: Source, state: SyncState | None, sql: str, named: frozenset[str]) -> Bound:
    """Where the cursor stands, or its type with no place yet."""
    if state is not None and state.cursor_value is not None and state.cursor_type is not None:
        return Bound.stored(state.cursor_value, state.cursor_type)
    schema = _described(source, sql, named)
    shape_of(sync, schema)  # names a missing column with its place
    return Bound("", schema.field(sync.cursor.column if sync.cursor else "").type)


def _described(source: Source, sql: str, named: frozenset[str]) -> pa.Schema:
    """The result's columns before the cursor's type is known: SQL around `:cursor` may accept only a value of its type."""
    refusal: SourceError | None = None
    for stand_in in (None, EPOCH, EPOCH.replace(tzinfo=None), EPOCH.date(), 0, ""):
        values_of = {name: stand_in if name == "cursor" else EPOCH for name in named & {"cursor", "last_run_at"}}
        try:
            return source.describe(Query(sql, values_of))
        except SourceError as failure:
            if failure.code != "source_query" or "cursor" not in named:
                raise
            refusal = refusal or failure
    raise refusal or AssertionError("unreachable")


def _start(sync: SyncConfig, type: pa.DataType) -> Any:
    """`:cursor` before there is one: `start`, by default the least value of the column's type."""
    start = sync.cursor.start if sync.cursor is not None else None
    if start is not None:
        return _typed(str(start), type, ZoneInfo(sync.timezone))
    return values.from_exact(values.least_exact(type), type)


def _lag(sync: SyncConfig, type: pa.DataType) -> timedelta:
    lag = sync.cursor.lag if sync.cursor is not None else None
    if lag is not None:
        return lag
    return TIME_LAG if pa.types.is_timestamp(type) else timedelta()


def _bound_of(row: RefusedRow, sync: SyncConfig, schema: pa.Schema) -> Any:
    type = schema.field(sync.cursor.column if sync.cursor else "").type
    if row.cursor_value is None or row.cursor_type is None:
        return _start(sync, type)
    stored = Bound.stored(row.cursor_value, row.cursor_type)
    return stored.less(_lag(sync, stored.type))


def _typed(text: str, type: pa.DataType, zone: ZoneInfo) -> Any:  # one line a type
    if pa.types.is_integer(type):
        return int(text)
    if pa.types.is_decimal(type):
        return Decimal(text)
    if pa.types.is_floating(type):
        return float(text)
    if pa.types.is_boolean(type):
        return text == "true"
    if pa.types.is_date(type):
        return datetime.fromisoformat(text).date()
    if pa.types.is_timestamp(type):
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            return moment if type.tz is None else moment.replace(tzinfo=zone)
        return moment.astimezone(zone).replace(tzinfo=None) if type.tz is None else moment
    return text
