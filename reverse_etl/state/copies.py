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

from reverse_etl.errors import StateError
from reverse_etl.state.snapshot import Entry, Snapshot
from reverse_etl.state.store import StateStore

PART = 4 * 1024 * 1024
WORTH_A_BASE = 4 * 1024 * 1024  # bytes of journal that are kept before a first base
TRIES = 3


@dataclass(frozen=True)
class Copies:
    """The copies of one sync's snapshot. `place` is the lasting one, which only the sync's holder writes.

    Others get one in a folder that goes with `fleeting`.
    """

    store: StateStore
    sync: str
    place: Path
    owner: str
    fleeting: ExitStack

    def known(self, *, holds: bool) -> tuple[Snapshot, list[Entry]]:
        """A copy and the entries that go over it. One who only looks gets a fleeting copy where the lasting is old."""
        snapshot = Snapshot(self.place, self.owner)
        for _ in range(TRIES):
            folded = _folded(snapshot)
            if folded < (self.store.base(self.sync) or 0):
                snapshot, folded = self._fetched(lasting=holds)
            elif not folded and snapshot.exists():
                snapshot = self._none(lasting=holds)
            entries = list(self.store.journal(self.sync, folded))
            if not entries or entries[0].seq == folded + 1:  # else it was compacted meanwhile
                return snapshot, entries
        raise StateError(
            f"the journal of {self.sync} has a gap",
            code="state_mismatch",
            hint=f"restore the database from a backup, or `reverse-etl reset {self.sync}` to start over",
        )

    def compact(self, snapshot: Snapshot, folded: int) -> None:
        """Where the journal has outgrown the base, the copy just folded becomes the next one."""
        journal, base = self.store.sizes(self.sync)
        if journal > max(WORTH_A_BASE, base):
            with snapshot.path.open("rb") as file:
                self.store.put_base(self.sync, folded, iter(lambda: file.read(PART), b""))

    def _fetched(self, *, lasting: bool) -> tuple[Snapshot, int]:
        """The base as a file: in its place, or in a fleeting one."""
        snapshot = self._none(lasting=lasting)
        fresh = snapshot.path.with_suffix(".new")
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
            for part in self.store.base_parts(self.sync):
                file.write(part)
        fresh.replace(snapshot.path)
        return snapshot, _folded(snapshot)

    def _none(self, *, lasting: bool) -> Snapshot:
        """A place without a copy."""
        if lasting:
            self.place.unlink(missing_ok=True)
            return Snapshot(self.place, self.owner)
        folder = self.fleeting.enter_context(tempfile.TemporaryDirectory(prefix="reverse-etl-"))
        return Snapshot(Path(folder) / self.place.name, self.owner)


def _folded(snapshot: Snapshot) -> int:
    """The number of the last entry in a copy; 0 for none, and for one that can't be used."""
    if not snapshot.exists():
        return 0
    with closing(duckdb.connect(":memory:")) as connection:
        try:
            return snapshot.attach(connection)
        except StateError:
            return 0
