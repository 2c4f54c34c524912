"""SQLAlchemy engines for the store: SQLite tuned for one writer and many readers, PostgreSQL as it is."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from reverse_etl.errors import StateError
from reverse_etl.state import home

BUSY_MILLISECONDS = 30_000
_SIDES = ("", "-wal", "-shm")  # ends of the names of the files that a SQLite database has
_users: Counter[sa.Engine] = Counter()
_counting = threading.Lock()


def is_embedded(url: str) -> bool:
    return sa.make_url(url).get_backend_name() == "sqlite"


def sqlite_file(url: str) -> Path | None:
    """The file of an embedded store, taken from the text: SQLAlchemy 2.1 reads % in a folder's name as an escape."""
    return Path(url.partition(":///")[2].partition("?")[0]) if is_embedded(url) else None


def place(url: str) -> str:
    """Where the store is, fit to be printed: no password."""
    file = sqlite_file(url)
    return file.name if file is not None else sa.make_url(url).render_as_string(hide_password=True)


def make(url: str, *, read_only: bool) -> sa.Engine:
    """The same one again for the same place: it remembers compiled statements, half of what an idle run costs.

    Give it back with `release`; with its last user its connections are closed.
    """
    file = sqlite_file(url)
    if file is not None and not read_only and not file.exists():
        os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))
    engine = _made(url, read_only)
    with _counting:
        _users[engine] += 1
    return engine


def release(engine: sa.Engine) -> None:
    """Its user doesn't need it any more."""
    with _counting:
        _users[engine] -= 1
        if _users[engine] <= 0:
            del _users[engine]
            engine.dispose()


@lru_cache(maxsize=64)
def _made(url: str, read_only: bool) -> sa.Engine:
    file = sqlite_file(url)
    if file is None:
        return sa.create_engine(url, pool_pre_ping=True, max_overflow=-1)
    if read_only:
        return sa.create_engine("sqlite://", creator=lambda: _looking(file), poolclass=NullPool)
    engine = sa.create_engine(sa.make_url(url).set(database=str(file)), max_overflow=-1)
    sa.event.listen(engine, "connect", _settle)
    return engine


@contextmanager
def writing(engine: sa.Engine, *, durable: bool) -> Iterator[sa.Connection]:
    """One transaction. `durable`: on disk before this returns.

    Otherwise a power cut may undo it in SQLite, though a killed process can't: enough where a harmless write is sent
    once more. PostgreSQL waits for its disk as it is configured: a crash of the server undoes nothing.
    """
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection
        connection.commit()


def harden(url: str) -> None:
    """All that was committed in an embedded store outlives a power cut. Raises StateError when the disk refuses.

    A durable transaction that changes nothing wouldn't do: SQLite writes none of it, and so waits for no disk.
    """
    file = sqlite_file(url)
    log = file.with_name(f"{file.name}-wal") if file is not None else None
    try:
        if log is not None and log.exists():
            home.harden(log)
    except OSError as failure:
        hint = "look after the disk; what was sent may be sent once more"
        raise StateError(f"the state can't be written: {failure.strerror or failure}", hint=hint) from failure


def copy(file: Path, target: Path) -> None:
    """A new file, private to its owner, with all that a SQLite file and its write-ahead log hold at one moment."""
    os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(target)) as sink:
        source.backup(sink)


def put_aside(file: Path, why: str) -> None:
    """A SQLite database, with its log, under a name beside it that is free."""
    kept = home.aside(file, why)
    for side in _SIDES:
        with suppress(FileNotFoundError):
            file.with_name(f"{file.name}{side}").rename(f"{kept}{side}")


def words(failure: SQLAlchemyError) -> str:
    """The database's own words, without statement and parameters: those may hold people's data."""
    original = getattr(failure, "orig", None)
    return str(original if original is not None else failure).splitlines()[0]


def is_full(failure: BaseException | None) -> bool:
    """Whether SQLite found no room on its disk."""
    original = getattr(failure, "orig", None)
    return isinstance(original, sqlite3.Error) and original.sqlite_errorcode == sqlite3.SQLITE_FULL


def is_damage(failure: BaseException | None) -> bool:
    """Whether the file itself is broken; a lock, a full disk or a missing permission is not."""
    if isinstance(failure, OperationalError):
        return "no such" in words(failure)
    return isinstance(failure, DatabaseError)


def _settle(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where `writing` says, not where the driver guesses
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.close()


def _looking(file: Path) -> sqlite3.Connection:
    """A connection that writes nothing. A store that no run has open is taken as it lies: SQLite would otherwise leave
    its two side files behind, and a dry run has to leave the folder as it was."""
    at_rest = not Path(f"{file}-wal").exists()
    address = f"file:{quote(str(file))}?mode=ro{'&immutable=1' if at_rest else ''}"
    return sqlite3.connect(address, uri=True, timeout=BUSY_MILLISECONDS / 1000, check_same_thread=False)
