"""Batches to the destination, to one verdict for every row.

A few requests are under way at once, each on its own slot; a slot is free again when its outcome is recorded, so that a
killed process repeats at most what was in flight. A batch refused whole is halved until the guilty rows stand alone; a
row whose record is gone is offered as a new one; a row that the answer does not mention is asked about once more, then
in doubt. What concerns the run as a whole stops it: nothing new is started, what is under way is finished and recorded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import anyio
from anyio import to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from reverse_etl.errors import BatchRefused, DestinationError, InDoubt, PluginError
from reverse_etl.model import Batch, Operation, Outcomes, Refusal, Verdict
from reverse_etl.plan import Parcel
from reverse_etl.protocols import Destination

Record = Callable[[Parcel, Outcomes], Awaitable[None]]


@dataclass
class Stop:
    """Asked to stop: no request is started any more. `reason` is raised when all that was under way is recorded."""

    reason: BaseException | None = None
    asked: bool = False
    _break: Callable[[], None] | None = None

    def ask(self, reason: BaseException | None = None) -> None:
        self.asked = True
        if self.reason is None:
            self.reason = reason
        if self._break is not None:
            self._break()

    @contextmanager
    def breaking(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Around work in a thread that would otherwise go on: call `interrupt` when asked to stop."""
        self._break = interrupt
        try:
            if self.asked:
                interrupt()
            yield
        finally:
            self._break = None
        if self.reason is not None:
            raise self.reason


async def deliver(parcels: Iterator[list[Parcel]], destination: Destination, record: Record, stop: Stop) -> None:
    """Send every parcel and have its outcome recorded. Raises what stopped it, when every answer is recorded."""
    send, receive = anyio.create_memory_object_stream[Parcel](destination.limits.in_flight)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_feed, parcels, send, stop)
        for _ in range(destination.limits.in_flight):
            tasks.start_soon(_work, receive.clone(), destination, record, stop)
        receive.close()
    if stop.reason is not None:
        raise stop.reason


async def _feed(parcels: Iterator[list[Parcel]], send: MemoryObjectSendStream[Parcel], stop: Stop) -> None:
    """Batches come out of the local database in a thread; the stream is short, so that they wait there."""
    async with send:
        while not stop.asked:
            some = await to_thread.run_sync(next, parcels, None)
            if some is None:
                return
            for parcel in some:
                await send.send(parcel)


async def _work(
    receive: MemoryObjectReceiveStream[Parcel], destination: Destination, record: Record, stop: Stop
) -> None:
    async with receive:
        async for parcel in receive:
            if stop.asked:
                continue
            try:
                await _settle(parcel, destination, record, stop)
            except Exception as reason:  # whatever it is, the other slots finish first: `deliver` raises it
                stop.ask(reason)


async def _settle(parcel: Parcel, destination: Destination, record: Record, stop: Stop) -> None:
    """One parcel to its verdicts, with as many calls as it takes."""
    try:
        outcomes = await _write(parcel.batch, destination)
    except BatchRefused as refusal:
        await _halve(parcel, refusal, destination, record, stop)
        return
    except InDoubt as doubt:
        await record(parcel, Outcomes(len(parcel.batch)))
        raise doubt
    failure = None
    try:
        await _complete(parcel.batch, outcomes, destination)
    except DestinationError as reason:
        failure = reason  # what was answered before counts all the same
    await record(parcel, outcomes)
    if failure is not None:
        raise failure


async def _complete(batch: Batch, outcomes: Outcomes, destination: Destination) -> None:
    """Ask once more about rows without an answer, and about rows whose record is gone."""
    await _ask_again(batch, outcomes, destination)
    gone = [at for at, verdict in enumerate(outcomes.verdicts) if verdict is Verdict.MISSING]
    if gone and batch.operation is Operation.REMOVE:
        for at in gone:
            outcomes.removed(at)
    elif gone:
        await _replace_missing(batch, gone, outcomes, destination)


async def _write(batch: Batch, destination: Destination) -> Outcomes:
    outcomes = await destination.write(batch)
    if len(outcomes) != len(batch):
        raise PluginError(
            f"{type(destination).__name__} gave {len(outcomes)} verdicts for {len(batch)} rows",
            hint="report it to the connector's author",
        )
    return outcomes


async def _halve(parcel: Parcel, refusal: BatchRefused, destination: Destination, record: Record, stop: Stop) -> None:
    """The request as a whole was refused: find the guilty rows. The first half goes before the second."""
    size = len(parcel.batch)
    if size == 1:
        outcomes = Outcomes(1)
        outcomes.rejected(0, Refusal(refusal.code, refusal.message, refusal.request_id))
        await record(parcel, outcomes)
        return
    middle = size // 2
    for start, length in ((0, middle), (middle, size - middle)):
        if stop.asked:
            return
        await _settle(parcel.part(start, length), destination, record, stop)


async def _ask_again(batch: Batch, outcomes: Outcomes, destination: Destination) -> None:
    """Rows without an answer are sent once more, alone: every operation here may be repeated without harm."""
    unanswered = outcomes.unanswered()
    if not unanswered:
        return
    try:
        second = await _write(batch.take(unanswered), destination)
    except (BatchRefused, InDoubt):
        return  # they stay in doubt, and the next run sends them again
    _merge(outcomes, unanswered, second)


async def _replace_missing(batch: Batch, gone: list[int], outcomes: Outcomes, destination: Destination) -> None:
    """Records that are gone: offered as new ones, or refused where this sync never creates."""
    if batch.operation is not Operation.UPDATE or not batch.recreates:
        for at in gone:
            outcomes.rejected(
                at, Refusal("missing_record", "no record has this match value, and this sync never creates one")
            )
        return
    anew = replace(batch.take(gone), operation=Operation.UPSERT, sends=None)
    try:
        second = await _write(anew, destination)
    except BatchRefused as refusal:
        for at in gone:
            outcomes.rejected(at, Refusal(refusal.code, refusal.message, refusal.request_id))
        return
    await _ask_again(anew, second, destination)
    _merge(outcomes, gone, second)


def _merge(outcomes: Outcomes, positions: list[int], second: Outcomes) -> None:
    """The verdicts of a part, put where its rows stand in the whole."""
    for at, verdict, record_id in zip(positions, second.verdicts, second.record_ids, strict=True):
        outcomes.verdicts[at] = verdict
        outcomes.record_ids[at] = record_id
    for part, refusal in second.refusals.items():
        outcomes.refusals[positions[part]] = refusal
