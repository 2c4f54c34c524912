"""The local database: what it makes do with."""

from __future__ import annotations

from pathlib import Path

from reverse_etl import localdb

ROWS, COLUMNS = 2_000, 200


def test_wide_rows_are_read_whole_with_the_memory_that_is_left(tmp_path: Path) -> None:
    connection = localdb.connect(tmp_path)
    values = ", ".join(f"'value {column} of ' || hash(i * {column}) AS f{column}" for column in range(COLUMNS))
    connection.execute(f"CREATE TABLE delta AS SELECT {values} FROM range({ROWS}) t(i)")
    localdb.only_read(connection, COLUMNS)
    assert localdb.number(connection, "SELECT current_setting('threads')") == 1
    assert sum(rows.num_rows for rows in localdb.stream(connection, "SELECT * FROM delta", 500)) == ROWS
    connection.close()
