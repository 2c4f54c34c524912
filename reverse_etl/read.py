"""What a run asks the warehouse: the sync's query, bound to the cursor, and refused rows once more by their keys."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from reverse_etl import clock, cursor
from reverse_etl.config.sync import SyncConfig
from reverse_etl.cursor import EPOCH, Bound
from reverse_etl.digests import Digests
from reverse_etl.errors import SourceError
from reverse_etl.exact import from_exact, to_exact
from reverse_etl.mapping import shape_of
from reverse_etl.model import Query
from reverse_etl.protocols import Source
from reverse_etl.spool import Spool
from reverse_etl.standing import RefusedRow, SyncState

READ_ATTEMPTS = 3
KEYS_A_QUERY = 200


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


class Reader:
    """Asks one sync's source; the answers are spooled, and the warehouse is let go."""

    def __init__(self, sync: SyncConfig, source: Source, digests: Digests | None = None) -> None:
        self.sync = sync
        self.digests = digests
        self.source = source
        self.sql = _statement(sync, source)
        self.named = source.names(self.sql)

    def question(self, state: SyncState | None, *, complete: bool) -> Question:
        """The sync's query as this run asks it. `complete` reads from the beginning, whatever the cursor says."""
        parameters: dict[str, Any] = {}
        if "last_run_at" in self.named:
            last = state.last_run_at if state is not None else None
            parameters["last_run_at"] = clock.parse(last) if last else EPOCH
        if self.sync.cursor is None:
            return Question(self.sql, parameters, complete=True, cursor=None, asked_at=clock.SYSTEM.now())
        asked_at, bound = self.source.clock(), self._cursor(state)
        fresh = complete or state is None or state.cursor_value is None
        sql = self.sql
        lag = cursor.lag(self.sync, bound.type)
        if "cursor" in self.named or not fresh:
            parameters["cursor"] = cursor.start(self.sync, bound.type) if fresh else bound.less(lag)
        if "cursor" not in self.named and not fresh:
            column = f"q.{self.source.quote(self.sync.cursor.column)}"
            sql = _among(sql, f"{column} >= :cursor or {column} is null")
        return Question(sql, parameters, complete=fresh, cursor=None if fresh else bound, asked_at=asked_at)

    def take_in(self, asked: Question, spool: Spool) -> pa.Schema:
        """Spool the whole result. A lost connection starts the read again, up to three times."""
        for attempt in range(1, READ_ATTEMPTS + 1):
            try:
                return self._take_in_once(asked, spool)
            except SourceError as failure:
                if failure.code != "source_connection" or attempt == READ_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def take_nothing(self, asked: Question, spool: Spool) -> pa.Schema:
        """Prepare for rows that are only read again by their keys."""
        schema = self.source.describe(asked.query)
        spool.begin(shape_of(self.sync, schema, self.digests))
        spool.take_in(schema, iter(()))
        return schema

    def take_again(self, asked: Question, schema: pa.Schema, spool: Spool, refused: Sequence[RefusedRow]) -> None:
        """Read refused rows once more by their keys, with the cursor in force when each was first refused."""
        keyed = [row for row in refused if row.key_text is not None]
        queries = [
            self._by_key(asked, schema, keyed[first : first + KEYS_A_QUERY])
            for first in range(0, len(keyed), KEYS_A_QUERY)
        ]
        if len(keyed) < len(refused) and not spool.has_null_keys():
            nulls = " or ".join(f"q.{self.source.quote(column)} is null" for column in self.sync.key)
            queries.append(Query(_among(self.sql, nulls), asked.parameters))
        for query in queries:
            with self.source.read(query) as batches:
                spool.take_in(schema, batches, reread=True)

    def by_key(self, asked: Question, schema: pa.Schema, rows: Sequence[RefusedRow]) -> pa.Table:
        """The result's rows with these keys, all columns."""
        with self.source.read(self._by_key(asked, schema, rows)) as batches:
            found = list(batches)
        return pa.Table.from_batches(found, found[0].schema if found else schema)

    def by_text(self, asked: Question, schema: pa.Schema, text: str) -> Query | None:
        """The result's rows of which a column that is mapped or part of the key is this text, all in small letters.

        None where no such column holds text.
        """
        used = shape_of(self.sync, schema).sources
        columns = [each.name for each in schema if each.name in used and _is_text(each.type)]
        same = " or ".join(f"lower(q.{self.source.quote(column)}) = :text" for column in columns)
        return Query(_among(self.sql, same), {**asked.parameters, "text": text}) if columns else None

    def _take_in_once(self, asked: Question, spool: Spool) -> pa.Schema:
        with self.source.read(asked.query) as batches:
            first = next(batches, None)
            schema = self.source.describe(asked.query) if first is None else first.schema
            spool.begin(shape_of(self.sync, schema, self.digests))
            spool.take_in(schema, batches if first is None else _with(first, batches))
        return schema

    def _by_key(self, asked: Question, schema: pa.Schema, rows: Sequence[RefusedRow]) -> Query:
        clauses, parameters = [], dict(asked.parameters)
        if self.sync.cursor is not None and "cursor" in self.named:
            type = schema.field(self.sync.cursor.column).type
            parameters["cursor"] = min(cursor.at_refusal(row, self.sync, type) for row in rows)
        for nth, row in enumerate(rows):
            parts = _key_values(row.key_text or "", self.sync, schema)
            parameters |= {f"key_{nth}_{part}": value for part, value in enumerate(parts)}
            same = [f"q.{self.source.quote(column)} = :key_{nth}_{part}" for part, column in enumerate(self.sync.key)]
            clauses.append(f"({' and '.join(same)})")
        return Query(_among(self.sql, " or ".join(clauses)), parameters)

    def _cursor(self, state: SyncState | None) -> Bound:
        """Where the cursor stands, or its type with no place yet."""
        if state is not None and state.cursor_value is not None and state.cursor_type is not None:
            return Bound.stored(state.cursor_value, state.cursor_type)
        schema = self._described()
        shape_of(self.sync, schema)  # names a missing column with its place
        return Bound("", schema.field(self.sync.cursor.column if self.sync.cursor else "").type)

    def _described(self) -> pa.Schema:
        """The columns before the cursor's type is known: SQL around `:cursor` may only accept a value of its type."""
        refusal: SourceError | None = None
        for stand_in in (None, EPOCH, EPOCH.replace(tzinfo=None), EPOCH.date(), 0, ""):
            bound = {name: stand_in if name == "cursor" else EPOCH for name in self.named & {"cursor", "last_run_at"}}
            try:
                return self.source.describe(Query(self.sql, bound))
            except SourceError as failure:
                if failure.code != "source_query" or "cursor" not in self.named:
                    raise
                refusal = refusal or failure
        raise refusal or AssertionError("unreachable")


