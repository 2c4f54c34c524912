"""Whole runs against trouble at random: nothing is lost, nothing is told twice, the books balance."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from reverse_etl.clock import parse
from reverse_etl.config.sync import GuardConfig, SyncConfig
from reverse_etl.errors import AuthError, DestinationError, InDoubt, Unavailable
from reverse_etl.testing import MemoryAccount
from reverse_etl.testing.clock import MIDDAY
from tests.house import FIELDS, House, sync

LAG = timedelta(minutes=10)
UNGUARDED = GuardConfig(max_emptied=None)
COLUMNS = "id INTEGER, email VARCHAR, plan VARCHAR, seen TIMESTAMPTZ"
PLANS = st.sampled_from(["free", "pro", "gold", None])
FEW = settings(
    max_examples=12,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),  # a run takes its time: shrinking one example takes minutes
    suppress_health_check=[HealthCheck.too_slow],
)


@contextmanager
def house(definition: SyncConfig, *, batch_size: int = 100, in_flight: int = 4) -> Iterator[House]:
    account = MemoryAccount(*FIELDS, batch_size=batch_size, in_flight=in_flight)
    with tempfile.TemporaryDirectory() as folder:
        home = House(Path(folder), definition, crm=account)
        yield home
        home.warehouse.connection.close()


# --- the cursor ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Edit:
    """A row gets a plan. `when`: the place of its cursor value beside the newest one, in minutes; None: it has none."""

    id: int
    plan: str | None
    when: int | None


@dataclass(frozen=True)
class Step:
    """What happens in the warehouse, and what goes wrong in the run after it."""

    edits: list[Edit]
    refuses_gold: bool
    unanswered: list[int]
    error: DestinationError | None
    on_call: int
    applied: bool


EDITS = st.builds(Edit, st.integers(1, 6), st.sampled_from(["free", "pro", "gold"]), st.sampled_from([None, -9, 0, 15]))
ERRORS = st.sampled_from([None, None, Unavailable("down"), InDoubt("cut off"), AuthError("revoked")])
STEPS = st.builds(
    Step,
    st.lists(EDITS, max_size=4),
    st.booleans(),
    st.lists(st.integers(1, 6), max_size=1),
    ERRORS,
    st.integers(1, 3),
    st.booleans(),
)


class World:
    """The warehouse as a dictionary, and the house that syncs it."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.rows: dict[int, tuple[str | None, datetime | None]] = {}
        self.newest = MIDDAY - timedelta(hours=10)

    def play(self, step: Step) -> None:
        for edit in step.edits:
            moment = None if edit.when is None else self.newest + timedelta(minutes=edit.when)
            self.newest = max(self.newest, moment or self.newest)
            self.rows[edit.id] = (edit.plan, moment)
        crm = self.house.crm
        crm.obey()
        if step.refuses_gold:
            crm.refuse(lambda record: record.get("plan") == "gold")
        if step.error is not None:
            crm.fail(step.error, call=step.on_call, applied=step.applied and isinstance(step.error, InDoubt))
        crm.leave_out(*(str(id) for id in step.unanswered), times=2)
        self.lay()
        self.house.run()

    def lay(self) -> None:
        rows = [(id, f"p{id}@x.io", plan, seen) for id, (plan, seen) in self.rows.items()]
        self.house.people(*rows, columns=COLUMNS)

    def nothing_is_passed(self) -> None:
        """Every row that the next run will not read is acknowledged, or stands on the list."""
        cursor = self.house.state().cursor_value
        if cursor is None:
            return
        known, listed = self.house.known(), self.house.refused()
        for id, (plan, seen) in self.rows.items():
            if seen is not None and seen < parse(cursor) - LAG and str(id) not in listed:
                assert known[str(id)]["f_plan"] == plan, f"{id} was passed over"

    def content(self) -> dict[str, dict[str, Any]]:
        told = {f"p{id}@x.io": plan for id, (plan, _) in self.rows.items()}
        return {email: {"email": email} | ({"plan": plan} if plan else {}) for email, plan in told.items()}


