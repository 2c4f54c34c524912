"""A SQLite file as the warehouse. Its columns have no types, its values do: all are looked at before any is read."""

from __future__ import annotations

import codecs
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from reverse_etl.errors import SourceError
from reverse_etl.model import Query
from reverse_etl.sources.columns import EXACT_IN_DOUBLE, Column, texts
from reverse_etl.sources.sql import SqlSource
from reverse_etl.sources.types import refuse_names, unsupported

LOCK_WAIT_SECONDS = 60.0
LOAD_WAIT_SECONDS = 20.0  # what can't be written now is written after the next run
LOCK_POLL_SECONDS = 0.05


class SqliteSource(SqlSource):
    """See `protocols.Source`."""

    def options(self) -> dict[str, Any]:
        database = self._url.database
        if database and database != ":memory:" and not Path(database).is_file():
            raise SourceError(
                f"the source {self._config.name!r} is the file {database}, which doesn't exist",
                code="source_missing_file",
                hint="build the warehouse first, or correct the url; a source's file is never created",
            )
        return {"connect_args": {"timeout": LOCK_WAIT_SECONDS}}

    def begin(self, connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        driver.text_factory = _decoded
        connection.exec_driver_sql("PRAGMA query_only = ON")
        connection.exec_driver_sql("BEGIN")  # Python's driver begins none for a SELECT, and count and rows must agree

    def begin_writing(self, connection: Connection) -> None:
        """The driver begins none for a CREATE TABLE. Whoever writes is waited for here: no interrupt ends its wait."""
        connection.exec_driver_sql("PRAGMA busy_timeout = 0")
        deadline = time.monotonic() + LOAD_WAIT_SECONDS
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                break
            except OperationalError as failure:
                is_held = getattr(failure.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
                if not is_held or time.monotonic() >= deadline or self._closed.wait(LOCK_POLL_SECONDS):
                    raise
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(LOAD_WAIT_SECONDS * 1000)}")

    def columns(self, connection: Connection, query: Query) -> list[Column]:
        with self.asking():
            empty = connection.execute(self.wrapped(query, "SELECT * FROM", "WHERE 0"))
            names = list(empty.keys())
        with self._result(connection, query) as result:  # the subquery above renames repeated columns
            refuse_names(list(result.keys()))
        tests = ", ".join(_KINDS.replace("?", self.quote(name)) for name in names)
        found = connection.execute(self.wrapped(query, f"SELECT {tests} FROM")).one()
        return [_column(name, found[at * 5 : at * 5 + 5]) for at, name in enumerate(names)]

    def cancel(self, driver: Any) -> None:
        with suppress(sqlite3.ProgrammingError):  # it is closed already
            driver.interrupt()


# Whether a column holds whole numbers, fractions, text, blobs, and how large the whole numbers are.
_KINDS = (
    "max(typeof(?) = 'integer'), max(typeof(?) = 'real'), max(typeof(?) = 'text'), max(typeof(?) = 'blob'), "
    f"max(typeof(?) = 'integer' AND NOT ? BETWEEN -{EXACT_IN_DOUBLE} AND {EXACT_IN_DOUBLE})"
)


def _column(name: str, kinds: Sequence[int | None]) -> Column:
    whole, fraction, text, blob, large = kinds
    if blob:
        raise unsupported(name, "BLOB", "is binary", "text")
    if text or not (whole or fraction):
        return Column(name, pa.string(), texts)
    if not fraction:
        return Column(name, pa.int64())
    if large:
        raise unsupported(name, "REAL", "here stands beside whole numbers that a double can't hold", "text")
    return Column(name, pa.float64())


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "reverse_etl.nul")


def _as_nul(failure: UnicodeError) -> tuple[str, int]:
    """Bytes that are no text become NUL, which no destination takes: the row is refused, the others go on."""
    if not isinstance(failure, UnicodeDecodeError):
        raise failure
    return "\0", failure.end


codecs.register_error("reverse_etl.nul", _as_nul)
