"""What a destination answered, as the ledger's entries: what becomes known of each row, and what stands on the list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from reverse_etl import clock, values, writeback
from reverse_etl.acknowledged import DIGEST, FOLDED
from reverse_etl.clock import Clock
from reverse_etl.cursor import Bound
from reverse_etl.late import Late
from reverse_etl.mapping import Shape, key_kinds
from reverse_etl.model import Batch, Operation
from reverse_etl.plan import Parcel
from reverse_etl.protocols import LINK_IN_DOUBT
from reverse_etl.redaction import SECRETS
from reverse_etl.report import RunReport
from reverse_etl.standing import (
    CARRIED,
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
from reverse_etl.verdicts import DELIVERED, Outcomes, Refusal, Verdict

pc = Late("pyarrow.compute")

OWN = ("key", "record_id", "h")
NO_ANSWER = Refusal("in_doubt", "the destination's answer does not speak of this row")
SENT_ONCE = Refusal(
    HELD, "it was sent, nobody answered, and sending it again may do it twice: look whether it is there, then decide"
)
LANDS_LATE = Refusal(SETTLING, "a try to send it got no answer, so it is sent once more in case that one lands late")


class Entries:
    """Makes them for one run; what it makes is to be stored in the order in which it was made."""

    def __init__(
        self,
        report: RunReport,
        shape: Shape,
        *,
        refused: Sequence[RefusedRow],
        displaced: Mapping[str, Sequence[str]],
        cursor: Bound | None,
        clock: Clock,
        logged: bool = False,
        holds: bool = True,
    ) -> None:
        """`refused` is the list as it was before the run, `displaced` the keys whose records pass to another row.

        `holds`: rows in doubt that mustn't be sent twice wait until a person decides; `logged`: the warehouse is told.
        """
        self._report = report
        self._fields = [column.field for column in shape.payload]
        self._names = [column.name for column in shape.payload]
        self._kinds = key_kinds(shape)
        self._listed = {row.slot: row for row in refused}
        self._intended: set[str] = set()
        self._displaced = displaced
        self._cursor = cursor
        self._clock = clock
        self._logged = logged
        self._once = SENT_ONCE if holds else NO_ANSWER

    def of(self, group: Sequence[tuple[Parcel, Outcomes]]) -> Acknowledgement:
        """What these answers settle."""
        acknowledged: list[Acknowledged] = []
        settled: list[str] = []
        refused: list[RefusedRow] = []
        logs: list[pa.RecordBatch] = []
        for parcel, outcomes in group:
            acknowledged += self._acknowledged(parcel, outcomes)
            acknowledged += self._handed_over(parcel.batch, outcomes)
            sought = self._listed or self._intended or outcomes.doubted
            keys = parcel.batch.keys.to_pylist() if sought else []
            done = [key for at, key in enumerate(keys) if is_done(outcomes, at)]
            slots = (slot for key in done for slot in (slot_of(key), settling_slot_of(key)))
            settled += [slot for slot in slots if slot in self._listed or slot in self._intended]
            listed = [] if outcomes.all_done else self._refused(parcel, outcomes)
            refused += listed
            if self._logged:
                logs.append(writeback.of_outcomes(parcel, outcomes, listed, self._clock.now()))
            refused += self._settling(parcel.batch, outcomes, done)
        log = pa.Table.from_batches(logs).combine_chunks().to_batches()[0] if logs else None
        return Acknowledgement(self._report.sync, self._report.run_id, acknowledged, settled, refused, log)

    def intention(self, parcel: Parcel) -> Acknowledgement:
        """These rows may have been sent from now on, and nobody must send them again unasked."""
        rows = [self._in_doubt(parcel, at, self._once) for at in range(len(parcel.batch))]
        self._intended |= {row.slot for row in rows}
        return Acknowledgement(self._report.sync, self._report.run_id, refused=rows, lasting=True)

    def withdrawal(self, parcel: Parcel) -> Acknowledgement:
        """These were not sent after all: they stand on the list as they stood before."""
        slots = [slot_of(key) for key in parcel.batch.keys.to_pylist()]
        self._intended -= set(slots)
        before = [self._listed[slot] for slot in slots if slot in self._listed]
        return Acknowledgement(self._report.sync, self._report.run_id, settled=slots, refused=before)

    # --- delivered ----------------------------------------------------------------------------------------------------

    def _acknowledged(self, parcel: Parcel, outcomes: Outcomes) -> Iterator[Acknowledged]:
        """Delivered rows as the snapshot will hold them; records that were only found to exist apart."""
        batch, run_id, at = parcel.batch, self._report.run_id, clock.text(self._clock.now())
        ids = pa.array(outcomes.record_ids, pa.string())
        if ids.null_count:
            ids = pc.coalesce(ids, batch.record_ids)
        names, columns = self._names, batch.rows.columns
        if parcel.kept is not None:
            names, columns = parcel.kept.schema.names, parcel.kept.columns
        rows = pa.RecordBatch.from_arrays([batch.keys, ids, parcel.hashes, *columns], [*OWN, *names])
        if parcel.kept is not None and ids != batch.record_ids:
            rows = _made_anew(rows, batch)
        if outcomes.waiting:
            rows = _without_links(rows, batch, outcomes.waiting)
        told = {"gone": parcel.removal, "removed": batch.operation is Operation.REMOVE}
        if outcomes.all_delivered and batch.operation is not Operation.CREATE:
            yield Acknowledged(rows, run_id, at, **told)
            return
        for sent in (True, False):
            places = [place for place, verdict in enumerate(outcomes.verdicts) if _as_sent(batch, verdict) is sent]
            if places:
                yield Acknowledged(rows.take(pa.array(places, pa.int64())), run_id, at, sent=sent, **told)

    def _handed_over(self, batch: Batch, outcomes: Outcomes) -> Iterator[Acknowledged]:
        """Rows that have left the result and whose records are these rows' from now on: they are forgotten."""
        if not self._displaced:
            return
        rows = zip(batch.keys.to_pylist(), outcomes.verdicts, strict=True)
        gone = [old for key, verdict in rows if _as_sent(batch, verdict) for old in self._displaced.get(key, ())]
        if gone:
            yield forgotten(gone, self._report.run_id, clock.text(self._clock.now()))

    # --- on the list --------------------------------------------------------------------------------------------------

    def _refused(self, parcel: Parcel, outcomes: Outcomes) -> list[RefusedRow]:
        """Rows that were refused, that nobody answered for, or whose links wait."""
        nobody = NO_ANSWER if parcel.batch.repeatable else self._once
        rows = []
        for at, verdict in enumerate(outcomes.verdicts):
            if is_done(outcomes, at):
                continue
            waiting = outcomes.waiting.get(at, {})
            refusal = next(iter(waiting.values()), None) or outcomes.refusals.get(at, nobody)
            said = "; ".join(f"{name}: {why.message}" for name, why in waiting.items()) or refusal.message
            row = replace(
                self._in_doubt(parcel, at, refusal),
                kind="in_doubt" if verdict is Verdict.NO_ANSWER else "rejected",
                message=SECRETS.clean(said),
                field=next(iter(waiting), None),
            )
            rows.append(row.again(self._listed.get(row.slot)))
        return rows

    def _settling(self, batch: Batch, outcomes: Outcomes, done: Iterable[str]) -> Iterator[RefusedRow]:
        """Delivered rows of which another try got no answer just before: should it land late, they are sent again."""
        if batch.operation not in (Operation.UPSERT, Operation.UPDATE):
            return
        now = self._clock.now()
        for key in done:
            listed = self._listed.get(slot_of(key))
            doubted = listed is not None and _may_land(listed) and now < listed.last_at + SETTLES
            if outcomes.doubted or doubted:
                yield replace(self._entry(key, LANDS_LATE), kind=SETTLING, next_at=now + SETTLES)

    def _in_doubt(self, parcel: Parcel, at: int, why: Refusal) -> RefusedRow:
        """A row of a parcel, with the values that were sent."""
        rows = parcel.batch.rows
        return replace(
            self._entry(parcel.batch.keys[at].as_py(), why),
            attempts=1,
            payload_hash=str(parcel.hashes[at].as_py()),
            values={name: values.canonical(rows.column(name)[at].as_py()) for name in self._fields},
        )

    def _entry(self, key: str, why: Refusal) -> RefusedRow:
        now = self._clock.now()
        return RefusedRow(
            kind="in_doubt",
            code=why.code,
            message=why.message,
            first_at=now,
            last_at=now,
            key_text=key,
            key=key_value(key, self._kinds),
            request_id=why.request_id,
            cursor_value=self._cursor.text if self._cursor else None,
            cursor_type=self._cursor.type_text if self._cursor else None,
        )


