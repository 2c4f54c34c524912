"""What the project remembers of one sync, as one thing that a run can hold."""

from __future__ import annotations

import json
import os
import platform
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import duckdb
from pydantic import SecretStr

from reverse_etl import clock
from reverse_etl.errors import StateError
from reverse_etl.protocols import Memory
from reverse_etl.report import RunReport
from reverse_etl.standing import Acknowledgement, Holder, RefusedRow, SyncState
from reverse_etl.state import complaints, engine
from reverse_etl.state.access import Access
from reverse_etl.state.home import StateHome
from reverse_etl.state.known import Known
from reverse_etl.state.look import Look
from reverse_etl.state.memory import FleetingMemory, LastingMemory
from reverse_etl.state.outbox import Outbox
from reverse_etl.state.plans import Plans
from reverse_etl.state.retention import DEFAULT, Retention
from reverse_etl.state.underway import UnderWay


class Ledger:
    """Open one to look, `hold` it to run. Nothing is created before `begin`. `ledgers.Ledger`.

    `known` is what was acknowledged of its rows, `under_way` what is being sent, `plans` those that wait to be
    approved, `outbox` what waits for the warehouse.
    """

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
        self.sync = sync
        self.home = home
        self.access = Access(home, url)
        self._identity = json.dumps(identity, sort_keys=True)
        self._look = Look(self.access, sync, self._identity)
        self.known = Known(self.access, self._look, sync, hashes=hashes, keys=keys)
        self.under_way = UnderWay(self.access, self._look, sync)
        self.plans = Plans(self.access, sync)
        self.outbox = Outbox(self.access, sync)
        self._retention = retention
        self._logged = logged
        self._last_seq: int | None = None  # known while the sync is held: nobody else moves it

    # --- looking ------------------------------------------------------------------------------------------------------

    def state(self, connection: duckdb.DuckDBPyConnection | None = None) -> SyncState | None:
        """Where the sync is; None before its first run. Raises StateError when what should be there isn't.

        `connection`: a local database that is open anyway, to look into the snapshot with.
        """
        found = self._look.found(connection)
        return None if found is None else found.state

    def refused(self) -> list[RefusedRow]:
        found = self._look.found()
        return [] if found is None else found.store.lists.refused(self.sync)

    def settling(self) -> list[RefusedRow]:
        """Delivered rows of which an earlier try may still land: `next_at` is when they are sent once more."""
        found = self._look.found()
        return [] if found is None else found.store.lists.settling(self.sync)

    def holder(self) -> Holder | None:
        """Who else holds the sync now."""
        return self._look.holder()

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

    def memory(self, connection: str, *, lasting: bool) -> Memory:
        """What a destination connection may remember; `lasting` False: what is new, only as long as the process."""
        return LastingMemory(self.access, connection) if lasting else FleetingMemory(self.access.url, connection)

    # --- a run's life -------------------------------------------------------------------------------------------------

    @contextmanager
    def hold(self, run_id: str, now: datetime) -> Iterator[Callable[[], None]]:
        """Hold the sync alone for one run. Raises SyncBusy, naming the holder.

        What it gives raises LeaseLost once another machine's run may have taken over: to be called before a request.
        """
        holder = f"run {run_id}, process {os.getpid()} on {platform.node()}, since {clock.text(now)}"
        self._last_seq = None
        with self.access.alone(self.sync, holder) as still_held:
            self.home.sweep(self.sync)
            self.under_way.sweep()
            yield still_held

    def begin(self, report: RunReport) -> None:
        """Durably, before anything else: this run has begun. Makes the store if this is the first one."""
        store = self.access.store()
        with self.home.alone():
            store.prepare()
            project = self.home.project()
            owner = store.project_id() or store.claim(str(project["id"]) if project else secrets.token_hex(8))
            store.runs.begin(report, self._identity, logged=self._logged)
            self.home.enter(self.sync, owner)  # last: a sync that it names must be in the store
        self.known.begin(clock.text(report.started_at - self._retention.runs))
        self._take_up(report)

    def note_keys(self, kinds: Sequence[str]) -> None:
        """What the key columns hold, so that keys can be read back without the warehouse."""
        syncs, told = self.access.store().syncs, json.dumps(list(kinds))
        state = syncs.of(self.sync)
        if state is not None and state.key_kinds != told:
            syncs.note(self.sync, key_kinds=told)

    def bind(self, account: str) -> None:
        """State belongs to one account; raises StateError when it was made with another."""
        syncs = self.access.store().syncs
        state = syncs.of(self.sync)
        if state is not None and state.account not in (None, account):
            raise complaints.other_target(self.sync, f"account {state.account}", f"account {account}")
        if state is None or state.account is None:
            syncs.note(self.sync, account=account)

    def record(self, done: Acknowledgement) -> None:
        """One transaction. The caller holds the sync. Raises DiskFull when it took the room that was kept for it."""
        store = self.access.store()
        if self._last_seq is None:
            state = store.syncs.of(self.sync)
            self._last_seq = state.last_seq if state is not None else 0
        try:
            self._last_seq = store.record(done, self._last_seq)
        except StateError as failure:
            if not engine.is_full(failure.__cause__) or not self.under_way.give_room_back():
                raise
            self._last_seq = store.record(done, self._last_seq)
            raise complaints.full() from failure

    def finish(self, report: RunReport, position: dict[str, str | None] | None, moved_from: str | None) -> bool:
        """The run has ended. Returns whether the cursor moved: it doesn't where it isn't `moved_from` any more."""
        return self.access.store().runs.finish(report, position, moved_from=moved_from, retention=self._retention)

    def keep(self, report: RunReport) -> None:
        """Store the report of a run that has ended once more; there must have been one."""
        self.access.store().runs.keep(report)

    def close(self) -> None:
        self.known.close()
        self.under_way.close()
        self.access.close()

    def _take_up(self, report: RunReport) -> None:
        """Rows that a run was sending when it died are in doubt: perhaps they have arrived, perhaps they still will."""
        if rows := self.under_way.rows(report.started_at):
            self.record(Acknowledgement(self.sync, report.run_id, refused=rows))
        self.under_way.forget()
