"""The SQL store as a whole: opened, prepared, read and written in transactions. Its parts know the tables.

SQLite in WAL mode by default, PostgreSQL by URL; readable while a run is under way. A batch's acknowledgement is one
row of the journal; folding it into the snapshot is `snapshot.fold`'s work, and may happen at any later time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from reverse_etl import clock
from reverse_etl.errors import StateError
from reverse_etl.standing import Acknowledgement
from reverse_etl.state import engine, lease, lists, migrations, outbox, tables
from reverse_etl.state.journal import encode
from reverse_etl.state.lists import Lists
from reverse_etl.state.remembered import PUT_FIRST, RESET, Remembered
from reverse_etl.state.runs import Runs
from reverse_etl.state.syncs import Syncs

LOOSE_SECONDS = 1.0  # the answers of so long may be forgotten in a power cut
MAKING = 0x7265746C  # of PostgreSQL's advisory locks: the tables are made once
_CLAIM = sa.text("INSERT INTO meta (name, value) VALUES ('project_id', :value) ON CONFLICT (name) DO NOTHING")
_OWNER = sa.select(tables.meta.c.value).where(tables.meta.c.name == "project_id")
_OF_A_SYNC = (
    *(tables.syncs, tables.journal, tables.bases, tables.under_way),
    *(tables.refused, tables.plans, tables.outbox),
)
_ADD_ENTRIES = sa.insert(tables.journal)


class StateStore:
    def __init__(self, url: str, *, read_only: bool = False) -> None:
        """Opens lazily. `read_only` writes nothing at all, not even an empty database."""
        self.url = url
        self.place = engine.place(url)
        self.read_only = read_only
        self.embedded = engine.is_embedded(url)
        self.engine = engine.make(url, read_only=read_only)
        self.is_older = False  # of an older release: looked at as it is, migrated by the next run
        self.lease: lease.Lease | None = None  # with which every write must be of the holder's
        self.syncs, self.runs, self.lists = Syncs(self), Runs(self), Lists(self)
        self.remembered = Remembered(self)
        self._newest = False  # once it was, it stays: a run asks five times
        self._closed = False
        self._hardened_at = -math.inf
        self._loose = False  # whether a power cut would undo something

    def prepare(self) -> None:
        """Create or migrate the tables. Raises StateError when the store is damaged or of a newer release."""
        self._keep_older()
        with self.writing() as connection:
            if not self.embedded:  # on several machines first runs may begin together
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MAKING)))
            found = migrations.version(connection)
            migrations.refuse_newer(found, self.place)
            if found < migrations.NEWEST:
                migrations.migrate(connection, found)
        self.is_older = False

    def check(self) -> bool:
        """What `prepare` refuses, without writing anything. Returns whether there are tables at all."""
        if self._newest:
            return True
        with self.reading() as connection:
            found = migrations.version(connection)
        migrations.refuse_newer(found, self.place)
        self.is_older = 0 < found < migrations.NEWEST
        self._newest = found == migrations.NEWEST
        return found > 0

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            engine.release(self.engine)

    def project_id(self) -> str | None:
        with self.reading() as connection:
            found: str | None = connection.scalar(_OWNER)
            return found

    def claim(self, project_id: str) -> str:
        """Write down whose store this is, once. Returns what stands there: another machine may have been first."""
        with self.writing() as connection:
            connection.execute(_CLAIM, {"value": project_id})
            return str(connection.scalar(_OWNER))

    def record(self, done: Acknowledgement, after: int) -> int:
        """One transaction: what was delivered goes into the journal, what was refused onto the list.

        Entries are numbered on from `after`, the sync's last number, which only its holder moves. Returns the newest.
        """
        entries = [
            {"sync": done.sync, "seq": seq, "run_id": part.run_id, "rows": part.rows.num_rows, "body": encode(part)}
            for seq, part in enumerate(done.acknowledged, after + 1)
        ]
        durable = done.lasting or time.monotonic() - self._hardened_at > LOOSE_SECONDS
        with self.writing(durable=durable) as connection:
            if entries:
                connection.execute(_ADD_ENTRIES, entries)
            lists.put(connection, done.sync, done.refused, settled=done.settled)
            if done.log is not None:
                outbox.add(connection, done.sync, done.run_id, done.log)
        return after + len(entries)

    def forget(self, sync: str) -> None:
        """A sync's cursor, identity, journal and lists; its runs stay on record, and so does that it was forgotten."""
        with self.writing(durable=True) as connection:
            for table in _OF_A_SYNC:
                connection.execute(sa.delete(table).where(table.c.sync == sync))
            connection.execute(PUT_FIRST, {"scope": RESET, "name": sync, "value": clock.text(clock.SYSTEM.now())})

    # --- transactions -------------------------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        with self._explained(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, *, durable: bool = False) -> Iterator[sa.Connection]:
        """One transaction: all that is written in it, or nothing. `durable`: no power cut may take it back."""
        with self._explained(), engine.writing(self.engine, durable=durable) as connection:
            if self.lease is not None:
                lease.hold_fast(connection, self.lease.sync, self.lease.token)
            yield connection
        self._loose = self.embedded and not durable
        if durable:
            self._hardened_at = time.monotonic()

    @contextmanager
    def at_once(self) -> Iterator[sa.Connection]:
        """Every statement is a transaction of its own, which saves round trips. Not for an embedded store."""
        with self._explained(), self.engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def leased(self, mine: lease.Lease) -> Iterator[None]:
        """Every write in here is the holder's, or isn't done."""
        self.lease = mine
        try:
            yield
        finally:
            self.lease = None

    def harden(self) -> None:
        """What has been written so far outlives a power cut from here on: before something is built upon it."""
        if self._loose:
            engine.harden(self.url)
            self._loose, self._hardened_at = False, time.monotonic()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _keep_older(self) -> None:
        """A copy of an embedded store of an older release, before its tables are changed."""
        with self.reading() as connection:
            found = migrations.version(connection)
        file = engine.sqlite_file(self.url)
        if file is None or not 0 < found < migrations.NEWEST:
            return
        kept = file.with_name(f"{file.name}.schema-{found}")
        if not kept.exists():
            part = kept.with_name(f"{kept.name}.new")  # one that dies meanwhile leaves no half of a copy
            part.unlink(missing_ok=True)
            engine.copy(file, part)
            part.rename(kept)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as failure:
            raise StateError(
                f"the state in {self.place} can't be used: {engine.words(failure)}",
                hint="the files were left alone: restore them from a backup, or `reverse-etl reset SYNC` to start over",
            ) from failure
