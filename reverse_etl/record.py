"""Verdicts into the store: what was delivered becomes the snapshot's next state, what was refused goes on the list.

Answers that arrive while a transaction is being written wait for the next one and share it, so that durability doesn't
set the pace. A caller of `record` comes back when its rows are stored.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import anyio
import pyarrow as pa
from anyio import to_thread

from reverse_etl import clock, values, writeback
from reverse_etl.clock import Clock
from reverse_etl.cursor import Bound
from reverse_etl.errors import DiskFull
from reverse_etl.late import Late
from reverse_etl.localdb import quoted, stream
from reverse_etl.mapping import Shape, key_kinds
from reverse_etl.model import Batch, Operation
from reverse_etl.plan import CHUNK, KEYS_SHOWN, Parcel, Plan
from reverse_etl.protocols import LINK_IN_DOUBT, Ledger
from reverse_etl.redaction import SECRETS, pseudonym
from reverse_etl.report import RunReport
from reverse_etl.standing import (
    HELD,
    LINKS_OWED,
    SETTLES,
    SETTLING,
    Acknowledged,
    Acknowledgement,
    RefusedRow,
    forgotten,
    key_value,
    settling_slot_of,
    slot_of,
)
from reverse_etl.stop import Stop
from reverse_etl.verdicts import DELIVERED, Outcomes, Refusal, Verdict

log = logging.getLogger(__name__)

pc = Late("pyarrow.compute")

FOLD_ROWS = 200_000  # rows in the journal from which it is folded during a run
OWN = ("key", "record_id", "h")
ENTRY = 1500  # bytes that an entry of a refused row takes, beside its values
PAGE, PAGES = 4096, 512  # of a store's indexes: how large they are, and how many a batch may touch
NO_ANSWER = Refusal("in_doubt", "the destination's answer does not speak of this row")
SENT_ONCE = Refusal(
    HELD, "it was sent, nobody answered, and sending it again may do it twice: look whether it is there, then decide"
)


@dataclass
class _Answered:
    parcel: Parcel
    outcomes: Outcomes
    stored: anyio.Event = field(default_factory=anyio.Event)


class Recorder:
    """Stores outcomes for one run, and keeps its report's figures."""

    def __init__(
        self,
        ledger: Ledger,
        report: RunReport,
        shape: Shape,
        *,
        refused: list[RefusedRow],
        listed: Collection[str],
        displaced: Mapping[str, Sequence[str]],
        cursor: Bound | None,
        on_progress: Callable[[int], None],
        clock: Clock,
        log_values: bool = False,
        logged: bool = False,
        holds: bool = True,
        stop: Stop,
    ) -> None:
        """`holds`: rows in doubt that mustn't be sent twice wait until a person decides."""
        self._log_values = log_values
        self._logged = logged
        self._ledger = ledger
        self._report = report
        self._fields = [column.field for column in shape.payload]
        self._names = [column.name for column in shape.payload]
        self._kinds = key_kinds(shape)
        self._listed = {row.slot: row for row in refused}
        self.listed = {*listed}  # rows on the list that were not offered again yet
        self._displaced = displaced
        self._intended: set[str] = set()
        self._one_at_a_time = anyio.Lock()
        self._once = SENT_ONCE if holds else NO_ANSWER
        self._remarks: dict[str, list[str]] = {}
        self._cursor = cursor
        self._on_progress = on_progress
        self._clock = clock
        self._stop = stop
        self._waiting: list[_Answered] = []
        self._wake = anyio.Event()
        self._closing = False
        self._failure: BaseException | None = None
        self._journaled = 0
        self.settled = 0

    async def record(self, parcel: Parcel, outcomes: Outcomes) -> None:
        """Returns when these rows are stored. Raises what kept them from it."""
        if self._failure is not None:
            raise self._failure
        answered = _Answered(parcel, outcomes)
        self._waiting.append(answered)
        self._wake.set()
        await answered.stored.wait()
        if self._failure is not None:
            raise self._failure

    async def intend(self, parcel: Parcel) -> None:
        """On disk: these rows may have been sent from now on, and nobody must send them again unasked."""
        rows = [*self._listing(parcel, range(len(parcel.batch)), self._once)]
        await self._list(rows, lasting=True)
        self._intended |= {row.slot for row in rows}

    async def withdraw(self, parcel: Parcel) -> None:
        """These were not sent after all: they stand on the list as they stood before."""
        slots = [slot_of(key) for key in parcel.batch.keys.to_pylist()]
        self._intended -= set(slots)
        await self._list([self._listed[slot] for slot in slots if slot in self._listed], settled=slots)

    async def _list(self, rows: Sequence[RefusedRow], *, settled: Sequence[str] = (), lasting: bool = False) -> None:
        done = Acknowledgement(self._report.sync, self._report.run_id, (), settled, rows, lasting=lasting)
        async with self._one_at_a_time:
            await to_thread.run_sync(self._ledger.record, done)

    def close(self) -> None:
        """Let `run` return when everything waiting is stored."""
        self._closing = True
        self._wake.set()

    async def run(self) -> None:
        """Store groups of answers, one transaction each, until closed; whoever cancels the run waits for that."""
        with anyio.CancelScope(shield=True):
            while True:
                await self._wake.wait()
                self._wake = anyio.Event()
                group, self._waiting = self._waiting, []
                if group:
                    await self._store(group)
                elif self._closing:
                    return
                if self._closing:
                    self._wake.set()

    async def _store(self, group: list[_Answered]) -> None:
        try:
            if self._failure is None:
                done = self._acknowledgement(group)
                try:
                    async with self._one_at_a_time:
                        await to_thread.run_sync(self._ledger.record, done)
                except DiskFull as full:  # it is stored, with the last of the room
                    self._stop.ask(full)
                if log.isEnabledFor(logging.DEBUG):
                    self._log(done.refused)
                for answered in group:
                    self._count(answered)
                self._on_progress(self.settled)
                await self._fold_now_and_then(done)
        except BaseException as failure:
            self._failure = failure
            raise
        finally:
            for answered in group if self._failure is None else [*group, *self._waiting]:
                answered.stored.set()

    def _log(self, rows: Sequence[RefusedRow]) -> None:
        """Refused rows, each by what its key is called in logs; with `log_values` as they are."""
        for row in rows:
            if row.kind != SETTLING and row.key_text is not None:
                told = {"sync": self._report.sync, "code": row.code, "field": row.field, "request_id": row.request_id}
                if self._log_values:
                    told |= {"row": row.key_text, "said": row.message, "values": json.dumps(dict(row.values))}
                else:
                    told["row"] = pseudonym(row.key_text)
                log.debug("a row was refused", extra=told)

    async def _fold_now_and_then(self, done: Acknowledgement) -> None:
        self._journaled += sum(part.rows.num_rows for part in done.acknowledged)
        if self._journaled >= FOLD_ROWS:
            self._journaled = 0
            await to_thread.run_sync(self._ledger.fold)

    def _acknowledgement(self, group: list[_Answered]) -> Acknowledgement:
        acknowledged: list[Acknowledged] = []
        settled: list[str] = []
        refused: list[RefusedRow] = []
        logs: list[pa.RecordBatch] = []
        for answered in group:
            acknowledged += self._acknowledged(answered)
            acknowledged += self._handed_over(answered)
            sought = self._listed or self._intended or answered.outcomes.doubted
            keys = answered.parcel.batch.keys.to_pylist() if sought else []
            done = [key for at, key in enumerate(keys) if _is_done(answered.outcomes, at)]
            places = (slot for key in done for slot in (slot_of(key), settling_slot_of(key)))
            settled += [slot for slot in places if slot in self._listed or slot in self._intended]
            listed = [] if answered.outcomes.all_done else self._refused(answered)
            refused += listed
            if self._logged:
                now = self._clock.now()
                logs.append(writeback.of_outcomes(answered.parcel, answered.outcomes, listed, now))
            refused += self._settling(answered, done)
        log = pa.Table.from_batches(logs).combine_chunks().to_batches() if logs else []
        return Acknowledgement(
            self._report.sync, self._report.run_id, acknowledged, settled, refused, log[0] if log else None
        )

    def _acknowledged(self, answered: _Answered) -> Iterator[Acknowledged]:
        """Delivered rows as the snapshot will hold them; records that were only found to exist apart."""
        batch, outcomes, parcel = answered.parcel.batch, answered.outcomes, answered.parcel
        ids = pa.array(outcomes.record_ids, pa.string())
        if ids.null_count:
            ids = pc.coalesce(ids, batch.record_ids)
        kept = (
            (self._names, batch.rows.columns)
            if parcel.kept is None
            else (parcel.kept.schema.names, parcel.kept.columns)
        )
        rows = pa.RecordBatch.from_arrays([batch.keys, ids, parcel.hashes, *kept[1]], [*OWN, *kept[0]])
        told = {"gone": parcel.removal, "removed": batch.operation is Operation.REMOVE}
        at = clock.text(self._clock.now())
        if outcomes.waiting:
            rows = _without_links(rows, batch, outcomes.waiting)
        if outcomes.all_delivered and batch.operation is not Operation.CREATE:
            yield Acknowledged(rows, self._report.run_id, at, **told)
            return
        for sent in (True, False):
            places = [place for place, verdict in enumerate(outcomes.verdicts) if _as_sent(batch, verdict) is sent]
            if places:
                yield Acknowledged(rows.take(pa.array(places, pa.int64())), self._report.run_id, at, sent=sent, **told)

    def _handed_over(self, answered: _Answered) -> Iterator[Acknowledged]:
        """Rows that have left the result and whose records are these rows' from now on: they are forgotten."""
        batch, verdicts = answered.parcel.batch, answered.outcomes.verdicts
        keys = batch.keys.to_pylist() if self._displaced else []
        gone = [
            old for at, key in enumerate(keys) if _as_sent(batch, verdicts[at]) for old in self._displaced.get(key, ())
        ]
        if gone:
            yield forgotten(gone, self._report.run_id, clock.text(self._clock.now()))

    def _refused(self, answered: _Answered) -> list[RefusedRow]:
        """Rows that were refused, that nobody answered for, or whose links wait, as they go on the list."""
        outcomes, nobody = answered.outcomes, NO_ANSWER if answered.parcel.batch.repeatable else self._once
        rows = []
        for at, verdict in enumerate(outcomes.verdicts):
            if _is_done(outcomes, at):
                continue
            waiting = outcomes.waiting.get(at, {})
            refusal = next(iter(waiting.values()), None) or outcomes.refusals.get(at, nobody)
            (row,) = self._listing(answered.parcel, [at], refusal)
            said = "; ".join(f"{name}: {why.message}" for name, why in waiting.items()) or refusal.message
            kind = "in_doubt" if verdict is Verdict.NO_ANSWER else "rejected"
            listed = replace(row, kind=kind, message=SECRETS.clean(said), field=next(iter(waiting), None))
            rows.append(listed.again(self._listed.get(row.slot)))
        return rows

    def _listing(self, parcel: Parcel, places: Iterable[int], why: Refusal) -> Iterator[RefusedRow]:
        """Rows of a parcel as entries of the list."""
        batch, now = parcel.batch, self._clock.now()
        for at in places:
            key = batch.keys[at].as_py()
            yield RefusedRow(
                kind="in_doubt",
                code=why.code,
                message=why.message,
                first_at=now,
                last_at=now,
                key_text=key,
                key=key_value(key, self._kinds),
                request_id=why.request_id,
                attempts=1,
                payload_hash=str(parcel.hashes[at].as_py()),
                values={name: values.canonical(batch.rows.column(name)[at].as_py()) for name in self._fields},
                cursor_value=self._cursor.text if self._cursor else None,
                cursor_type=self._cursor.type_text if self._cursor else None,
            )

    def _settling(self, answered: _Answered, done: list[str]) -> Iterator[RefusedRow]:
        """Delivered rows of which another try got no answer just before: should it land late, they are sent again."""
        if answered.parcel.batch.operation not in (Operation.UPSERT, Operation.UPDATE):
            return
        now = self._clock.now()
        for key in done:
            listed = self._listed.get(slot_of(key))
            doubted = listed is not None and listed.kind == "in_doubt" and now < listed.last_at + SETTLES
            if answered.outcomes.doubted or doubted:
                yield RefusedRow(
                    kind=SETTLING,
                    code=SETTLING,
                    message="a try to send it got no answer, so it is sent once more in case that one lands late",
                    first_at=now,
                    last_at=now,
                    next_at=now + SETTLES,
                    key_text=key,
                    key=key_value(key, self._kinds),
                    cursor_value=self._cursor.text if self._cursor else None,
                    cursor_type=self._cursor.type_text if self._cursor else None,
                )

    def _count(self, answered: _Answered) -> None:
        told, outcomes = self._report.delivered, answered.outcomes
        listed = [outcomes.verdicts[at] for at in outcomes.waiting]  # they stand on the list, as rows that aren't done
        done = {verdict: outcomes.count(verdict) - listed.count(verdict) for verdict in DELIVERED}
        told.skipped += done.pop(Verdict.SKIPPED)
        if answered.parcel.removal:
            told.removed += sum(done.values())
        else:
            told.created += done[Verdict.CREATED]
            told.updated += done[Verdict.UPDATED]
        told.kept_fields += sum(answered.outcomes.kept.values())
        for at, remark in answered.outcomes.remarks.items():
            self._remarks.setdefault(remark, []).append(answered.parcel.batch.keys[at].as_py())
        self.settled += len(answered.outcomes)
        if self.listed:
            self.listed.difference_update(answered.parcel.batch.keys.to_pylist())

    def notes(self) -> list[str]:
        """What the destination's answers say beside the verdicts, each with the rows it is about."""
        return [_note(remark, keys) for remark, keys in self._remarks.items()]


