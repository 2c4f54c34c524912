"""A DuckDB file, an in-memory DuckDB, or MotherDuck: the embedded warehouse.

What this builds on (tried with duckdb 1.4.5, 1.5.5 and 2.0.0, 2026-11):

- A relation's Arrow reader streams; a statement's (`execute(...).to_arrow_reader()`) fetches everything first, and so
  does a relation with parameters before 2.0. So parameters are bound to session variables, which the query reads back.
- One process may hold a file for writing, or several for reading. So a warehouse that is being rebuilt is waited for.
- Several connections of one process to a file share one database and its settings: they are set once and then locked.
- So a file is open for writing only while rows are added to it, and whoever reads it then is waited for.
- `read_only` still lets SQL read other files; `enable_external_access = false` stops that.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from reverse_etl.clock import SYSTEM, Clock
from reverse_etl.errors import SourceError
from reverse_etl.exact import Nanoseconds
from reverse_etl.model import Query
from reverse_etl.protocols import Load
from reverse_etl.sources import loading, spill, stream
from reverse_etl.sources.statement import Statement
from reverse_etl.sources.types import exact_batch, exact_schema, holds_hugeint, refuse_duckdb_type, refuse_names

BATCH_ROWS = 65_536
# Enough for sorting and grouping ten million rows on disk; `duckdb:///file?memory_limit=4GB&threads=16` sets others.
MEMORY_LIMIT = "192MB"
MOST_THREADS = 4  # each needs memory of its own: 16 of them run out of it
KEPT_SHUT = ("enable_external_access", "lock_configuration")  # not for a url to say
LOCK_WAIT_SECONDS = 60.0
LOAD_WAIT_SECONDS = 20.0  # what can't be written now is written after the next run
LOCK_POLL_SECONDS = 0.25
INTERRUPT_SECONDS = 0.05
TYPES = {"string": "VARCHAR", "int64": "BIGINT", "timestamp[us, tz=UTC]": "TIMESTAMPTZ"}  # of what is written back
_OPENING = threading.Lock()  # settings are checked and locked by one thread at a time


class DuckDBSource:
    """See `protocols.Source`. Thread-safe: `close` from another thread also cancels what is being read."""

    def __init__(
        self, config: stream.Connection, *, clock: Clock = SYSTEM, lock_wait_seconds: float = LOCK_WAIT_SECONDS
    ) -> None:
        self._config = config
        self._clock = clock
        self._lock_wait_seconds = lock_wait_seconds
        self._url = stream.parsed_url(config)
        database = self._url.database or ":memory:"
        self._file = None if database.startswith((":memory:", "md:", "motherduck:")) else Path(database)
        self._open: set[Any] = set()
        self._closed = threading.Event()

    def describe(self, query: Query) -> pa.Schema:
        with self._connected() as driver:
            return self._relation(driver, query)[1]

    @contextmanager
    def read(self, query: Query) -> Iterator[Iterator[pa.RecordBatch]]:
        with self._connected() as driver:
            driver.execute("BEGIN TRANSACTION READ ONLY")
            with self._asking():
                relation, schema, suspects = self._relation(driver, query)
                counted = driver.execute(f"SELECT count(*) FROM (\n{_body(query)}\n) AS q").fetchall()
                reader = _arrow_form(relation, "reader")(BATCH_ROWS)
            del relation
            rows = stream.whole(self._batches(reader, schema, suspects), counted[0][0])
            try:
                yield rows
            finally:
                rows.close()  # type: ignore[attr-defined]  # a generator
                reader.close()

    def names(self, query_sql: str) -> frozenset[str]:
        return Statement(query_sql).names

    def clock(self) -> datetime:
        return self._clock.now()  # DuckDB runs in this process

    def quote(self, identifier: str) -> str:
        return '"' + identifier.replace('"', '""') + '"'

    def load(self, schema: str, loads: Sequence[Load], *, rehearse: bool = False) -> None:
        wait = min(LOAD_WAIT_SECONDS, self._lock_wait_seconds)
        with self._connected(writing=True, wait=wait) as driver, self._asking(writing=True):
            driver.execute("BEGIN")
            for each in loads:
                self._load(driver, schema, each)
            driver.execute("ROLLBACK" if rehearse else "COMMIT")

    def close(self) -> None:
        self._closed.set()
        if self._open:
            threading.Thread(target=self._interrupt_all, name="interrupt", daemon=True).start()

    def _interrupt_all(self) -> None:
        """An interrupt between two statements is lost, so it is repeated until nobody reads any more."""
        while drivers := tuple(self._open):
            for driver in drivers:
                with suppress(duckdb.Error):
                    driver.interrupt()
            time.sleep(INTERRUPT_SECONDS)

    def _load(self, driver: Any, schema: str, load: Load) -> None:
        place = loading.quoted(schema, self.quote)
        table = f"{place}.{self.quote(load.table)}"
        driver.execute(f"CREATE SCHEMA IF NOT EXISTS {place}")
        types = {field.name: TYPES[str(field.type)] for field in load.rows.schema}
        columns = ", ".join(f"{self.quote(name)} {type}" for name, type in types.items())
        driver.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
        have = {name for name, *_ in driver.execute(f"DESCRIBE {table}").fetchall()}
        for name in types.keys() - have:
            driver.execute(f"ALTER TABLE {table} ADD COLUMN {self.quote(name)} {types[name]}")
        series, number = self.quote(load.series), f"max({self.quote(load.number)})" if load.number else "count(*)"
        asked = f"SELECT {series}, {number} FROM {table} WHERE {series} IN (SELECT unnest($series)) GROUP BY 1"
        fresh = loading.fresh(load, driver.execute(asked, {"series": loading.series_of(load)}).fetchall())
        driver.register("arriving", fresh)
        driver.execute(f"INSERT INTO {table} BY NAME SELECT * FROM arriving")
        driver.unregister("arriving")

    # --- connecting ---------------------------------------------------------------------------------------------

    @contextmanager
    def _connected(self, *, writing: bool = False, wait: float | None = None) -> Iterator[Any]:
        driver = self._waited_for(writing, self._lock_wait_seconds if wait is None else wait)
        self._open.add(driver)
        try:
            if self._closed.is_set():
                raise self._cancelled()
            yield driver
        finally:
            self._open.discard(driver)
            driver.close()

    def _waited_for(self, writing: bool, wait: float) -> duckdb.DuckDBPyConnection:
        """A connection, as soon as whoever holds the file lets go of it."""
        if self._file is not None and not self._file.is_file():
            raise SourceError(
                f"the source {self._config.name!r} is the file {self._file}, which doesn't exist",
                code="source_missing_file",
                hint="build the warehouse first, or correct the url; a source's file is never created",
            )
        deadline = self._clock.monotonic() + wait
        while True:
            try:
                return self._connection(writing)
            except duckdb.Error as failure:
                if not _is_held(failure):
                    raise self._failure(failure) from failure
                if self._clock.monotonic() >= deadline or self._closed.wait(LOCK_POLL_SECONDS):
                    raise self._still_held(failure, wait) from failure

    def _connection(self, writing: bool) -> duckdb.DuckDBPyConnection:
        """DuckDB's own connection. Through SQLAlchemy it would cost a run 0.1 s more, for a dialect made from
        PostgreSQL's."""
        settings: dict[str, Any] = {
            "memory_limit": MEMORY_LIMIT,
            "threads": str(min(MOST_THREADS, os.cpu_count() or 1)),
            "temp_directory": spill.folder(),
            "preserve_insertion_order": "false",
            "python_enable_replacements": "false",  # a table name must never mean a variable of this program
            # Makes DuckDB refuse to share one database between a source with and one without access to files.
            "custom_user_agent": "reverse-etl-external" if self._config.external_access else "reverse-etl",
        }
        settings |= self._url.query
        for name in KEPT_SHUT:
            settings.pop(name, None)
        database = self._url.database or ":memory:"
        if user := settings.pop("user", None):  # MotherDuck's
            database += f"?user={user}"
        with _OPENING:
            driver = duckdb.connect(database, read_only=self._file is not None and not writing, config=settings)
            if not driver.execute("SELECT current_setting('lock_configuration')").fetchall()[0][0]:
                driver.execute("SET GLOBAL TimeZone = 'UTC'")
                if not self._config.external_access:
                    driver.execute("SET enable_external_access = false")
                elif folder := getattr(self._config, "folder", None):
                    begin_at = str(folder).replace("'", "''")
                    driver.execute(f"SET GLOBAL file_search_path = '{begin_at}'")
                driver.execute("SET lock_configuration = true")
        return driver

    def _cancelled(self) -> SourceError:
        return SourceError(f"reading the source {self._config.name!r} was cancelled", code="source_cancelled")

    def _still_held(self, failure: duckdb.Error, wait: float) -> SourceError:
        return SourceError(
            f"the warehouse file {self._file} was held by another program for {wait:g} seconds: "
            f"{stream.words(failure, self._url)}",
            code="source_locked",
            hint="run again when that program has finished; one that writes to a DuckDB file keeps all others out",
        )

    # --- asking -------------------------------------------------------------------------------------------------

    def _relation(self, driver: Any, query: Query) -> tuple[Any, pa.Schema, list[int]]:
        """The query ready to be run, its exact schema, and the columns that may hold a number too wide for Arrow."""
        with self._asking():
            self._bind(driver, query)
            body = _body(query)
            _refuse_writing(driver, body)
            relation = driver.sql(body)
            refuse_names(relation.columns)
            for name, type in zip(relation.columns, relation.types, strict=True):
                refuse_duckdb_type(name, type)
            empty = relation.limit(0)
            found = _arrow_form(empty, "table")()
        nested = [type.id != "hugeint" and holds_hugeint(type) for type in relation.types]  # else the row is refused
        suspects = [position for position, suspect in enumerate(nested) if suspect]
        return relation, exact_schema(found.schema), suspects

    def _bind(self, driver: Any, query: Query) -> None:
        for name in sorted(self.names(query.sql) & query.parameters.keys()):
            value, type = query.parameters[name], ""
            if isinstance(value, Nanoseconds):
                type = "::TIMESTAMPTZ_NS" if value.zoned else "::TIMESTAMP_NS"
                value = str(value)
            driver.execute(f"SET VARIABLE {self.quote(name)} = $value{type}", {"value": value})

    def _batches(self, reader: Any, schema: pa.Schema, suspects: list[int]) -> Iterator[pa.RecordBatch]:
        with self._asking():
            for batch in reader:
                for position in suspects:
                    _refuse_39_digits(schema.names[position], batch.column(position))
                yield exact_batch(batch, schema)

    @contextmanager
    def _asking(self, *, writing: bool = False) -> Iterator[None]:
        try:
            yield
        except (duckdb.Error, OSError, pa.ArrowException) as failure:
            if writing:
                raise self._not_loaded(failure) from failure
            # What fails in the middle of a stream comes through Arrow, which knows DuckDB's errors as OSError only.
            raise self._failure(failure) from failure

    def _not_loaded(self, failure: Exception) -> SourceError:
        return loading.refused(self._config.name, stream.words(failure, self._url))

    def _failure(self, failure: Exception) -> SourceError:
        said = stream.words(failure, self._url)
        if self._closed.is_set() or isinstance(failure, duckdb.InterruptException):
            return self._cancelled()
        if isinstance(failure, duckdb.IOException | duckdb.ConnectionException):
            return SourceError(
                f"the source {self._config.name!r} could not be read: {said}",
                code="source_connection",
                hint="check the file, and that this release of duckdb reads it",
                said=said,
            )
        if isinstance(failure, duckdb.PermissionException):
            hint = "set `external_access: true` on the source if its queries may read files and the network"
        elif isinstance(failure, duckdb.OutOfMemoryException):
            hint = "allow more memory in the source's url, for example ?memory_limit=2GB"
        else:
            hint = "correct the query; `reverse-etl check --connect` tries it without sending anything"
        return SourceError(
            f"the source {self._config.name!r} refused the query: {said}", code="source_query", hint=hint, said=said
        )


