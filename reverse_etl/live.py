"""The live look of a dry run: what the CRM holds now, beside what would be sent and what was last acknowledged.

Records are read back through `Lookup.find`, by remembered id where the object has an `id_field`, else by match value,
in batches; `resolve` says, as it does for a run, which record is a row's and what of it would be left alone. Links are
not read back: of one that would be made, the acknowledged value stands beside the new one. Nothing is written anywhere.

Both sides of a comparison are brought to one form first: text as it goes on the wire, without blanks around it and
with plain line ends; numbers by value; times to the second, in UTC; several choices in any order; nothing at all and
empty text are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal, InvalidOperation

import anyio
import orjson
import pyarrow as pa
from anyio import to_thread

from reverse_etl.config.sync import SyncConfig
from reverse_etl.errors import DestinationError
from reverse_etl.localdb import column_types, quoted, table
from reverse_etl.mapping import PayloadColumn, key_kinds
from reverse_etl.model import JSON, Batch, Field, FieldType, Limits, ObjectSchema, Operation
from reverse_etl.plan import Parcel, Plan
from reverse_etl.protocols import FROZEN, OTHERS, Destination, Lookup
from reverse_etl.report import LiveSample, LiveSummary, LiveTally
from reverse_etl.resolve import Resolver, Sparing, lookup_of
from reverse_etl.standing import key_value
from reverse_etl.stop import Stop
from reverse_etl.values import NUMERIC, as_text, canonical
from reverse_etl.verdicts import Refusal

UNCHANGED = 1_000  # acknowledged rows that aren't sent, looked at for drift; fewer of them where they are very long
CHARACTERS = 20_000_000  # of these rows
CELLS = 100_000  # values looked at at once
BLIND = "leave out --live: a dry run compares with what was last acknowledged"

Record = Mapping[str, object]
Progress = Callable[[int], None]


# --- one value on both sides ---------------------------------------------------------------------------------------


def told(value: object, field: Field) -> JSON:
    """A value in the form in which both sides are compared and shown."""
    text = _text(value).strip().replace("\r\n", "\n")
    if not text:  # an unticked box of Salesforce's can't be empty
        return False if field.type is FieldType.BOOLEAN and not field.clearable else None
    match field.type:
        case FieldType.BOOLEAN:
            return {"true": True, "false": False}.get(text.lower(), text)
        case FieldType.NUMBER | FieldType.INTEGER:
            return _number(text)
        case FieldType.DATE:
            moment = _moment(text)
            return text if moment is None else moment.date().isoformat()
        case FieldType.DATETIME:
            moment = _moment(text)
            return text if moment is None else f"{moment.replace(tzinfo=None).isoformat(timespec='seconds')}Z"
        case FieldType.TIME:
            return _clock_time(text)
        case FieldType.CHOICES:
            return ";".join(sorted({part.strip() for part in text.split(";") if part.strip()}))
    return text


def same(one: JSON, other: JSON, field: Field) -> bool:
    """Whether two values, as `told` gives them, are one to the destination."""
    if field.folds_case and isinstance(one, str) and isinstance(other, str):
        return one.casefold() == other.casefold()
    if field.type in NUMERIC and isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    return type(one) is type(other) and one == other


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else orjson.dumps(value).decode()


def _number(text: str) -> JSON:
    try:
        return canonical(Decimal(text))
    except InvalidOperation:
        return text


def _moment(text: str) -> datetime | None:
    """A time, given as ISO 8601 or as milliseconds since 1970, in UTC; None when it is neither."""
    try:
        if text.lstrip("-").isdecimal():
            return datetime.fromtimestamp(int(text) / 1000, UTC)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _clock_time(text: str) -> str:
    try:
        return time.fromisoformat(text.removesuffix("Z")).isoformat("milliseconds")
    except ValueError:
        return text


# --- the look ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Acknowledged:
    """Rows as they were last acknowledged: each one's record id, and its values as text, by destination field."""

    record_ids: Mapping[str, str]
    values: Mapping[str, Sequence[str | None]]  # a column a field, in the order of `record_ids`

    def rows(self) -> Iterator[tuple[str, str, dict[str, str | None]]]:
        """Key, record id and values of each."""
        for at, (key, record_id) in enumerate(self.record_ids.items()):
            yield key, record_id, {name: column[at] for name, column in self.values.items()}


