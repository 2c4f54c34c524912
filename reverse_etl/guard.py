"""The wave breaker: a plan that removes, changes or empties more than it should is stopped before its first write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa

from reverse_etl import clock
from reverse_etl.diff import Comparison
from reverse_etl.errors import GuardTripped
from reverse_etl.ledgers import Plans
from reverse_etl.localdb import column_types, number, quoted, table
from reverse_etl.mapping import PayloadColumn
from reverse_etl.plan import Plan, Wish, fingerprint
from reverse_etl.report import RunReport

APPROVAL_HOLDS = timedelta(hours=24)


@dataclass(frozen=True)
class Alarm:
    """What tripped a guard. `condition` finds the rows in `delta`; None: it is about removed rows."""

    sentence: str
    condition: str | None


@dataclass(frozen=True)
class Held:
    """A plan that needs an approval. `rows` are the sorted fingerprints of its guarded keys and payloads."""

    plan_id: str
    rows: bytes
    sentence: str

    def tripped(self, sync: str, refusal: str | None = None) -> GuardTripped:
        """The error to raise; `refusal` says why an approval didn't help."""
        return GuardTripped(
            f"{sync} was stopped before its first write: {self.sentence}" + (f"; {refusal}" if refusal else ""),
            plan_id=self.plan_id,
            hint=f"look whether the query still gives what it should; if it does, approve plan {self.plan_id}",
        )


def watch(plan: Plan, plans: Plans, report: RunReport, wish: Wish, *, approval: str | None, now: datetime) -> None:
    """Raises GuardTripped, unless this very plan was approved. What was held may be approved; a dry run holds nothing.

    An approval of another plan counts when that one went as far; it is used up.
    """
    held = held_by_guard(plan, complete=wish.complete, full=wish.full)
    if held is None:
        if approval is not None:
            report.notes.append(f"approval {approval} was not needed: no guard holds this plan")
        return
    report.plan_id = held.plan_id
    if report.dry_run:
        raise held.tripped(plan.sync.name)
    if approval is None:
        plans.hold(held.plan_id, now, held.rows)
        raise held.tripped(plan.sync.name)
    if approval == held.plan_id and plans.held(approval) is None:
        plans.hold(held.plan_id, now, held.rows)  # approved from a dry run: the very same plan
    refusal = approved(plan, held, plans.held(approval), now)
    if refusal is not None:
        plans.hold(held.plan_id, now, held.rows)
        raise held.tripped(plan.sync.name, f"approval {approval} does not cover it: {refusal}")
    plans.use(approval, now)


def held_by_guard(plan: Plan, *, complete: bool, full: bool) -> Held | None:
    """The alarm that this plan raises, None for a quiet one."""
    alarms = list(_alarms(plan, complete=complete, full=full))
    if not alarms:
        return None
    conditions = [alarm.condition for alarm in alarms if alarm.condition is not None]
    removed = any(alarm.condition is None for alarm in alarms)
    rows = _bytes(_fingerprints(plan.comparison, conditions, removed=removed))
    return Held(fingerprint(rows), rows, "; ".join(alarm.sentence for alarm in alarms))


def approved(plan: Plan, held: Held, approval: tuple[str, str, bytes, str | None] | None, now: datetime) -> str | None:
    """None when a remembered plan covers this one, else why it doesn't."""
    if approval is None:
        return "no such plan is held"
    sync, made_at, rows, used_at = approval
    if sync != plan.sync.name:
        return f"that plan is one of {sync}"
    if used_at is not None:
        return "that approval has been used"
    if now - clock.parse(made_at) > APPROVAL_HOLDS:
        return "that plan is more than a day old"
    if not _covered(plan.comparison, _array(held.rows), _array(rows)):
        return "the warehouse has changed since: this plan goes further than the approved one"
    return None


