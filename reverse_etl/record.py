"""Verdicts into the store: what was delivered becomes the snapshot's next state, what was refused goes on the list.

Answers that arrive while a transaction is being written wait for the next one and share it, so that durability doesn't
set the pace. A caller of `record` comes back when its rows are stored.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import anyio
from anyio import to_thread

from reverse_etl import clock
from reverse_etl.clock import Clock
from reverse_etl.entries import Entries
from reverse_etl.errors import DiskFull
from reverse_etl.ledgers import Ledger
from reverse_etl.localdb import quoted, stream
from reverse_etl.plan import CHUNK, KEYS_SHOWN, Parcel, Plan
from reverse_etl.redaction import SECRETS, pseudonym
from reverse_etl.report import RunReport
from reverse_etl.standing import SETTLING, Acknowledged, Acknowledgement, RefusedRow
from reverse_etl.stop import Stop
from reverse_etl.verdicts import DELIVERED, Outcomes, Verdict

log = logging.getLogger(__name__)

FOLD_ROWS = 200_000  # rows in the journal from which it is folded during a run
ENTRY = 1500  # bytes that an entry of a refused row takes, beside its values
PAGE, PAGES = 4096, 512  # of a store's indexes: how large they are, and how many a batch may touch


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
        entries: Entries,
        *,
        listed: Collection[str],
        on_progress: Callable[[int], None],
        stop: Stop,
        log_values: bool = False,
    ) -> None:
        self._ledger = ledger
        self._report = report
        self._entries = entries
        self.listed = {*listed}  # rows on the list that were not offered again yet
        self._on_progress = on_progress
        self._stop = stop
        self._log_values = log_values
        self._remarks: dict[str, list[str]] = {}
        self._one_at_a_time = anyio.Lock()
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
        """Returns when it is on disk that these rows may have been sent."""
        await self._write(self._entries.intention(parcel))

    async def withdraw(self, parcel: Parcel) -> None:
        """These were not sent after all."""
        await self._write(self._entries.withdrawal(parcel))

    async def _write(self, done: Acknowledgement) -> None:
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
                done = self._entries.of([(answered.parcel, answered.outcomes) for answered in group])
                try:
                    await self._write(done)
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
            await to_thread.run_sync(self._ledger.known.fold)

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

    Nothing for a job's rows: it is remembered, and what became of them can be asked again when there is room.
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
            ledger.known.fold()


def _note(remark: str, keys: list[str]) -> str:
    shown = ", ".join(keys[:KEYS_SHOWN])
    more = f" and {len(keys) - KEYS_SHOWN:,} more" if len(keys) > KEYS_SHOWN else ""
    return SECRETS.clean(f"{remark}: {shown}{more}")
