"""Records looked up before their rows go out, where a sync's definition asks for it.

`match: [a, b]` finds a record by one field after the other; `secondary: protect` keeps a record's own address; a field
written `if_empty` or `on_create` is left alone where the record has it, or is there at all. Everything else needs no
look: the destination's own upsert finds records, and finds them without a race.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from reverse_etl.config.sync import SyncConfig
from reverse_etl.errors import DestinationError
from reverse_etl.model import Batch, ObjectSchema, Operation
from reverse_etl.protocols import OTHERS, Destination, Lookup
from reverse_etl.values import as_text
from reverse_etl.verdicts import Outcomes, Refusal

Record = Mapping[str, object]

NO_RECORD = Refusal("missing_record", "no record has this match value, and this sync never creates one")


def lookup_of(destination: Destination, connection: str, *, hint: str) -> Lookup:
    """The destination as one that can be read. Raises DestinationError."""
    if isinstance(destination, Lookup):
        return destination
    message = f"destination {connection!r}: its records can't be read back"
    raise DestinationError(message, code="destination_config", hint=hint)


@dataclass(frozen=True)
class Part:
    """Rows of a batch that go out in one way, and their places in it."""

    places: Sequence[int]
    batch: Batch


@dataclass(frozen=True)
class Resolver:
    """Finds the records of one sync's rows, and says which of their values stay.

    `id_field` is the field by which the object's records have their id, `fields` are read of each record.
    """

    lookup: Lookup
    matches: tuple[str, ...]
    protects_match: bool
    if_empty: frozenset[str]
    on_create: frozenset[str]
    id_field: str | None
    fields: tuple[str, ...]

    @classmethod
    def of(cls, sync: SyncConfig, destination: Destination, schema: ObjectSchema | None) -> Resolver | None:
        """None where the sync needs no look. Raises DestinationError where the destination can't be read."""
        if not (sync.fallbacks or sync.protects_match or any(e.write != "always" for e in sync.mapping.values())):
            return None
        hint = "leave `write`, `secondary` and the list of `match` out of the sync"
        return cls.reading(sync, lookup_of(destination, sync.destination, hint=hint), schema)

    @classmethod
    def reading(
        cls, sync: SyncConfig, lookup: Lookup, schema: ObjectSchema | None, fields: Sequence[str] | None = None
    ) -> Resolver:
        """For any sync; without `fields` only those are read that decide what stays."""
        if_empty = frozenset(name for name, entry in sync.mapping.items() if entry.write == "if_empty")
        return cls(
            lookup=lookup,
            matches=sync.matches,
            protects_match=sync.protects_match,
            if_empty=if_empty,
            on_create=frozenset(name for name, entry in sync.mapping.items() if entry.write == "on_create"),
            id_field=None if schema is None else schema.id_field,
            fields=tuple(if_empty if fields is None else fields),
        )

    async def parts(self, batch: Batch, outcomes: Outcomes) -> list[Part]:
        """How the rows of a batch go out; those for which nothing is to be done get their verdicts."""
        creates = batch.operation is Operation.CREATE and len(self.matches) > 1  # by one match the destination tells
        if batch.operation not in (Operation.UPSERT, Operation.UPDATE) and not creates:
            return [Part(range(len(batch)), batch)]
        ids: list[str | None] = batch.record_ids.to_pylist()
        records, ambiguous = await self.search(batch, [at for at, id in enumerate(ids) if id is None])
        for at, refusal in ambiguous.items():
            outcomes.rejected(at, refusal)
        parting = _Parting(self, batch, outcomes, await self.protected(batch))
        return [*parting.parts(records | await self._remembered(batch, ids))]

    async def search(self, batch: Batch, places: Sequence[int]) -> tuple[dict[int, Record], dict[int, Refusal]]:
        """The record that these rows' match values find, by place, and why a row is not told which is its own."""
        found: dict[int, dict[str, Record]] = defaultdict(dict)
        for match in self.matches:
            for at, record in (await self.by_match(batch, match, places)).items():
                found[at][match] = record
        ambiguous = {
            at: Refusal("ambiguous_match", _told(records)) for at, records in found.items() if _is_ambiguous(records)
        }
        return {at: next(iter(each.values())) for at, each in found.items() if at not in ambiguous}, ambiguous

    async def by_id(self, object: str, record_ids: Sequence[str]) -> dict[str, dict[str, object]]:
        """Records by their ids; none where the object has no field that finds them so."""
        return {} if self.id_field is None else await self._find(object, self.id_field, record_ids)

    async def by_match(self, batch: Batch, match: str, places: Sequence[int]) -> dict[int, Record]:
        """The records of these rows by one field's values."""
        texts = replace(batch, match=match).match_values(as_text)
        wanted = {at: str(texts[at]) for at in places if texts[at]}
        records = await self._find(batch.object, match, [*wanted.values()])
        return {at: records[text] for at, text in wanted.items() if text in records}

    async def protected(self, batch: Batch) -> frozenset[int]:
        """The rows whose record keeps its own match value: it is new to us, or the row's leads to it already."""
        if not self.protects_match or batch.operation is Operation.REMOVE:
            return frozenset()
        ids: list[str | None] = batch.record_ids.to_pylist()
        goes = [True] * len(batch) if batch.sends is None else batch.sends.column(batch.match).to_pylist()
        found = await self.by_match(
            batch, batch.match, [at for at, id in enumerate(ids) if id is not None and goes[at]]
        )
        known = {at for at, record in found.items() if record["id"] == ids[at]}
        return frozenset(known | {at for at, id in enumerate(ids) if id is None})

    async def _remembered(self, batch: Batch, ids: Sequence[str | None]) -> dict[int, Record]:
        """Records that we know, by place: looked at only for what they must not lose."""
        if batch.sends is None:
            return {}
        masks = [batch.sends.column(name).to_pylist() for name in self.if_empty]
        places = [at for at, id in enumerate(ids) if id is not None and any(mask[at] for mask in masks)]
        if self.id_field is None:
            found = await self.by_match(batch, batch.match, places)
            return {at: record for at, record in found.items() if record["id"] == ids[at]}
        records = await self.by_id(batch.object, [ids[at] or "" for at in places])
        return {at: records[id] for at in places if (id := ids[at] or "") in records}  # merged ones have another id

    async def _find(self, object: str, match: str, values: Sequence[str]) -> dict[str, dict[str, object]]:
        return await self.lookup.find(object, match, values, self.fields) if values else {}