def room(parcel: Parcel) -> int:
    """Bytes that a store may need for a batch, whatever its outcome: refused rows take more than delivered ones.

    None for a job's rows: it is remembered, and what became of them can be asked again when there is room.
    """
    batch = parcel.batch
    if batch.path:
        return 0
    values = int(batch.rows.nbytes + batch.keys.nbytes)
    names = sum(len(name) for name in batch.rows.schema.names)
    return 4 * values + len(batch) * (names + ENTRY) + min(len(batch), PAGES) * PAGE


def record_baseline(made: Plan, ledger: Ledger, report: RunReport, clock_: Clock) -> None:
    """Remember every row as known without sending it; no record of it is ever removed."""
    payload = ", ".join(quoted(name) for name in made.shape.kept)
    sql = f"SELECT key, CAST(NULL AS VARCHAR) AS record_id, h, {payload} FROM delta"
    waiting = 0
    for rows in stream(made.comparison.connection, sql, CHUNK):
        known = Acknowledged(rows, report.run_id, clock.text(clock_.now()), sent=False)
        ledger.record(Acknowledgement(report.sync, report.run_id, [known]))
        waiting += rows.num_rows
        if waiting >= FOLD_ROWS:
            waiting = 0
            ledger.fold()


def _as_sent(batch: Batch, verdict: Verdict) -> bool | None:
    """Whether the record is this sync's own; None for a row that isn't delivered."""
    if verdict not in DELIVERED:
        return None
    return not (batch.operation is Operation.CREATE and verdict is Verdict.SKIPPED)


