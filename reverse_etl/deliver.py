"""Batches to the destination, to one verdict for every row.

A few requests are under way at once, each on its own slot; a slot is free again when its outcome is recorded, so that a
killed process repeats at most what was in flight. A batch refused whole is halved until the guilty rows stand alone; a
row whose record is gone is offered as a new one; a row that the answer does not mention is asked about once more, then
in doubt; links are made when their records stand.

What concerns the run as a whole stops it: nothing new is started, what is under way is finished and recorded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import anyio
import pyarrow as pa
from anyio import to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from reverse_etl.errors import BatchRefused, InDoubt, PluginError, ReverseEtlError
from reverse_etl.ledgers import Flight, UnderWay
from reverse_etl.model import Batch, Operation
from reverse_etl.plan import Parcel
from reverse_etl.protocols import LINK_IN_DOUBT, LINK_WAITING, RECORD_GONE, Destination, Linker, Resumable
from reverse_etl.resolve import NO_RECORD, Part, Resolver
from reverse_etl.retries import Repeats, of_one_batch
from reverse_etl.stop import Stop
from reverse_etl.verdicts import DELIVERED, Outcomes, Refusal, Verdict

Record = Callable[[Parcel, Outcomes], Awaitable[None]]


class Intents(Protocol):
    """Keeps what is about to be sent where a repeat would do harm."""

    async def intend(self, parcel: Parcel) -> None:
        """Returns when it is known for good that these rows may have been sent."""
        ...

    async def withdraw(self, parcel: Parcel) -> None:
        """These were surely not sent."""
        ...


OPEN = frozenset({Verdict.NO_ANSWER, Verdict.MISSING})  # nothing is known of such a row unless it is in doubt

LINK_UNDONE = Refusal(LINK_WAITING, "the record is written; the run ended before its links were")
LINK_UNANSWERED = Refusal(LINK_IN_DOUBT, "the record is written; nobody answered whether the link was made")


async def deliver(
    parcels: Iterator[list[Parcel]],
    destination: Destination,
    record: Record,
    stop: Stop,
    *,
    slots: int,
    resolver: Resolver | None = None,
    intents: Intents | None = None,
    under_way: UnderWay | None = None,
) -> None:
    """Send every parcel, `slots` at once, and have its outcome recorded. Raises what stopped it, when all is."""
    send, receive = anyio.create_memory_object_stream[Parcel](slots)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_feed, parcels, send, stop)
        for slot in range(slots):
            sender = _Sender(slot, destination, resolver, record, stop, intents, under_way)
            tasks.start_soon(_work, receive.clone(), sender)
        receive.close()
    if stop.reason is not None:
        raise stop.reason


async def _feed(parcels: Iterator[list[Parcel]], send: MemoryObjectSendStream[Parcel], stop: Stop) -> None:
    """Batches come out of the local database in a thread; the stream is short, so that they wait there."""
    async with send:
        while not stop.asked:
            try:
                some = await to_thread.run_sync(next, parcels, None)
            except Exception as reason:  # what is under way is finished and recorded all the same
                stop.ask(reason)
                return
            if some is None:
                return
            for parcel in some:
                await send.send(parcel)


async def _work(receive: MemoryObjectReceiveStream[Parcel], sender: _Sender) -> None:
    async with receive:
        async for parcel in receive:
            if sender.stop.asked:
                continue
            try:
                with of_one_batch() as repeats:
                    await sender.settle(parcel, repeats)
            except Exception as reason:  # whatever it is, the other slots finish first: `deliver` raises it
                sender.stop.ask(reason)


@dataclass(frozen=True)
class _Sender:
    """One slot: a parcel at a time, each to its verdicts, with as many calls as it takes."""

    slot: int
    destination: Destination
    resolver: Resolver | None
    record: Record
    stop: Stop
    intents: Intents | None = None
    under_way: UnderWay | None = None

    @cached_property
    def flights(self) -> dict[bool, Flight]:
        """Where the rows under way are written down: those of calls, and those of jobs."""
        if self.under_way is None:
            return {}
        return {of_job: self.under_way.flight(self.slot, of_job=of_job) for of_job in (False, True)}

    @cached_property
    def linker(self) -> Linker | None:
        """The destination, where it keeps links apart from records."""
        return self.destination if isinstance(self.destination, Linker) else None

    @cached_property
    def resumable(self) -> Resumable | None:
        """The destination, where it wants to hear what is stored."""
        return self.destination if isinstance(self.destination, Resumable) else None

    async def settle(self, parcel: Parcel, repeats: Repeats) -> None:
        """What was answered before a failure counts: it is recorded before the failure goes on its way."""
        outcomes, doubtful = Outcomes(len(parcel.batch)), set[int]()
        await self._write_down(parcel)
        try:
            try:
                for part in await self._parts(parcel, outcomes):
                    await self._deliver(part, outcomes, doubtful)
            finally:
                links = self._owed_links(parcel.batch, outcomes)
            await self._link(parcel.batch, links, outcomes, doubtful)
        finally:
            own = bool(parcel.batch.path) or not parcel.batch.repeatable  # a job's own try is waited for
            outcomes.doubted = repeats.doubted and not own
            open = {place for verdict in OPEN for place in outcomes.places(verdict)} - doubtful
            if not open:
                await self._store(parcel, outcomes)
            elif len(open) < len(parcel.batch):
                known = [place for place in range(len(parcel.batch)) if place not in open]
                await self._store(parcel.take(known), outcomes.take(known))
            if open and self.intents is not None and not parcel.batch.repeatable:
                with anyio.CancelScope(shield=True):
                    await self.intents.withdraw(parcel.take(sorted(open)))
            await self._cross_out(parcel, sorted(open))

    async def _write_down(self, parcel: Parcel) -> None:
        """What is about to be sent: lastingly, where sending it once more would do harm."""
        if not parcel.batch.repeatable and self.intents is not None:
            await self.intents.intend(parcel)
        elif self.flights:
            await self.flights[bool(parcel.batch.path)].begin(parcel.batch.keys)

    async def _cross_out(self, parcel: Parcel, open: Sequence[int]) -> None:
        """Nothing of it is under way any more; but a job goes on when we have given it up, and `open` rows with it."""
        flight = self.flights.get(bool(parcel.batch.path))
        if flight is None:
            return
        with anyio.CancelScope(shield=True):
            if parcel.batch.path and parcel.batch.repeatable and open:
                await flight.begin(parcel.batch.keys.take(pa.array(open, pa.int64())))
            else:
                await flight.end()

    async def _store(self, parcel: Parcel, outcomes: Outcomes) -> None:
        with anyio.CancelScope(shield=True):  # who cancels the run from outside waits for what was answered
            await self.record(parcel, outcomes)
            if self.resumable is not None:
                await self.resumable.recorded(parcel.batch)

    async def _parts(self, parcel: Parcel, outcomes: Outcomes) -> list[Part]:
        parts = [Part(range(len(parcel.batch)), parcel.batch)]
        if self.resolver is not None and not parcel.removal:
            parts = await self.resolver.parts(parcel.batch, outcomes)
        if self.linker is not None:
            parts = [_without_links(part, outcomes) for part in parts]
        return [part for part in parts if part.places]

    async def _deliver(self, part: Part, outcomes: Outcomes, doubtful: set[int]) -> None:
        batch, mine, open = part.batch, Outcomes(len(part.batch)), set[int]()
        try:
            await self._offer(batch, range(len(batch)), mine, open)
            unanswered = mine.unanswered()
            if unanswered and batch.repeatable:  # once more, alone
                await self._offer(batch.take(unanswered), unanswered, mine, open)
            await self._replace_missing(batch, mine, open)
        finally:
            doubtful.update(part.places[place] for place in open)
            outcomes.take_over(part.places, mine)

    async def _offer(self, batch: Batch, places: Sequence[int], outcomes: Outcomes, doubtful: set[int]) -> None:
        """Verdicts of a batch into `outcomes`, at these places; refused whole it is halved, down to the guilty rows.

        `doubtful` gets the places of rows that may have been carried out without an answer that says so.
        """
        try:
            answered = await self.destination.write(batch)
        except BatchRefused as refusal:
            if len(batch) == 1:
                outcomes.rejected(places[0], Refusal(refusal.code, refusal.message, refusal.request_id))
                return
            middle = len(batch) // 2
            await self._offer(batch.slice(0, middle), places[:middle], outcomes, doubtful)
            self.stop.check()
            await self._offer(batch.slice(middle, len(batch) - middle), places[middle:], outcomes, doubtful)
            return
        except BaseException as failure:
            if isinstance(failure, ReverseEtlError) and failure.answered is not None:
                outcomes.take_over(places, failure.answered)
            elif not isinstance(failure, ReverseEtlError) or isinstance(failure, InDoubt) or failure.doubtful:
                doubtful.update(places)
            raise
        if len(answered) != len(batch):
            doubtful.update(places)
            raise PluginError(
                f"{type(self.destination).__name__} gave {len(answered)} verdicts for {len(batch)} rows",
                hint="report it to the connector's author",
            )
        outcomes.take_over(places, answered)
        doubtful.update(places[at] for at in answered.unanswered())

    async def _replace_missing(self, batch: Batch, outcomes: Outcomes, doubtful: set[int]) -> None:
        """Records that are gone: removed already, offered as new ones, or refused where this sync never creates."""
        gone = outcomes.places(Verdict.MISSING)
        if gone and _may_be_found_anew(batch):
            remembered = batch.record_ids.is_valid().to_pylist()  # the others were looked for by their match value
            known = [place for place in gone if remembered[place]]
            if known:
                await self._find_anew(batch.take(known), known, outcomes, doubtful)
            gone = outcomes.places(Verdict.MISSING)
        for place in gone:
            if batch.operation is Operation.REMOVE:
                outcomes.removed(place)
            else:
                outcomes.rejected(place, NO_RECORD)

    async def _find_anew(self, batch: Batch, places: Sequence[int], outcomes: Outcomes, doubtful: set[int]) -> None:
        """Rows whose remembered record is gone go out as if they had none: whole, and by what finds a record."""
        operation = Operation.UPSERT if batch.recreates else Operation.UPDATE
        anew = replace(batch, operation=operation, record_ids=pa.nulls(len(batch), pa.string()), sends=None)
        parts, resolved = [Part(range(len(anew)), anew)], Outcomes(len(anew))
        if self.resolver is not None:
            parts = await self.resolver.parts(anew, resolved)
        outcomes.take_over(places, resolved)
        for part in parts:
            await self._offer(part.batch, [places[at] for at in part.places], outcomes, doubtful)

    # --- links ------------------------------------------------------------------------------------------------------

    def _owed_links(
        self, batch: Batch, outcomes: Outcomes, among: Container[int] | None = None
    ) -> dict[str, list[int]]:
        """The rows of which each link is to be made or taken off; until it is, they wait."""
        if batch.operation is Operation.REMOVE or self.linker is None:
            return {}
        owed: dict[str, list[int]] = {}
        for field in batch.fields:
            if field.parent is not None:
                places = _to_link(batch, field.name, outcomes)
                owed[field.name] = places if among is None else [place for place in places if place in among]
        for name, places in owed.items():
            for place in places:
                outcomes.waiting.setdefault(place, {})[name] = LINK_UNDONE
        return {name: places for name, places in owed.items() if places}

    async def _link(
        self, batch: Batch, owed: dict[str, list[int]], outcomes: Outcomes, doubtful: set[int], *, anew: bool = False
    ) -> None:
        """Links of the delivered rows, where the destination keeps them apart from the records.

        A record that turns out to be gone is made anew, once: nothing but its links was to change, so nobody noticed.
        """
        if self.linker is None:
            return
        remembered = batch.record_ids.to_pylist()
        gone: set[int] = set()
        for name, places in owed.items():
            ids = [outcomes.record_ids[place] or remembered[place] for place in places]
            part = batch.take(places).of([field for field in batch.fields if field.name == name])
            try:
                refused = await self.linker.link(part, ids)
            except ReverseEtlError as failure:
                for at in failure.answered.places(Verdict.REMOVED) if failure.answered is not None else ():
                    outcomes.waiting[places[at]][name] = LINK_UNANSWERED
                raise
            for at, place in enumerate(places):
                _settle_link(outcomes, place, name, refused.get(at))
            gone |= {places[at] for at, refusal in refused.items() if refusal.code == RECORD_GONE}
        if gone and not anew and _may_be_found_anew(batch):
            for place in gone:
                outcomes.missing(place)
                del outcomes.waiting[place]
            try:
                await self._replace_missing(_without_links_of(batch), outcomes, doubtful)
            finally:
                again = self._owed_links(batch, outcomes, gone)
            await self._link(batch, again, outcomes, doubtful, anew=True)


def _may_be_found_anew(batch: Batch) -> bool:
    """Whether rows of a record that is gone may go to another one."""
    return batch.operation is Operation.UPDATE and (batch.recreates or batch.refinds)


def _without_links(part: Part, outcomes: Outcomes) -> Part:
    """The part without its links, which are made later; a known record of which nothing else goes out needs no call."""
    batch = _without_links_of(part.batch)
    if batch is part.batch or batch.sends is None or batch.operation is not Operation.UPDATE:
        return replace(part, batch=batch)
    ids = batch.record_ids.to_pylist()
    goes = [any(mask) for mask in zip(*(column.to_pylist() for column in batch.sends.columns), strict=True)]
    rest = [at for at, (id, sent) in enumerate(zip(ids, goes, strict=True)) if sent or id is None]
    if len(rest) == len(batch):
        return replace(part, batch=batch)
    for at in set(range(len(batch))) - set(rest):
        outcomes.updated(part.places[at], ids[at])
    return Part([part.places[at] for at in rest], batch.take(rest))


def _without_links_of(batch: Batch) -> Batch:
    fields = [field for field in batch.fields if field.parent is None]
    return batch if len(fields) == len(batch.fields) else batch.of(fields)


def _to_link(batch: Batch, name: str, outcomes: Outcomes) -> list[int]:
    """Delivered rows whose link is to change, or whose record is another one than before."""
    there = batch.rows.column(name).is_valid().to_pylist()
    goes = there if batch.sends is None else batch.sends.column(name).to_pylist()
    remembered = batch.record_ids.to_pylist()
    spared = Verdict.SKIPPED if batch.operation is Operation.CREATE else None
    return [
        place
        for place, verdict in enumerate(outcomes.verdicts)
        if verdict in DELIVERED
        and verdict is not spared
        and (id := outcomes.record_ids[place] or remembered[place])
        and (goes[place] or (there[place] and remembered[place] not in (None, id)))
    ]


def _settle_link(outcomes: Outcomes, place: int, name: str, refusal: Refusal | None) -> None:
    if refusal is not None:
        outcomes.waiting[place][name] = refusal
        return
    del outcomes.waiting[place][name]
    if not outcomes.waiting[place]:
        del outcomes.waiting[place]