@FEW
@given(steps=st.lists(STEPS, min_size=1, max_size=4))
def test_the_cursor_passes_no_row_that_is_neither_acknowledged_nor_listed(steps: list[Step]) -> None:
    with house(sync(cursor="seen", guard=UNGUARDED), batch_size=2, in_flight=2) as home:
        world = World(home)
        for step in steps:
            world.play(step)
            world.nothing_is_passed()
        home.crm.obey()
        home.clock.advance(timedelta(hours=25))
        home.go()
        assert home.crm.by("email") == world.content()
        assert home.refused() == {}
        home.idle()


# --- verdicts ------------------------------------------------------------------------------------------------------


@FEW
@given(
    plans=st.dictionaries(st.integers(0, 30), PLANS, min_size=1, max_size=12),
    repeated=st.lists(st.integers(0, 30), max_size=2),
    nulls=st.integers(0, 2),
    refused=st.sets(st.integers(0, 30)),
    poison=st.sets(st.integers(0, 30), max_size=3),
    silent=st.sets(st.integers(0, 30), max_size=3),
    batch_size=st.integers(1, 7),
)
def test_every_row_read_gets_exactly_one_verdict(  # noqa: PLR0917  # what is drawn comes by position
    plans: dict[int, str | None],
    repeated: list[int],
    nulls: int,
    refused: set[int],
    poison: set[int],
    silent: set[int],
    batch_size: int,
) -> None:
    def number(record: Any) -> int:
        return int(record["email"][1:].split("@")[0])

    with house(sync(), batch_size=batch_size) as home:
        home.crm.refuse(lambda record: number(record) in refused)
        home.crm.refuse_batches(lambda record: number(record) in poison)
        home.crm.leave_out(*(str(key) for key in silent), times=99)
        rows: list[tuple[object, ...]] = [(key, f"p{key}@x.io", plan) for key, plan in plans.items()]
        rows += [(key, f"p{key}@x.io", "again") for key in repeated]
        rows += [(None, f"n{at}@x.io", None) for at in range(nulls)]
        home.people(*rows)
        report = home.go()
        once = set(plans) - set(repeated) | {key for key in set(repeated) - set(plans) if repeated.count(key) == 1}
        delivered = report.delivered.created + report.delivered.updated
        counted = delivered + report.rejected + report.in_doubt + report.rows.invalid + report.rows.unchanged
        assert counted == report.rows.read == len(rows)
        assert {number(record) for record in home.crm.records.values()} == once - refused - poison - silent
        assert report.rows.invalid == len(rows) - len(once)
        listed = home.refused()
        assert {key for key in listed if key is not None} == {
            str(key) for key in (set(plans) | set(repeated)) - (once - refused - poison - silent)
        }


# --- the same, whatever the order and the batch size ---------------------------------------------------------------

AWKWARD = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(1, 8)),
        st.sampled_from(["a@x.io", "A@x.io", " b@x.io", "b@x.io", "c@x.io", None, ""]),
        PLANS,
    ),
    max_size=8,
)


@FEW
@given(first=AWKWARD, second=AWKWARD, data=st.data(), batch_size=st.integers(1, 5))
def test_row_order_and_batch_size_change_nothing(
    first: list[Any], second: list[Any], data: st.DataObject, batch_size: int
) -> None:
    results = []
    for size, shuffled in ((100, False), (batch_size, True)):
        with house(sync(guard=UNGUARDED), batch_size=size, in_flight=1) as home:
            for rows in (first, second):
                home.people(*(data.draw(st.permutations(rows)) if shuffled else rows))
                home.run()
            home.unopened = True
            assert home.run().requests == 0
            results.append((home.codes(), home.crm.by("email"), sorted(home.known())))
    assert results[0] == results[1]
