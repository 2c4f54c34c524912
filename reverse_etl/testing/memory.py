"""A destination that lives in memory, keeps a ledger of what it was asked, and misbehaves to order.

account = MemoryAccount(Field("email", FieldType.TEXT, identifies=True), Field("plan", FieldType.TEXT))
account.refuse(lambda record: record.get("plan") == "gold", code="SOLD_OUT")
account.fail(InDoubt("cut off"), call=3, applied=True)
account.fail(InDoubt("cut off"), call=4, late=True)  # carried out when `account.land()` says so
MemoryDestination(account=account)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import anyio.lowlevel
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from reverse_etl import values
from reverse_etl.errors import BatchRefused, DestinationError
from reverse_etl.model import Batch, Field, FieldType, Limits, ObjectSchema, Operation, Parent
from reverse_etl.protocols import Opening, Traffic
from reverse_etl.testing.parents import MemoryParents
from reverse_etl.verdicts import Outcomes, Refusal

EMAIL = Field("email", FieldType.TEXT, identifies=True, folds_case=True)
TURNS = 20  # of the event loop, that a call takes
Record = dict[str, Any]
Condition = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Written:
    """One call of `write`, in the order they came. `rows` are what each row asked for: None clears a field."""

    operation: Operation
    object: str
    keys: list[str]
    rows: list[Record]
    record_ids: list[str | None]
    applied: bool


@dataclass(frozen=True)
class Applied:
    """A row that was carried out, in the order they were: what it asked for, and the record since then.

    `record` is None when it was removed, `record_id` empty for an event.
    """

    operation: Operation
    key: str
    record_id: str
    row: Record
    record: Record | None


@dataclass
class _Fault:
    error: BaseException
    call: int
    last: int
    applied: bool
    late: bool


class MemoryAccount:
    """What stands at the destination, over all runs and connections; and how it will misbehave."""

    def __init__(
        self,
        *fields: Field,
        name: str = "account-1",
        batch_size: int = 100,
        in_flight: int = 4,
        repeatable: bool = True,
        parents: MemoryParents | None = None,
    ) -> None:
        self.name = name
        self.parents = parents or MemoryParents()
        self.fields = {field.name: field for field in fields or (EMAIL,)}
        self.limits = Limits(batch_size, in_flight, repeatable=repeatable)
        self.records: dict[str, Record] = {}
        self.events: dict[tuple[str, str], Record] = {}
        self.writes: list[Written] = []
        self.applied: list[Applied] = []
        self.down: DestinationError | None = None
        self.described = 0
        self.under_way = 0
        self.most_under_way = 0
        self._made = 0
        self._calls = 0
        self._refusals: list[tuple[Condition, Refusal]] = []
        self._poison: Condition = lambda record: False
        self._unanswered: dict[str, int] = {}
        self._unheard: dict[str, int] = {}
        self._under_way: list[Batch] = []
        self._extra_answers = 0
        self._faults: list[_Fault] = []

    # --- orders ---------------------------------------------------------------------------------------------------

    def refuse(self, when: Condition, code: str = "REFUSED", message: str = "the account's rule forbids it") -> None:
        """Rows of which `when` is true are refused, each by itself."""
        self._refusals.append((when, Refusal(code, message, "request-1")))

    def refuse_batches(self, when: Condition) -> None:
        """A batch that holds such a row is refused whole, without a word on which row it was."""
        self._poison = when

    def leave_out(self, *keys: str, times: int = 1, applied: bool = False) -> None:
        """The answer says nothing of these keys, so many times; they are written all the same when `applied`."""
        (self._unheard if applied else self._unanswered).update(dict.fromkeys(keys, times))

    def fail(
        self, error: BaseException, *, call: int, times: int = 1, applied: bool = False, late: bool = False
    ) -> None:
        """Raise on the so-many-th call of `write` from now (1: the next), and on those after it, `times` in all.

        What the call asked for is carried out before that when `applied`, when `late` not before `land` is called. An
        error that isn't one of a destination ends the run on the spot, as if its process had been killed.
        """
        first = self._calls + call
        self._faults.append(_Fault(error, first, first + times - 1, applied, late))

    def go_down(self, error: DestinationError) -> None:
        """From now on every call fails, whatever it asks for; nothing is carried out."""
        self.down = error

    def land(self) -> None:
        """Carry out what came late, in its order."""
        landing, self._under_way = self._under_way, []
        for batch in landing:
            self._carry_out(batch, [*batch.records(_plain)], Outcomes(len(batch)))

    def answer_with_too_many(self, extra: int = 1) -> None:
        """From now on every answer has more verdicts than rows (or fewer, when negative)."""
        self._extra_answers = extra

    def obey(self) -> None:
        """Forget all orders: behave from now on. What is to come late still does."""
        self._refusals, self._faults, self._unanswered, self._unheard = [], [], {}, {}
        self._poison, self._extra_answers, self.down = (lambda record: False), 0, None

    # --- a look inside ----------------------------------------------------------------------------------------------

    def by(self, match: str) -> dict[Any, Record]:
        """The records by one field, without their ids."""
        return {record[match]: {**record} for record in self.records.values()}

    def sent(self) -> list[tuple[Operation, str, Record]]:
        """Every row of every call, in order: operation, key, what it asked for."""
        return [
            (call.operation, key, row) for call in self.writes for key, row in zip(call.keys, call.rows, strict=True)
        ]

    def add(self, **values_: Any) -> str:
        """A record that somebody else made. Returns its id."""
        self._made += 1
        record_id = f"r{self._made}"
        self.records[record_id] = dict(values_)
        return record_id

    # --- one call ---------------------------------------------------------------------------------------------------

    def write(self, batch: Batch) -> Outcomes:
        self._calls += 1
        rows = list(batch.records(_plain))
        fault = next((fault for fault in self._faults if fault.call <= self._calls <= fault.last), None)
        poisoned = any(self._poison(row) for row in rows)
        applied = not poisoned and (fault is None or fault.applied)
        ids = batch.record_ids.to_pylist()
        self.writes.append(Written(batch.operation, batch.object, batch.keys.to_pylist(), rows, ids, applied))
        outcomes = Outcomes(len(batch) + self._extra_answers)
        if applied and not self._extra_answers:
            self._carry_out(batch, rows, outcomes)
        if fault is not None and fault.late:
            self._under_way.append(batch)
        if fault is not None:
            raise fault.error
        if poisoned:
            raise BatchRefused("the batch was refused", code="BAD_BATCH", request_id="request-1")
        return outcomes

    def _carry_out(self, batch: Batch, rows: Sequence[Record], outcomes: Outcomes) -> None:
        for position, row in enumerate(rows):
            key = batch.keys[position].as_py()
            if _once_less(self._unanswered, key):
                continue
            verdict = Outcomes(1) if _once_less(self._unheard, key) else outcomes
            self._write_row(batch.slice(position, 1), 0 if verdict is not outcomes else position, row, verdict)

    def _write_row(self, batch: Batch, position: int, row: Record, outcomes: Outcomes) -> None:
        """One row, alone in its batch; its verdict goes to `position`."""
        refusal = next((refusal for when, refusal in self._refusals if when(row)), None)
        if refusal is not None:
            outcomes.rejected(position, refusal)
            return
        if batch.operation is Operation.APPEND:
            self._append(batch, row)
            outcomes.created(position)
            return
        record_id = batch.record_ids[0].as_py() if batch.operation in _BY_ID else None
        value = batch.match_values(_plain)[0]
        found = record_id or self._find(batch.match, value)
        if batch.operation is Operation.REMOVE:
            self._remove(batch, position, found, outcomes)
        elif refusal := self._contradiction(batch, row, record_id, found):
            outcomes.rejected(position, refusal)
        elif found is None or found not in self.records:
            self._make(batch, position, row, outcomes)
        elif batch.operation is Operation.CREATE:
            outcomes.skipped(position, found)
        else:
            self._change(batch, found, row)
            outcomes.updated(position, found)

    def _contradiction(self, batch: Batch, row: Record, record_id: str | None, found: str | None) -> Refusal | None:
        """A row that says nothing of which record it is about, or gives a record another one's identifying value."""
        if record_id is None and self._folded(batch.match, batch.match_values(_plain)[0]) in (None, ""):
            return Refusal("NO_MATCH_VALUE", f"the row has no {batch.match}", "request-1")
        if record_id is not None and record_id not in self.records:
            return None
        for name, value in row.items():
            finds = self.fields[name].identifies and self._folded(name, value) not in (None, "")
            holder = self._find(name, value) if finds else None
            if holder not in (None, found) and batch.operation is not Operation.CREATE:
                return Refusal("DUPLICATE_VALUE", f"another record has this {name}", "request-1")
        return None

    def _append(self, batch: Batch, row: Record) -> None:
        """An event is known by its sync and key: of several only the first is kept."""
        key = batch.keys[0].as_py()
        self.events.setdefault((batch.sync, key), {name: value for name, value in row.items() if value is not None})
        self.applied.append(Applied(batch.operation, key, "", row, self.events[batch.sync, key]))

    def _make(self, batch: Batch, position: int, row: Record, outcomes: Outcomes) -> None:
        if batch.operation is Operation.UPDATE:
            outcomes.missing(position)
            return
        record_id = self.add(**{name: value for name, value in row.items() if value is not None})
        self._note(batch, record_id, row)
        outcomes.created(position, record_id)

    def _change(self, batch: Batch, record_id: str, row: Record) -> None:
        record = self.records[record_id]
        for name, value in row.items():
            if value is None:
                record.pop(name, None)
            else:
                record[name] = value
        self._note(batch, record_id, row)

    def _remove(self, batch: Batch, position: int, found: str | None, outcomes: Outcomes) -> None:
        if found is None or self.records.pop(found, None) is None:
            outcomes.missing(position)
        else:
            self._note(batch, found, {})
            outcomes.removed(position)

    def _note(self, batch: Batch, record_id: str, row: Record) -> None:
        record = {**self.records[record_id]} if record_id in self.records else None
        self.applied.append(Applied(batch.operation, batch.keys[0].as_py(), record_id, row, record))

    def _find(self, match: str, value: Any) -> str | None:
        wanted = self._folded(match, value)
        return next(
            (id for id, record in self.records.items() if self._folded(match, record.get(match)) == wanted), None
        )

    def _folded(self, match: str, value: Any) -> Any:
        return value.strip().lower() if isinstance(value, str) and self.fields[match].folds_case else value


