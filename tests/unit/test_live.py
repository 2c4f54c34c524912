"""The live look: one value on both sides, and what a memory destination shows of the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverse_etl import live
from reverse_etl.config.sync import FieldMapping, RemovedSet
from reverse_etl.errors import Interrupted, Throttled
from reverse_etl.job import Unwatched
from reverse_etl.live import same, told
from reverse_etl.model import Field, FieldType
from reverse_etl.protocols import OTHERS
from reverse_etl.report import LiveSummary, RunReport
from reverse_etl.stop import Stop
from reverse_etl.testing import MemoryAccount, MemoryDestination
from reverse_etl.values import as_text
from tests.house import FIELDS, House, sync


def field(kind: FieldType, **more: Any) -> Field:
    return Field("f", kind, **more)


def equal(column: pa.Array, there: object, kind: FieldType, **more: Any) -> bool:
    """Whether what a column holds, as it goes out, is what the CRM gives back."""
    taken = field(kind, **more)
    [sent] = as_text(column, taken)
    return same(told(sent, taken), told(there, taken), taken)


@pytest.mark.parametrize(
    ("column", "there", "kind"),
    [
        (pa.array(["x"]), "x", FieldType.TEXT),
        (pa.array(["  x "]), "x", FieldType.TEXT),
        (pa.array(["a\nb"]), "a\r\nb", FieldType.TEXT),
        (pa.array([""]), None, FieldType.TEXT),
        (pa.array([None], pa.string()), "", FieldType.TEXT),
        (pa.array([12]), "12", FieldType.TEXT),
        (pa.array([12]), "12.0", FieldType.NUMBER),
        (pa.array([Decimal("87.50")], pa.decimal128(5, 2)), 87.5, FieldType.NUMBER),
        (pa.array([1e7]), 1e7, FieldType.NUMBER),
        (
            pa.array([Decimal("12345678901234567890.5")], pa.decimal128(22, 1)),
            "12345678901234567890.5",
            FieldType.NUMBER,
        ),
        (pa.array([True]), "true", FieldType.BOOLEAN),
        (pa.array([True]), True, FieldType.BOOLEAN),
        (pa.array([0]), False, FieldType.BOOLEAN),
        (pa.array([date(2026, 1, 31)]), "2026-01-31", FieldType.DATE),
        (pa.array([date(2026, 1, 31)]), "2026-01-31T00:00:00Z", FieldType.DATE),
        (pa.array([date(2026, 1, 31)]), "1769817600000", FieldType.DATE),
        (
            pa.array([datetime(2026, 1, 31, 10, 20, 30, 999999, UTC)]),
            "2026-01-31T10:20:30.000+0000",
            FieldType.DATETIME,
        ),
        (pa.array([datetime(2026, 1, 31, 10, 20, 30)]), "2026-01-31T11:20:30.5+01:00", FieldType.DATETIME),
        (pa.array([date(1969, 12, 31)]), "-86400000", FieldType.DATETIME),
        (pa.array([time(10, 20, 30)]), "10:20:30.000Z", FieldType.TIME),
        (pa.array([["b", "a"]]), "a;b", FieldType.CHOICES),
        (pa.array([["b", "a"]]), '["b","a"]', FieldType.OTHER),
    ],
)
def test_two_spellings_of_one_value_are_equal(column: pa.Array, there: object, kind: FieldType) -> None:
    assert equal(column, there, kind)


@pytest.mark.parametrize(
    ("column", "there", "kind"),
    [
        (pa.array(["x"]), "X", FieldType.TEXT),
        (pa.array(["1"]), "1.0", FieldType.TEXT),
        (pa.array([1]), None, FieldType.NUMBER),
        (pa.array([1]), "one", FieldType.NUMBER),
        (
            pa.array([Decimal("12345678901234567890.5")], pa.decimal128(22, 1)),
            "12345678901234567890.4",
            FieldType.NUMBER,
        ),
        (pa.array([False]), None, FieldType.BOOLEAN),
        (pa.array([date(2026, 1, 31)]), "2026-02-01", FieldType.DATE),
        (pa.array([datetime(2026, 1, 31, 10, 20, 30)]), "2026-01-31T10:20:31Z", FieldType.DATETIME),
        (pa.array([datetime(2026, 1, 31, 10, 20, 30)]), "soon", FieldType.DATETIME),
        (pa.array([["a"]]), "a;b", FieldType.CHOICES),
    ],
)
def test_two_values_are_not_equal(column: pa.Array, there: object, kind: FieldType) -> None:
    assert not equal(column, there, kind)


def test_a_field_that_folds_case_does_so_here_too() -> None:
    assert equal(pa.array(["Ann@X.io"]), "ann@x.io", FieldType.TEXT, folds_case=True)
    assert told("Ann@X.io", field(FieldType.TEXT, folds_case=True)) == "Ann@X.io"


def test_a_box_that_can_only_be_unticked_is_false_when_nothing_is_sent() -> None:
    assert equal(pa.array([None], pa.bool_()), False, FieldType.BOOLEAN, clearable=False)


@given(
    st.sampled_from([*FieldType]),
    st.none() | st.text() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans(),
)
def test_any_value_has_a_form_that_is_equal_to_itself_and_stays_when_told_again(kind: FieldType, value: object) -> None:
    taken = field(kind)
    once = told(value, taken)
    assert same(once, told(value, taken), taken)
    assert same(told(once, taken), once, taken)


# --- what is looked at ----------------------------------------------------------------------------------------------


def look(house: House, **wishes: Any) -> LiveSummary:
    report: RunReport = house.go(dry_run=True, live=True, **wishes)
    assert report.plan is not None
    assert report.plan.live is not None
    return report.plan.live


def test_a_destination_that_finds_no_records_by_their_id_is_asked_by_match_value(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"), (3, "c@x.io", None))
    house.go()
    [first, *_] = house.crm.records.values()
    first["plan"] = "gold"
    house.people((1, "a@x.io", "pro"), (2, "b@x.io", "free"), (3, "c@x.io", None))
    found = look(house)
    assert found.states["update"] == 1
    assert found.sample[0].fields == {"plan": ("gold", "pro")}
    assert (dict(found.drift), found.looked_at, found.gone) == ({"plan": 1}, 3, 0)


def test_a_null_that_may_never_have_been_sent_is_no_drift(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", None))
    house.go()
    [record] = house.crm.records.values()
    record["plan"] = "gold"
    assert (look(house).looked_at, look(house).drift) == (1, {})


def test_a_record_that_is_gone_is_counted_apart(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"))
    house.go()
    house.crm.records.clear()
    assert (look(house).gone, look(house).looked_at) == (1, 0)


def test_removed_rows_are_not_looked_at(tmp_path: Path) -> None:
    house = House(tmp_path, sync(on_removed="archive"))
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    house.go()
    house.people((1, "a@x.io", "free"))
    found = look(house)
    assert (sum(found.states.values()), found.looked_at) == (0, 1)


class Doubtful(MemoryDestination):
    """Every match value finds a second record."""

    async def find(self, *asked: Any) -> dict[str, dict[str, object]]:
        return {value: {**record, OTHERS: ["r9"]} for value, record in (await super().find(*asked)).items()}


def test_a_match_value_that_finds_several_records_is_ambiguous(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"))
    house.go()
    fresh = House(tmp_path / "other", crm=house.crm)
    fresh.people((1, "a@x.io", "pro"))
    found = look(fresh, destination=lambda: Doubtful(account=fresh.crm))
    assert (found.states["ambiguous"], found.sample[0].fields) == (1, {})


class Busy(MemoryDestination):
    """Every look is one too many."""

    async def find(self, *asked: Any) -> dict[str, dict[str, object]]:
        raise Throttled("too many")


class Curious(MemoryDestination):
    """Does something while it is looked at."""

    def __init__(self, account: MemoryAccount, then: Callable[[], None] = lambda: None) -> None:
        super().__init__(account=account)
        self.then = then
        self.under_way = self.most = 0

    async def find(self, *asked: Any) -> dict[str, dict[str, object]]:
        self.then()
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            return await super().find(*asked)
        finally:
            self.under_way -= 1


class Unreadable:
    """A destination without `find`."""

    def __init__(self, destination: MemoryDestination) -> None:
        for name in ("limits", "traffic", "requests_per_second", "describe", "write", "account", "aclose"):
            setattr(self, name, getattr(destination, name))


def test_a_destination_whose_records_cannot_be_read_says_so_before_the_warehouse_is_asked(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"))
    report = house.run(dry_run=True, live=True, destination=lambda: Unreadable(MemoryDestination(account=house.crm)))
    assert report.error is not None
    assert (report.exit_code, report.error.code, house.warehouse.asked) == (1, "destination_config", [])
    assert "'crm': its records can't be read back" in report.error.message
    assert "leave out --live" in str(report.error.hint)


def test_what_breaks_the_look_is_the_runs_own_error_and_the_plan_stands(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"))
    report = house.run(dry_run=True, live=True, destination=lambda: Busy(account=house.crm))
    assert report.error is not None
    assert report.error.code == "destination_throttled"
    assert report.plan is not None
    assert (report.plan.live, report.plan.requests) == (None, 1)


def test_a_real_run_can_go_on_while_a_dry_one_looks(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"))
    house.go()
    house.people((1, "a@x.io", "pro"))
    [snapshot] = tmp_path.rglob("*.duckdb")
    opened: list[int] = []

    def write() -> None:
        with closing(duckdb.connect(str(snapshot))) as connection:
            opened.append(len(connection.execute("FROM rows").fetchall()))

    look(house, destination=lambda: Curious(house.crm, write))
    assert opened == [1]


def test_a_look_that_is_asked_to_stop_ends_before_its_next_call(tmp_path: Path) -> None:
    house = House(tmp_path, crm=MemoryAccount(*FIELDS, batch_size=1, in_flight=1))
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    stop = Stop()
    calls: list[int] = []

    def ask() -> None:
        calls.append(1)
        stop.ask(Interrupted("interrupted by SIGTERM", exit_code=143))

    report = house.run(dry_run=True, live=True, stop=stop, destination=lambda: Curious(house.crm, ask))
    assert (report.status, report.exit_code, len(calls)) == ("interrupted", 143, 1)


def test_record_ids_of_another_account_are_never_looked_for(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"))
    house.go()
    calls: list[int] = []
    other = MemoryAccount(*FIELDS, name="account-2")
    report = house.run(dry_run=True, live=True, destination=lambda: Curious(other, lambda: calls.append(1)))
    assert report.error is not None
    assert (report.exit_code, calls) == (6, [])


def test_as_many_calls_are_under_way_as_the_destination_takes_and_each_batch_is_told(tmp_path: Path) -> None:
    house = House(tmp_path, crm=MemoryAccount(*FIELDS, batch_size=2, in_flight=3))
    house.people(*((number, f"p{number}@x.io", "free") for number in range(40)))
    told_of: list[tuple[int, int]] = []
    crm = Curious(house.crm)

    class Watching(Unwatched):
        def progress(self, sync: str, done: int, total: int, requests: int) -> None:
            told_of.append((done, total))

    assert look(house, observer=Watching(), destination=lambda: crm).states["create"] == 40
    assert told_of == [(done, 40) for done in range(2, 42, 2)]
    assert crm.most == 3


# --- what a run would look up, too ------------------------------------------------------------------------------------

USER = Field("user_id", FieldType.TEXT, identifies=True)
COLUMNS = "id INTEGER, email VARCHAR, uid VARCHAR, plan VARCHAR"


def resolving(root: Path, *rows: Any, plan: str = "always", **changes: Any) -> House:
    """A sync that looks records up, with and without an id to find them by; see `test_resolve`."""
    mapping = {"email": "email", "user_id": "uid", "plan": FieldMapping(column="plan", write=plan)}
    house = House(root, sync(**{"mapping": mapping, **changes}), crm=MemoryAccount(*FIELDS[:2], USER))
    house.people(*rows, columns=COLUMNS)
    return house


def states(found: LiveSummary) -> dict[Any, tuple[str, Any, Any]]:
    return {row.key: (row.state, dict(row.fields), dict(row.kept)) for row in found.sample}


def test_a_field_written_if_empty_is_shown_as_kept_where_the_record_has_a_value(tmp_path: Path) -> None:
    rows = [(at, f"p{at}@x.io", f"u{at}", "free") for at in range(4)]
    house = resolving(tmp_path, *rows, plan="if_empty")
    house.crm.add(email="p0@x.io", user_id="u0", plan="gold")
    house.crm.add(email="p1@x.io", user_id="other", plan="free")
    house.crm.add(email="p2@x.io", user_id="u2", plan="")
    found = look(house)
    assert states(found) == {
        0: ("kept", {}, {"plan": ("gold", "free")}),
        1: ("update", {"user_id": ("other", "u1")}, {}),
        2: ("update", {"plan": (None, "free")}, {}),
        3: ("create", {"email": (None, "p3@x.io"), "user_id": (None, "u3"), "plan": (None, "free")}, {}),
    }
    assert (found.kept_fields, len(house.crm.writes)) == ({"plan": 1}, 0)


def test_a_field_written_on_create_is_kept_in_every_record_that_is_there(tmp_path: Path) -> None:
    house = resolving(tmp_path, (1, "a@x.io", "u1", "free"), plan="on_create")
    house.crm.add(email="a@x.io", user_id="u1")
    assert states(look(house)) == {1: ("kept", {}, {"plan": (None, "free")})}
    house.go()
    house.people((1, "a@x.io", "u9", "pro"), columns=COLUMNS)
    assert states(look(house)) == {1: ("update", {"user_id": ("u1", "u9")}, {"plan": (None, "pro")})}


def test_the_next_match_field_is_asked_as_a_run_would(tmp_path: Path) -> None:
    house = resolving(tmp_path, (1, "a@x.io", "u1", "free"), match="user_id", fallbacks=("email",))
    house.crm.add(email="a@x.io", plan="gold")
    assert states(look(house)) == {1: ("update", {"user_id": (None, "u1"), "plan": ("gold", "free")}, {})}


def test_a_row_that_fits_two_records_names_both(tmp_path: Path) -> None:
    house = resolving(tmp_path, (1, "a@x.io", "u1", "free"), match="user_id", fallbacks=("email",))
    one, other = house.crm.add(user_id="u1"), house.crm.add(email="a@x.io")
    [row] = look(house).sample
    assert (row.state, row.fields) == ("ambiguous", {})
    assert row.reason is not None and one in row.reason and other in row.reason


def test_a_protected_address_is_no_difference_and_no_drift(tmp_path: Path) -> None:
    house = resolving(tmp_path, (1, "A@x.io", "u1", "free"), protects_match=True)
    [record] = [house.crm.records[house.crm.add(email="a@x.io", user_id="u1")]]
    assert states(look(house)) == {1: ("update", {"plan": (None, "free")}, {})}
    house.go()
    record["email"] = "other@x.io"
    assert look(house).drift == {}


def test_values_that_a_record_may_have_kept_are_no_drift(tmp_path: Path) -> None:
    house = resolving(tmp_path, (1, "a@x.io", "u1", "free"), plan="if_empty")
    house.crm.add(email="a@x.io", user_id="u1", plan="gold")
    house.go()
    found = look(house)
    assert (found.looked_at, found.drift) == (1, {})


def test_a_live_look_and_the_run_after_it_agree(tmp_path: Path) -> None:
    rows = [(at, f"p{at}@x.io", f"u{at}", "free") for at in range(6)]
    house = resolving(tmp_path, *rows, plan="if_empty", match="user_id", fallbacks=("email",))
    for record in ({"user_id": "u0", "plan": "gold"}, {"email": "p1@x.io"}, {"user_id": "u2"}, {"email": "p2@x.io"}):
        house.crm.add(**record)
    found = look(house)
    report = house.go()
    assert report.delivered.created == found.states["create"] == 3
    assert report.rejected == found.states["ambiguous"] == 1
    assert report.delivered.kept_fields == sum(found.kept_fields.values()) == 1


def test_what_a_removed_row_is_set_to_is_written_whatever_the_record_has(tmp_path: Path) -> None:
    house = resolving(
        tmp_path, (1, "a@x.io", "u1", "free"), plan="on_create", on_removed=RemovedSet(set={"plan": "gone"})
    )
    house.go()
    house.people((2, "b@x.io", "u2", "free"), columns=COLUMNS)
    shown = states(look(house))
    assert shown[1] == ("update", {"plan": ("free", "gone")}, {})
    house.go()
    assert house.crm.by("email")["a@x.io"]["plan"] == "gone"


class Counted(MemoryDestination):
    """How many looks are under way at once."""

    under_way = most = 0

    async def find(
        self, object: str, match: str, values: Sequence[str], fields: Sequence[str]
    ) -> dict[str, dict[str, object]]:
        Counted.under_way += 1
        Counted.most = max(Counted.most, Counted.under_way)
        try:
            return await super().find(object, match, values, fields)
        finally:
            Counted.under_way -= 1


def test_of_wide_rows_fewer_are_looked_at_at_once_and_nothing_is_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path)
    monkeypatch.setattr(house, "destination", lambda: Counted(account=house.crm))
    house.people(*((n, f"p{n}@x.io", "free") for n in range(1, 901)))
    house.go()
    house.people(*((n, f"p{n}@x.io", "free" if n % 3 else "pro") for n in range(1, 901)))
    found, most = [], []
    for cells in (live.CELLS, 1):
        monkeypatch.setattr(live, "CELLS", cells)
        Counted.most = 0
        found.append(look(house))
        most.append(Counted.most)
    assert most == [4, 1]
    assert found[0] == found[1]
    assert (found[0].states["update"], found[0].looked_at, len(found[0].sample)) == (300, 900, 20)


def test_of_very_long_acknowledged_rows_fewer_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(tmp_path)
    house.people(*((n, f"p{n}@x.io", "x" * 1000) for n in range(1, 21)))
    house.go()
    monkeypatch.setattr(live, "CHARACTERS", 5_500)
    assert look(house).looked_at == 5
