"""What daemons on one state need of it: which of them schedules, and what runs become of that they don't carry out."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from reverse_etl import clock
from reverse_etl.errors import LeaseLost, StateError, SyncBusy
from reverse_etl.state import engine, lease, tables
from reverse_etl.state.store import StateStore

_SINCE = (tables.runs.c.run_id > sa.bindparam("since")) | tables.runs.c.run_id.in_(
    sa.bindparam("known", expanding=True)
)
_ENDED = sa.select(tables.runs.c.run_id, tables.runs.c.sync, tables.runs.c.status).where(_SINCE)
_HELD = tables.leases.c.expires_at > sa.func.clock_timestamp()
ORDERED = ".ordered"  # of the memory: no connection has such a name
_ORDER = sa.text(
    "INSERT INTO memory AS known (scope, name, value) VALUES (:scope, :name, :value) "
    "ON CONFLICT (scope, name) DO UPDATE SET value = greatest(known.value, excluded.value)"
)
_REPORT = sa.select(tables.runs.c.report).where(tables.runs.c.run_id == sa.bindparam("run_id"))


@dataclass(frozen=True)
class Seen:
    """A run as its record tells. `held`: its sync's lease is alive; None where the state is a file, and has none."""

    run_id: str
    sync: str
    ended: bool
    held: bool | None


class Lookout:
    """Looks at the record of runs again and again; keeps its connection. Synchronous; one thread at a time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._embedded = engine.is_embedded(url)
        self._store: StateStore | None = None

    def look(self, since: str, known: Collection[str]) -> list[Seen]:
        """Runs with an id after `since`, and the `known` ones, oldest first. Raises StateError."""
        query = _ENDED.order_by(tables.runs.c.run_id)
        if self._embedded:
            query = query.add_columns(sa.null().label("held"))
        else:
            holders = sa.outerjoin(tables.runs, tables.leases, tables.runs.c.sync == tables.leases.c.sync)
            query = query.select_from(holders).add_columns(sa.func.coalesce(_HELD, sa.false()).label("held"))
        rows = self._rows(query, {"since": since, "known": list(known)})
        return [Seen(row["run_id"], row["sync"], row["status"] is not None, row["held"]) for row in rows]

    def report(self, run_id: str) -> dict[str, Any]:
        """The record of a run that has ended, as `sync --json` prints it."""
        (row,) = self._rows(_REPORT, {"run_id": run_id})
        found: dict[str, Any] = json.loads(row["report"])
        return found

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def _rows(self, query: sa.Select[Any], parameters: dict[str, Any]) -> list[sa.RowMapping]:
        if self._store is None and not self._open():
            return []
        assert self._store is not None  # noqa: S101  # `_open` has seen to it
        with _told(self._store), self._store.engine.connect() as connection:
            return list(connection.execute(query, parameters).mappings())

    def _open(self) -> bool:
        """Whether there is a store to look at yet."""
        file = engine.sqlite_file(self._url)
        if file is not None and not file.exists():
            return False
        store = StateStore(self._url, read_only=file is not None)
        if not store.check():
            store.close()
            return False
        self._store = store
        return True


class Seat:
    """The right to schedule, as the database gives it to one daemon of a state at a time."""

    def __init__(self, store: StateStore, mine: lease.Lease) -> None:
        self._store = store
        self._lease = mine

    @property
    def holds(self) -> bool:
        """Whether nobody else can have it yet."""
        return self._lease.holds

    @property
    def taken_over(self) -> bool:
        """Whether somebody else has it, or had it since."""
        return self._lease.taken_over

    @contextmanager
    def ordering(self, sync: str, due: datetime) -> Iterator[Any]:
        """One transaction in which a run is ordered, on the driver's own connection: with the right, or not at all.

        That the sync was ordered for this time is part of it. Raises SyncBusy once another daemon has the right.
        """
        with _told(self._store), engine.writing(self._store.engine, durable=True) as connection:
            try:
                lease.hold_fast(connection, lease.SCHEDULING, self._lease.token)
            except LeaseLost as lost:
                raise SyncBusy("another daemon schedules by now", hint="it gives the orders") from lost
            connection.execute(_ORDER, {"scope": ORDERED, "name": sync, "value": clock.text(due)})
            yield connection.connection.driver_connection

    def ordered(self) -> dict[str, datetime]:
        """The latest time for which each sync was ordered, by whichever daemon."""
        query = sa.select(tables.memory.c.name, tables.memory.c.value).where(tables.memory.c.scope == ORDERED)
        with _told(self._store), self._store.engine.connect() as connection:
            return {name: clock.parse(value) for name, value in connection.execute(query).all()}


@contextmanager
def scheduling(url: str, holder: str) -> Iterator[Seat | None]:
    """Be the one that schedules for this state, on whatever machine; None where it is a file of this machine's.

    Raises SyncBusy, naming who schedules, and StateError when the database can't be reached.
    """
    if engine.is_embedded(url):
        yield None
        return
    store = StateStore(url)
    try:
        if not store.check() or store.is_older:
            store.prepare()
        with lease.held(store.engine, lease.SCHEDULING, holder, lease.DAEMON) as mine:
            yield Seat(store, mine)
    finally:
        store.close()


@contextmanager
def _told(store: StateStore) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as failure:
        raise StateError(
            f"the state in {store.place} can't be used: {engine.words(failure)}", hint="it is tried again soon"
        ) from failure