def _once_less(orders: dict[str, int], key: str) -> bool:
    """Whether an order about a key still holds; if so, once less from now on."""
    if orders.get(key, 0) <= 0:
        return False
    orders[key] -= 1
    return True


class MemoryConfig(BaseModel):
    """Settings of a connection to memory."""

    model_config = ConfigDict(extra="forbid")
    type: str = "memory"


class MemoryDestination:
    """One connection to an account; see `protocols.Destination`. Every object has the account's fields."""

    Config: ClassVar[type[BaseModel]] = MemoryConfig
    modes: ClassVar[frozenset[str]] = frozenset({"upsert", "update", "insert", "mirror", "append"})
    removal: ClassVar[str] = "delete"
    objects: ClassVar[frozenset[str]] = frozenset({"contacts"})

    def __init__(self, config: Any = None, opening: Opening | None = None, *, account: MemoryAccount) -> None:
        self.at = account
        self.closed = False
        self._traffic = Traffic()

    def limits(self, object: str, operation: Operation, rows: int) -> Limits:
        return self.at.limits

    @property
    def traffic(self) -> Traffic:
        return self._traffic

    @property
    def requests_per_second(self) -> float:
        return 10.0

    async def account(self) -> str:
        await self._called()
        return self.at.name

    async def describe(self, object: str) -> ObjectSchema:
        await self._called()
        self.at.described += 1
        if object not in self.objects:
            raise DestinationError(
                f"the account has no object {object!r}", code="destination_object", hint="the objects are: contacts"
            )
        return ObjectSchema(object, dict(self.at.fields))

    async def write(self, batch: Batch) -> Outcomes:
        self.at.under_way += 1
        self.at.most_under_way = max(self.at.most_under_way, self.at.under_way)
        try:
            await self._called()
            return self.at.write(batch)
        finally:
            self.at.under_way -= 1

    async def find(
        self, object: str, match: str, values: Sequence[str], fields: Sequence[str]
    ) -> dict[str, dict[str, object]]:
        await self._called()
        return dict(self._found(match, values, fields))

    async def describe_link(self, object: str, name: str, parent: Parent) -> Field:
        return self.at.parents.describe(name, parent)

    async def link(self, batch: Batch, record_ids: Sequence[str]) -> dict[int, Refusal]:
        await self._called()
        return self.at.parents.link(batch, record_ids, self.at.records)

    async def aclose(self) -> None:
        self.closed = True

    def _found(
        self, match: str, wanted: Sequence[str], fields: Sequence[str]
    ) -> Iterator[tuple[str, dict[str, object]]]:
        for value in wanted:
            record_id = self.at._find(match, value)
            if record_id is not None:
                record = self.at.records[record_id]
                yield value, {"id": record_id, **{name: record.get(name) for name in fields}}

    async def _called(self) -> None:
        """A call takes a while: others get on with theirs meanwhile."""
        self._traffic.requests += 1
        for _ in range(TURNS):
            await anyio.lowlevel.checkpoint()
        if self.at.down is not None:
            raise self.at.down


def _plain(column: pa.Array, field: Field) -> list[Any]:
    """Values as people see them: nothing is rendered for a wire that isn't there."""
    return [values.canonical(value) for value in column.to_pylist()]


_BY_ID = frozenset({Operation.UPDATE, Operation.REMOVE})
