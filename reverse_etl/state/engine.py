"""SQLAlchemy engines for the store: SQLite tuned for one writer and many readers, PostgreSQL as it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

BUSY_MILLISECONDS = 30_000


def is_embedded(url: str) -> bool:
    return sa.make_url(url).get_backend_name() == "sqlite"


def sqlite_file(url: str) -> Path | None:
    parsed = sa.make_url(url)
    return Path(parsed.database) if is_embedded(url) and parsed.database else None


def place(url: str) -> str:
    """Where the store is, fit to be printed: no password."""
    file = sqlite_file(url)
    return file.name if file is not None else sa.make_url(url).render_as_string(hide_password=True)


def make(url: str, *, read_only: bool) -> sa.Engine:
    file = sqlite_file(url)
    if file is None:
        return sa.create_engine(url, pool_pre_ping=True)
    if read_only:
        engine = sa.create_engine(f"sqlite:///file:{file}?mode=ro&uri=true")
    else:
        if not file.exists():
            os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))
        engine = sa.create_engine(f"sqlite:///{file}")
    sa.event.listen(engine, "connect", _settle_read_only if read_only else _settle)
    return engine


@contextmanager
def writing(engine: sa.Engine, *, durable: bool) -> Iterator[sa.Connection]:
    """One transaction. `durable`: on disk before this returns. Otherwise a power cut may undo it, a killed process can't:
    enough where the only harm is that a harmless write is sent once more."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        elif not durable:
            connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
        yield connection
        connection.commit()


def words(failure: SQLAlchemyError) -> str:
    """The database's own words, without statement and parameters: those may hold people's data."""
    original = getattr(failure, "orig", None)
    return str(original if original is not None else failure).splitlines()[0]


def _settle(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where `writing` says, not where the driver guesses
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.close()


def _settle_read_only(connection: Any, _record: Any) -> None:
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