def unchanged(made: Plan) -> Acknowledged:
    """Some acknowledged rows that are neither sent nor removed, spread over all keys. Needs the relation `known`."""
    have = column_types(made.comparison.connection, "known")
    columns = [column for column in _held(made) if have.get(column.name) == column.type]
    others = "key NOT IN (SELECT key FROM delta) AND key NOT IN (SELECT key FROM removed)"
    sql = f"FROM known WHERE sent AND NOT gone AND record_id IS NOT NULL AND {others} ORDER BY hash(key)"
    sizes = ", ".join(f"coalesce(length(CAST({quoted(column.name)} AS VARCHAR)), 0)" for column in columns) or "0"
    so_far = f"sum(list_sum([{sizes}])) OVER (ORDER BY hash(key)) AS so_far"
    chosen = f"SELECT *, {so_far} FROM (SELECT * {sql} LIMIT {UNCHANGED if columns else 0})"
    return _acknowledged(made, columns, lambda column: column.name, f"FROM ({chosen}) WHERE so_far <= {CHARACTERS}")


def _held(made: Plan) -> list[PayloadColumn]:
    """What a record itself holds: a link to another one isn't read back."""
    return [column for column in made.shape.payload if not column.links and not column.digested]


def _acknowledged(
    made: Plan, columns: Sequence[PayloadColumn], name: Callable[[PayloadColumn], str], rows: str
) -> Acknowledged:
    if made.schema is None:
        raise AssertionError("a live look, but the object was never described")
    chosen = ", ".join(
        ["key", "record_id", *(f"{quoted(name(column))} AS {quoted(column.name)}" for column in columns)]
    )
    found = table(made.comparison.connection, f"SELECT {chosen} {rows}")
    values = {c.field: as_text(found.column(c.name), made.schema.fields[c.field]) for c in columns}
    ids = zip(found.column("key").to_pylist(), found.column("record_id").to_pylist(), strict=True)
    return Acknowledged(dict(ids), values)


def lookup(destination: Destination, sync: SyncConfig) -> Lookup:
    """The destination as one that can be looked at. Raises DestinationError where there is nothing to see."""
    if sync.mode == "append":
        message = f"{sync.name} appends: no record is behind its rows that could be looked at"
        raise DestinationError(message, code="destination_config", hint=BLIND)
    return lookup_of(destination, sync.destination, hint=BLIND)


async def look(
    made: Plan, standing: Acknowledged, destination: Destination, stop: Stop, on_progress: Progress
) -> LiveSummary:
    """Read back the records of the rows that would be sent, and of `standing`, and say how they differ."""
    limits = destination.limits(made.sync.object, Operation.UPDATE, 1)
    looking = _Look(made, lookup(destination, made.sync), limits, stop, on_progress)
    await looking.at_rows_to_send()
    await looking.at_standing(standing)
    return looking.summary()


