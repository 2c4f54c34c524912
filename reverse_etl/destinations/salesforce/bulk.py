"""The write path for many rows: jobs of Bulk API 2.0, and what runs before left behind of them.

A job is remembered before its file goes up, and until what became of its rows is stored. So whatever breaks, the next
run finds it: one that holds no data is aborted, one that runs is waited for, and a row that it has carried in just
these words takes its verdict from there instead of going up twice. Rows that say something else by now wait until it
has ended.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import IO

import anyio
import pyarrow as pa

from reverse_etl.destinations.salesforce import errors, jobs, results, sheet
from reverse_etl.destinations.salesforce.finding import Finder
from reverse_etl.destinations.salesforce.jobs import Job, Jobs
from reverse_etl.destinations.salesforce.remembered import Carried, Remembered, Work
from reverse_etl.destinations.salesforce.rest import Rest
from reverse_etl.destinations.salesforce.results import Results
from reverse_etl.destinations.salesforce.sheet import Sheet
from reverse_etl.errors import DestinationError, InDoubt, ReverseEtlError
from reverse_etl.late import Late
from reverse_etl.model import Batch, Field, Operation
from reverse_etl.protocols import Opening
from reverse_etl.verdicts import Outcomes, Verdict

pc = Late("pyarrow.compute")

PATH = "bulk"
HARD_DELETE = "hardDelete"
ROWS = 50_000  # of a batch; Salesforce cuts it into batches of its own
IN_FLIGHT = 1
CALLS = 9  # that a job takes at least
BATCH_ROWS = 10_000  # of Salesforce's own batches, of which an org has so many a day
TRIES = 3
MANY_LOCKED = 2_000  # rows from which those that met a lock get a job of their own
TAKEN_UP = "carried by a bulk job that an earlier run had left"
LOST_WITHIN = timedelta(seconds=600)  # a call that made a job was answered, or given up, by then

_OPERATIONS = {
    Operation.UPSERT: "upsert",
    Operation.CREATE: "insert",
    Operation.UPDATE: "update",
    Operation.REMOVE: "delete",
}
Few = Callable[[Batch, Sequence[int], Outcomes], Awaitable[None]]
Locked = Callable[[Batch, Outcomes], Awaitable[None]]


@dataclass(frozen=True)
class Left:
    """A job of an earlier run at its end, and what it says of its rows."""

    work: Work
    carried: Carried
    results: Results


class Bulk:
    """Bulk jobs for one run.

    `few` writes rows by calls of 200, what a job can't carry among them; `locked` offers rows again that met a lock.
    """

    def __init__(
        self,
        rest: Rest,
        finder: Finder,
        opening: Opening,
        few: Few,
        locked: Locked,
        *,
        patience: float,
        hard: bool,
    ) -> None:
        self._rest = rest
        self._finder = finder
        self._connection = opening.name
        self._memory = opening.memory
        self._clock = opening.clock
        self._jobs = Jobs(rest, opening.name, opening.clock, patience)
        self._few = few
        self._locked = locked
        self._hard = hard
        self._remembered: dict[str, Remembered] = {}
        self._left: dict[str, list[Left]] = {}
        self._taking_up = anyio.Lock()
        self._numbered: tuple[pa.Array | None, pa.Array] = (None, None)  # the latest batch's keys, and their numbers
        self._closed_to: set[str] = set()  # objects that take no jobs, at least not now

    async def left(self, sync: str) -> list[Left]:
        """The jobs that an earlier run of the sync left, at their ends; looked for once."""
        async with self._taking_up:
            if sync not in self._left:
                known = self._of(sync)
                found = [await self._taken_up(known, work, carried) for work, carried in known]
                self._left[sync] = [left for left in found if left is not None]
            return self._left[sync]

    def adopt(self, batch: Batch, table: Sheet, outcomes: Outcomes) -> None:
        """Verdicts of rows that a job of an earlier run has carried, from its results; other rows are left open."""
        keys, cells = table.fingerprints(batch.keys)
        for each in reversed(self._left[batch.sync]):
            if not self._fits(each.work, batch, table):
                continue
            known = pc.index_in(keys, value_set=each.carried.keys)
            same = pc.equal(each.carried.cells.take(known), cells)
            places = [at for at, equal in enumerate(same.to_pylist()) if equal and _is_open(outcomes, at)]
            if places:
                each.results.settle(batch, places, sheet.at(table.keys, places), _key_field(batch), outcomes)
        _open_again(_locked(outcomes), outcomes)
        outcomes.remarks.update((at, TAKEN_UP) for at in range(len(batch)) if not _is_open(outcomes, at))
        changed = outcomes.unanswered()
        if changed:  # whatever an older job said of them is overtaken by what goes out now
            self._of(batch.sync).settle(sheet.at(keys, changed))

    async def write(self, batch: Batch, table: Sheet, outcomes: Outcomes) -> None:
        """All rows that are open. Raises with the verdicts given so far; rows without one are pending."""
        try:
            open: Sequence[int] = range(len(batch))
            if outcomes.count(Verdict.NO_ANSWER) < len(batch):
                open = outcomes.unanswered()
            if pc.any(table.speechless).as_py():
                mute = table.speechless.to_pylist()
                await self._few(batch, [at for at in open if mute[at]], outcomes)
                open = [at for at in open if not mute[at]]
            await self._carry(open, batch, table, outcomes)
            await self._carry(self._many_locked(outcomes), batch, table, outcomes)
            await self._locked(batch, outcomes)
        except ReverseEtlError as failure:
            failure.answered = outcomes
            raise
        finally:
            pa.default_memory_pool().release_unused()  # recording needs room, too

    def _many_locked(self, outcomes: Outcomes) -> list[int]:
        """Rows that met a lock, when there are enough of them for another job; they are open again."""
        places = _locked(outcomes)
        if len(places) < MANY_LOCKED:
            return []
        _open_again(places, outcomes)
        return places

    def recorded(self, batch: Batch) -> None:
        """What became of these rows is stored."""
        known = self._remembered.get(batch.sync)
        if known:
            keys, numbers = self._numbered
            known.settle(numbers if keys is batch.keys else sheet.fingerprints(batch.keys))

    def forget_left(self) -> None:
        """The run has had a word on every row: what earlier runs left is of no use any more."""
        for sync, left in self._left.items():
            for each in left:
                self._remembered[sync].drop(each.work)

    # --- a job and the next -------------------------------------------------------------------------------------------

    async def _carry(self, places: Sequence[int], batch: Batch, table: Sheet, outcomes: Outcomes) -> None:
        """Jobs for these rows, and again for those that they left unprocessed."""
        for attempt in range(TRIES):
            if not places:
                return
            if not await self._takes(batch.object, len(places)):
                self._spare_the_recycle_bin(batch)
                await self._few(batch, places, outcomes)
                return
            if table.order is not None:
                places = _sorted(places, table.order)
            rest: list[int] = []
            failure: DestinationError | None = None
            start = 0
            for file, count in sheet.files(table.take(places)):
                part = places[start : start + count]
                start += count
                job, left = await self._run(part, batch, table, file, outcomes)
                rest += left
                failure = jobs.failure(self._connection, job) or failure
            if failure is not None and (attempt == TRIES - 1 or failure.code != errors.JOB_REFUSED) and rest:
                raise failure
            places = rest

    async def _run(
        self, places: Sequence[int], batch: Batch, table: Sheet, file: IO[bytes], outcomes: Outcomes
    ) -> tuple[Job | None, list[int]]:
        """One file through one job: how it ended, and the rows that it left unprocessed."""
        work = await self._upload(places, batch, table, file)
        if work is None:
            await self._few(batch, places, outcomes)
            return None, []
        assert work.id is not None  # noqa: S101  # uploaded to
        await self._jobs.close(work.id)
        job = await self._jobs.end(work.id)
        if job is None:
            return None, []
        found = await results.read(self._jobs, job.id, table.key)
        settled = found.settle(batch, places, sheet.at(table.keys, places), _key_field(batch), outcomes)
        if settled.stops:
            raise errors.stopping(self._connection, *settled.stops[0])
        if batch.operation is Operation.CREATE:
            await self._find_created(batch, places, settled.unprocessed, outcomes)
        return job, settled.unprocessed

    async def _upload(self, places: Sequence[int], batch: Batch, table: Sheet, file: IO[bytes]) -> Work | None:
        """An open job that surely holds the file; None when the object takes none."""
        known = self._of(batch.sync)
        numbers = table.fingerprints(batch.keys)
        self._numbered = (batch.keys, numbers[0])
        carried = Carried(*(sheet.at(column, places) for column in numbers))
        for _ in range(TRIES):
            work = known.add(await self._asked(batch, table), carried)
            try:
                job_id = await self._create(work)
            except DestinationError as refused:
                if not isinstance(refused, InDoubt):
                    known.drop(work)
                if refused.code == errors.NO_BULK or work.operation == HARD_DELETE:
                    self._spare_the_recycle_bin(batch, refused)
                    self._closed_to.add(batch.object)
                    return None
                raise
            work = known.put(replace(work, id=job_id))
            if await self._jobs.upload(job_id, file):
                return known.put(replace(work, uploaded=True))
            # Perhaps the file is there and perhaps not, and no second one would be taken: nothing has begun yet.
            await self._jobs.abort(job_id)
            known.drop(work)
        raise DestinationError(
            f"destination {self._connection!r}: the file of a bulk job could not be uploaded ({TRIES} attempts)",
            hint="check the network; nothing of it was written, and the rows wait for the next run",
            code="destination_unavailable",
        )

    async def _create(self, work: Work) -> str:
        """A job's id; when the answer was lost, that of the one job that it can have been about, else of another."""
        key = work.key if work.operation == "upsert" else None
        try:
            return await self._jobs.create(work.object, work.operation, key)
        except InDoubt:
            found = await self._lost(work, self._clock.now())
            return found or await self._jobs.create(work.object, work.operation, key)

    async def _lost(self, work: Work, until: datetime) -> str | None:
        """The open job that was made for this and never told; None when there is none, or others look like it."""
        key = work.key if work.operation == "upsert" else None
        since = datetime.fromtimestamp(work.asked_at, UTC)
        found = await self._jobs.lost(work.object, work.operation, key, since, until)
        known = {each.id for remembered in self._remembered.values() for each, _ in remembered}
        ours = [job_id for job_id in found if job_id not in known]
        return ours[0] if len(ours) == 1 else None

    async def _asked(self, batch: Batch, table: Sheet) -> Work:
        return Work(
            number=0,
            organization=await self._rest.organization(),
            object=batch.object,
            operation=self._operation(batch),
            key=table.key,
            columns=table.names,
            asked_at=self._clock.now().timestamp(),
        )

    async def _takes(self, object: str, rows: int) -> bool:
        """Whether the org has enough of its batches of the day left for so many rows."""
        if object in self._closed_to:
            return False
        told = (await self._rest.call("GET", "limits")).json()
        try:
            left = int(told["DailyBulkApiBatches"]["Remaining"])
        except (KeyError, TypeError, ValueError):
            return True
        return left >= math.ceil(rows / BATCH_ROWS)

    async def _find_created(
        self, batch: Batch, places: Sequence[int], unprocessed: Sequence[int], outcomes: Outcomes
    ) -> None:
        """New records that no result file names: those that are there now are taken for made by the job."""
        spared = set(unprocessed)
        silent = [at for at in places if _is_open(outcomes, at) and at not in spared]
        field = _key_field(batch)
        if not silent or field is None:
            return
        keys = sheet.strings(batch.rows.column(field.name), field).to_pylist()
        wanted = {at: str(keys[at] or "") for at in silent}
        found = await self._finder.matching(batch.object, field, wanted.values())
        for place, value in wanted.items():
            if len(records := found.get(value, [])) == 1:
                outcomes.created(place, str(records[0]["Id"]))

    def _operation(self, batch: Batch) -> str:
        operation = _OPERATIONS[batch.operation]
        return HARD_DELETE if self._hard and batch.operation is Operation.REMOVE else operation

    def _spare_the_recycle_bin(self, batch: Batch, refused: DestinationError | None = None) -> None:
        """Raises when rows would be written by calls, which can't delete for good, though they are to be."""
        if self._operation(batch) == HARD_DELETE:
            raise DestinationError(
                refused.message if refused else f"destination {self._connection!r}: no bulk job can be made today",
                hint="`hard: true` takes bulk jobs and the permission 'Bulk API Hard Delete'; the rows wait",
                code=errors.NO_BULK,
            ) from refused

    # --- what earlier runs left ---------------------------------------------------------------------------------------

    def _of(self, sync: str) -> Remembered:
        if sync not in self._remembered:
            self._remembered[sync] = Remembered(self._memory, sync, self._clock.now().timestamp())
        return self._remembered[sync]

    async def _taken_up(self, known: Remembered, work: Work, carried: Carried) -> Left | None:
        """A job at its end. One that has begun nothing, or is no more, is forgotten."""
        if work.organization != await self._rest.organization():
            return None
        if work.id is None:
            until = datetime.fromtimestamp(work.asked_at, UTC) + LOST_WITHIN
            work = known.put(replace(work, id=await self._lost(work, until)))
        job = await self._jobs.look(work.id) if work.id is not None else None
        if job is not None and job.state == jobs.OPEN:
            if not work.uploaded:
                await self._jobs.abort(job.id)
                job = None
            else:
                await self._jobs.close(job.id)
        job = await self._jobs.end(job.id) if job is not None else None
        if job is None:
            known.drop(work)
            return None
        try:
            return Left(work, carried, await results.read(self._jobs, job.id, work.key))
        except DestinationError as refused:
            if refused.status != 404:
                raise
            known.drop(work)  # its results are thrown away already
            return None

    def _fits(self, work: Work, batch: Batch, table: Sheet) -> bool:
        return (work.object, work.operation, work.key, work.columns) == (
            batch.object,
            self._operation(batch),
            table.key,
            table.names,
        )


def _is_open(outcomes: Outcomes, place: int) -> bool:
    return outcomes.verdicts[place] is Verdict.NO_ANSWER


def _locked(outcomes: Outcomes) -> list[int]:
    return [at for at, refusal in outcomes.refusals.items() if errors.passes(refusal)]


def _open_again(places: Sequence[int], outcomes: Outcomes) -> None:
    """These rows were refused only for the moment, and will be offered anew."""
    for place in places:
        outcomes.unanswer(place)
        del outcomes.refusals[place]


def _key_field(batch: Batch) -> Field | None:
    """The field that results are matched by, None for the record's own id."""
    if batch.operation in (Operation.UPDATE, Operation.REMOVE):
        return None
    return next(field for field in batch.fields if field.name == batch.match)


def _sorted(places: Sequence[int], order: pa.Array) -> list[int]:
    """The places by what stands there in `order`: rows of one parent come together."""
    at = pc.sort_indices(order.take(pa.array(places, pa.int64()))).to_pylist()
    return [places[each] for each in at]
