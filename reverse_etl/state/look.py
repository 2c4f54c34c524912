"""A look at where a sync is: what should be there is there, of one time, and of this project and this target."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from reverse_etl import clock
from reverse_etl.errors import StateError
from reverse_etl.standing import Holder, SyncState
from reverse_etl.state import beside, complaints, engine, lease
from reverse_etl.state.access import Access
from reverse_etl.state.remembered import RESET
from reverse_etl.state.store import StateStore


@dataclass(frozen=True)
class Found:
    """A sync that has state, and the store that it is in."""

    store: StateStore
    state: SyncState


class Look:
    """One process's at one sync, again and again."""

    def __init__(self, access: Access, sync: str, identity: str) -> None:
        self._access = access
        self._sync = sync
        self._identity = identity
        self._first: tuple[str | None] | None = None  # the incarnation of the state that was found first
        self._sound = False  # once for all looks: opening a database to ask its snapshot takes 20 ms

    def found(self, connection: duckdb.DuckDBPyConnection | None = None) -> Found | None:
        """None before the first run. Raises StateError when what should be there isn't.

        `connection`: a local database that is open anyway, to look into the snapshot with.
        """
        try:
            found = self._found(connection)
        except (StateError, FileNotFoundError):  # a reset beside a look is one step for it: what it finds is no damage
            if self._access.is_alone:
                raise
            found = self._found(connection)
        self._first = self._first or _incarnation(found.state if found is not None else None)
        return found

    def refuse_reset(self) -> None:
        """Raises SyncBusy when the sync was reset since it was looked at first, by one who only looks."""
        store = self._access.existing()
        if self._access.is_alone or store is None or self._first is None:
            return
        if _incarnation(store.syncs.of(self._sync)) != self._first:
            raise complaints.reset_meanwhile(self._sync)

    def holder(self) -> Holder | None:
        """Who else holds the sync now."""
        found = None if self._access.is_alone else self.found()
        if found is None:
            return None
        said = self._access.home.holder(self._sync)
        if said is None and not found.store.embedded:
            with found.store.reading() as connection:
                said = lease.holder(connection, self._sync)
        if said is None:
            return None
        runs = [run for run in found.store.runs.recent(self._sync, limit=1) if run["status"] == "running"]
        return Holder(said, clock.parse(runs[0]["started_at"]) if runs else None)

    def _found(self, connection: duckdb.DuckDBPyConnection | None) -> Found | None:
        project, store = self._access.home.project(), self._access.existing()
        if store is None or not store.check():  # a first run may have died before it had made its tables
            if project is None:
                return None
            place, what = engine.place(self._access.url), "missing" if store is None else "empty"
            raise complaints.missing(self._sync, f"{place} is {what}, but this project has run before")
        if project is not None and (owner := store.project_id()) not in (None, project["id"]):
            raise complaints.another_project(store.place, owner)
        state = store.syncs.of(self._sync)
        if state is None:
            forgotten = store.remembered.get(RESET, self._sync) is not None  # by another machine
            if project is not None and self._sync in project["syncs"] and not forgotten:
                raise complaints.missing(self._sync, f"the state of {self._sync} is missing from {store.place}")
            return None
        self._verify(store, state, connection)
        return Found(store, state)

    def _verify(self, store: StateStore, state: SyncState, connection: duckdb.DuckDBPyConnection | None) -> None:
        if state.identity != self._identity:
            before, now = complaints.target(state.identity), complaints.target(self._identity)
            raise complaints.other_target(self._sync, before, now)
        if store.embedded and not self._sound:
            self._sound = beside.verify(self._access.home, store, state, connection)


def _incarnation(state: SyncState | None) -> tuple[str | None]:
    return (state.incarnation if state is not None else None,)