class _Look:
    """The whole look: batch by batch, as many at once as the destination takes."""

    def __init__(self, made: Plan, lookup: Lookup, limits: Limits, stop: Stop, on_progress: Progress) -> None:
        if made.schema is None:
            raise AssertionError("a live look, but the object was never described")
        self.made = made
        self.schema: ObjectSchema = made.schema
        self.lookup = lookup
        self.limits = limits
        self.stop = stop
        self.on_progress = on_progress
        self.kinds = key_kinds(made.shape)
        names = [column.field for column in _held(made)]
        self.resolver = Resolver.reading(made.sync, self, self.schema, names)
        self.steady = self._steady(names)
        wide = CELLS // max(1, limits.batch_size * len(names))
        self.at_once = max(1, min(limits.in_flight, wide))  # batches
        self.slots = anyio.Semaphore(self.at_once)
        self.read = self.looked_at = self.gone = self.settled = 0
        self.drift: Counter[str] = Counter()
        self.tally = LiveTally()

    # --- rows to send -------------------------------------------------------------------------------------------------

    async def at_rows_to_send(self) -> None:
        hops = self.made.parcels(lambda group: self.limits)
        while (parcels := await to_thread.run_sync(next, hops, None)) is not None:
            written = [parcel for parcel in parcels if parcel.batch.operation is not Operation.REMOVE]
            for start in range(0, len(written), self.at_once):
                await self._at_some(written[start : start + self.at_once])

    async def _at_some(self, parcels: Sequence[Parcel]) -> None:
        """Batches that are looked at side by side; what came of them is added up in their order."""
        before = await to_thread.run_sync(self._before, parcels)
        tallies = [LiveTally() for _ in parcels]
        async with anyio.create_task_group() as tasks:
            for parcel, tally in zip(parcels, tallies, strict=True):
                tasks.start_soon(self._at, parcel, before, tally)
        for tally in tallies:
            self.tally.add(tally)

    def _before(self, parcels: Sequence[Parcel]) -> dict[str, dict[str, str | None]]:
        """What was last acknowledged of the rows that remember a record, by key."""
        known = [parcel.batch.keys.filter(parcel.batch.record_ids.is_valid()) for parcel in parcels]
        keys = pa.chunked_array(known, pa.string())
        if not len(keys) or not _held(self.made):
            return {}
        connection = self.made.comparison.connection
        connection.register("asked", pa.table({"key": keys}))
        try:
            rows = "FROM delta WHERE key IN (SELECT key FROM asked)"
            found = _acknowledged(self.made, _held(self.made), lambda column: column.old, rows)
        finally:
            connection.unregister("asked")
        return {key: values for key, _, values in found.rows()}

    async def _at(self, parcel: Parcel, before: Mapping[str, dict[str, str | None]], tally: LiveTally) -> None:
        """One batch: the state of each row, in order."""
        batch = parcel.batch
        beside = await self._beside(batch, removal=parcel.removal)
        for at, key in enumerate(batch.keys.to_pylist()):
            tally.note(beside.judged(at, key_value(key, self.kinds)))
            record = beside.records.get(at)
            if record is not None and record["id"] == beside.ids[at] and key in before:
                self._note_drift(before[key], record)
        self._settle(len(batch))

    async def _beside(self, batch: Batch, *, removal: bool) -> _Beside:
        """The rows of a batch with their records: by remembered id, else found as a run would find them."""
        ids: list[str | None] = batch.record_ids.to_pylist()
        own = await self.resolver.by_id(batch.object, [id for id in ids if id])
        lost = [at for at, id in enumerate(ids) if id and id not in own]
        records: dict[int, Record] = {at: own[id] for at, id in enumerate(ids) if id and id in own}
        again = lost if self.schema.id_field is not None and (batch.recreates or batch.refinds) else []
        found, ambiguous = await self.resolver.search(batch, [*(at for at, id in enumerate(ids) if not id), *again])
        if self.schema.id_field is None:
            records |= await self.resolver.by_match(batch, batch.match, lost)
        protected = await self.resolver.protected(batch)
        return _Beside(
            self, batch, records | found, ambiguous, again=frozenset(again), protected=protected, removal=removal
        )

    # --- rows that stand ----------------------------------------------------------------------------------------------

    async def at_standing(self, standing: Acknowledged) -> None:
        """Rows that wouldn't be sent: only their drift."""
        rows = list(standing.rows())
        size = self.limits.batch_size
        async with anyio.create_task_group() as tasks:
            for start in range(0, len(rows), size):
                tasks.start_soon(self._at_some_standing, rows[start : start + size])

    async def _at_some_standing(self, rows: Sequence[tuple[str, str, dict[str, str | None]]]) -> None:
        match = self.made.sync.match
        async with self.slots:
            if self.schema.id_field is not None:
                own = await self.resolver.by_id(self.schema.name, [record_id for _, record_id, _ in rows])
                found = [own.get(record_id) for _, record_id, _ in rows]
            else:
                sought = [value for _, _, values in rows if (value := values.get(match))]
                by_value = await self.find(self.schema.name, match, sought, self.steady) if sought else {}
                found = [by_value.get(values.get(match) or "") for _, _, values in rows]
        for (_, record_id, values), record in zip(rows, found, strict=True):
            if record is not None and record["id"] == record_id:
                self._note_drift(values, record)
            else:
                self.gone += 1
        self._settle(len(rows))

    def _note_drift(self, acknowledged: Mapping[str, str | None], record: Record) -> None:
        """Fields that no longer hold what was acknowledged. A NULL says nothing: a creation never sends it."""
        self.looked_at += 1
        for name in self.steady:
            value = acknowledged.get(name)
            field = self.schema.fields[name]
            if value is None or (field.type is FieldType.CHOICES and value.startswith(";")):  # added to what was ticked
                continue
            if not same(told(value, field), told(record.get(name), field), field):
                self.drift[name] += 1

    def _steady(self, names: Sequence[str]) -> list[str]:
        """Fields whose acknowledged value is what was written: not those that a record may have kept its own of."""
        sync = self.made.sync
        kept = sync.matches if sync.protects_match else ()
        return [name for name in names if name not in kept and sync.mapping[name].write == "always"]

    # --- calls --------------------------------------------------------------------------------------------------------

    async def find(
        self, object: str, match: str, values: Sequence[str], fields: Sequence[str]
    ) -> dict[str, dict[str, object]]:
        """`protocols.Lookup`, counting what is read."""
        self.stop.check()
        found = await self.lookup.find(object, match, values, fields)
        self.read += len({str(record["id"]) for record in found.values()})
        return found

    def _settle(self, rows: int) -> None:
        self.settled += rows
        self.on_progress(self.settled)

    # --- what came of it ----------------------------------------------------------------------------------------------

    def summary(self) -> LiveSummary:
        return LiveSummary(
            read=self.read,
            states={state: self.tally.states[state] for state in LiveSummary.STATES},
            drift=dict(sorted(self.drift.items())),
            looked_at=self.looked_at,
            gone=self.gone,
            kept_fields=dict(sorted(self.tally.kept.items())),
            sample=self.tally.sample(),
        )


