"""What waits to be written back to the warehouse: runs that have begun, and what became of their rows.

An entry is stored in the transaction that makes it true, and goes when the warehouse has it. Entry 0 of a run stands
for the run itself, whose report lies with the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import sqlalchemy as sa

from reverse_etl import clock
from reverse_etl.late import Late
from reverse_etl.report import RunReport
from reverse_etl.standing import LogEntry
from reverse_etl.state import complaints
from reverse_etl.state.tables import outbox, runs

if TYPE_CHECKING:
    from reverse_etl.state.access import Access

pc = Late("pyarrow.compute")

PORTION = 100_000  # rows that are written at once


class Outbox:
    """Of one sync. The caller holds it."""

    def __init__(self, access: Access, sync: str) -> None:
        self._access = access
        self._sync = sync

    def waiting(self) -> list[LogEntry]:
        """The oldest entries, as many as are written at once. A run's report is as it stands now."""
        query = (
            sa.select(outbox, runs.c.status, runs.c.report)
            .outerjoin(runs, runs.c.run_id == outbox.c.run_id)
            .where(outbox.c.sync == self._sync, outbox.c.body.is_not(None) | runs.c.run_id.is_not(None))
            .order_by(outbox.c.at, outbox.c.run_id, outbox.c.entry)
        )
        found: list[LogEntry] = []
        size = 0
        with self._access.store().reading() as connection:
            for row in connection.execution_options(stream_results=True).execute(query).mappings():
                found.append(_entry(row))
                size += row["rows"]
                if size >= PORTION:
                    break
        return found

    def forget(self, key: str) -> None:
        """Take one row out of what waits."""
        mine = (outbox.c.run_id == sa.bindparam("of_run")) & (outbox.c.entry == sa.bindparam("of_entry"))
        query = sa.select(outbox.c.run_id, outbox.c.entry, outbox.c.body).where(
            outbox.c.sync == self._sync, outbox.c.body.is_not(None)
        )
        with self._access.store().writing() as connection:
            for run_id, entry, body in connection.execute(query).all():
                rows = pa.ipc.open_stream(body).read_all()
                others = rows.filter(pc.invert(pc.fill_null(pc.equal(rows.column("row_key"), key), False)))
                if others.num_rows < rows.num_rows:
                    less = sa.update(outbox).where(mine).values(body=_encoded(others), rows=others.num_rows)
                    connection.execute(less, {"of_run": run_id, "of_entry": entry})

    def written(self, entries: Sequence[LogEntry]) -> None:
        """The warehouse has been told these."""
        with self._access.store().writing() as connection:
            gone = sa.delete(outbox).where(
                outbox.c.run_id == sa.bindparam("of_run"), outbox.c.entry == sa.bindparam("of_entry")
            )
            connection.execute(gone, [{"of_run": each.run_id, "of_entry": each.number} for each in entries])


def _entry(row: sa.RowMapping) -> LogEntry:
    if row["body"] is not None:
        with complaints.readable(f"what is to be written back of run {row['run_id']}"):
            return LogEntry(row["run_id"], row["entry"], pa.ipc.open_stream(row["body"]).read_all())
    return LogEntry(row["run_id"], row["entry"], ended=row["status"] is not None, report=row["report"])


def begin(connection: sa.Connection, report: RunReport) -> None:
    """This run will be logged."""
    _put(connection, report.sync, report.run_id, entry=0, at=clock.text(report.started_at), rows=1, body=None)


def add(connection: sa.Connection, sync: str, run_id: str, rows: pa.RecordBatch) -> None:
    """What became of some rows of a run that has begun, or by a person's word."""
    last = sa.select(sa.func.max(outbox.c.entry), sa.func.min(outbox.c.at)).where(outbox.c.run_id == run_id)
    entry, at = connection.execute(last).one()
    if entry is None:
        entry, at = 0, clock.text(rows.column("verdict_at")[0].as_py())
    _put(connection, sync, run_id, entry=entry + 1, at=at, rows=rows.num_rows, body=_encoded(rows))


def _encoded(rows: pa.RecordBatch | pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write(rows)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def _put(connection: sa.Connection, sync: str, run_id: str, **entry: object) -> None:
    connection.execute(sa.insert(outbox).values(sync=sync, run_id=run_id, **entry))
