"""What a run needs of the project's memory. `state` keeps it, and is opened by `parts`; a run sees these.

Synchronous: a run calls it from a worker thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from reverse_etl.report import RunReport
from reverse_etl.standing import Acknowledgement, Holder, LogEntry, RefusedRow, Removal, SyncState

if TYPE_CHECKING:
    import duckdb

    from reverse_etl.digests import Digests


class Flight(Protocol):
    """What one slot has under way, written down so that it outlives a killed process."""

    async def begin(self, keys: pa.Array) -> None:
        """The rows with these keys may go out from now on. Raises DiskFull or StateError when it isn't written down."""
        ...

    async def end(self) -> None:
        """What became of them is stored."""
        ...


class UnderWay(Protocol):
    """What a run of one sync has under way, so that it outlives the run's process."""

    def rows(self, now: datetime) -> list[RefusedRow]:
        """Rows that a run was sending when it died, as the next one lists them; none while one is at it."""
        ...

    def make_room(self, size: int) -> None:
        """So many bytes of acknowledgements can be recorded from now on. Raises DiskFull when there is no room."""
        ...

    def flight(self, slot: int, *, of_job: bool = False) -> Flight:
        """Where a slot writes down what it has under way, in calls or in a job."""
        ...


class Known(Protocol):
    """What was last acknowledged of every row of one sync."""

    @property
    def hashes(self) -> bool:
        """Whether of acknowledged values only digests are kept."""
        ...

    def digests(self) -> Digests:
        """The project's own."""
        ...

    def lay(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the relation `known` in a local database."""
        ...

    def removal(self, connection: duckdb.DuckDBPyConnection, key: str) -> Removal | None:
        """Whether a key's record was removed, while `known` is laid."""
        ...

    def release(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let go of what was laid, so that it can be written."""
        ...

    def fold(self, *, rehash: str | pa.Table | None = None) -> None:
        """Bring it up to date with what was recorded. `rehash`: fingerprints anew, as SQL or by key."""
        ...

    def digest(self, digests: Digests, *, clear: Collection[str], finds: str) -> None:
        """Digests instead of the values that were kept before, but for the fields in `clear`."""
        ...


class Plans(Protocol):
    """Plans that the guard has stopped, until somebody approves them."""

    def hold(self, plan_id: str, made_at: datetime, rows: bytes) -> None: ...

    def held(self, plan_id: str) -> tuple[str, str, bytes, str | None] | None:
        """Sync, when it was made, its rows, and when it was used."""
        ...

    def use(self, plan_id: str, now: datetime) -> bool:
        """An approval counts once. Returns whether this was the time."""
        ...


class Outbox(Protocol):
    """What the warehouse is still to be told."""

    def waiting(self) -> list[LogEntry]:
        """The oldest first, as much as it is told at once."""
        ...

    def written(self, entries: Sequence[LogEntry]) -> None:
        """The warehouse has been told these."""
        ...


class Ledger(Protocol):
    """What the project remembers of one sync."""

    @property
    def known(self) -> Known: ...

    @property
    def under_way(self) -> UnderWay: ...

    @property
    def plans(self) -> Plans: ...

    @property
    def outbox(self) -> Outbox: ...

    def state(self, connection: duckdb.DuckDBPyConnection | None = None) -> SyncState | None:
        """Where the sync is. `connection`: a local database that is open anyway, to look into the snapshot with."""
        ...

    def refused(self) -> list[RefusedRow]: ...

    def settling(self) -> list[RefusedRow]:
        """Delivered rows of which an earlier try may still land: `next_at` is when they are sent once more."""
        ...

    def holder(self) -> Holder | None:
        """Who else holds the sync now."""
        ...

    def spool(self, run_id: str, *, dry: bool) -> AbstractContextManager[Path]: ...

    def hold(self, run_id: str, now: datetime) -> AbstractContextManager[Callable[[], None]]:
        """Hold the sync alone. Raises SyncBusy, naming the holder.

        What it gives raises LeaseLost once another run may hold the sync: to be called before every request.
        """
        ...

    def begin(self, report: RunReport) -> None:
        """Durably: this run has begun. Called before anything else happens."""
        ...

    def note_keys(self, kinds: Sequence[str]) -> None:
        """What the key columns hold, so that keys can be read back without the warehouse."""
        ...

    def bind(self, account: str) -> None:
        """State belongs to one account. Raises StateError when it was made with another."""
        ...

    def record(self, done: Acknowledgement) -> None:
        """Raises DiskFull when it has been stored with the last of the room: nothing more may be sent."""
        ...

    def finish(self, report: RunReport, position: dict[str, str | None] | None, moved_from: str | None) -> bool: ...

    def keep(self, report: RunReport) -> None:
        """Store the report of a run that has ended once more."""
        ...

    def close(self) -> None: ...