class _Beside(Sparing):
    """One batch beside its records. `again`: places of rows whose record is gone, so that they would go out whole.

    Rows that left the result (`removal`) get what `on_removed` sets, whatever their record has.
    """

    def __init__(
        self,
        look: _Look,
        batch: Batch,
        records: Mapping[int, Record],
        ambiguous: Mapping[int, Refusal],
        *,
        again: frozenset[int],
        protected: frozenset[int],
        removal: bool,
    ) -> None:
        anew = again if look.resolver.protects_match else frozenset[int]()
        super().__init__(look.resolver, batch, protected | anew)
        self.links = [] if batch.linked is None else batch.linked.to_pylist()  # as acknowledged
        self.fields = look.schema.fields
        self.records = records
        self.ambiguous = ambiguous
        self.removal = removal
        self.values = {field.name: batch.rendered(as_text, field) for field in batch.fields}
        for name, values in self.values.items():
            for at in again:
                self.goes[name][at] = values[at] is not None

    def judged(self, at: int, key: JSON) -> LiveSample:
        """What would become of a row."""
        record, batch = self.records.get(at), self.batch
        if at in self.ambiguous:
            return LiveSample(key, "ambiguous", {}, reason=self.ambiguous[at].message)
        if record is None:
            if batch.operation is Operation.UPDATE and not batch.recreates:
                return LiveSample(key, "missing", {})
            new = ((name, self._told(name, at)) for name in self._sent(at))
            return LiveSample(key, "create", {name: (None, value) for name, value in new if value is not None})
        if OTHERS in record:
            reason = f"{batch.match} finds several records: {record['id']}, {record[OTHERS]}"
            return LiveSample(key, "ambiguous", {}, reason=reason)
        if batch.operation is Operation.CREATE:
            return LiveSample(key, "kept", {})
        if FROZEN in record:
            return LiveSample(key, "frozen", {}, reason=str(record[FROZEN]))
        spared = [] if self.removal else self.spare(at, record)
        kept = self._differing(spared, at, record)
        fields = self._differing(self._sent(at), at, record)
        return LiveSample(key, "update" if fields else "kept" if kept else "equal", fields, kept)

    def _sent(self, at: int) -> list[str]:
        return [name for name, goes in self.goes.items() if goes[at]]

    def _differing(self, names: Sequence[str], at: int, record: Record) -> dict[str, tuple[JSON, JSON]]:
        """Those of these fields whose value in the CRM is another one, each as (there, new)."""
        there = {**record, **self.links[at]} if self.links else record
        pairs = ((name, told(there.get(name), self.fields[name]), self._told(name, at)) for name in names)
        return {name: (old, new) for name, old, new in pairs if not same(old, new, self.fields[name])}

    def _told(self, name: str, at: int) -> JSON:
        return told(self.values[name][at], self.fields[name])
