"""What the project remembers of one sync: store, snapshot and lock as one thing that a run can hold."""

from __future__ import annotations

import json
import os
import platform
import secrets
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
from pydantic import SecretStr

from reverse_etl import clock
from reverse_etl.digests import Digests
from reverse_etl.errors import StateError
from reverse_etl.protocols import Memory
from reverse_etl.report import RunReport
from reverse_etl.standing import (
    Acknowledgement,
    LogEntry,
    RefusedRow,
    Removal,
    SyncState,
    forgotten,
    settling_slot_of,
    slot_of,
)
from reverse_etl.state import audit, complaints, digestkey, engine, lease, removals, reset, scrub
from reverse_etl.state.copies import Copies
from reverse_etl.state.flights import Flight, Flights, doubtful
from reverse_etl.state.home import StateHome
from reverse_etl.state.memory import FleetingMemory, LastingMemory
from reverse_etl.state.outbox import Outbox
from reverse_etl.state.reserve import Reserve
from reverse_etl.state.retention import DEFAULT, Retention
from reverse_etl.state.snapshot import Snapshot, overlay
from reverse_etl.state.store import StateStore


class Ledger:
    """Open one to look, `hold` it to run. Nothing is created before `begin`."""

    def __init__(
        self,
        home: StateHome,
        url: str,
        sync: str,
        identity: dict[str, object],
        *,
        retention: Retention = DEFAULT,
        logged: bool = False,
        hashes: bool = False,
        keys: Sequence[SecretStr] = (),
    ) -> None:
        """`logged`: what becomes of runs and rows waits here until the warehouse has been told.

        `hashes`: of acknowledged values only digests are kept, whose own key is sealed with `keys`, where there are.
        """
        self.hashes = hashes
        self._keys = keys
        self.sync = sync
        self.home = home
        self.identity = json.dumps(identity, sort_keys=True)
        self.url = url
        self._retention = retention
        self._logged = logged
        self._began_at: datetime | None = None
        self._digests: Digests | None = None
        self._store: StateStore | None = None
        self._held = False
        self._seen: tuple[str | None] | None = None  # the incarnation of the state that was looked at first
        self._verified = False  # once for all looks: opening a database to ask its snapshot takes 20 ms
        self._fleeting = ExitStack()  # copies of a snapshot that only this look needs
        self._flights = Flights(home.underway, sync)
        self._reserve: Reserve | None = None
        self._last_seq: int | None = None  # known while the sync is held: nobody else moves it

    def keep(self, report: RunReport) -> None:
        """Store the report of a run that has ended once more; there must have been one."""
        self._opened().update_report(report)

    # --- opening ------------------------------------------------------------------------------------------------------

    def state(self, connection: duckdb.DuckDBPyConnection | None = None) -> SyncState | None:
        """Where the sync is; None before its first run. Raises StateError when what should be there isn't.

        `connection`: a local database that is open anyway, to look into the snapshot with.
        """
        try:
            state = self._state(connection)
        except (StateError, FileNotFoundError):  # a reset beside a look is one step for it: what it finds is no damage
            if self._held:
                raise
            state = self._state(connection)
        self._seen = self._seen or (state.incarnation if state is not None else None,)
        return state

    def _state(self, connection: duckdb.DuckDBPyConnection | None) -> SyncState | None:
        project = self.home.project()
        store = self._existing(project)
        if store is None:
            return None
        if not store.check():  # an empty PostgreSQL schema, or a first run that died before it had made its tables
            if project is None:
                return None
            raise complaints.missing(self.sync, f"{store.place} is empty, but this project has run before")
        if project is not None and (owner := store.project_id()) not in (None, project["id"]):
            raise complaints.another_project(store.place, owner)
        state = store.sync_state(self.sync)
        if state is None:
            if project is not None and self.sync in project["syncs"]:
                raise complaints.missing(self.sync, f"the state of {self.sync} is missing from {store.place}")
            return None
        self._verify(state, store, connection)
        return state

    @contextmanager
    def hold(self, run_id: str, now: datetime) -> Iterator[Callable[[], None]]:
        """Hold the sync alone for one run. Raises SyncBusy, naming the holder.

        What it gives raises LeaseLost once another machine's run may have taken over: to be called before a request.
        """
        holder = f"run {run_id}, process {os.getpid()} on {platform.node()}, since {clock.text(now)}"
        with self._alone(holder) as still_held:
            self._held = True
            try:
                self.home.sweep(self.sync)
                yield still_held
            finally:
                self._held = False

    def begin(self, report: RunReport) -> None:
        """Durably, before anything else: this run has begun. Makes the store if this is the first one."""
        store = self._opened()
        with self.home.alone():
            store.prepare()
            project = self.home.project()
            owner = store.project_id() or store.claim(str(project["id"]) if project else secrets.token_hex(8))
            store.begin(report, self.identity, logged=self._logged)
            self._began_at = report.started_at
            self.home.enter(self.sync, owner)  # last: a sync that it names must be in the store
        self._take_up(report)

    def note_keys(self, kinds: Sequence[str]) -> None:
        """What the key columns hold, so that keys can be read back without the warehouse."""
        store = self._opened()
        state, told = store.sync_state(self.sync), json.dumps(list(kinds))
        if state is not None and state.key_kinds != told:
            store.note(self.sync, key_kinds=told)

    def bind(self, account: str) -> None:
        """State belongs to one account; raises StateError when it was made with another."""
        store = self._opened()
        state = store.sync_state(self.sync)
        if state is not None and state.account not in (None, account):
            raise complaints.other_target(self.sync, f"account {state.account}", f"account {account}")
        if state is None or state.account is None:
            store.note(self.sync, account=account)

    # --- rows ---------------------------------------------------------------------------------------------------------

    def lay_known(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the relation `known` in a local database: what was last acknowledged, unfolded rows included.

        Raises SyncBusy when the sync was reset since `state` was asked first, by one who only looks.
        """
        try:
            self._lay_known(connection)
        except StateError:
            self._refuse_reset()
            raise
        self._refuse_reset()

    def _lay_known(self, connection: duckdb.DuckDBPyConnection) -> None:
        state, store = self.state(), self._store
        if state is None or store is None:
            overlay(connection, self._snapshot(), [])
        elif store.embedded:
            overlay(connection, self._snapshot(), list(store.journal(self.sync, state.folded_seq)))
        else:
            overlay(connection, *self._copies(store, state).known(holds=store.lease is not None))

    def removal(self, connection: duckdb.DuckDBPyConnection, key: str) -> Removal | None:
        """Whether a key's record was removed, by what was laid as `known`."""
        return removals.find(connection, key)

    def release_known(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let go of the snapshot's file, so that it can be written."""
        connection.execute("DROP VIEW known")
        attached = {row[0] for row in connection.execute("SELECT database_name FROM duckdb_databases()").fetchall()}
        for name in attached & {"snap", "laid"}:
            connection.execute(f"DETACH {name}")

    def refused(self) -> list[RefusedRow]:
        return [] if self.state() is None or self._store is None else self._store.refused(self.sync)

    def under_way(self, now: datetime) -> list[RefusedRow]:
        """Rows that a run was sending when it died, as the next one lists them."""
        left = list(self._flights.left())
        state = self.state() if left else None
        if state is None:
            return []
        listed = {row.slot: row for row in self.refused()}
        return [*{row.slot: row.again(listed.get(row.slot)) for row in doubtful(left, now, state)}.values()]

    def settling(self) -> list[RefusedRow]:
        """Delivered rows of which an earlier try may still land: `next_at` is when they are sent once more."""
        return [] if self.state() is None or self._store is None else self._store.settling(self.sync)

    def record(self, done: Acknowledgement) -> None:
        """One transaction. The caller holds the sync. Raises DiskFull when it took the room that was kept for it."""
        store = self._opened()
        if self._last_seq is None:
            state = store.sync_state(self.sync)
            self._last_seq = state.last_seq if state is not None else 0
        try:
            self._last_seq = store.record(done, self._last_seq)
        except StateError as failure:
            full = engine.is_full(failure.__cause__)
            if not full or self._reserve is None or not self._reserve.give_back():
                raise
            self._last_seq = store.record(done, self._last_seq)
            raise complaints.full() from failure

    def make_room(self, size: int) -> None:
        """Only an embedded store has its disk on this machine."""
        file = engine.sqlite_file(self.url)
        if file is None:
            return
        if self._reserve is None:
            self._reserve = Reserve(file.with_name(f"{file.name}.reserve-{self.sync}"))
        self._reserve.hold(size)

    def flight(self, slot: int) -> Flight:
        return self._flights.flight(slot)

    def digests(self) -> Digests:
        """The project's: for a run that has begun they are the same for ever."""
        if self._digests is None and self._began_at is not None:
            self._digests = digestkey.settled(self._opened(), self._keys)
        elif self._digests is None:
            self._digests = digestkey.known(self._store if self.state() is not None else None, self._keys)
        return self._digests

    def digest(self, digests: Digests, *, clear: Collection[str], finds: str) -> None:
        """Digests instead of the acknowledged values, but for the fields in `clear`; no byte of those stays."""
        store, snapshot = self._opened(), self._in_place()
        if snapshot.exists():
            snapshot.digest(digests, clear=clear, finds=finds)
            scrub.write_anew(store, self.sync, snapshot)

    def fold(self, *, rehash: str | pa.Table | None = None) -> None:
        """Move the journal into the snapshot. Harmless to repeat, and to leave to the next run."""
        store = self._opened()
        state = store.sync_state(self.sync)
        if state is None or (state.last_seq == state.folded_seq and rehash is None):
            return
        self.home.snapshots.mkdir(mode=0o700, exist_ok=True)
        before = None if self._began_at is None else clock.text(self._began_at - self._retention.runs)
        if store.embedded:
            store.harden()  # a snapshot that is newer than its store would be refused
            journal = store.journal(self.sync, state.folded_seq)
            folded, rows = self._snapshot().fold(journal, rehash=rehash, removed_before=before)
            store.folded(self.sync, folded, rows)
            return
        copies = self._copies(store, state)
        snapshot, entries = copies.known(holds=True)
        folded, rows = snapshot.fold(entries, rehash=rehash, removed_before=before)
        store.folded(self.sync, folded, rows)
        copies.compact(snapshot, folded)

    def finish(self, report: RunReport, position: dict[str, str | None] | None, moved_from: str | None) -> bool:
        return self._opened().finish(report, position, moved_from=moved_from, retention=self._retention)

    def unwritten(self) -> list[LogEntry]:
        """What the warehouse is still to be told, the oldest first, as much as it is told at once."""
        return Outbox(self._opened(), self.sync).waiting()

    def written(self, entries: Sequence[LogEntry]) -> None:
        """The warehouse has been told these."""
        Outbox(self._opened(), self.sync).written(entries)

    def hold_plan(self, plan_id: str, now: datetime, rows: bytes) -> None:
        self._opened().hold_plan(plan_id, self.sync, now, rows)

    def held_plan(self, plan_id: str) -> tuple[str, str, bytes, str | None] | None:
        return self._opened().held_plan(plan_id)

    def use_plan(self, plan_id: str, now: datetime) -> bool:
        audit.note(self.home, "approve", now, sync=self.sync, plan_id=plan_id)
        return self._opened().use_plan(plan_id, now)

    def memory(self, connection: str, *, lasting: bool) -> Memory:
        """What a destination connection may remember; `lasting` False: what is new, only as long as the process."""
        return LastingMemory(self, connection) if lasting else FleetingMemory(self.url, connection)

    def remembered(self, connection: str, name: str) -> str | None:
        return self._opened().remembered(connection, name)

    def remember(self, connection: str, name: str, value: str | None) -> None:
        self._opened().remember(connection, name, value)

    # --- forgetting ---------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Drop snapshot, cursor and lists, unreadable ones too. Raises SyncBusy when a run holds the sync."""
        with self._alone(f"reset, process {os.getpid()} on {platform.node()}"):
            audit.note(self.home, "reset", clock.SYSTEM.now(), sync=self.sync)
            reset.forget(self.home, self.sync, self.url, self._opened, self.close)
            self._flights.forget()
        self.close()

    def forget(self, key: str, run_id: str, now: datetime) -> bool:
        """Remove one key from snapshot, journal and lists. Returns whether anything was known of it."""
        if self.state() is None:
            return False
        with self.hold(run_id, now):
            audit.note(self.home, "forget", now, sync=self.sync)  # whom, nobody is to know any more
            slots = (slot_of(key), settling_slot_of(key))
            listed = [row for row in (*self.refused(), *self.settling()) if row.slot in slots]
            gone = forgotten([key], run_id, clock.text(now))
            with duckdb.connect(":memory:") as connection:
                self.lay_known(connection)
                known = connection.execute("SELECT count(*) FROM known WHERE key = ?", [key]).fetchall() == [(1,)]
                known |= self.removal(connection, key) is not None
                words = scrub.words_of(connection, key, listed)
                self.release_known(connection)
            self.record(Acknowledgement(self.sync, run_id, [gone] if known else [], slots))
            Outbox(self._opened(), self.sync).forget(key)
            self._flights.drop(key)
            self.fold()
            scrub.clear(self._opened(), self.sync, self._in_place(), words)
            return known or bool(listed)

    def remnants(self, key: str) -> list[str]:
        """Files of the state that hold a key's text still: copies that were put aside, other syncs, details of bugs."""
        return list(scrub.remnants(self.home.folder, key))

    @contextmanager
    def spool(self, run_id: str, *, dry: bool) -> Iterator[Path]:
        """Where a comparison may spill to: the project's own folder, or for a dry run a temporary one elsewhere."""
        if dry:
            with tempfile.TemporaryDirectory(prefix="reverse-etl-") as folder:
                yield Path(folder)
            return
        self.home.prepare()
        with self.home.spool(f"{self.sync}.{run_id}") as folder:
            yield folder

    def close(self) -> None:
        self._fleeting.close()
        self._flights.close()
        if self._reserve is not None:
            self._reserve.give_back()
        if self._store is not None:
            self._store.close()
            self._store = None

    # --- inside -------------------------------------------------------------------------------------------------------

    def _refuse_reset(self) -> None:
        if self._held or self._store is None or self._seen is None:
            return
        state = self._store.sync_state(self.sync)
        if (state.incarnation if state is not None else None,) != self._seen:
            raise complaints.reset_meanwhile(self.sync)

    def _take_up(self, report: RunReport) -> None:
        """Rows that a run was sending when it died are in doubt: perhaps they have arrived, perhaps they still will."""
        if rows := self.under_way(report.started_at):
            self.record(Acknowledgement(self.sync, report.run_id, refused=rows))
        self._flights.forget()

    def _snapshot(self) -> Snapshot:
        project = self.home.project()
        owner = f"{project['id'] if project else 'no project'}/{self.sync}"
        return Snapshot(self.home.snapshots / f"{self.sync}.duckdb", owner)

    def _in_place(self) -> Snapshot:
        """The snapshot's lasting file on this machine."""
        store = self._opened()
        state = store.sync_state(self.sync)
        if store.embedded or state is None:
            return self._snapshot()
        copies = self._copies(store, state)
        return Snapshot(copies.place, copies.owner)

    @contextmanager
    def _alone(self, holder: str) -> Iterator[Callable[[], None]]:
        """Nobody else works on this sync's state: on this machine by a lock, with PostgreSQL on any by a lease."""
        self.home.prepare()
        with self.home.lock(self.sync, holder):
            if engine.is_embedded(self.url):
                yield _always
                return
            store = self._opened()
            store.prepare()
            with lease.held(store.engine, self.sync, holder) as mine, store.leased(mine):
                yield mine.check

    def _copies(self, store: StateStore, state: SyncState) -> Copies:
        owner = f"{store.project_id()}/{self.sync}/{state.incarnation}"
        place = self.home.snapshots / f"{self.sync}.duckdb"
        return Copies(store, self.sync, place, owner, self._fleeting)

    def _existing(self, project: dict[str, object] | None) -> StateStore | None:
        """The store, if there is one; never makes one."""
        if self._store is not None:
            return self._store
        file = engine.sqlite_file(self.url)
        if file is not None and not file.exists():
            if project is None:
                return None
            raise complaints.missing(self.sync, f"{file.name} is missing, but this project has run before")
        self._store = StateStore(self.url, read_only=file is not None)
        return self._store

    def _opened(self) -> StateStore:
        """The store for writing."""
        if self._store is None or self._store.read_only:
            self.close()
            self._store = StateStore(self.url)
        return self._store

    def _verify(self, state: SyncState, store: StateStore, connection: duckdb.DuckDBPyConnection | None) -> None:
        if state.identity != self.identity:
            raise complaints.other_target(
                self.sync, complaints.target(state.identity), complaints.target(self.identity)
            )
        if self._verified:
            return
        if not store.embedded:
            return
        if state.folded_seq > 0 and not self._snapshot().exists():
            raise complaints.missing(
                self.sync, f"the snapshot of {self.sync} is missing, but rows were acknowledged before"
            )
        if not self._snapshot().exists():
            return
        folded = self._snapshot().folded(connection)
        newest = store.sync_state(self.sync) or state  # a run beside us may have gone on meanwhile
        if not state.folded_seq <= folded <= newest.last_seq:
            raise complaints.of_two_times(self.sync, state.folded_seq, folded)
        self._verified = True


def _always() -> None:
    """An embedded state's lock goes with the process: while there is one, it holds."""
