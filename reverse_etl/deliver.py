"""Batches to the destination, to one verdict for every row.

A few requests are under way at once, each on its own slot; a slot is free again when its outcome is recorded, so that a
killed process repeats at most what was in flight. A batch refused whole is halved until the guilty rows stand alone; a
row whose record is gone is offered as a new one; a row that the answer does not mention is asked about once more, then
in doubt. What concerns the run as a whole stops it: nothing new is started, what is under way is finished and recorded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import anyio
from anyio import to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from reverse_etl.errors import BatchRefused, InDoubt, Interrupted, PluginError, ReverseEtlError
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

    def check(self) -> None:
        """Raises, when asked to stop."""
        if self.asked:
            raise self.reason or Interrupted("asked to stop")

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
    """One parcel to its verdicts, with as many calls as it takes; what was answered before a failure counts."""
    batch, outcomes = parcel.batch, Outcomes(len(parcel.batch))
    pending = {Verdict.MISSING}
    try:
        try:
            await _offer(batch, range(len(batch)), outcomes, destination, stop)
        except ReverseEtlError as failure:
            if not isinstance(failure, InDoubt):
                pending.add(Verdict.NO_ANSWER)  # rows without an answer were surely not carried out
            raise
        await _ask_again(batch, outcomes, destination, stop)
        await _replace_missing(batch, outcomes, destination, stop)
    finally:
        known = [place for place, verdict in enumerate(outcomes.verdicts) if verdict not in pending]
        if len(known) == len(batch):
            await record(parcel, outcomes)
        elif known:
            await record(parcel.take(known), outcomes.take(known))


async def _offer(batch: Batch, places: Sequence[int], outcomes: Outcomes, destination: Destination, stop: Stop) -> None:
    """Verdicts of a batch into `outcomes`, at these places; refused whole it is halved, down to the guilty rows."""
    try:
        answered = await destination.write(batch)
    except BatchRefused as refusal:
        if len(batch) == 1:
            outcomes.rejected(places[0], Refusal(refusal.code, refusal.message, refusal.request_id))
            return
        middle = len(batch) // 2
        await _offer(batch.slice(0, middle), places[:middle], outcomes, destination, stop)
        stop.check()
        await _offer(batch.slice(middle, len(batch) - middle), places[middle:], outcomes, destination, stop)
        return
    if len(answered) != len(batch):
        raise PluginError(
            f"{type(destination).__name__} gave {len(answered)} verdicts for {len(batch)} rows",
            hint="report it to the connector's author",
        )
    outcomes.take_over(places, answered)


async def _ask_again(batch: Batch, outcomes: Outcomes, destination: Destination, stop: Stop) -> None:
    """Rows without an answer are sent once more, alone: every operation here may be repeated without harm."""
    unanswered = outcomes.unanswered()
    if unanswered:
        await _offer(batch.take(unanswered), unanswered, outcomes, destination, stop)


async def _replace_missing(batch: Batch, outcomes: Outcomes, destination: Destination, stop: Stop) -> None:
    """Records that are gone: removed already, offered as new ones, or refused where this sync never creates."""
    gone = outcomes.places(Verdict.MISSING)
    if gone and batch.operation is Operation.UPDATE and batch.recreates:
        anew = replace(batch.take(gone), operation=Operation.UPSERT, sends=None)
        for place in gone:
            outcomes.unanswer(place)
        await _offer(anew, gone, outcomes, destination, stop)
        return
    for place in gone:
        if batch.operation is Operation.REMOVE:
            outcomes.removed(place)
        else:
            reason = "no record has this match value, and this sync never creates one"
            outcomes.rejected(place, Refusal("missing_record", reason))