def _arrow_form(relation: Any, form: str) -> Any:
    """How a relation becomes an Arrow table or reader: the methods have other names before duckdb 1.5."""
    kind = type(relation)  # an unknown name on the relation itself would be looked up among its columns
    return getattr(relation, f"to_arrow_{form}" if hasattr(kind, f"to_arrow_{form}") else f"fetch_arrow_{form}")


def _body(query: Query) -> str:
    """The query reading its parameters from session variables; a name nobody gave is left for DuckDB to refuse."""
    return Statement(query.sql).body(lambda name: f"getvariable('{name}')" if name in query.parameters else f":{name}")


def _refuse_writing(driver: Any, body: str) -> None:
    statements: list[Any] = driver.extract_statements(body)
    if not statements:
        raise SourceError("the query is empty", code="source_query", hint="write one SELECT statement")
    kind: Any = statements[0].type
    if len(statements) > 1 or kind != duckdb.StatementType.SELECT:
        raise SourceError(
            f"only one SELECT is taken as a query; DuckDB calls this {str(kind).rpartition('.')[2]}",
            code="source_query",
            hint="a sync only reads its source; wrap PIVOT as SELECT * FROM (PIVOT ...)",
        )


def _refuse_39_digits(name: str, column: pa.Array) -> None:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as failure:
        raise SourceError(
            f"column {name!r} holds a whole number of more than 38 digits",
            code="source_type",
            hint=f"cast it in the query, for example: cast({name} as varchar) as {name}",
        ) from failure


def _is_held(failure: BaseException | None) -> bool:
    """Whether another program, or another part of this one, has the file open in a way that keeps us out.

    DuckDB has no class of its own for that: a foreign lock is an IOException like a damaged file.
    """
    if isinstance(failure, duckdb.ConnectionException):
        return True
    said = str(failure)
    return isinstance(failure, duckdb.IOException) and ("lock on file" in said or "used by another process" in said)
