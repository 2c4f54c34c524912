"""This machine's copy of a snapshot that lives in PostgreSQL: a base, and the journal from there on.

A copy is valid by its number: what the journal still has is laid over it, and what it no longer has comes from the
base. Nothing depends on a copy; one that is damaged, or of another incarnation of the sync's state, is made anew.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from reverse_etl.errors import StateError
from reverse_etl.standing import SyncState
from reverse_etl.state import complaints
from reverse_etl.state.bases import Base
from reverse_etl.state.home import StateHome
from reverse_etl.state.journal import Entry, Journal
from reverse_etl.state.snapshot import Snapshot
from reverse_etl.state.store import StateStore

WORTH_A_BASE = 4 * 1024 * 1024  # bytes of journal that are kept before a first base
TRIES = 3


@dataclass(frozen=True)
class Copies:
    """The copies of one sync's snapshot. `place` is the lasting one, which only the sync's holder writes.

    Others get one in a folder that goes with `fleeting`.
    """

    store: StateStore
    home: StateHome
    state: SyncState
    fleeting: ExitStack

    @property
    def place(self) -> Snapshot:
        owner = f"{self.store.project_id()}/{self.state.sync}/{self.state.incarnation}"
        return Snapshot(self.home.snapshots / f"{self.state.sync}.duckdb", owner)

    def known(self) -> tuple[Snapshot, list[Entry]]:
        """A copy and the entries that go over it. One who only looks gets a fleeting copy where the lasting is old."""
        journal, base = Journal(self.store, self.state.sync), Base(self.store, self.state.sync)
        snapshot = self.place
        for _ in range(TRIES):
            folded = _folded(snapshot)
            if folded < base.seq():
                snapshot = self._fetched(base)
                folded = _folded(snapshot)
            elif not folded and snapshot.exists():
                snapshot = self._none()
            entries = list(journal.entries(folded))
            if not entries or entries[0].seq == folded + 1:  # else it was compacted meanwhile
                return snapshot, entries
        raise complaints.gap(self.state.sync)

    def current(self) -> Snapshot:
        """The lasting copy with all that the journal has, so that a base can be made of it. The caller holds the sync.

        Whatever this machine has missed is in neither, otherwise.
        """
        snapshot, entries = self.known()
        if entries:
            snapshot.fold(entries)
        return snapshot

    def fold(self, *, rehash: str | pa.Table | None, removed_before: str | None) -> None:
        """Where the journal has outgrown the base, the copy just folded becomes the next one."""
        snapshot, entries = self.known()
        folded, rows = snapshot.fold(entries, rehash=rehash, removed_before=removed_before)
        Journal(self.store, self.state.sync).folded(folded, rows)
        base = Base(self.store, self.state.sync)
        journal_size, base_size = base.sizes()
        if journal_size > max(WORTH_A_BASE, base_size):
            base.replace(folded, snapshot.path)

    def renew(self) -> None:
        """The base that other machines make their copies of, and no journal before it, without what was deleted."""
        if self.place.exists():
            Base(self.store, self.state.sync).replace(self.place.folded(), self.place.path)

    def _fetched(self, base: Base) -> Snapshot:
        """The base as a file: in its place, or in a fleeting one."""
        snapshot = self._none()
        fresh = snapshot.path.with_suffix(".new")
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
            for part in base.parts():
                file.write(part)
        fresh.replace(snapshot.path)
        return snapshot

    def _none(self) -> Snapshot:
        """A place without a copy."""
        lasting = self.place
        if self.store.lease is not None:
            lasting.path.unlink(missing_ok=True)
            return lasting
        folder = self.fleeting.enter_context(tempfile.TemporaryDirectory(prefix="reverse-etl-"))
        return Snapshot(Path(folder) / lasting.path.name, lasting.owner)


def _folded(snapshot: Snapshot) -> int:
    """The number of the last entry in a copy; 0 for none, and for one that can't be used."""
    if not snapshot.exists():
        return 0
    with closing(duckdb.connect(":memory:")) as connection:
        try:
            return snapshot.attach(connection)
        except StateError:
            return 0