def is_done(outcomes: Outcomes, at: int) -> bool:
    """Whether nothing is owed to a row any more."""
    return outcomes.verdicts[at] in DELIVERED and at not in outcomes.waiting


def _may_land(listed: RefusedRow) -> bool:
    """Whether a try may still be carried out after another was: a job surely has ended when its rows go out again."""
    return listed.kind == "in_doubt" and listed.code != CARRIED


def _as_sent(batch: Batch, verdict: Verdict) -> bool | None:
    """Whether the record is this sync's own; None for a row that isn't delivered."""
    if verdict not in DELIVERED:
        return None
    return not (batch.operation is Operation.CREATE and verdict is Verdict.SKIPPED)


def _made_anew(rows: pa.RecordBatch, batch: Batch) -> pa.RecordBatch:
    """The rows, of which a record that takes the place of one that is gone has no digest of what wasn't sent to it."""
    columns = dict(zip(rows.schema.names, rows.columns, strict=True))
    anew = pc.fill_null(pc.not_equal(columns["record_id"], batch.record_ids), False)
    for name, values_ in zip(batch.rows.schema.names, batch.rows.columns, strict=True):
        unsent = pc.and_(anew, values_.is_null())
        for kept in (f"{DIGEST}{name}", f"{FOLDED}{name}"):
            if kept in columns:
                columns[kept] = pc.if_else(unsent, pa.scalar(None, columns[kept].type), columns[kept])
    return pa.RecordBatch.from_pydict(columns)


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
