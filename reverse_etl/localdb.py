"""The local DuckDB, where rows are compared: opening one, quoting for it, and the one text of a value."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

MEGABYTES = 256  # measured: more make a 10-million-row comparison no faster
SPARING_MEGABYTES = 160  # while another DuckDB is open in the process: an embedded warehouse, or the snapshot
FEW_COLUMNS = 64  # up to so many, that is enough
COLUMN_MEGABYTES = 2  # for each column beyond: blocks of its values, old and new, are in use at the same time
READING_MEGABYTES = 64  # and one a column: what one thread needs to read a table in order
M_ARENA_MAX = -8  # of glibc's malloc.h


def connect(spool: Path | None) -> duckdb.DuckDBPyConnection:
    """An in-memory database that spills to the folder `spool`; without one it may not spill at all."""
    connection = duckdb.connect(":memory:")
    settle(connection)
    connection.execute(f"SET temp_directory = {literal(str(spool) if spool else '')}")
    return connection


def settle(connection: duckdb.DuckDBPyConnection) -> None:
    """Session settings that every local database shares: times are UTC, memory is bounded, row order is nobody's."""
    connection.execute(
        f"SET TimeZone = 'UTC'; SET memory_limit = '{MEGABYTES}MB'; SET preserve_insertion_order = false; "
        "SET enable_progress_bar = false"
    )


def only_read(connection: duckdb.DuckDBPyConnection, columns: int) -> None:
    """From here on its tables are only read, one thread at a time: most of its memory is given back."""
    connection.execute(f"SET threads = 1; SET memory_limit = '{READING_MEGABYTES + columns}MB'")


def share_heap() -> None:
    """One heap for all threads: glibc gives each of them one, and what is freed in it is of no use to the others.

    For the process's owner to call, as it holds for all of it: the command line does, a library must not. Measured: a
    million rows by bulk jobs take up to 484 MB, and 553 MB without this.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_ARENA_MAX, 1)


def widen(connection: duckdb.DuckDBPyConnection, columns: int, megabytes: int = MEGABYTES) -> None:
    """Bound memory for rows with so many columns."""
    more = COLUMN_MEGABYTES * max(0, columns - FEW_COLUMNS)
    connection.execute(f"SET memory_limit = '{megabytes + more}MB'")


@contextmanager
def sparing(connection: duckdb.DuckDBPyConnection, columns: int) -> Iterator[None]:
    """Within this the local database makes do with less memory; afterwards it has what such rows need."""
    widen(connection, columns, SPARING_MEGABYTES)
    try:
        yield
    finally:
        widen(connection, columns)


def quoted(identifier: str) -> str:
    """An identifier for the local DuckDB."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(value: object) -> str:
    """A scalar as SQL. DuckDB knows no backslash escapes, so doubling the quotes is enough."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return "'" + str(value).replace("'", "''") + "'"


def canonical_text(expression: str, type: str) -> str:
    """The one text of a value, whatever type it came as: 1, 1.0 and DECIMAL 1.00 all read `1`."""
    if type.startswith("DECIMAL") and not type.endswith(",0)"):
        return f"rtrim(rtrim(CAST({expression} AS VARCHAR), '0'), '.')"
    if type == "DOUBLE":
        whole = f"{expression} = trunc({expression}) AND abs({expression}) < 1e15"
        as_whole = f"CAST(CAST({expression} AS BIGINT) AS VARCHAR)"
        return f"CASE WHEN {whole} THEN {as_whole} ELSE CAST({expression} AS VARCHAR) END"
    if type == "TIMESTAMP WITH TIME ZONE":
        return f"CAST(timezone('UTC', {expression}) AS VARCHAR) || 'Z'"
    if type == "VARCHAR":
        return expression
    if type.endswith("[]"):
        return f"CAST(to_json({expression}) AS VARCHAR)"
    return f"CAST({expression} AS VARCHAR)"


def column_types(connection: duckdb.DuckDBPyConnection, relation: str) -> dict[str, str]:
    """Column names and types of a table or view, in order."""
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE {relation}").fetchall()}


def number(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    """A statement's single number. The result is fetched whole: an open one keeps the connection from its next."""
    return int(connection.execute(sql).fetchall()[0][0])


def table(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    """A statement's result as Arrow, whatever DuckDB's release calls that."""
    relation = connection.sql(sql)
    take = getattr(relation, "to_arrow_table", None) or relation.fetch_arrow_table
    found: pa.Table = take()
    return found


def stream(connection: duckdb.DuckDBPyConnection, sql: str, rows: int) -> Iterator[pa.RecordBatch]:
    """A statement's result as batches of about so many rows, on a connection of its own."""
    path = connection.execute("SELECT current_setting('search_path')").fetchall()[0][0]
    cursor = connection.cursor()  # kept by name: before DuckDB 1.5 a relation doesn't keep its connection open
    cursor.execute(f"SET search_path = {literal(path)}")
    relation = cursor.sql(sql)
    read = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
    yield from read(rows)
