"""The main loop: read, plan, guard, deliver, record, finish. The file to open first.

Everything a run may touch is in its `Job`. A dry run takes the same way and leaves it before the first write. State
moves only by what the destination acknowledged; the cursor moves last.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import anyio
import duckdb
import pyarrow as pa
from anyio import to_thread

from reverse_etl import clock, cursor, figures, guard, live, localdb, plan, read, writeback
from reverse_etl.blame import blame, bug, first, local
from reverse_etl.deliver import deliver
from reverse_etl.describe import describe
from reverse_etl.diff import Comparison
from reverse_etl.entries import Entries
from reverse_etl.errors import ReverseEtlError, SourceError
from reverse_etl.job import Job
from reverse_etl.mapping import key_kinds
from reverse_etl.model import Operation
from reverse_etl.plan import Parcel, Plan, Wish
from reverse_etl.protocols import Destination, Source
from reverse_etl.record import Recorder, record_baseline, room
from reverse_etl.redaction import SECRETS
from reverse_etl.report import RunReport
from reverse_etl.resolve import Resolver
from reverse_etl.spool import Spool
from reverse_etl.standing import HELD, Acknowledgement, Holder, RefusedRow, SyncState
from reverse_etl.writeback import WarehouseLog

log = logging.getLogger(__name__)


async def run(job: Job) -> RunReport:
    """One run of one sync, to its report. Whatever goes wrong stands in the report; only cancelling escapes."""
    report = RunReport(job.sync.name, job.run_id, job.clock.now(), dry_run=job.dry_run)
    try:
        with nullcontext() if job.dry_run else job.ledger.hold(job.run_id, report.started_at) as still_held:
            if still_held is not None:
                job.stop.still_held = still_held
            with job.stop.heeded(), job.stop.telling(lambda: job.observer.stage(job.sync.name, "stopping ...")):
                await _Run(job, report).to_its_end()
    except ReverseEtlError as failure:
        blame(report, failure)
    finally:
        job.ledger.close()
    report.finished_at = report.finished_at or job.clock.now()
    job.observer.finished(report)
    return report


class _Run:
    """The steps of one run, in the order in which they happen."""

    def __init__(self, job: Job, report: RunReport) -> None:
        self.job = job
        self.report = report
        self.sync = job.sync
        self.ledger = job.ledger
        self.begun = False
        self._destination: Destination | None = None
        self._source: Source | None = None

    async def to_its_end(self) -> None:
        """Carry the run out, and whatever happens close its books."""
        try:
            await self._carry_out()
        except ReverseEtlError as failure:
            blame(self.report, failure)
        except (duckdb.Error, OSError) as failure:
            blame(self.report, local(failure, self.job.stop))
        except Exception as failure:
            log.debug("a run broke", exc_info=failure, extra={"sync": self.sync.name})
            blame(self.report, bug(failure))
        finally:
            self._count_calls()
            if self._destination is not None:
                with anyio.CancelScope(shield=True):
                    await self._destination.aclose()
        if self.begun and self.report.finished_at is None:
            self._close(None, None)
        if self.begun and self.job.log_to is not None and not self.job.stop.asked:
            await to_thread.run_sync(self._write_back, self.job.log_to)

    async def _carry_out(self) -> None:
        with self.ledger.spool(self.job.run_id, dry=self.job.dry_run) as folder:
            connection = localdb.connect(folder)
            try:
                state = await to_thread.run_sync(self._open, connection)
                await self._take_the_way(Comparison(Spool(connection, folder), self.ledger.known.digests), state)
            finally:
                connection.close()

    async def _take_the_way(self, comparison: Comparison, state: SyncState | None) -> None:
        """Read, plan, guard, deliver, record, finish."""
        refused = await to_thread.run_sync(self._listed)
        if self.job.live:
            live.lookup(self._connected(), self.sync)
        self.job.observer.stage(self.sync.name, "reading")
        with self.job.stop.breaking(lambda: self._break_reading(comparison)):
            asked, schema = await to_thread.run_sync(self._read, comparison.spool, state, refused)

        self.job.observer.stage(self.sync.name, "comparing")
        baseline = self.sync.first_run == "baseline" and not (state and (state.last_run_at or state.last_full_at))
        wish = Wish(
            complete=asked.complete and not self.job.refused_only,
            full=self.job.full,
            limit=self.job.limit,
            refused_only=self.job.refused_only,
        )
        made = await self._plan(comparison, refused, wish, baseline=baseline)
        reached = await to_thread.run_sync(read.reached, asked, self.sync, schema, comparison.spool)
        figures.of_plan(self.report, made, asked, schema, baseline=baseline)
        self.job.observer.planned(self.report)
        if self.job.dry_run:
            await to_thread.run_sync(self._show, made, refused, baseline)
        try:
            if not baseline:
                await to_thread.run_sync(self._guard, made, wish)
        finally:
            if self.job.live:
                await self._look(made, state, baseline)
        if self.job.dry_run:
            return
        await to_thread.run_sync(self.ledger.known.release, comparison.connection)
        await to_thread.run_sync(comparison.keep_what_goes_out)
        await to_thread.run_sync(self._record_refused, made, refused)
        if baseline:
            await to_thread.run_sync(record_baseline, made, self.ledger, self.report, self.job.clock)
        else:
            await self._deliver(made, refused, asked)
        await to_thread.run_sync(partial(self._finish, baseline=baseline), made, asked, reached, state)

    # --- read ---------------------------------------------------------------------------------------------------------

    def _open(self, connection: duckdb.DuckDBPyConnection) -> SyncState | None:
        """Find out where the sync is; what a run that died had acknowledged goes into the snapshot first."""
        state = self.ledger.state(connection)
        if not self.job.dry_run:
            self.ledger.begin(self.report)
            self.begun = True
            self.ledger.known.fold()
        self.report.cursor_from = self.report.cursor_to = state.cursor_value if state else None
        return state

    def _listed(self) -> list[RefusedRow]:
        """Rows that something is owed to, read or not: refused ones, and those that are due to be sent once more."""
        now, refused = self.report.started_at, self.ledger.refused()
        if self.job.refused_only:
            return refused
        if self.job.dry_run:  # a real run has taken up what another one left under way
            refused = [*{row.slot: row for row in (*refused, *self.ledger.under_way.rows(now))}.values()]
            refused = self._beside(self.ledger.holder(), refused)
        return [*refused, *(row for row in self.ledger.settling() if row.next_at and row.next_at <= now)]

    def _beside(self, holder: Holder | None, refused: list[RefusedRow]) -> list[RefusedRow]:
        """A dry run while another run is at work: what that one is sending is not in doubt, it is still to be sent."""
        if holder is None:
            return refused
        said = f"{holder.said} is at work beside this: what it is sending counts as still to be sent"
        self.report.notes.append(said)
        return [r for r in refused if r.code != HELD or holder.since is None or r.last_at < holder.since]

    def _read(
        self, spool: Spool, state: SyncState | None, refused: list[RefusedRow]
    ) -> tuple[read.Question, pa.Schema]:
        """The result, and rows that were refused before, into the local database; then the warehouse is let go."""
        source = self._source = self.job.source()
        try:
            if self.job.stop.reason is not None:
                raise self.job.stop.reason
            complete = self.job.full or self._full_scan_due(state)
            reader = read.Reader(self.sync, source, self.ledger.known.digests() if self.ledger.known.hashes else None)
            asked = reader.question(state, complete=complete)
            take = reader.take_nothing if self.job.refused_only else reader.take_in
            schema = take(asked, spool)
            if refused and (self.job.refused_only or not asked.complete):
                reader.take_again(asked, schema, spool, refused)
        except SourceError as failure:
            raise self.job.stop.reason or failure from None
        finally:
            source.close()
        self.ledger.known.lay(spool.connection)
        return asked, schema

    def _break_reading(self, comparison: Comparison) -> None:
        """Asked to stop: both databases drop the query they are at."""
        comparison.connection.interrupt()
        if self._source is not None:
            self._source.close()

    def _full_scan_due(self, state: SyncState | None) -> bool:
        if self.sync.full_scan is None or self.sync.cursor is None:
            return False
        if state is None or state.last_full_at is None:
            return True
        return (
            self.sync.full_scan.next_after(clock.parse(state.last_full_at), self.sync.timezone) <= self.job.clock.now()
        )

    # --- plan and guard -----------------------------------------------------------------------------------------------

    async def _plan(self, comparison: Comparison, refused: list[RefusedRow], wish: Wish, *, baseline: bool) -> Plan:
        await to_thread.run_sync(plan.compare, self.sync, comparison, wish, refused)
        schema = None
        if self.job.dry_run or (not baseline and await to_thread.run_sync(comparison.has_work)):
            schema = await describe(self._connected(), self.sync)
            await to_thread.run_sync(plan.refuse_rows, self.sync, comparison, schema)
        settle = partial(plan.settle, now=self.job.clock.now(), schema=schema)
        return await to_thread.run_sync(settle, self.sync, comparison, refused, wish)

    def _guard(self, made: Plan, wish: Wish) -> None:
        """Raises GuardTripped, unless this very plan was approved."""
        guard.watch(made, self.ledger.plans, self.report, wish, approval=self.job.approve, now=self.job.clock.now())

    def _show(self, made: Plan, refused: list[RefusedRow], baseline: bool) -> None:
        """The end of a dry run."""
        figures.of_dry_run(self.report, made, self._connected(), refused, baseline=baseline)

    async def _look(self, made: Plan, state: SyncState | None, baseline: bool) -> None:
        """What the records hold now, into the plan. The snapshot is let go first: reading may take long."""
        summary = self.report.plan
        if summary is None or baseline:
            return
        observer, name = self.job.observer, self.sync.name
        observer.stage(name, "looking")
        standing = await to_thread.run_sync(live.unchanged, made)
        await to_thread.run_sync(self.ledger.known.release, made.comparison.connection)
        destination = self._connected()
        if state is not None and state.account is not None:  # remembered ids are of that account only
            await to_thread.run_sync(self.ledger.bind, await destination.account())
        removed = sum(group.rows for group in made.groups if group.operation is Operation.REMOVE)
        total = made.to_send - removed + len(standing.record_ids)

        def on_progress(settled: int) -> None:
            observer.progress(name, settled, total, destination.traffic.requests)

        try:
            found = await live.look(made, standing, destination, self.job.stop, on_progress)
        except BaseExceptionGroup as group:
            raise first(group) from None
        finally:
            self._count_calls()
        self.report.plan = replace(summary, live=found)

    # --- deliver and record -------------------------------------------------------------------------------------------

    def _record_refused(self, made: Plan, refused: list[RefusedRow]) -> None:
        """Rows refused by us, and the end of entries that nothing is owed to any more."""
        self.ledger.note_keys(key_kinds(made.shape))
        if made.invalid or made.gone:
            told = writeback.of_listed(made.invalid, refused, made.gone) if self.job.log_to is not None else None
            self.ledger.record(Acknowledgement(self.sync.name, self.job.run_id, (), made.gone, made.invalid, told))

    async def _deliver(self, made: Plan, refused: list[RefusedRow], asked: read.Question) -> None:
        """Send what the plan says; every outcome is stored before its slot takes the next batch."""
        if not made.to_send:
            return
        destination, observer, name = self._connected(), self.job.observer, self.sync.name
        account = await destination.account()
        await to_thread.run_sync(self.ledger.bind, account)
        observer.stage(name, "sending")

        def on_progress(settled: int) -> None:
            self.report.pending = made.to_send + made.later - settled - len(recorder.listed)
            observer.progress(name, settled, made.to_send, destination.traffic.requests)

        entries = Entries(
            self.report,
            made.shape,
            refused=refused,
            displaced=made.displaced,
            cursor=asked.cursor,
            clock=self.job.clock,
            logged=self.job.log_to is not None,
            holds=self.sync.in_doubt == "hold",
        )
        recorder = Recorder(
            self.ledger,
            self.report,
            entries,
            listed=made.listed,
            on_progress=on_progress,
            stop=self.job.stop,
            log_values=self.sync.log_values,
        )
        slots = made.slots(destination)
        parcels = self._with_room(made.parcels(partial(made.limits, destination)), slots)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(recorder.run)
                try:
                    await deliver(
                        parcels,
                        destination,
                        recorder.record,
                        self.job.stop,
                        slots=slots,
                        resolver=Resolver.of(self.sync, destination, made.schema),
                        intents=recorder,
                        under_way=self.ledger.under_way,
                    )
                finally:
                    recorder.close()
                    self.report.notes += recorder.notes()
        except BaseExceptionGroup as group:
            raise first(group) from None

    def _with_room(self, parcels: Iterator[list[Parcel]], slots: int) -> Iterator[list[Parcel]]:
        """Nothing is handed out to be sent that couldn't be recorded."""
        for some in parcels:
            self.ledger.under_way.make_room(slots * max(map(room, some)))
            yield some

    # --- finish -------------------------------------------------------------------------------------------------------

    def _finish(
        self,
        made: Plan,
        asked: read.Question,
        reached: cursor.Bound | None,
        state: SyncState | None,
        *,
        baseline: bool,
    ) -> None:
        """Fold the journal, then move the cursor: every row read is acknowledged, or stands on the list."""
        self.job.observer.stage(self.sync.name, "recording")
        if made.shape.digests is not None and made.comparison.values_to_digest():
            links = [column.field for column in made.shape.payload if column.links]
            self.ledger.known.digest(made.shape.digests, clear=links, finds=self.sync.match)
        self.ledger.known.fold(rehash=made.comparison.rehash())
        before = state.cursor_value if state is not None else None
        position: dict[str, str | None] = {}
        started = clock.text(self.report.started_at)
        if asked.complete and (self.job.moves_cursor or (baseline and not self.job.refused_only)):
            position["last_full_at"] = started  # a baseline remembers every row, whatever its limit
        if self.job.moves_cursor:
            if self.sync.cursor is None:
                position["last_run_at"] = started
            elif reached is not None and reached.text != before:
                position |= {"cursor_value": reached.text, "cursor_type": reached.type_text, "last_run_at": started}
        self._close(position or None, before)

    def _close(self, position: dict[str, str | None] | None, before: str | None) -> None:
        """The last figures, and the run's record."""
        self._count_calls()
        report = self.report
        figures.of_end(report, self.ledger.refused(), self.job.clock.now())
        if position and "cursor_value" in position:
            report.cursor_to = position["cursor_value"]
        if not self.ledger.finish(report, position, before) and position:
            report.cursor_to = before
            report.notes.append("the cursor was moved by somebody else meanwhile, and stays where it is")

    def _write_back(self, log_to: WarehouseLog) -> None:
        """The run is over: whatever keeps the warehouse from being told of it is a note beside it."""
        self.job.observer.stage(self.sync.name, "writing back")
        try:
            log_to.write(self.ledger, self.sync, self.job.run_id, self.job.stop)
        except Exception as failure:
            log.debug("the log could not be written back", exc_info=failure, extra={"sync": self.sync.name})
            said = self.job.stop.reason or failure
            said = said if isinstance(said, ReverseEtlError) else bug(failure)
            self.report.notes.append(
                SECRETS.clean(f"not written back to {log_to.name}, the next run tries again: {said.message}")
            )
            self.ledger.keep(self.report)

    def _count_calls(self) -> None:
        if self._destination is not None:
            figures.of_calls(self.report, self._destination)

    def _connected(self) -> Destination:
        """The destination, opened with the first need of it."""
        if self._destination is None:
            self._destination = self.job.destination()
        return self._destination