def _is_done(outcomes: Outcomes, at: int) -> bool:
    return outcomes.verdicts[at] in DELIVERED and at not in outcomes.waiting


def _without_links(rows: pa.RecordBatch, batch: Batch, waiting: Mapping[int, Mapping[str, Refusal]]) -> pa.RecordBatch:
    """The rows, links that wait with the value that was acknowledged last; a mark makes sure that they are owed.

    A link in doubt keeps its new value: should the row change, it has to be taken off.
    """
    columns = dict(zip(rows.schema.names, rows.columns, strict=True))
    waits = pa.array([at in waiting for at in range(len(batch))])
    columns["h"] = pc.if_else(waits, pa.scalar(LINKS_OWED, columns["h"].type), columns["h"])
    if batch.linked is not None:
        for name, made in zip(batch.linked.schema.names, batch.linked.columns, strict=True):
            reasons = (waiting.get(at, {}).get(name) for at in range(len(batch)))
            mine = pa.array([why is not None and why.code != LINK_IN_DOUBT for why in reasons])
            columns[f"f_{name}"] = pc.if_else(mine, made, columns[f"f_{name}"])
    return pa.RecordBatch.from_pydict(columns)


def _note(remark: str, keys: list[str]) -> str:
    shown = ", ".join(keys[:KEYS_SHOWN])
    more = f" and {len(keys) - KEYS_SHOWN:,} more" if len(keys) > KEYS_SHOWN else ""
    return SECRETS.clean(f"{remark}: {shown}{more}")
