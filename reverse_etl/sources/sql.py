"""Any warehouse that SQLAlchemy speaks to: rows are read in parts and become Arrow columns.

`PostgresSource` and `SqliteSource` say what is particular to them by overriding `options`, `begin`, `columns`,
`insert` and `cancel`. For the others the first rows decide the types, and being read-only is left to the grants of
their user.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cached_property
from itertools import chain
from typing import Any

import pyarrow as pa
from sqlalchemy import URL, Connection, CursorResult, Engine, Table, bindparam, create_engine, literal_column
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.sql.expression import Executable

from reverse_etl.clock import SYSTEM, Clock
from reverse_etl.errors import SourceError
from reverse_etl.model import Query
from reverse_etl.protocols import Load
from reverse_etl.sources import inserting, loading, stream
from reverse_etl.sources.columns import Column, columns_seen, schema_of, to_batches
from reverse_etl.sources.statement import BACKSLASH_DIALECTS, Statement
from reverse_etl.sources.types import refuse_names

BATCH_ROWS = 10_000
DRIVERS = {
    "postgresql": "reverse-etl[postgres]",
    "bigquery": "sqlalchemy-bigquery",
    "snowflake": "snowflake-sqlalchemy",
    "redshift": "sqlalchemy-redshift redshift-connector",
    "databricks": "databricks-sqlalchemy",
    "clickhousedb": "clickhouse-connect",
    "mysql": "pymysql",
    "mariadb": "pymysql",
    "mssql": "pyodbc",
}


class Verbatim(Executable, ClauseElement):
    """A user's SQL with bound parameters between its pieces; SQLAlchemy's `text` would find some inside of strings."""

    inherit_cache = False

    def __init__(self, parts: Sequence[ClauseElement]) -> None:
        self.parts = parts


@compiles(Verbatim)
def _compiled(element: Verbatim, compiler: Any, **settings: Any) -> str:
    return "".join(compiler.process(part, **settings) for part in element.parts)


class SqlSource:
    """See `protocols.Source`. Thread-safe: `close` from another thread also cancels what is being read."""

    def __init__(self, config: stream.Connection, *, clock: Clock = SYSTEM) -> None:
        self._config = config
        self._clock = clock
        self._url = self.settle(stream.parsed_url(config))
        self._open: set[Any] = set()
        self._closed = threading.Event()

    # --- what differs from warehouse to warehouse -----------------------------------------------------------------

    def settle(self, url: URL) -> URL:
        """The URL to connect with."""
        return url

    def options(self) -> dict[str, Any]:
        """Arguments for SQLAlchemy's `create_engine`; the place to look whether what the URL names is there."""
        return {}

    def begin(self, connection: Connection) -> None:
        """Begin the one transaction of a read: read-only, one snapshot, times in UTC, where there are such things."""

    def begin_writing(self, connection: Connection) -> None:
        """Begin the one transaction of a load, where the driver doesn't by itself."""

    def columns(self, connection: Connection, query: Query) -> list[Column] | None:
        """The result's columns without reading it; None where only rows tell."""
        return None

    def insert(self, connection: Connection, table: Table, rows: pa.Table) -> None:
        """Many rows into a table."""
        inserting.insert(connection, table, rows)

    def cancel(self, driver: Any) -> None:
        """Stop what the driver's connection is doing, if it still does; called from another thread."""

    # --- the protocol -----------------------------------------------------------------------------------------------

    def describe(self, query: Query) -> pa.Schema:
        with self._connected() as connection, self.asking():
            columns = self.columns(connection, query)
            if columns is None:
                with self._result(connection, query) as result:
                    columns = _columns_of(result, next(result.partitions(BATCH_ROWS), []))
        return schema_of(columns)

    @contextmanager
    def read(self, query: Query) -> Iterator[Iterator[pa.RecordBatch]]:
        with self._connected() as connection:
            with self.asking():
                expected = connection.execute(self.wrapped(query, "SELECT count(*) FROM")).scalar_one()
                columns = self.columns(connection, query)
            with self._result(connection, query) as result:
                rows = stream.whole(self._batches(result, columns), expected)
                try:
                    yield rows
                finally:
                    rows.close()  # type: ignore[attr-defined]  # a generator

    def names(self, query_sql: str) -> frozenset[str]:
        return self._statement(query_sql).names

    def clock(self) -> datetime:
        return self._clock.now()

    def quote(self, identifier: str) -> str:
        return self._engine.dialect.identifier_preparer.quote_identifier(identifier)

    def load(self, schema: str, loads: Sequence[Load], *, rehearse: bool = False) -> None:
        with self._opened() as connection:
            try:
                self.begin_writing(connection)
                inserting.load(connection, schema, loads, self.insert, rehearse=rehearse)
                (connection.rollback if rehearse else connection.commit)()
            except SQLAlchemyError as failure:
                raise loading.refused(self._config.name, stream.words(failure, self._url)) from failure

    def close(self) -> None:
        self._closed.set()
        for driver in tuple(self._open):
            self.cancel(driver)

    # --- asking -----------------------------------------------------------------------------------------------------

    def wrapped(self, query: Query, before: str, after: str = "") -> Verbatim:
        """The query as a subquery, its parameters bound."""
        return Verbatim([literal_column(f"{before} (\n"), *self._parts(query), literal_column(f"\n) q {after}")])

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Turn what the driver raises into SourceErrors."""
        try:
            yield
        except SQLAlchemyError as failure:
            raise self._failure(failure) from failure

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with self._opened() as connection:
            with self.asking():
                self.begin(connection)
            yield connection

    @contextmanager
    def _opened(self) -> Iterator[Connection]:
        try:
            connection = self._engine.connect()
        except DBAPIError as failure:
            raise self._unreachable(failure) from failure
        driver = connection.connection.driver_connection
        self._open.add(driver)
        try:
            yield connection
        finally:
            self._open.discard(driver)
            with suppress(SQLAlchemyError):  # a connection that is gone can't be closed politely
                connection.close()

    @cached_property
    def _engine(self) -> Engine:
        try:
            return create_engine(self._url, poolclass=NullPool, **self.options())
        except (NoSuchModuleError, ModuleNotFoundError) as failure:
            dialect = self._url.get_backend_name()
            package = DRIVERS.get(dialect, f"the SQLAlchemy dialect for {dialect}")
            raise SourceError(
                f"the source {self._config.name!r} needs a driver for {self._url.drivername} that isn't installed",
                code="source_missing_driver",
                hint=f"pip install '{package}'" if dialect in DRIVERS else f"install {package}",
            ) from failure

    @contextmanager
    def _result(self, connection: Connection, query: Query) -> Iterator[CursorResult[Any]]:
        with self.asking():
            streaming = {"stream_results": True, "yield_per": BATCH_ROWS}
            result = connection.execute(Verbatim(self._parts(query)), execution_options=streaming)
        try:
            refuse_names(list(result.keys()))
            yield result
        finally:
            with suppress(SQLAlchemyError):
                result.close()

    def _batches(self, result: CursorResult[Any], columns: list[Column] | None) -> Iterator[pa.RecordBatch]:
        with self.asking():
            parts = result.partitions(BATCH_ROWS)
            if columns is None:
                first = next(parts, [])
                columns = _columns_of(result, first)
                parts = chain([first], parts)
            yield from to_batches(parts, columns)

    def _statement(self, sql: str) -> Statement:
        return Statement(sql, backslashes=self._url.get_backend_name() in BACKSLASH_DIALECTS)

    def _parts(self, query: Query) -> list[ClauseElement]:
        statement = self._statement(query.sql)
        statement.refuse_writing()
        parts: list[ClauseElement] = []
        for piece in statement.pieces:
            if piece.kind == "parameter" and piece.name in query.parameters:
                parts.append(self.bound(piece.name, query.parameters[piece.name]))
            elif piece.kind != "end":
                parts.append(literal_column(piece.text))
        return parts

    def bound(self, name: str, value: object) -> ClauseElement:
        """A parameter, typed by its value."""
        return bindparam(name, value)

    # --- what went wrong ----------------------------------------------------------------------------------------------

    def _unreachable(self, failure: DBAPIError) -> SourceError:
        return SourceError(
            f"the source {self._config.name!r} can't be reached: {stream.words(failure, self._url)}",
            code="source_connection",
            hint="check the url, the network and the password; `reverse-etl check --connect` tries them",
        )

    def _failure(self, failure: SQLAlchemyError) -> SourceError:
        said = stream.words(failure, self._url)
        if self._closed.is_set():
            return SourceError(f"reading the source {self._config.name!r} was cancelled", code="source_cancelled")
        if isinstance(failure, DBAPIError) and failure.connection_invalidated:
            return SourceError(
                f"the connection to the source {self._config.name!r} was lost: {said}",
                code="source_connection",
                said=said,
                hint="nothing was sent; run again",
            )
        return SourceError(
            f"the source {self._config.name!r} refused the query: {said}",
            code="source_query",
            said=said,
            hint="correct the query; `reverse-etl check --connect` tries it without sending anything",
        )


def _columns_of(result: CursorResult[Any], first: Sequence[Sequence[Any]]) -> list[Column]:
    described = result.cursor.description if result.cursor is not None else None
    digits = [(part[4], part[5]) for part in described] if described else [(None, None)] * len(result.keys())
    return columns_seen(list(result.keys()), first, digits)
