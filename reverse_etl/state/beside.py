"""The snapshot of an embedded state: a file beside its store, the only one there is of the sync."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import duckdb
import pyarrow as pa
from sqlalchemy.exc import OperationalError

from reverse_etl.standing import SyncState
from reverse_etl.state import complaints
from reverse_etl.state.home import StateHome
from reverse_etl.state.journal import Entry, Journal
from reverse_etl.state.snapshot import Snapshot
from reverse_etl.state.store import StateStore


@dataclass(frozen=True)
class Beside:
    store: StateStore
    home: StateHome
    state: SyncState

    @property
    def place(self) -> Snapshot:
        return snapshot(self.home, self.state.sync)

    def current(self) -> Snapshot:
        """As it is written: entries that aren't in it yet are for a fold."""
        return self.place

    def known(self) -> tuple[Snapshot, list[Entry]]:
        """The snapshot, and the entries that go over it."""
        return self.place, list(Journal(self.store, self.state.sync).entries(self.state.folded_seq))

    def fold(self, *, rehash: str | pa.Table | None, removed_before: str | None) -> None:
        self.store.harden()  # a snapshot that is newer than its store would be refused
        journal = Journal(self.store, self.state.sync)
        entries = journal.entries(self.state.folded_seq)
        journal.folded(*self.place.fold(entries, rehash=rehash, removed_before=removed_before))

    def renew(self) -> None:
        """The store's file and its log without what was deleted. Whoever has it open may keep us from it."""
        with self.store.engine.connect() as connection, suppress(OperationalError):
            connection.exec_driver_sql("VACUUM")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def snapshot(home: StateHome, sync: str) -> Snapshot:
    """A sync's, whether it is there or not."""
    project = home.project()
    return Snapshot(home.snapshots / f"{sync}.duckdb", f"{project['id'] if project else 'no project'}/{sync}")


def verify(
    home: StateHome, store: StateStore, state: SyncState, connection: duckdb.DuckDBPyConnection | None = None
) -> bool:
    """Returns whether there is a snapshot. Raises StateError where there should be one, or one of another time is.

    `connection`: a local database that is open anyway.
    """
    found = snapshot(home, state.sync)
    if not found.exists():
        if state.folded_seq > 0:
            what = f"the snapshot of {state.sync} is missing, but rows were acknowledged before"
            raise complaints.missing(state.sync, what)
        return False
    folded = found.folded(connection)
    newest = store.syncs.of(state.sync) or state  # a run beside us may have gone on meanwhile
    if not state.folded_seq <= folded <= newest.last_seq:
        raise complaints.of_two_times(state.sync, state.folded_seq, folded)
    return True
