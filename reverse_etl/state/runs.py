"""What runs did: a record each, from its first moment on, for those who look while it is under way and afterwards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from reverse_etl import clock
from reverse_etl.report import RunReport
from reverse_etl.state import complaints, outbox, syncs
from reverse_etl.state.retention import Retention
from reverse_etl.state.tables import runs

if TYPE_CHECKING:
    from reverse_etl.state.store import StateStore


class Runs:
    """Reports are given as `sync --json` prints them; `status` is "running" for a run that never ended."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    # --- a run's life -------------------------------------------------------------------------------------------------

    def begin(self, report: RunReport, identity: str, *, logged: bool = False) -> None:
        """Durably: a run of this sync has begun, for this target. `logged`: the warehouse is to be told of it."""
        with self._store.writing(durable=True) as connection:
            syncs.enter(connection, report.sync, identity)
            begun = {"run_id": report.run_id, "sync": report.sync, "started_at": clock.text(report.started_at)}
            connection.execute(sa.insert(runs).values(begun | {"report": json.dumps(report.to_json())}))
            if logged:
                outbox.begin(connection, report)

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
        with self._store.writing(durable=True) as connection:
            moved = bool(position) and syncs.move(connection, report.sync, position or {}, moved_from)
            _save(connection, report)
            if retention is not None:
                retention.prune(connection, report.sync, report.finished_at or report.started_at)
        return moved

    def keep(self, report: RunReport) -> None:
        """Store a run's figures once more, with what became known later."""
        with self._store.writing() as connection:
            _save(connection, report)

    # --- looking back -------------------------------------------------------------------------------------------------

    def recent(self, sync: str | None = None, *, limit: int = 50) -> list[dict[str, Any]]:
        """Newest first; of one sync, or of all."""
        query = sa.select(runs).order_by(runs.c.started_at.desc()).limit(limit)
        if sync is not None:
            query = query.where(runs.c.sync == sync)
        with self._store.reading() as connection:
            return [_report(row) for row in connection.execute(query).mappings()]

    def latest(self, *, good: bool = False) -> dict[str, dict[str, Any]]:
        """The last run of every sync that has had one; `good`: the last that delivered what it could."""
        newest = sa.select(runs.c.sync, sa.func.max(runs.c.started_at).label("at"))
        if good:
            newest = newest.where(runs.c.status.in_(("succeeded", "partial")))
        last = newest.group_by(runs.c.sync).subquery()
        same = sa.and_(runs.c.sync == last.c.sync, runs.c.started_at == last.c.at)
        query = sa.select(runs).join(last, same).order_by(runs.c.run_id)
        with self._store.reading() as connection:
            return {row["sync"]: _report(row) for row in connection.execute(query).mappings()}

    def of(self, run_id: str) -> dict[str, Any] | None:
        with self._store.reading() as connection:
            row = connection.execute(sa.select(runs).where(runs.c.run_id == run_id)).mappings().first()
        return None if row is None else _report(row)


def _save(connection: sa.Connection, report: RunReport) -> None:
    status = report.status.value if report.finished_at is not None else None
    told = {"status": status, "report": json.dumps(report.to_json())}
    connection.execute(sa.update(runs).where(runs.c.run_id == report.run_id).values(told))


def _report(row: sa.RowMapping) -> dict[str, Any]:
    with complaints.readable(f"the record of run {row['run_id']}"):
        report: dict[str, Any] = json.loads(row["report"])
    return report if row["status"] is not None else report | {"status": "running"}