def _alarms(plan: Plan, *, complete: bool, full: bool) -> Iterator[Alarm]:
    guard, counts = plan.sync.guard, plan.counts
    known = number(plan.comparison.connection, "SELECT count(*) FROM known WHERE NOT gone")
    if complete and known and not counts.read:
        yield Alarm(f"the query gave no rows, and {known} are known", None)
        return
    if counts.removed > guard.removed_floor and _over(counts.removed, known, guard.max_removed):
        limit = _limit("max_removed", guard.max_removed)
        yield Alarm(f"{counts.removed} of {known} known rows would be removed ({limit})", None)
    if not full and _over(counts.changed, known, guard.max_changed):
        limit = _limit("max_changed", guard.max_changed)
        yield Alarm(f"{counts.changed} of {known} known rows would change ({limit})", "change = 'changed'")
    if full or guard.max_emptied is None or not counts.changed:
        return
    for column, emptied in _emptied(plan.comparison, plan.shape.compared):
        if emptied <= guard.emptied_floor:
            continue
        filled = _filled(plan.comparison, column)
        if _over(emptied, filled, guard.max_emptied):
            condition = f"{quoted(column.old)} IS NOT NULL AND {quoted(column.name)} IS NULL"
            limit = _limit("max_emptied", guard.max_emptied)
            yield Alarm(f"{column.field} would become empty in {emptied} of {filled} rows ({limit})", condition)


def _over(rows: int, of: int, share: float | None) -> bool:
    return share is not None and of > 0 and rows > share * of


def _limit(name: str, share: float | None) -> str:
    return f"{name}: {100 * (share or 0):g}%"


def _bytes(fingerprints: pa.Array | pa.ChunkedArray) -> bytes:
    table = pa.table({"p": fingerprints})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def _array(rows: bytes) -> pa.ChunkedArray:
    with pa.ipc.open_stream(rows) as reader:
        return reader.read_all().column("p")


def _emptied(comparison: Comparison, columns: Sequence[PayloadColumn]) -> Iterator[tuple[PayloadColumn, int]]:
    """In how many rows each field goes from a value to none; of all fields at once, as there may be hundreds."""
    if not columns:
        return iter(())
    lost = (f"count(*) FILTER ({quoted(c.old)} IS NOT NULL AND {quoted(c.name)} IS NULL)" for c in columns)
    sql = f"SELECT {', '.join(lost)} FROM delta WHERE change = 'changed'"
    return zip(columns, comparison.connection.execute(sql).fetchall()[0], strict=True)


def _filled(comparison: Comparison, column: PayloadColumn) -> int:
    """Rows that have a value in a field."""
    have = column_types(comparison.connection, "known")
    held = [f"{quoted(each)} IS NOT NULL" for each in (column.name, column.digest) if each in have]
    if not held:
        return 0
    return number(comparison.connection, f"SELECT count(*) FROM known WHERE NOT gone AND ({' OR '.join(held)})")


def _fingerprints(comparison: Comparison, conditions: Sequence[str], *, removed: bool) -> pa.ChunkedArray:
    """Sorted fingerprints of key and payload of the rows that a guard stopped at."""
    parts = [f"SELECT hash(key, h) AS p FROM delta WHERE {' OR '.join(conditions)}"] if conditions else []
    if removed:
        parts.append("SELECT hash(key, NULL) AS p FROM removed")
    sql = f"SELECT DISTINCT p FROM ({' UNION ALL '.join(parts)}) ORDER BY p"
    return table(comparison.connection, sql).column(0)


def _covered(comparison: Comparison, plan: pa.ChunkedArray, approved: pa.ChunkedArray) -> bool:
    """Whether every fingerprint of one plan stands in another."""
    connection = comparison.connection
    connection.register("plan_rows", pa.table({"p": plan}))
    connection.register("approved_rows", pa.table({"p": approved}))
    more = number(connection, "SELECT count(*) FROM plan_rows ANTI JOIN approved_rows USING (p)")
    connection.unregister("plan_rows")
    connection.unregister("approved_rows")
    return more == 0