def reached(asked: Question, sync: SyncConfig, schema: pa.Schema, spool: Spool) -> Bound | None:
    """How far the cursor may move: the greatest value read, for times at most the source's clock at the start."""
    if sync.cursor is None:
        return None
    type = schema.field(sync.cursor.column).type
    newest = spool.newest_cursor(at_most=cursor.ceiling(asked.asked_at, sync, type))
    if newest is None:
        return None
    here = Bound(to_exact(newest), type)
    before: Any = None if asked.cursor is None else from_exact(asked.cursor.text, type)
    if before is not None and before > from_exact(here.text, type):
        return None  # only late rows inside the lag were read: a cursor never goes back
    return here


def _statement(sync: SyncConfig, source: Source) -> str:
    """The sync's own SQL, ready to be wrapped."""
    if sync.table is not None:
        return "select * from " + ".".join(source.quote(part) for part in sync.table.split("."))
    return (sync.sql or "").strip().rstrip(";").rstrip()


def _among(sql: str, condition: str) -> str:
    return f"select * from (\n{sql}\n) as q where {condition}"


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _with(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest


def _key_values(text: str, sync: SyncConfig, schema: pa.Schema) -> list[Any]:
    """A key's text as values that the source can compare with its own."""
    parts = [text]
    if len(sync.key) > 1:
        parts = [part if isinstance(part, str) else json.dumps(part) for part in json.loads(text)]
    zone = ZoneInfo(sync.timezone)
    return [cursor.typed(part, schema.field(name).type, zone) for part, name in zip(parts, sync.key, strict=True)]
