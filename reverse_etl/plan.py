"""What a run would send, refuse, keep back and cost: a dry run prints the plan, a real run carries out the same one.

Building one changes nothing anywhere: rows are laid in the local DuckDB, and the destination is asked for its field
list when there is a row to send.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import pyarrow as pa

from reverse_etl import checks, clashes, values
from reverse_etl.config.sync import RemovedSet, SyncConfig
from reverse_etl.diff import Comparison, Counts, Scope
from reverse_etl.digests import UNKNOWN
from reverse_etl.localdb import quoted, stream
from reverse_etl.mapping import PayloadColumn, Shape, key_kinds, literal_as
from reverse_etl.model import JSON, Batch, Chunk, FieldType, Limits, ObjectSchema, Operation
from reverse_etl.protocols import Destination
from reverse_etl.report import PlanSummary, RowProblem, RowSample
from reverse_etl.standing import HELD, SETTLING, RefusedRow, key_value

SAMPLES = 20
DOUBTFUL = frozenset({"in_doubt", SETTLING})
KEYS_SHOWN = 5
CHUNK = 20_000  # rows that the local database gives at once
BATCHES = 40  # batches in one hop from the local database's thread to the senders
HOP = 20_000  # rows from which a hop is no longer than one batch
CELLS = 2_000_000  # in memory at once, of rows that are wider than usual


@dataclass(frozen=True)
class Parcel:
    """A batch, and what its rows become in the snapshot once they are acknowledged."""

    batch: Batch
    hashes: pa.Array
    again: bool  # rows that were refused before travel apart from the others
    removal: bool = False
    kept: pa.RecordBatch | None = None  # what the snapshot holds of them, where it isn't the values

    def part(self, start: int, size: int) -> Parcel:
        """Some of its rows, without copying."""
        kept = None if self.kept is None else self.kept.slice(start, size)
        return replace(self, batch=self.batch.slice(start, size), hashes=self.hashes.slice(start, size), kept=kept)

    def take(self, places: Sequence[int]) -> Parcel:
        """The rows at these places."""
        chosen = pa.array(places, pa.int64())
        kept = None if self.kept is None else self.kept.take(chosen)
        return replace(self, batch=self.batch.take(places), hashes=self.hashes.take(chosen), kept=kept)


@dataclass(frozen=True)
class Group:
    """Rows that may share a batch."""

    operation: Operation
    again: bool
    rows: int
    removal: bool = False


@dataclass
class Plan:
    sync: SyncConfig
    comparison: Comparison
    counts: Counts
    invalid: list[RefusedRow]
    gone: list[str]  # places on the lists that nothing is owed to any more
    groups: list[Group] = field(default_factory=list)
    schema: ObjectSchema | None = None
    later: int = 0  # rows that --limit leaves for another run
    listed: frozenset[str] = frozenset()  # keys of rows to send that stand on the list, rejected or in doubt
    displaced: Mapping[str, Sequence[str]] = field(default_factory=dict)  # keys of rows gone, by who has their records

    @property
    def shape(self) -> Shape:
        return self.comparison.shape

    @property
    def to_send(self) -> int:
        return sum(group.rows for group in self.groups)

    def limits(self, destination: Destination, group: Group) -> Limits:
        """How the rows of a group go out; a write path is chosen by all the rows that do."""
        return destination.limits(self.sync.object, group.operation, self.to_send)

    def slots(self, destination: Destination) -> int:
        """Batches that may be under way at once."""
        return max((self.limits(destination, group).in_flight for group in self.groups), default=1)

    def parcels(self, limits_of: Callable[[Group], Limits]) -> Iterator[list[Parcel]]:
        """The rows to send, group by group, in batches as large as their limits allow; many at a time."""
        for group in self.groups:
            limits = limits_of(group)
            size = limits.batch_size
            batches = min(BATCHES, HOP // size, self._rows_at_once // size)
            for rows in _chunks(self._rows(group), size * max(1, batches)):
                whole = self._parcel(group, rows, limits)
                yield [whole.part(start, size) for start in range(0, rows.num_rows, size)]

    def summary(self, destination: Destination) -> PlanSummary:
        """What a dry run shows."""
        requests, jobs = 0, False
        for group in self.groups:
            limits = self.limits(destination, group)
            requests += math.ceil(group.rows / limits.batch_size) * limits.calls
            jobs = jobs or bool(limits.path)
        requests_per_second = destination.requests_per_second
        seconds = requests / requests_per_second if requests_per_second else 0.0
        return PlanSummary(requests, round(seconds, 1), tuple(self._problems()), tuple(self._samples()), jobs=jobs)

    # --- rows ---------------------------------------------------------------------------------------------------------

    @property
    def _rows_at_once(self) -> int:
        return max(1, min(CHUNK, CELLS // max(1, len(self.shape.payload))))

    def _rows(self, group: Group) -> Iterator[pa.RecordBatch]:
        sql = self._removal_sql() if group.removal else self._delta_sql(group)
        yield from stream(self.comparison.connection, sql, self._rows_at_once)

    def _delta_sql(self, group: Group) -> str:
        payload = [quoted(name) for column in self.shape.payload for name in column.sent_with]
        return (
            f"SELECT key, record_id, h, {', '.join(payload)} FROM delta WHERE {self.comparison.outgoing} "
            f"AND {_operation_sql(self.sync)} = '{group.operation}' AND again = {group.again}"
        )

    def _removal_sql(self) -> str:
        """Removed rows, with the payload that the destination will have then."""
        given = self.sync.on_removed.set if isinstance(self.sync.on_removed, RemovedSet) else {}
        columns = []
        for column in self.shape.payload:
            before = self.comparison.removed_value(column)
            value = literal_as(given[column.field], column.type) if column.field in given else before
            columns += [f"{value} AS {quoted(column.name)}", f"{column.field in given} AS {quoted(column.goes)}"]
            columns += [f"{before} AS {quoted(column.old)}"] if column.links else []
            columns += self._removed_digests(column, value if column.field in given else None)
        rows = f"SELECT key, record_id, {', '.join(columns)} FROM removed r"
        unknown = self.shape.digests or self.comparison.known.has_digests
        return f"SELECT *, {f'{UNKNOWN}::UBIGINT' if unknown else self.shape.hash} AS h FROM ({rows})"

    def _removed_digests(self, column: PayloadColumn, given: str | None) -> Iterator[str]:
        """Of what is set, and of what stays."""
        known = self.comparison.known
        if not column.digested and not known.has_digests:
            return
        for folded, name in ((False, column.digest), (True, column.folded)):
            if name == column.digest or (column.finds and column.digested):
                digest = known.digest(column, "r", folded=folded)
                if given is not None:
                    digest = known.fresh(column, given, folded=folded)
                yield f"{digest} AS {quoted(name)}"

    def _parcel(self, group: Group, rows: pa.RecordBatch, limits: Limits) -> Parcel:
        if self.schema is None:
            raise AssertionError("rows to send, but the object was never described")
        payload = self.shape.payload
        names = [column.field for column in payload]
        whole = group.operation in (Operation.UPSERT, Operation.CREATE, Operation.APPEND)
        links = [column for column in payload if column.links]
        values = pa.RecordBatch.from_arrays([rows.column(column.name) for column in payload], names=names)
        batch = Batch(
            object=self.schema.name,
            operation=group.operation,
            match=self.sync.match,
            fields=tuple(self.schema.fields[name] for name in names),
            rows=values,
            chunk=Chunk(values),
            keys=rows.column("key"),
            record_ids=rows.column("record_id"),
            recreates=self.sync.mode not in ("update", "insert") and not group.removal,
            refinds=self.sync.mode == "update" and not group.removal,
            sends=None
            if whole
            else pa.RecordBatch.from_arrays([rows.column(column.goes) for column in payload], names=names),
            linked=pa.RecordBatch.from_arrays(
                [rows.column(column.old) for column in links], names=[column.field for column in links]
            )
            if links
            else None,
            sync=self.sync.name,
            path=limits.path,
            repeatable=limits.repeatable or group.operation is Operation.REMOVE,
        )
        return Parcel(batch, rows.column("h"), group.again, group.removal, self._kept(group, rows))

    def _kept(self, group: Group, rows: pa.RecordBatch) -> pa.RecordBatch | None:
        """What the snapshot will hold of these rows, where it isn't just their values."""
        names = [*self.shape.kept]
        if group.removal and self.comparison.known.has_digests:
            names += [column.digest for column in self.shape.payload if not column.digested]
        return rows.select(names) if self.shape.digests or len(names) > len(self.shape.payload) else None

    # --- what people see ----------------------------------------------------------------------------------------------

    def _problems(self) -> Iterator[RowProblem]:
        reasons: dict[tuple[str, str], list[RefusedRow]] = {}
        for row in self.invalid:
            reasons.setdefault((row.code, row.message), []).append(row)
        for (code, message), rows in sorted(reasons.items()):
            keys = tuple(row.key for row in rows[:KEYS_SHOWN])
            yield RowProblem(code, rows[0].field, message, sum(row.count for row in rows), keys)

    def _samples(self) -> Iterator[RowSample]:
        """A few rows of each kind of change, in key order."""
        kinds = key_kinds(self.shape)
        for change in ("added", "changed"):
            where = f"change = '{change}' AND {self.comparison.outgoing}"
            for row in self.comparison.sample("delta", where, self.shape.key_order, SAMPLES // 2):
                fields = {
                    column.field: (_old(row, column), values.canonical(row[column.name]))
                    for column in self.shape.payload
                    if row[column.goes]
                }
                yield RowSample(key_value(row["key"], kinds), change, fields)
        given = self.sync.on_removed.set if isinstance(self.sync.on_removed, RemovedSet) else None
        shown = any(group.removal for group in self.groups)
        for row in self.comparison.sample("removed", "true", "key", SAMPLES // 2) if shown else ():
            fields = {
                column.field: (values.canonical(row.get(column.name)), given.get(column.field) if given else None)
                for column in self.shape.payload
                if given is None or column.field in given
            }
            yield RowSample(key_value(row["key"], kinds), "removed", fields)


@dataclass(frozen=True)
class Wish:
    """What the caller wants of a run, beside the sync's own definition."""

    complete: bool
    full: bool = False
    limit: int | None = None
    refused_only: bool = False


def compare(sync: SyncConfig, comparison: Comparison, wish: Wish, refused: Sequence[RefusedRow]) -> None:
    """Lay the rows beside the snapshot, and set aside what no destination could take."""
    checks.refuse_defaults(sync, comparison.shape, comparison.connection)
    removals = sync.removes and not wish.refused_only
    comparison.compare(
        Scope(
            complete=wish.complete,
            removals=removals,
            everything=wish.full,
            keys_only=sync.mode == "insert" or (sync.mode == "append" and not wish.full),
            doubtful=tuple(row.key_text for row in refused if row.kind in DOUBTFUL and row.key_text is not None),
        )
    )
    comparison.invalid.set_aside(checks.general_rules(comparison.shape))


def refuse_rows(sync: SyncConfig, comparison: Comparison, schema: ObjectSchema) -> None:
    """Set aside what this object's own schema forbids. Raises ConfigError when the mapping itself does not fit it."""
    shape = comparison.shape
    checks.refuse_fields(sync, schema, shape)
    comparison.forget_reordered([c for c in shape.compared if schema.fields[c.field].type is FieldType.CHOICES])
    rules = checks.match_rules(shape, _finders(sync, schema))
    comparison.invalid.set_aside([*rules, *checks.schema_rules(shape, schema.fields)])
    if sync.mode == "append":  # many events may be about one record
        return
    folds = schema.fields[sync.match].folds_case
    column = shape.column(sync.match)
    clashes.set_aside(comparison, column, folds_case=folds, refuse_all=sync.on_duplicate == "none")
    clashes.hand_over(comparison, column, folds_case=folds)


def _finders(sync: SyncConfig, schema: ObjectSchema) -> tuple[str, ...]:
    """The fields of which one must have a value, so that a row leads somewhere."""
    return sync.matches or tuple(name for name in schema.needs_one_of if name in sync.mapping)


def settle(
    sync: SyncConfig,
    comparison: Comparison,
    refused: Sequence[RefusedRow],
    wish: Wish,
    *,
    now: datetime,
    schema: ObjectSchema | None,
) -> Plan:
    """Put the plan together: what goes out, what waits, and what the list of refused rows still owes."""
    before = {row.key_text: row for row in refused if row.key_text is not None and row.kind != SETTLING}
    waits = [
        (key, row.payload_hash, wish.refused_only or (row.due(now) and not _held(row, sync)), _held(row, sync))
        for key, row in before.items()
    ]
    comparison.mark_refused(waits)
    if wish.limit is not None:
        comparison.leave_for_later(wish.limit)
    listed = {row.slot: row for row in refused}
    invalid = [row.again(listed.get(row.slot)) for row in invalid_rows(comparison, now)]
    owed = {*comparison.keys_owed([row.key_text for row in refused if row.key_text is not None])}
    kept = {row.slot for row in invalid} | {row.slot for row in refused if row.key_text in owed}
    gone = [row.slot for row in refused if row.slot not in kept and not _unread(row, wish)]
    counts = comparison.counts()
    plan = Plan(sync, comparison, counts, invalid, gone, schema=schema, displaced=comparison.displaced())
    standing = [row.key_text for row in refused if row.kind in ("rejected", "in_doubt") and row.key_text is not None]
    plan.listed = frozenset(comparison.keys_owed(standing, at_once=True))
    plan.groups = [Group(Operation(name), again, rows) for name, again, rows in comparison.groups(_operation_sql(sync))]
    if counts.removed and wish.limit is None:
        removal = Operation.UPDATE if isinstance(sync.on_removed, RemovedSet) else Operation.REMOVE
        plan.groups.append(Group(removal, again=False, rows=counts.removed, removal=True))
    plan.later = comparison.left_for_later() + (counts.removed if wish.limit is not None else 0)
    return plan


def invalid_rows(comparison: Comparison, now: datetime) -> list[RefusedRow]:
    """Rows refused before any call, with their values by destination field."""
    kinds = key_kinds(comparison.shape)
    payload = comparison.shape.payload
    found = []
    for row in comparison.invalid.rows():
        key = row["key"]
        found.append(
            RefusedRow(
                kind="invalid",
                code=row["code"],
                message=row["message"],
                first_at=now,
                last_at=now,
                key_text=key,
                key=None if key is None else key_value(key, kinds),
                field=row["field"],
                values={column.field: values.canonical(row[column.name]) for column in payload},
                count=row["n"],
            )
        )
    return found


def fingerprint(rows: bytes) -> str:
    """A plan's id: the same guarded keys and payloads give the same one."""
    return hashlib.sha256(rows).hexdigest()[:12]


def _old(row: Mapping[str, object], column: PayloadColumn) -> JSON:
    """What was acknowledged; None where only a digest of it is kept."""
    return None if column.digested else values.canonical(row[column.old])


def _held(row: RefusedRow, sync: SyncConfig) -> bool:
    """Whether a row waits until a person says that it may be sent once more."""
    return row.code == HELD and sync.in_doubt == "hold"


def _unread(row: RefusedRow, wish: Wish) -> bool:
    """Rows without a key were not looked for when only refused keys were read."""
    return row.key_text is None and wish.refused_only


def _operation_sql(sync: SyncConfig) -> str:
    if sync.mode == "update":
        return f"'{Operation.UPDATE}'"
    if sync.mode == "insert":  # of a record we made, a link may still be owed
        return f"CASE WHEN record_id IS NULL THEN '{Operation.CREATE}' ELSE '{Operation.UPDATE}' END"
    if sync.mode == "append":
        return f"'{Operation.APPEND}'"
    return f"CASE WHEN record_id IS NULL THEN '{Operation.UPSERT}' ELSE '{Operation.UPDATE}' END"


def _chunks(stream: Iterator[pa.RecordBatch], size: int) -> Iterator[pa.RecordBatch]:
    """The same rows in the same order, every batch but the last of exactly `size` rows."""
    rest: list[pa.RecordBatch] = []
    waiting = 0
    for arrived in stream:
        start = 0
        if waiting:
            start = min(size - waiting, arrived.num_rows)
            rest.append(arrived.slice(0, start))
            waiting += start
            if waiting == size:
                yield _joined(rest)
                rest, waiting = [], 0
        while arrived.num_rows - start >= size:
            yield arrived.slice(start, size)
            start += size
        if start < arrived.num_rows:
            rest.append(arrived.slice(start))
            waiting += arrived.num_rows - start
    if waiting:
        yield _joined(rest)


def _joined(parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(parts) == 1:
        return parts[0]
    return pa.Table.from_batches(parts).combine_chunks().to_batches()[0]
