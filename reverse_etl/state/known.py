"""What was last acknowledged of every row of a sync: its snapshot, and the journal that isn't folded into it yet."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack

import duckdb
import pyarrow as pa
from pydantic import SecretStr

from reverse_etl.digests import Digests
from reverse_etl.errors import StateError
from reverse_etl.standing import Removal
from reverse_etl.state import digestkey, removals
from reverse_etl.state.access import Access
from reverse_etl.state.beside import Beside
from reverse_etl.state.copies import Copies
from reverse_etl.state.look import Found, Look
from reverse_etl.state.snapshot import overlay, release


class Known:
    """`hashes`: of acknowledged values only digests are kept, whose own key is sealed with `keys`, where there are."""

    def __init__(
        self, access: Access, look: Look, sync: str, *, hashes: bool = False, keys: Sequence[SecretStr] = ()
    ) -> None:
        self.hashes = hashes
        self._access = access
        self._look = look
        self._sync = sync
        self._keys = keys
        self._digests: Digests | None = None
        self._begun = False
        self._removed_before: str | None = None
        self._fleeting = ExitStack()  # copies that only this look needs

    def begin(self, removed_before: str) -> None:
        """A run has begun: there is a store, and what was removed before a time needn't be remembered any more."""
        self._begun, self._removed_before, self._digests = True, removed_before, None

    # --- compared with ------------------------------------------------------------------------------------------------

    def lay(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the relation `known` in a local database; it may hold on to the snapshot's file until `release`.

        Raises SyncBusy when the sync was reset since it was looked at first, by one who only looks.
        """
        try:
            found = self._look.found()
            snapshot, entries = (None, []) if found is None else self._snapshots(found).known()
            overlay(connection, snapshot, entries)
        except StateError:
            self._look.refuse_reset()
            raise
        self._look.refuse_reset()

    def removal(self, connection: duckdb.DuckDBPyConnection, key: str) -> Removal | None:
        """Whether a key's record was removed, by what was laid as `known`."""
        return removals.find(connection, key)

    def release(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let go of the snapshot's file, so that it can be written."""
        release(connection)

    def digests(self) -> Digests:
        """The project's: for a run that has begun they are the same for ever."""
        if self._digests is None and self._begun:
            self._digests = digestkey.settled(self._access.store(), self._keys)
        elif self._digests is None:
            found = self._look.found()
            self._digests = digestkey.known(None if found is None else found.store, self._keys)
        return self._digests

    # --- written ------------------------------------------------------------------------------------------------------

    def fold(self, *, rehash: str | pa.Table | None = None) -> None:
        """Move the journal into the snapshot. Harmless to repeat, and to leave to the next run."""
        found = self._to_write()
        if found is not None and (found.state.last_seq > found.state.folded_seq or rehash is not None):
            self._access.home.snapshots.mkdir(mode=0o700, exist_ok=True)
            self._snapshots(found).fold(rehash=rehash, removed_before=self._removed_before)

    def digest(self, digests: Digests, *, clear: Collection[str], finds: str) -> None:
        """Digests instead of the acknowledged values, but for the fields in `clear`; no byte of those stays."""
        found = self._to_write()
        if found is not None and (snapshots := self._snapshots(found)).current().exists():
            snapshots.place.digest(digests, clear=clear, finds=finds)
            snapshots.renew()

    def rewrite(self) -> None:
        """The same in new files, without the bytes of what was deleted."""
        found = self._to_write()
        if found is None:
            return
        snapshots = self._snapshots(found)
        if snapshots.current().exists():
            snapshots.place.rewrite()
        snapshots.renew()

    def close(self) -> None:
        self._fleeting.close()

    def _to_write(self) -> Found | None:
        store = self._access.store()
        state = store.syncs.of(self._sync)
        return None if state is None else Found(store, state)

    def _snapshots(self, found: Found) -> Beside | Copies:
        if found.store.embedded:
            return Beside(found.store, self._access.home, found.state)
        return Copies(found.store, self._access.home, found.state, self._fleeting)
