# ruff: noqa: S101  # a suite is made of assertions
"""What a destination that keeps links apart from records must do, as a suite beside `DestinationSuite`.

class TestMyCrmLinks(LinkerSuite):
    object, parent = "contacts", Parent("domain", "companies")

    def make_destination(self):
        return MyCrm(MyConfig(token="..."), Opening("crm", Forgetful(), FakeClock()))

    def add_record(self, number): ...  # by another way than the destination; returns its id
    def add_parent(self, number): ...  # returns the match value that finds it
    def parents_of(self, record_id): ...  # the match values of the parents that it is linked to
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import anyio
import pyarrow as pa
import pytest

from reverse_etl.errors import DestinationError
from reverse_etl.model import Batch, Field, Operation, Parent
from reverse_etl.protocols import LINK_WAITING, RECORD_GONE, Destination, Linker
from reverse_etl.verdicts import Refusal


class LinkerSuite:
    """Records and parents are told apart by number."""

    object: str
    parent: Parent
    missing_id: str = "999999999"  # well-formed, but no record has it

    @abstractmethod
    def make_destination(self) -> Destination:
        """A new connection to one and the same account; called where an event loop runs."""

    @abstractmethod
    def add_record(self, number: int) -> str:
        """Make a record of `object`; returns its id."""

    @abstractmethod
    def add_parent(self, number: int) -> str:
        """Make a record of the parent's object; returns its match value."""

    @abstractmethod
    def parents_of(self, record_id: str) -> set[str]:
        """The match values of the parents that a record is linked to now."""

    def absent(self) -> str:
        """A match value that no parent has."""
        return "nobody.example"

    # --- tools ----------------------------------------------------------------------------------------------------

    def link(
        self, ids: Sequence[str], new: Sequence[str | None], old: Sequence[str | None] | None = None
    ) -> dict[int, Refusal]:
        """One call on a connection of its own: links that were `old` are to be `new`."""

        async def scenario() -> dict[int, Refusal]:
            destination = self.make_destination()
            try:
                assert isinstance(destination, Linker)
                field = await destination.describe_link(self.object, "link", self.parent)
                assert (field.name, field.parent, field.read_only) == ("link", self.parent, None)
                return await destination.link(self._batch(field, ids, new, old or [None] * len(ids)), ids)
            finally:
                await destination.aclose()

        return anyio.run(scenario)

    def _batch(self, field: Field, ids: Sequence[str], new: Sequence[str | None], old: Sequence[str | None]) -> Batch:
        return Batch(
            object=self.object,
            operation=Operation.UPDATE,
            match="",
            fields=(field,),
            rows=pa.RecordBatch.from_pydict({"link": pa.array(new, pa.string())}),
            keys=pa.array([str(at) for at in range(len(ids))], pa.string()),
            record_ids=pa.array(ids, pa.string()),
            sends=pa.RecordBatch.from_pydict({"link": pa.array([True] * len(ids))}),
            linked=pa.RecordBatch.from_pydict({"link": pa.array(old, pa.string())}),
        )

    # --- what it does ---------------------------------------------------------------------------------------------

    def test_a_parent_of_an_object_that_is_not_there_is_refused_before_any_write(self) -> None:
        async def scenario() -> None:
            destination = self.make_destination()
            try:
                assert isinstance(destination, Linker)
                await destination.describe_link(self.object, "link", Parent(self.parent.match, "no_such_object"))
            finally:
                await destination.aclose()

        with pytest.raises(DestinationError) as refused:
            anyio.run(scenario)
        assert refused.value.code == "destination_config"
        assert "no_such_object" in refused.value.message

    def test_links_are_made_where_their_rows_stand_and_again_without_harm(self) -> None:
        ids, values = [self.add_record(1), self.add_record(2)], [self.add_parent(1), self.add_parent(2)]
        for _ in range(2):
            assert self.link(ids, values) == {}
            assert [self.parents_of(id) for id in ids] == [{values[0]}, {values[1]}]

    def test_a_changed_link_leaves_no_old_one_behind(self) -> None:
        record, first, second = self.add_record(1), self.add_parent(1), self.add_parent(2)
        self.link([record], [first])
        assert self.link([record], [second], [first]) == {}
        assert self.parents_of(record) == {second}

    def test_a_null_takes_the_link_off_and_again_without_harm(self) -> None:
        record, other, parent = self.add_record(1), self.add_record(2), self.add_parent(1)
        self.link([record, other], [parent, parent])
        for _ in range(2):
            assert self.link([record], [None], [parent]) == {}
            assert (self.parents_of(record), self.parents_of(other)) == (set(), {parent})

    def test_a_parent_that_is_not_there_is_waited_for_and_the_old_link_stays(self) -> None:
        ids, parent = [self.add_record(1), self.add_record(2)], self.add_parent(1)
        self.link(ids[:1], [parent])
        refused = self.link(ids, [self.absent(), parent], [parent, None])
        assert {at: reason.code for at, reason in refused.items()} == {0: LINK_WAITING}
        assert refused[0].message
        assert [self.parents_of(id) for id in ids] == [{parent}, {parent}]

    def test_an_old_parent_that_is_not_there_any_more_hinders_nothing(self) -> None:
        record, parent = self.add_record(1), self.add_parent(1)
        assert self.link([record], [parent], [self.absent()]) == {}
        assert self.link([record], [None], [self.absent()]) == {}
        assert self.parents_of(record) == {parent}

    def test_a_record_that_is_gone_is_told_apart_from_a_missing_parent(self) -> None:
        record, parent = self.add_record(1), self.add_parent(1)
        refused = self.link([self.missing_id, record], [parent, parent])
        assert {at: reason.code for at, reason in refused.items()} == {0: RECORD_GONE}
        assert self.parents_of(record) == {parent}
