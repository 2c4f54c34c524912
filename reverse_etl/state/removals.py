"""Records that were removed, for who asks where a row has gone: the snapshot's table `removed`, beside its `rows`.

Nothing that a run does depends on it. It has a line a key until the row comes back, or the line is as old as runs may
get (`keep_runs`); a forgotten key has none.
"""

from __future__ import annotations

import duckdb

from reverse_etl.localdb import literal, number
from reverse_etl.standing import Removal

_COLUMNS = "key, record_id, run_id, acked_at"


def note(connection: duckdb.DuckDBPyConnection, database: str, arrived: str) -> None:
    """Take over what acknowledged rows say of removals, before they are laid over `rows`."""
    gone = f"SELECT {_COLUMNS} FROM {arrived} WHERE removed AND sent"
    any_gone = number(connection, f"SELECT count(*) FROM ({gone})") > 0
    there = _is_there(connection, database)
    if any_gone and not there:
        types = ", ".join(f"{name} VARCHAR" for name in _COLUMNS.split(", "))
        connection.execute(f"CREATE TABLE {database}.removed ({types})")
    if any_gone or there:
        connection.execute(f"DELETE FROM {database}.removed WHERE key IN (SELECT key FROM {arrived})")
        connection.execute(f"INSERT INTO {database}.removed {gone}")


def prune(connection: duckdb.DuckDBPyConnection, database: str, before: str) -> None:
    """Removals from before a time are nobody's concern any more."""
    if _is_there(connection, database):
        connection.execute(f"DELETE FROM {database}.removed WHERE acked_at < {literal(before)}")


def copy(connection: duckdb.DuckDBPyConnection) -> None:
    """Into the copy that entries are laid over."""
    if _is_there(connection, "snap"):
        connection.execute("CREATE TABLE laid.removed AS SELECT * FROM snap.removed")


def find(connection: duckdb.DuckDBPyConnection, key: str) -> Removal | None:
    """Of one key, in what is attached for looking."""
    database = "laid" if _is_there(connection, "laid", "rows") else "snap"
    if not _is_there(connection, database):
        return None
    sql = f"SELECT record_id, acked_at, run_id FROM {database}.removed WHERE key = ?"
    return next((Removal(*row) for row in connection.execute(sql, [key]).fetchall()), None)


def _is_there(connection: duckdb.DuckDBPyConnection, database: str, table: str = "removed") -> bool:
    found = f"database_name = {literal(database)} AND table_name = {literal(table)}"
    return number(connection, f"SELECT count(*) FROM duckdb_tables() WHERE {found}") > 0
