# ruff: noqa: S101  # a suite is made of assertions
"""What every destination must do, as a suite: subclass it, say how to make your destination and rows for it.

class TestMyCrm(DestinationSuite):
    object, match, changed_field = "contacts", "email", "plan"

    def make_destination(self):
        return MyCrm(MyConfig(token="..."), Opening("crm", Forgetful(), FakeClock()))

    def row(self, number):
        return {"email": f"p{number}@example.com", "plan": "free"}

    def records(self):
        return {email: fields for ...}  # what the account holds, asked for by another way than the destination
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import anyio
import pyarrow as pa
import pytest

from reverse_etl.errors import DestinationError
from reverse_etl.model import Batch, Operation
from reverse_etl.protocols import Destination, Lookup
from reverse_etl.verdicts import DELIVERED, Outcomes, Verdict

T = TypeVar("T")
Row = Mapping[str, Any]


class DestinationSuite:
    """Rows are told apart by number; `row(n)` has one match value for one number, in every test of an account."""

    object: str
    match: str
    changed_field: str  # of `row`, not the match, text, and may be cleared
    missing_id: str = "999999999"  # well-formed, but no record has it
    most_rows: int = 100  # bound to the batches of the size test
    event_object: str = ""  # what mode append adds `event`s to; every destination that has this mode names one

    @abstractmethod
    def make_destination(self) -> Destination:
        """A new connection to one and the same account; called where an event loop runs."""

    @abstractmethod
    def row(self, number: int) -> dict[str, Any]:
        """Values for every field that a new record needs, the match field and `changed_field` among them."""

    @abstractmethod
    def records(self) -> dict[str, dict[str, Any]]:
        """What the account holds now, by match value; cleared fields are None, empty or absent."""

    def refused_row(self, number: int) -> dict[str, Any] | None:
        """Like `row`, but the destination itself refuses it; None where it refuses none."""
        return None

    def event(self, number: int) -> dict[str, Any]:
        """Values of an event that leads somewhere; only asked for with an `event_object`."""
        raise NotImplementedError

    def events(self) -> list[Any]:
        """The events that the account holds now."""
        raise NotImplementedError

    # --- tools ----------------------------------------------------------------------------------------------------

    def use(self, scenario: Callable[[Destination], Awaitable[T]]) -> T:
        """Run a scenario on a connection of its own."""

        async def on_a_connection() -> T:
            destination = self.make_destination()
            try:
                return await scenario(destination)
            finally:
                await destination.aclose()

        return anyio.run(on_a_connection)

    async def batch(
        self,
        destination: Destination,
        operation: Operation,
        rows: Sequence[Row],
        record_ids: Sequence[str | None] | None = None,
        sends: Sequence[str] | None = None,
    ) -> Batch:
        """A batch as a run makes it; `sends`: the fields that go out, by default all."""
        fields = (await destination.describe(self.object)).fields
        names = list(self.row(0))
        return Batch(
            object=self.object,
            operation=operation,
            match=self.match,
            fields=tuple(fields[name] for name in names),
            rows=pa.RecordBatch.from_pydict({name: pa.array([row[name] for row in rows]) for name in names}),
            keys=pa.array([str(at) for at in range(len(rows))], pa.string()),
            record_ids=pa.array(record_ids or [None] * len(rows), pa.string()),
            sends=None
            if operation in (Operation.UPSERT, Operation.CREATE)
            else pa.RecordBatch.from_pydict(
                {name: pa.array([sends is None or name in sends] * len(rows), pa.bool_()) for name in names}
            ),
        )

    def write(
        self,
        operation: Operation,
        rows: Sequence[Row],
        record_ids: Sequence[str | None] | None = None,
        sends: Sequence[str] | None = None,
    ) -> Outcomes:
        """One call on a connection of its own. Checks what holds of every answer."""

        async def scenario(destination: Destination) -> Outcomes:
            batch = await self.batch(destination, operation, rows, record_ids, sends)
            before = destination.traffic.requests
            outcomes = await destination.write(batch)
            assert destination.traffic.requests > before, "a write without a request"
            return outcomes

        outcomes = self.use(scenario)
        assert len(outcomes) == len(rows), f"{len(outcomes)} verdicts for {len(rows)} rows"
        for position, verdict in enumerate(outcomes.verdicts):
            assert (position in outcomes.refusals) == (verdict is Verdict.REJECTED)
        return outcomes

    def upserted(self, *rows: Row) -> list[str]:
        """Make sure of these records. Returns their ids."""
        outcomes = self.write(Operation.UPSERT, rows)
        assert set(outcomes.verdicts) <= {Verdict.CREATED, Verdict.UPDATED}, outcomes.verdicts
        ids = [record_id for record_id in outcomes.record_ids if record_id is not None]
        assert len(ids) == len(rows), f"an upsert must tell the record's id: {outcomes.record_ids}"
        return ids

    def held(self, number: int) -> dict[str, Any]:
        """What the account holds of one row's record."""
        return self.records()[self.row(number)[self.match]]

    # --- what it is -----------------------------------------------------------------------------------------------

    def test_it_says_what_it_is(self) -> None:
        async def scenario(destination: Destination) -> None:
            limits = destination.limits(self.object, Operation.UPSERT, 1)
            assert limits.batch_size >= 1
            assert limits.in_flight >= 1
            assert destination.requests_per_second >= 0
            assert destination.modes <= {"upsert", "update", "insert", "mirror", "append"}
            assert destination.removal in ("archive", "delete")
            assert ("append" in destination.modes) is bool(self.event_object)

        self.use(scenario)

    def test_the_account_is_always_the_same(self) -> None:
        async def scenario(destination: Destination) -> str:
            account = await destination.account()
            assert await destination.account() == account
            return account

        first = self.use(scenario)
        assert first
        assert self.use(scenario) == first

    def test_an_object_is_described_with_the_fields_that_rows_use(self) -> None:
        schema = self.use(lambda destination: destination.describe(self.object))
        for name in self.row(0):
            assert schema.fields[name].name == name
            assert schema.fields[name].read_only is None, f"{name} can't be written"
        assert schema.fields[self.match].identifies, f"{self.match} must identify a record"

    def test_an_object_that_is_not_there_is_named(self) -> None:
        with pytest.raises(DestinationError) as refused:
            self.use(lambda destination: destination.describe("no_such_object"))
        assert refused.value.code == "destination_object"
        assert "no_such_object" in refused.value.message

    def test_closing_twice_is_harmless(self) -> None:
        self.use(lambda destination: destination.aclose())

    # --- upsert ---------------------------------------------------------------------------------------------------

    def test_an_upsert_creates_then_updates_the_same_records(self) -> None:
        first = self.write(Operation.UPSERT, [self.row(1), self.row(2)])
        assert set(first.verdicts) <= {Verdict.CREATED, Verdict.UPDATED}
        count = len(self.records())
        second = self.write(Operation.UPSERT, [self.row(1), self.row(2)])
        assert second.verdicts == [Verdict.UPDATED, Verdict.UPDATED]
        assert second.record_ids == first.record_ids
        assert len(self.records()) == count == 2

    def test_a_batch_of_one_row_and_one_as_large_as_it_takes_arrive_whole(self) -> None:
        size = min(self.use(self._batch_size), self.most_rows)
        outcomes = self.write(Operation.UPSERT, [self.row(number) for number in range(size)])
        assert set(outcomes.verdicts) <= DELIVERED
        assert self.write(Operation.UPSERT, [self.row(size)]).verdicts[0] in DELIVERED
        assert set(self.records()) == {self.row(number)[self.match] for number in range(size + 1)}

    def test_verdicts_stand_where_their_rows_stand(self) -> None:
        old = self.upserted(self.row(2))[0]
        outcomes = self.write(Operation.UPSERT, [self.row(1), self.row(2), self.row(3)])
        assert outcomes.record_ids[1] == old
        again = self.write(Operation.UPSERT, [self.row(3), self.row(1)])
        assert again.record_ids == [outcomes.record_ids[2], outcomes.record_ids[0]]

    def test_a_null_in_an_upsert_leaves_the_field_alone(self) -> None:
        self.upserted(self.row(1))
        self.upserted({**self.row(1), self.changed_field: None})
        assert self.held(1)[self.changed_field] == self.row(1)[self.changed_field]

    def test_a_refused_row_is_rejected_with_its_reason_and_alone(self) -> None:
        refused = self.refused_row(2)
        if refused is None:
            pytest.skip("this destination refuses no row that it was told to")
        outcomes = self.write(Operation.UPSERT, [self.row(1), refused, self.row(3)])
        assert outcomes.verdicts == [Verdict.CREATED, Verdict.REJECTED, Verdict.CREATED]
        assert outcomes.refusals[1].code
        assert outcomes.refusals[1].message
        assert set(self.records()) == {self.row(1)[self.match], self.row(3)[self.match]}

    # --- insert ---------------------------------------------------------------------------------------------------

    def test_an_insert_leaves_a_record_that_exists_alone(self) -> None:
        if not self._has("insert"):
            pytest.skip("this destination has no `insert`")
        self.upserted(self.row(1))
        outcomes = self.write(Operation.CREATE, [{**self.row(1), self.changed_field: "Other"}, self.row(2)])
        assert outcomes.verdicts == [Verdict.SKIPPED, Verdict.CREATED]
        assert self.held(1)[self.changed_field] == self.row(1)[self.changed_field]

    # --- update ---------------------------------------------------------------------------------------------------

    def test_an_update_by_id_sends_only_the_marked_fields(self) -> None:
        ids = self.upserted(self.row(1))
        changed = {name: value if name == self.match else f"{value}x" for name, value in self.row(1).items()}
        outcomes = self.write(Operation.UPDATE, [changed], ids, [self.changed_field])
        assert outcomes.verdicts == [Verdict.UPDATED]
        expected = {**self.row(1), self.changed_field: changed[self.changed_field]}
        assert {name: self.held(1)[name] for name in expected} == expected

    def test_an_update_with_a_null_clears_the_field(self) -> None:
        ids = self.upserted(self.row(1))
        self.write(Operation.UPDATE, [{**self.row(1), self.changed_field: None}], ids, [self.changed_field])
        assert not self.held(1).get(self.changed_field)

    def test_a_match_value_can_change_by_id(self) -> None:
        ids = self.upserted(self.row(1))
        outcomes = self.write(Operation.UPDATE, [self.row(2)], ids, [self.match])
        assert outcomes.verdicts == [Verdict.UPDATED]
        assert list(self.records()) == [self.row(2)[self.match]]

    def test_an_update_of_a_record_that_is_gone_says_so_and_makes_none(self) -> None:
        ids = self.upserted(self.row(1))
        changed = [{**self.row(number), self.changed_field: "Changed"} for number in (1, 2)]
        outcomes = self.write(Operation.UPDATE, changed, [ids[0], self.missing_id], [self.changed_field])
        assert outcomes.verdicts == [Verdict.UPDATED, Verdict.MISSING]
        assert list(self.records()) == [self.row(1)[self.match]]

    # --- removal --------------------------------------------------------------------------------------------------

    def test_removing_twice_is_harmless(self) -> None:
        ids = self.upserted(self.row(1), self.row(2))
        assert self.write(Operation.REMOVE, [self.row(1)], ids[:1], []).verdicts == [Verdict.REMOVED]
        assert list(self.records()) == [self.row(2)[self.match]]
        again = self.write(Operation.REMOVE, [self.row(1)], ids[:1], [])
        assert again.verdicts[0] in (Verdict.REMOVED, Verdict.MISSING)
        assert list(self.records()) == [self.row(2)[self.match]]

    # --- append ---------------------------------------------------------------------------------------------------

    def test_an_event_that_is_sent_again_is_there_once(self) -> None:
        if not self.event_object:
            pytest.skip("this destination has no `append`")

        async def scenario(destination: Destination) -> None:
            schema = await destination.describe(self.event_object)
            rows = [self.event(number) for number in range(3)]
            names = [*rows[0]]
            batch = Batch(
                object=schema.name,
                operation=Operation.APPEND,
                match="",
                fields=tuple(schema.fields[name] for name in names),
                rows=pa.RecordBatch.from_pydict({name: pa.array([row[name] for row in rows]) for name in names}),
                keys=pa.array(["a", "b", "c"]),
                record_ids=pa.nulls(3, pa.string()),
                sync="events",
            )
            for part in (batch.slice(0, 2), batch, batch):  # the first of three answers was lost, say
                assert (await destination.write(part)).verdicts == [Verdict.CREATED] * len(part)

        self.use(scenario)
        assert len(self.events()) == 3

    # --- reading back ---------------------------------------------------------------------------------------------

    def test_records_are_found_by_match_value_and_absent_ones_left_out(self) -> None:
        ids = self.upserted(self.row(1), self.row(2))
        one, two, three = (self.row(number)[self.match] for number in (1, 2, 3))

        async def scenario(destination: Destination) -> dict[str, dict[str, object]]:
            if not isinstance(destination, Lookup):
                pytest.skip("this destination can't be read back")
            await destination.describe(self.object)
            return await destination.find(self.object, self.match, [one, two, three], [self.changed_field])

        found = self.use(scenario)
        assert {value: record["id"] for value, record in found.items()} == {one: ids[0], two: ids[1]}
        assert found[one][self.changed_field] == self.row(1)[self.changed_field]

    def _has(self, mode: str) -> bool:
        async def scenario(destination: Destination) -> bool:
            return mode in destination.modes

        return self.use(scenario)

    async def _batch_size(self, destination: Destination) -> int:
        return destination.limits(self.object, Operation.UPSERT, 1).batch_size
