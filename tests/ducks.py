"""DuckDB for tests: one engine a process, to which databases are attached. Opening an engine takes 30 ms of CPU."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from itertools import count
from pathlib import Path

import duckdb

from reverse_etl import localdb

_numbers = count()


@cache
def _engine(*, settled: bool) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:")
    if settled:
        localdb.settle(connection)
    return connection


@contextmanager
def opened(file: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database file, made where there is none. Left, it is written and closed as by a process that ends."""
    name = f"file_{next(_numbers)}"
    with closing(_engine(settled=False).cursor()) as connection:
        connection.execute(f"ATTACH {localdb.literal(str(file))} AS {name}; USE {name}")
        try:
            yield connection
        finally:
            connection.execute(f"USE memory; DETACH {name}")


class InMemory:
    """A database of one's own in memory, with the product's settings for the session; gone with this object."""

    def __init__(self) -> None:
        self._name = f"memory_{next(_numbers)}"
        self._engine = _engine(settled=True)
        self._engine.execute(f"ATTACH ':memory:' AS {self._name}")
        weakref.finalize(self, _detach, self._engine, self._name).atexit = False

    def session(self) -> duckdb.DuckDBPyConnection:
        """A connection to it; the caller closes it."""
        connection = self._engine.cursor()
        connection.execute(f"USE {self._name}; SET TimeZone = 'UTC'")
        return connection


def _detach(engine: duckdb.DuckDBPyConnection, name: str) -> None:
    with closing(engine.cursor()) as connection:
        connection.execute(f"DETACH {name}")
