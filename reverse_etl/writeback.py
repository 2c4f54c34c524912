"""Runs, and what became of their rows, written back to the warehouse as two tables that join the query on its key.

A verdict waits in the state, stored together with what it says, until the warehouse has it; so it is written at least
once, whatever happens, and a table has it once. A run is over before its log is written: a warehouse that can't be
written to costs no row its delivery, only a note in the report, and the next run writes the more.

No values are written: only keys, verdicts, reasons in the destination's words, ids and times.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from reverse_etl.config.sync import SyncConfig
from reverse_etl.errors import SourceError
from reverse_etl.late import Late
from reverse_etl.ledgers import Ledger
from reverse_etl.plan import Parcel
from reverse_etl.protocols import Load, Loadable, Source
from reverse_etl.report import RunReport
from reverse_etl.standing import LogEntry, RefusedRow, key_value
from reverse_etl.stop import Stop
from reverse_etl.verdicts import DELIVERED, Outcomes, Verdict

pc = Late("pyarrow.compute")

RUNS, ROWS = "reverse_etl_runs", "reverse_etl_rows"
KILLED = "killed"  # status of a run that never said how it ended
WITHDRAWN = "withdrawn"  # verdict of a listed row that nothing is owed to any more
_WITHDRAWN_MESSAGE = "the row left the result, or has the acknowledged values again"
ARRIVED = "arrived"  # verdict of a row that was in doubt, and of which a person has said that it is there
_ARRIVED_MESSAGE = "nobody answered when it was sent; a person has said that it arrived"

_TIME = pa.timestamp("us", "UTC")
_REASONS = ("code", "message", "field", "request_id")
_VERDICTS = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("row_key", "verdict", *_REASONS, "record_id")),
        pa.field("verdict_at", _TIME),
    ]
)
_ROWS = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("sync", "run_id")),
        pa.field("entry", pa.int64()),
        *(pa.field(name, pa.string()) for name in ("row_key", "row_key_json")),
        *list(_VERDICTS)[1:],
    ]
)
_COUNTS = ("read", "added", "changed", "removed", "unchanged", "invalid", "retried")
_DELIVERED = ("created", "updated", "removed", "skipped", "kept_fields")
_TOTALS = ("rejected", "in_doubt", "pending", "requests", "throttled")
_RUNS = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("sync", "run_id", "status")),
        *(pa.field(name, _TIME) for name in ("started_at", "finished_at")),
        *(pa.field(name, pa.string()) for name in ("destination", "object")),
        *(pa.field(f"rows_{name}", pa.int64()) for name in _COUNTS),
        *(pa.field(f"delivered_{name}", pa.int64()) for name in _DELIVERED),
        *(pa.field(name, pa.int64()) for name in _TOTALS),
        *(pa.field(name, pa.string()) for name in ("error_code", "error_message", "notes")),
    ]
)


@dataclass(frozen=True)
class WarehouseLog:
    """Where the log goes: a source, and a schema in it."""

    name: str
    schema: str
    source: Callable[[], Source]

    def write(self, ledger: Ledger, sync: SyncConfig, run_id: str, stop: Stop) -> None:
        """Everything that waits, this run's share included; what is written waits no more.

        Raises SourceError, soon when asked to stop: then nobody waits for a warehouse that somebody else holds.
        """
        entries = ledger.outbox.waiting()
        if not entries:
            return
        state = ledger.state()
        kinds = tuple(json.loads((state.key_kinds if state is not None else None) or '["text"]'))
        source = self._opened()
        with closing(source), stop.telling(source.close):
            while entries:
                source.load(self.schema, [_runs(entries, sync, run_id), _rows(entries, sync.name, kinds)])
                ledger.outbox.written(entries)
                entries = ledger.outbox.waiting()

    def rehearse(self) -> None:
        """Make sure that the tables could be written. Raises SourceError."""
        source = self._opened()
        try:
            loads = [Load(RUNS, _RUNS.empty_table(), "run_id"), Load(ROWS, _ROWS.empty_table(), "run_id", "entry")]
            source.load(self.schema, loads, rehearse=True)
        finally:
            source.close()

    def _opened(self) -> Any:
        source = self.source()
        if not isinstance(source, Loadable):
            source.close()
            hint = "name a source in `log_to` that can be written to"
            raise SourceError(f"the source {self.name!r} can't be written to", code="source_log", hint=hint)
        return source


# --- what became of rows ------------------------------------------------------------------------------------------


def of_outcomes(parcel: Parcel, outcomes: Outcomes, listed: Iterable[RefusedRow], at: datetime) -> pa.RecordBatch:
    """Every row of a parcel; those that come onto the list as they stand there. A removal by values counts as one."""
    words = _WORDS | (dict.fromkeys((Verdict.CREATED, Verdict.UPDATED), "removed") if parcel.removal else {})
    refused = {row.key_text: row for row in listed}
    told = [words[verdict] for verdict in outcomes.verdicts]
    reasons: dict[str, list[str | None]] = {}
    if refused:
        rows = [refused.get(key) for key in parcel.batch.keys.to_pylist()]
        told = [word if row is None else row.kind for row, word in zip(rows, told, strict=True)]
        reasons = _reasons(rows)
    ids = pc.coalesce(pa.array(outcomes.record_ids, pa.string()), parcel.batch.record_ids)
    return _batch(len(told), row_key=parcel.batch.keys, verdict=told, record_id=ids, at=at, **reasons)


def of_listed(rows: Sequence[RefusedRow], before: Iterable[RefusedRow], gone: Iterable[str]) -> pa.RecordBatch | None:
    """Rows that came onto the list without a call, for a new reason; and those that left it without one."""
    known = {row.slot: row for row in before}
    fresh = [row for row in rows if (old := known.get(row.slot)) is None or (old.code, old.message) != _reason(row)]
    left = [known[slot] for slot in gone if slot in known]
    if not fresh and not left:
        return None
    told = [*(row.kind for row in fresh), *(WITHDRAWN for _ in left)]
    reasons = _reasons([*fresh, *(None for _ in left)])
    reasons["message"] = [*reasons["message"][: len(fresh)], *(_WITHDRAWN_MESSAGE for _ in left)]
    keys = [row.key_text for row in (*fresh, *left)]
    at = max((row.last_at for row in fresh), default=None) or max(row.last_at for row in left)
    return _batch(len(keys), row_key=keys, verdict=told, at=at, **reasons)


def of_arrived(rows: Sequence[RefusedRow], at: datetime) -> pa.RecordBatch:
    """Rows of which a person has said that they arrived."""
    told = {"verdict": [ARRIVED] * len(rows), "message": [_ARRIVED_MESSAGE] * len(rows)}
    return _batch(len(rows), row_key=[row.key_text for row in rows], at=at, **told)


_WORDS = {verdict: verdict.name.lower() for verdict in DELIVERED} | {
    Verdict.REJECTED: "rejected",
    Verdict.MISSING: "rejected",
    Verdict.NO_ANSWER: "in_doubt",
}


def _reason(row: RefusedRow) -> tuple[str, str]:
    return row.code, row.message


def _reasons(rows: Sequence[RefusedRow | None]) -> dict[str, list[str | None]]:
    reasons = {name: [None if row is None else getattr(row, name) for row in rows] for name in _REASONS}
    counts = [1 if row is None else row.count for row in rows]
    said = zip(reasons["message"], counts, strict=True)
    return reasons | {"message": [f"{words} ({count:,} rows)" if count > 1 else words for words, count in said]}


def _batch(rows: int, *, at: datetime, **columns: Any) -> pa.RecordBatch:
    columns["verdict_at"] = pa.repeat(pa.scalar(at, _TIME), rows)
    given = [columns.get(field.name, pa.nulls(rows, field.type)) for field in _VERDICTS]
    return pa.RecordBatch.from_arrays(
        [
            each if isinstance(each, pa.Array) else pa.array(each, field.type)
            for each, field in zip(given, _VERDICTS, strict=True)
        ],
        schema=_VERDICTS,
    )


# --- as the warehouse gets it -------------------------------------------------------------------------------------


def _rows(entries: Sequence[LogEntry], sync: str, kinds: tuple[str, ...]) -> Load:
    parts = [_part(entry, entry.rows, sync, kinds) for entry in entries if entry.rows is not None]
    return Load(ROWS, pa.concat_tables(parts) if parts else _ROWS.empty_table(), "run_id", "entry")


def _part(entry: LogEntry, rows: pa.Table, sync: str, kinds: tuple[str, ...]) -> pa.Table:
    given = dict(zip(rows.schema.names, rows.columns, strict=True))
    keys = [None if key is None else _as_list(key, kinds) for key in rows.column("row_key").to_pylist()]
    given |= {
        "sync": pa.repeat(sync, rows.num_rows),
        "run_id": pa.repeat(entry.run_id, rows.num_rows),
        "entry": pa.repeat(pa.scalar(entry.number, pa.int64()), rows.num_rows),
        "row_key_json": pa.array(keys, pa.string()),
    }
    return pa.table(
        [_clean(given[field.name]) if field.type == pa.string() else given[field.name] for field in _ROWS], _ROWS
    )


def _as_list(key: str, kinds: tuple[str, ...]) -> str:
    """A key as a JSON list, whether it has one part or several."""
    value = key_value(key, kinds)
    return json.dumps(value if isinstance(value, list) else [value], ensure_ascii=False)


def _clean(column: Any) -> Any:
    """No warehouse takes a NUL in a text, and a key may hold one."""
    return pc.replace_substring(column, "\0", "\N{REPLACEMENT CHARACTER}")


def _runs(entries: Sequence[LogEntry], sync: SyncConfig, present: str) -> Load:
    """A run that isn't the present one, and has not ended, was killed: the sync is held by the present one."""
    lines = [
        _run(RunReport.from_json(json.loads(entry.report)), sync, ended=entry.ended or entry.run_id == present)
        for entry in entries
        if entry.rows is None
    ]
    return Load(RUNS, pa.Table.from_pylist(lines, _RUNS), "run_id")


def _run(report: RunReport, sync: SyncConfig, *, ended: bool) -> dict[str, Any]:
    error = report.error
    return {
        "sync": report.sync,
        "run_id": report.run_id,
        "status": report.status.value if ended else KILLED,
        "started_at": report.started_at,
        "finished_at": report.finished_at,
        "destination": sync.destination,
        "object": sync.object,
        **dict(_numbers("rows_", report.rows, _COUNTS)),
        **dict(_numbers("delivered_", report.delivered, _DELIVERED)),
        **dict(_numbers("", report, _TOTALS)),
        "error_code": None if error is None else error.code,
        "error_message": None if error is None else error.message,
        "notes": "\n".join(report.notes) or None,
    }


def _numbers(prefix: str, of: object, names: Sequence[str]) -> Iterator[tuple[str, int]]:
    for name in names:
        yield f"{prefix}{name}", getattr(of, name)
