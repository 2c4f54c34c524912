"""A run's figures, as its report tells them: what its plan counts, what a dry run shows, and what stands at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import pyarrow as pa

from reverse_etl import cursor
from reverse_etl.plan import Plan
from reverse_etl.protocols import Destination
from reverse_etl.read import Question
from reverse_etl.report import RowCounts, RunReport, RunStatus
from reverse_etl.standing import RefusedRow


def of_plan(report: RunReport, made: Plan, asked: Question, schema: pa.Schema, *, baseline: bool) -> None:
    """What was read, and what of it is to be sent. `schema` is the result's."""
    counts = made.counts
    added, unchanged = (0, counts.unchanged + counts.added) if baseline else (counts.added, counts.unchanged)
    report.rows = RowCounts(
        read=counts.read,
        added=added,
        changed=counts.changed,
        removed=counts.removed,
        unchanged=unchanged,
        invalid=counts.invalid,
        retried=counts.retried,
    )
    standing = 0 if report.dry_run else len(made.listed)  # each row counts once: these are rejected, or in doubt
    report.pending = 0 if baseline else made.to_send + made.later - standing
    if made.sync.cursor is not None:
        column = made.sync.cursor.column
        most = cursor.ceiling(asked.asked_at, made.sync, schema.field(column).type)
        ahead = made.comparison.spool.rows_ahead(most) if most is not None else 0
        if ahead:
            rows = "1 row has" if ahead == 1 else f"{ahead:,} rows have"
            report.notes.append(f"{rows} a {column} in the future: sent, without moving the cursor")


def of_dry_run(
    report: RunReport, made: Plan, destination: Destination, refused: Sequence[RefusedRow], *, baseline: bool
) -> None:
    """What a real run would send and cost, and what would still stand on the list."""
    summary = made.summary(destination)
    report.plan = replace(summary, requests=0, seconds_at_limit=0.0, sample=()) if baseline else summary
    of_calls(report, destination)
    _count_standing(report, [row for row in refused if row.slot not in made.gone])
    if report.rows.invalid or report.rejected or report.in_doubt:
        report.status, report.exit_code = RunStatus.PARTIAL, 3


def of_calls(report: RunReport, destination: Destination) -> None:
    """Calls that were made until now."""
    report.requests = destination.traffic.requests
    report.throttled = destination.traffic.throttled


def of_end(report: RunReport, standing: Sequence[RefusedRow], now: datetime) -> None:
    """What stands on the list when the run has ended."""
    _count_standing(report, standing)
    if report.error is None and standing:
        report.status, report.exit_code = RunStatus.PARTIAL, 3
    report.finished_at = now


def _count_standing(report: RunReport, rows: Sequence[RefusedRow]) -> None:
    report.rejected = sum(row.kind == "rejected" for row in rows)
    report.in_doubt = sum(row.kind == "in_doubt" for row in rows)