class Sparing:
    """One batch beside the records of its rows: `goes` says, by field and place, what goes out of it.

    `ids` are the records' as far as they are known; `protected` are the rows whose records keep their match value.
    """

    def __init__(self, resolver: Resolver, batch: Batch, protected: frozenset[int]) -> None:
        self.resolver = resolver
        self.batch = batch
        self.protected = protected
        self.ids: list[str | None] = batch.record_ids.to_pylist()
        self.goes = {
            field.name: (
                batch.rows.column(field.name).is_valid() if batch.sends is None else batch.sends.column(field.name)
            ).to_pylist()
            for field in batch.fields
        }

    def spare(self, at: int, record: Record | None) -> list[str]:
        """Take out of a row what its record keeps; the fields that its mapping leaves alone there.

        Without a `record` it is one that we remember, of which nobody had to ask anything.
        """
        kept = [name for name in self.resolver.on_create if self.goes[name][at]]
        if record is not None:
            kept += [n for n in self.resolver.if_empty if self.goes[n][at] and record.get(n) not in (None, "")]
        for name in (*kept, *(self.resolver.matches if at in self.protected else ())):
            self.goes[name][at] = False
        return kept


class _Parting(Sparing):
    """The ways in which the rows of a batch go out, and the verdicts of those that needn't."""

    def __init__(self, resolver: Resolver, batch: Batch, outcomes: Outcomes, protected: frozenset[int]) -> None:
        super().__init__(resolver, batch, protected)
        self.outcomes = outcomes

    def parts(self, records: Mapping[int, Record]) -> Iterator[Part]:
        there: list[int] = []
        absent: defaultdict[str, list[int]] = defaultdict(list)
        for at, id in enumerate(self.ids):
            if at in self.outcomes.refusals:
                continue
            if at in records and self.batch.operation is Operation.CREATE:
                self.outcomes.skipped(at, str(records[at]["id"]))
            elif id is not None or at in records:
                if self._is_left(at, records.get(at)):
                    there.append(at)
            elif self.batch.operation is not Operation.UPDATE:
                absent[self._first_match(at)].append(at)
            else:
                self.outcomes.rejected(at, NO_RECORD)
        if there:
            yield Part(there, self._update(there))
        for match, places in absent.items():
            yield Part(places, replace(self.batch.take(places), match=match))

    def _is_left(self, at: int, record: Record | None) -> bool:
        """Whether anything is left to write when this record keeps what it keeps."""
        kept, is_new_to_us = self.spare(at, record), self.ids[at] is None
        if record is not None:
            self.ids[at] = str(record["id"])
        if kept:
            self.outcomes.kept[at] = len(kept)
        found_by = self.resolver.matches if is_new_to_us and (kept or self.resolver.protects_match) else ()
        if any(mask[at] for name, mask in self.goes.items() if name not in found_by):
            return True
        self.outcomes.skipped(at, self.ids[at])
        return False

    def _update(self, places: list[int]) -> Batch:
        batch = self.batch.take(places)
        masks = [pa.array([self.goes[field.name][at] for at in places]) for field in batch.fields]
        return replace(
            batch,
            operation=Operation.UPDATE,
            record_ids=pa.array([self.ids[at] for at in places], pa.string()),
            sends=pa.RecordBatch.from_arrays(masks, names=[field.name for field in batch.fields]),
        )

    def _first_match(self, at: int) -> str:
        return next((name for name in self.resolver.matches if self.goes[name][at]), self.batch.match)


def _is_ambiguous(records: Mapping[str, Record]) -> bool:
    return len({record["id"] for record in records.values()}) > 1 or any(OTHERS in r for r in records.values())


def _told(records: Mapping[str, Record]) -> str:
    """Which records a row could be about."""
    several = next(((by, record) for by, record in records.items() if OTHERS in record), None)
    if several is not None:
        by, record = several
        return f"{by} finds several records: {record['id']}, {record[OTHERS]}"
    return (
        ", ".join(f"{by} finds record {record['id']}" for by, record in records.items())
        + ": merge them, or match by one field"
    )
