"""The SQL store: what every sync's runs did, and what is still owed. Readable while a run is under way.

SQLite in WAL mode by default, PostgreSQL by URL. Each public method is one transaction. A batch's acknowledgement is
one row of the journal; folding it into the snapshot is `snapshot.fold`'s work, and may happen at any later time.
"""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from reverse_etl import clock
from reverse_etl.errors import StateError
from reverse_etl.report import RunReport
from reverse_etl.standing import SETTLING, Acknowledgement, RefusedRow, SyncState
from reverse_etl.state import engine, lease, migrations, outbox, tables
from reverse_etl.state.retention import Retention
from reverse_etl.state.snapshot import Entry, encode

LOOSE_SECONDS = 1.0  # the answers of so long may be forgotten in a power cut
MAKING = 0x7265746C  # of PostgreSQL's advisory locks: the tables are made once
_CLAIM = sa.text("INSERT INTO meta (name, value) VALUES ('project_id', :value) ON CONFLICT (name) DO NOTHING")
_REMEMBER_FIRST = sa.text(
    "INSERT INTO memory (scope, name, value) VALUES (:scope, :name, :value) ON CONFLICT (scope, name) DO NOTHING"
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
        self._closed = False
        self.is_older = False  # of an older release: looked at as it is, migrated by the next run
        self.lease: lease.Lease | None = None  # with which every write must be of the holder's
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
        with self.reading() as connection:
            found = migrations.version(connection)
        migrations.refuse_newer(found, self.place)
        self.is_older = 0 < found < migrations.NEWEST
        return found > 0

    @contextmanager
    def leased(self, mine: lease.Lease) -> Iterator[None]:
        """Every write in here is the holder's, or isn't done."""
        self.lease = mine
        try:
            yield
        finally:
            self.lease = None

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            engine.release(self.engine)

    def project_id(self) -> str | None:
        with self.reading() as connection:
            found: str | None = connection.scalar(
                sa.select(tables.meta.c.value).where(tables.meta.c.name == "project_id")
            )
            return found

    def claim(self, project_id: str) -> str:
        """Write down whose store this is, once. Returns what stands there: another machine may have been first."""
        with self.writing() as connection:
            connection.execute(_CLAIM, {"value": project_id})
            mine = sa.select(tables.meta.c.value).where(tables.meta.c.name == "project_id")
            return str(connection.scalar(mine))

    # --- a run's life -------------------------------------------------------------------------------------------------

    def sync_state(self, sync: str) -> SyncState | None:
        return next(iter(self.syncs(sync)), None)

    def begin(self, report: RunReport, identity: str, *, logged: bool = False) -> None:
        """Durably: a run of this sync has begun, for this target. `logged`: the warehouse is to be told of it."""
        with self.writing(durable=True) as connection:
            known = sa.select(tables.syncs.c.sync).where(tables.syncs.c.sync == report.sync)
            if connection.scalar(known) is None:
                fresh = {
                    "sync": report.sync,
                    "identity": identity,
                    "folded_seq": 0,
                    "known_rows": 0,
                    "incarnation": secrets.token_hex(8),
                }
                connection.execute(sa.insert(tables.syncs).values(fresh))
            connection.execute(
                sa.insert(tables.runs).values(
                    run_id=report.run_id,
                    sync=report.sync,
                    started_at=clock.text(report.started_at),
                    report=json.dumps(report.to_json()),
                )
            )
            if logged:
                outbox.begin(connection, report)

    def note(self, sync: str, **facts: str) -> None:
        """Durably: columns of `syncs` that this run found out (account, key_kinds)."""
        with self.writing(durable=True) as connection:
            connection.execute(sa.update(tables.syncs).where(tables.syncs.c.sync == sync).values(**facts))

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
            self._drop_refused(connection, done.sync, [*done.settled, *(row.slot for row in done.refused)])
            if done.refused:
                connection.execute(sa.insert(tables.refused), [row.stored(done.sync) for row in done.refused])
            if done.log is not None:
                outbox.add(connection, done.sync, done.run_id, done.log)
        return after + len(entries)

    def harden(self) -> None:
        """What has been written so far outlives a power cut from here on: before something is built upon it."""
        if self._loose:
            engine.harden(self.url)
            self._loose, self._hardened_at = False, time.monotonic()

    def journal(self, sync: str, after: int = 0) -> Iterator[Entry]:
        """Acknowledged rows not known to be folded, oldest first."""
        query = (
            sa.select(tables.journal.c.seq, tables.journal.c.body)
            .where(tables.journal.c.sync == sync, tables.journal.c.seq > after)
            .order_by(tables.journal.c.seq)
        )
        with self.reading() as connection:
            for seq, body in connection.execution_options(stream_results=True).execute(query):
                yield Entry(int(seq), bytes(body))

    def folded(self, sync: str, seq: int, known_rows: int) -> None:
        """Entries up to `seq` are in the snapshot. PostgreSQL keeps them up to the next base, for other machines."""
        with self.writing() as connection:
            connection.execute(
                sa.update(tables.syncs).where(tables.syncs.c.sync == sync).values(folded_seq=seq, known_rows=known_rows)
            )
            if self.embedded:
                connection.execute(
                    sa.delete(tables.journal).where(tables.journal.c.sync == sync, tables.journal.c.seq <= seq)
                )

    def base(self, sync: str) -> int | None:
        """The number of the journal at which this sync's base was made; None without one."""
        with self.reading() as connection:
            found = connection.scalar(sa.select(sa.func.min(tables.bases.c.seq)).where(tables.bases.c.sync == sync))
        return None if found is None else int(found)

    def base_parts(self, sync: str) -> Iterator[bytes]:
        """The base, part by part, all of one moment."""
        query = sa.select(tables.bases.c.body).where(tables.bases.c.sync == sync).order_by(tables.bases.c.part)
        with self.reading() as connection:
            for (body,) in connection.execution_options(stream_results=True, max_row_buffer=4).execute(query):
                yield bytes(body)

    def put_base(self, sync: str, seq: int, parts: Iterator[bytes]) -> None:
        """A new base; the journal up to it isn't needed any more."""
        with self.writing(durable=True) as connection:
            connection.execute(sa.delete(tables.bases).where(tables.bases.c.sync == sync))
            for number, body in enumerate(parts):
                connection.execute(sa.insert(tables.bases).values(sync=sync, part=number, seq=seq, body=body))
            connection.execute(
                sa.delete(tables.journal).where(tables.journal.c.sync == sync, tables.journal.c.seq <= seq)
            )

    def sizes(self, sync: str) -> tuple[int, int]:
        """Bytes of the journal, and of the base."""

        def of(table: sa.Table) -> sa.ScalarSelect[int]:
            length = sa.func.coalesce(sa.func.sum(sa.func.length(table.c.body)), 0)
            return sa.select(length).where(table.c.sync == sync).scalar_subquery()

        with self.reading() as connection:
            journal, base = connection.execute(sa.select(of(tables.journal), of(tables.bases))).one()
        return int(journal), int(base)

    def finish(
        self,
        report: RunReport,
        position: dict[str, str | None] | None,
        *,
        moved_from: str | None,
        retention: Retention | None = None,
    ) -> bool:
        """Close the run and move the cursor, if it is still where the run found it. Returns whether it moved.

        `position` holds the columns of `syncs` to set (cursor_value, cursor_type, last_run_at, last_full_at). What is
        older than `retention` wants it leaves the books.
        """
        moved = False
        with self.writing(durable=True) as connection:
            if position:
                held = tables.syncs.c.cursor_value
                here = held.is_(None) if moved_from is None else held == moved_from
                update = sa.update(tables.syncs).where(tables.syncs.c.sync == report.sync, here).values(**position)
                moved = bool(connection.execute(update).rowcount)
            self._save(connection, report)
            if retention is not None:
                retention.prune(connection, report.sync, report.finished_at or report.started_at)
        return moved

    def update_report(self, report: RunReport) -> None:
        """Keep a run's figures current, for those who look: while it is under way, or with what became known later."""
        with self.writing() as connection:
            self._save(connection, report)

    # --- refused rows -------------------------------------------------------------------------------------------------

    def refused(self, sync: str) -> list[RefusedRow]:
        """The list, in the order in which rows came onto it."""
        return self._listed(sync, tables.refused.c.kind != SETTLING)

    def settling(self, sync: str) -> list[RefusedRow]:
        """Delivered rows of which an earlier try may still land."""
        return self._listed(sync, tables.refused.c.kind == SETTLING)

    def _listed(self, sync: str, which: sa.ColumnElement[bool]) -> list[RefusedRow]:
        query = sa.select(tables.refused).where(tables.refused.c.sync == sync, which)
        query = query.order_by(tables.refused.c.first_at, tables.refused.c.slot)
        with self.reading() as connection:
            return [RefusedRow.from_stored(dict(row)) for row in connection.execute(query).mappings()]

    # --- looking back -------------------------------------------------------------------------------------------------

    def runs(self, sync: str | None = None, *, limit: int = 50) -> list[dict[str, Any]]:
        """Reports as `sync --json` prints them, newest first; `status` is None for one that never ended."""
        query = sa.select(tables.runs).order_by(tables.runs.c.started_at.desc()).limit(limit)
        if sync is not None:
            query = query.where(tables.runs.c.sync == sync)
        with self.reading() as connection:
            return [_report(row) for row in connection.execute(query).mappings()]

    def latest(self, *, good: bool = False) -> dict[str, dict[str, Any]]:
        """The last run of every sync that has had one; `good`: the last that delivered what it could."""
        newest = sa.select(tables.runs.c.sync, sa.func.max(tables.runs.c.started_at).label("at"))
        if good:
            newest = newest.where(tables.runs.c.status.in_(("succeeded", "partial")))
        last = newest.group_by(tables.runs.c.sync).subquery()
        same = sa.and_(tables.runs.c.sync == last.c.sync, tables.runs.c.started_at == last.c.at)
        query = sa.select(tables.runs).join(last, same).order_by(tables.runs.c.run_id)
        with self.reading() as connection:
            return {row["sync"]: _report(row) for row in connection.execute(query).mappings()}

    def standing(self) -> list[tuple[str, str, int, str]]:
        """Refused rows by sync and kind: how many, and since when the oldest stands there."""
        columns = (tables.refused.c.sync, tables.refused.c.kind)
        counts = (sa.func.sum(tables.refused.c.rows), sa.func.min(tables.refused.c.first_at))
        with self.reading() as connection:
            query = sa.select(*columns, *counts).where(tables.refused.c.kind != SETTLING).group_by(*columns)
            found = connection.execute(query).all()
        return [(str(sync), str(kind), int(rows), str(oldest)) for sync, kind, rows, oldest in found]

    def run(self, run_id: str) -> dict[str, Any] | None:
        with self.reading() as connection:
            query = sa.select(tables.runs).where(tables.runs.c.run_id == run_id)
            row = connection.execute(query).mappings().first()
        return None if row is None else _report(row)

    def syncs(self, sync: str | None = None) -> list[SyncState]:
        """Where syncs are: all of them, or one."""
        newest = sa.select(sa.func.max(tables.journal.c.seq)).where(tables.journal.c.sync == tables.syncs.c.sync)
        with self.reading() as connection:
            query = sa.select(*self._present(connection, tables.syncs), newest.scalar_subquery().label("last_seq"))
            if sync is not None:
                query = query.where(tables.syncs.c.sync == sync)
            rows = connection.execute(query).mappings().all()
        return [SyncState(**{**row, "last_seq": max(row["folded_seq"], row["last_seq"] or 0)}) for row in rows]

    # --- what people ask for ------------------------------------------------------------------------------------------

    def reset(self, sync: str) -> None:
        """Forget a sync's cursor, identity, journal and lists; its runs stay on record."""
        with self.writing(durable=True) as connection:
            for table in (tables.syncs, tables.journal, tables.bases, tables.refused, tables.plans, tables.outbox):
                connection.execute(sa.delete(table).where(table.c.sync == sync))

    def hold_plan(self, plan_id: str, sync: str, made_at: datetime, rows: bytes) -> None:
        """Remember a guarded plan, so that it can be approved."""
        with self.writing(durable=True) as connection:
            connection.execute(sa.delete(tables.plans).where(tables.plans.c.plan_id == plan_id))
            connection.execute(
                sa.insert(tables.plans).values(plan_id=plan_id, sync=sync, made_at=clock.text(made_at), rows=rows)
            )

    def held_plan(self, plan_id: str) -> tuple[str, str, bytes, str | None] | None:
        """Sync, when it was made, its rows, and when it was used."""
        columns = (tables.plans.c.sync, tables.plans.c.made_at, tables.plans.c.rows, tables.plans.c.used_at)
        with self.reading() as connection:
            row = connection.execute(sa.select(*columns).where(tables.plans.c.plan_id == plan_id)).first()
        return None if row is None else (row[0], row[1], bytes(row[2]), row[3])

    def use_plan(self, plan_id: str, now: datetime) -> bool:
        """An approval counts once. Returns whether this was the time."""
        unused = sa.and_(tables.plans.c.plan_id == plan_id, tables.plans.c.used_at.is_(None))
        with self.writing(durable=True) as connection:
            update = sa.update(tables.plans).where(unused).values(used_at=clock.text(now))
            return bool(connection.execute(update).rowcount)

    def remembered(self, scope: str, name: str) -> str | None:
        where = sa.and_(tables.memory.c.scope == scope, tables.memory.c.name == name)
        with self.reading() as connection:
            value: str | None = connection.scalar(sa.select(tables.memory.c.value).where(where))
            return value

    def remember_first(self, scope: str, name: str, value: str) -> None:
        """Unless there is something already: another process may have been first."""
        with self.writing(durable=True) as connection:
            connection.execute(_REMEMBER_FIRST, {"scope": scope, "name": name, "value": value})

    def remember(self, scope: str, name: str, value: str | None) -> None:
        where = sa.and_(tables.memory.c.scope == scope, tables.memory.c.name == name)
        with self.writing(durable=True) as connection:
            connection.execute(sa.delete(tables.memory).where(where))
            if value is not None:
                connection.execute(sa.insert(tables.memory).values(scope=scope, name=name, value=value))

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
            engine.copy(file, kept)

    def _present(self, connection: sa.Connection, table: sa.Table) -> list[sa.Column[Any]]:
        """The table's columns, as far as a store of an older release has them."""
        if not self.is_older:
            return list(table.columns)
        there = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
        return [column for column in table.columns if column.name in there]

    def _save(self, connection: sa.Connection, report: RunReport) -> None:
        status = report.status.value if report.finished_at is not None else None
        connection.execute(
            sa.update(tables.runs)
            .where(tables.runs.c.run_id == report.run_id)
            .values(status=status, report=json.dumps(report.to_json()))
        )

    def _drop_refused(self, connection: sa.Connection, sync: str, slots: Iterable[str]) -> None:
        named = list(slots)
        for start in range(0, len(named), 500):
            part = named[start : start + 500]
            connection.execute(
                sa.delete(tables.refused).where(tables.refused.c.sync == sync, tables.refused.c.slot.in_(part))
            )

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        with self._explained(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, *, durable: bool = False) -> Iterator[sa.Connection]:
        with self._explained(), engine.writing(self.engine, durable=durable) as connection:
            if self.lease is not None:
                lease.hold_fast(connection, self.lease.sync, self.lease.token)
            yield connection
        self._loose = self.embedded and not durable
        if durable:
            self._hardened_at = time.monotonic()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as failure:
            raise StateError(
                f"the state in {self.place} can't be used: {engine.words(failure)}",
                hint="the files were left alone: restore them from a backup, or `reverse-etl reset SYNC` to start over",
            ) from failure


def _report(row: Any) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(row["report"])
    return report if row["status"] is not None else report | {"status": "running"}
