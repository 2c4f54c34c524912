"""Rules that refuse a row before any call: each with its code, its field, and no innocent row."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from reverse_etl.checks import check_fields
from reverse_etl.model import Field, FieldType, ObjectSchema
from reverse_etl.testing import MemoryAccount
from tests.house import FIELDS, House, sync

NAN, ENDLESS = float("nan"), float("inf")


def codes(root: Path, field: Field, column: pa.Array) -> list[str | None]:
    """For each value of a column its row's code, None for one that goes out."""
    house = House(root, sync(mapping={"email": "email", field.name: "value"}), crm=MemoryAccount(FIELDS[0], field))
    size = range(len(column))
    table = pa.table({"id": pa.array(size), "email": [f"p{at}@x.io" for at in size], "value": column})
    house.warehouse.arrow("people", table)
    house.go()
    listed = house.refused()
    told = [listed.get(str(at)) for at in size]
    assert all(row.field == field.name and row.message for row in told if row is not None)
    assert len(house.crm.records) == told.count(None)
    return [None if row is None else row.code for row in told]


TEXT = FieldType.TEXT
PLANS: dict[str, Any] = {
    "options": ("free", "pro", "old"),
    "labels": (("Free", "free"), ("Pro", "pro"), ("Pro", "old"), ("old", "pro")),
}
CASES: list[tuple[str, Field, pa.Array, list[str | None]]] = [
    (
        "no number",
        Field("v", FieldType.NUMBER),
        pa.array([1.5, NAN, ENDLESS, -ENDLESS, None]),
        [None, "invalid_number", "invalid_number", "invalid_number", None],
    ),
    (
        "text that is no number",
        Field("v", FieldType.NUMBER),
        pa.array(["1", "-1.5", " 7 ", "1,5", "seven", "", None]),
        [None, None, None, "invalid_number", "invalid_number", "invalid_number", None],
    ),
    (
        "a NUL character",
        Field("v", TEXT),
        pa.array(["fine", "not\x00fine", None]),
        [None, "invalid_text", None],
    ),
    (
        "too long, by characters",
        Field("v", TEXT, max_length=3),
        pa.array(["abc", "éàü", "abcd", "", None]),
        [None, None, "invalid_too_long", None, None],
    ),
    (
        "not an option",
        Field("v", FieldType.CHOICE, options=("free", "it's")),
        pa.array(["free", "it's", "Free", "gold", "", None]),
        [None, None, "invalid_option", "invalid_option", None, None],
    ),
    (
        "a text of several options",
        Field("v", FieldType.CHOICES, options=("a", "b")),
        pa.array(["a;b", "a", ";a", "a;c", None]),
        [None, None, None, "invalid_option", None],
    ),
    (
        "a list of options",
        Field("v", FieldType.CHOICES, options=("a", "b")),
        pa.array([["a", "b"], [], ["c"], None], pa.list_(pa.string())),
        [None, None, "invalid_option", None],
    ),
    (
        "a label, a shared one, and one that is another option's value",
        Field("v", FieldType.CHOICE, **PLANS),
        pa.array(["Free", "Pro", "old", "FREE", None]),
        [None, "invalid_option", None, "invalid_option", None],
    ),
    (
        "labels of several options",
        Field("v", FieldType.CHOICES, **PLANS),
        pa.array(["Free;pro", "free;Pro", "", None]),
        [None, "invalid_option", None, None],
    ),
    (
        "a list with labels, blanks and what stands between values",
        Field("v", FieldType.CHOICES, options=("a", "b;c"), labels=(("A", "a"), ("B", "b;c"))),
        pa.array([["A", "a"], ["B", None], ["b;c"], ["C"], None], pa.list_(pa.string())),
        [None, None, "invalid_option", "invalid_option", None],
    ),
    (
        "no e-mail address",
        Field("v", TEXT, is_email=True),
        pa.array(["a@x.io", " A@x.io ", "ax.io", "a@@x.io", "a b@x.io", "a@x", "@x.io", "zoë@exämple.com", "", None]),
        [None, None, *["invalid_email"] * 5, None, None, None],
    ),
    (
        "text that is no time",
        Field("v", FieldType.DATETIME),
        pa.array(["2026-06-01", "2026-06-01T12:00:00Z", "yesterday", None]),
        [None, None, "invalid_time", None],
    ),
    (
        "text with a time of day for a date",
        Field("v", FieldType.DATE),
        pa.array(["2026-06-01", " 2026-06-01 ", "2026-06-01T12:00:00Z", "2026-06-01 12:00", "2026-13-01", None]),
        [None, None, *["invalid_time"] * 3, None],
    ),
    (
        "a number that is no boolean",
        Field("v", FieldType.BOOLEAN),
        pa.array([0, 1, 2, -1, None]),
        [None, None, "invalid_boolean", "invalid_boolean", None],
    ),
    (
        "a fraction for whole numbers",
        Field("v", FieldType.INTEGER, digits=8, scale=0),
        pa.array([1.0, 1.5, -0.25, None]),
        [None, "invalid_number", "invalid_number", None],
    ),
    (
        "a fraction for whole numbers, as text",
        Field("v", FieldType.INTEGER, digits=8, scale=0),
        pa.array(["12", "12.0", "12.5", "+7", None]),
        [None, None, "invalid_number", None, None],
    ),
    (
        "text that is no boolean",
        Field("v", FieldType.BOOLEAN),
        pa.array(["true", "False", "yes", None]),
        [None, None, "invalid_boolean", None],
    ),
    (
        "more digits than the field has",
        Field("v", FieldType.NUMBER, digits=5, scale=2),
        pa.array([Decimal("999.99"), Decimal("1000.00"), Decimal("-1000.00"), None]),
        [None, "invalid_out_of_range", "invalid_out_of_range", None],
    ),
]


@pytest.mark.parametrize(("field", "column", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_value_that_the_field_can_not_take_is_refused_alone(
    tmp_path: Path, field: Field, column: pa.Array, expected: list[str | None]
) -> None:
    assert codes(tmp_path, field, column) == expected


@pytest.mark.parametrize("moment", ["'infinity'::timestamptz", "'-infinity'::timestamptz", "'infinity'::date"])
def test_an_endless_time_is_refused(tmp_path: Path, moment: str) -> None:
    house = House(tmp_path, sync(sql=f"select 1 as id, 'a@x.io' as email, {moment} as plan"))
    house.go()
    assert house.codes() == {"1": "invalid_time"}


def test_a_value_that_does_not_go_out_refuses_nothing(tmp_path: Path) -> None:
    """An unchanged long text was acknowledged once: what its object says now is no reason to hold the row back."""
    house = House(tmp_path)
    house.people((1, "a@x.io", "long"))
    house.go()
    house.crm.fields["plan"] = Field("plan", FieldType.TEXT, max_length=3)
    house.people((1, "b@x.io", "long"))
    assert house.go().delivered.updated == 1


def test_an_invalid_row_is_read_and_checked_again_and_leaves_the_list(tmp_path: Path) -> None:
    crm = MemoryAccount(FIELDS[0], Field("plan", FieldType.CHOICE, options=("free",)))
    house = House(tmp_path, crm=crm)
    house.people((1, "a@x.io", "gold"))
    first = house.go()
    assert (first.rows.invalid, first.exit_code, first.requests) == (1, 3, 1)
    (row,) = house.refused().values()
    assert (row.kind, row.attempts, row.request_id, row.next_at) == ("invalid", 0, None, None)
    assert "(free)" in row.message
    house.go()
    (again,) = house.refused().values()
    assert (again.first_at, again.attempts) == (row.first_at, 0)
    crm.fields["plan"] = Field("plan", FieldType.CHOICE, options=("free", "gold"))
    assert house.go().delivered.created == 1
    assert house.refused() == {}


def test_the_first_reason_is_given_when_there_are_several(tmp_path: Path) -> None:
    fields: tuple[Any, ...] = (FIELDS[0], Field("plan", FieldType.TEXT, max_length=1))
    house = House(tmp_path, crm=MemoryAccount(*fields))
    house.people((1, None, "long\x00"), (2, None, "long"))
    house.go()
    assert house.codes() == {"1": "invalid_text", "2": "invalid_null_match"}
    assert house.go().rows.invalid == 2


# --- two fields that go together -------------------------------------------------------------------------------------

PIPELINE = Field("pipeline", FieldType.CHOICE, options=("p", "q"), labels=(("Sales", "p"), ("Renewals", "q")))
STAGE = Field(
    "stage",
    FieldType.CHOICE,
    options=("p1", "won", "q1"),
    labels=(("New", "p1"), ("Won", "won"), ("Asked", "q1")),
    allowed_with=("pipeline", (("p", "p1"), ("p", "won"), ("q", "q1"))),
)


def staged(root: Path, mapping: dict[str, str], *rows: tuple[Any, ...]) -> House:
    house = House(root, sync(mapping={"email": "email", **mapping}), crm=MemoryAccount(FIELDS[0], PIPELINE, STAGE))
    house.people(*rows, columns="id INTEGER, email VARCHAR, line VARCHAR, stage VARCHAR")
    return house


def test_a_stage_of_another_pipeline_is_refused_however_the_two_are_spelled(tmp_path: Path) -> None:
    rows = [("p", "p1"), ("Sales", "Won"), ("q", "Asked"), ("Renewals", "New"), ("p", "q1"), ("p", None), (None, "q1")]
    told = [(at, f"p{at}@x.io", *row) for at, row in enumerate(rows)]
    house = staged(tmp_path, {"pipeline": "line", "stage": "stage"}, *told)
    house.go()
    assert house.codes() == {"3": "invalid_option", "4": "invalid_option"}
    assert house.refused()["3"].message == "the value does not belong to this row's pipeline"


def test_a_pipeline_that_changes_without_its_stage_is_refused(tmp_path: Path) -> None:
    house = staged(tmp_path, {"pipeline": "line", "stage": "stage"}, (1, "a@x.io", "p", "p1"))
    house.go()
    house.people((1, "a@x.io", "q", "p1"), columns="id INTEGER, email VARCHAR, line VARCHAR, stage VARCHAR")
    house.go()
    assert house.codes() == {"1": "invalid_option"}


def test_a_stage_without_a_mapped_pipeline_may_be_any(tmp_path: Path) -> None:
    house = staged(tmp_path, {"stage": "stage"}, (1, "a@x.io", "q", "p1"))
    assert house.go().delivered.created == 1


# --- several choices -------------------------------------------------------------------------------------------------

TAGS = Field("tags", FieldType.CHOICES, options=("a", "b", "c"))


def tagged(root: Path, *tags: list[str] | None) -> House:
    house = House(root, sync(mapping={"email": "email", "tags": "tags"}), crm=MemoryAccount(FIELDS[0], TAGS))
    retag(house, *tags)
    return house


def retag(house: House, *tags: list[str] | None) -> None:
    rows = [(at, f"p{at}@x.io", each) for at, each in enumerate(tags)]
    house.people(*rows, columns="id INTEGER, email VARCHAR, tags VARCHAR[]")


def test_choices_that_only_come_in_another_order_or_twice_are_unchanged(tmp_path: Path) -> None:
    house = tagged(tmp_path, ["a", "b"], ["b", "c"], None)
    house.go()
    written = len(house.crm.writes)
    retag(house, ["b", "a", "b"], ["c"], None)
    report = house.go()
    assert (report.rows.unchanged, report.rows.changed, report.delivered.updated) == (2, 1, 1)
    assert len(house.crm.writes) == written + 1
    retag(house, ["b", "a"], ["c"], None)
    assert house.go().rows.unchanged == 3
    assert len(house.crm.writes) == written + 1


def test_a_full_send_sends_them_all_the_same(tmp_path: Path) -> None:
    house = tagged(tmp_path, ["a", "b"])
    house.go()
    retag(house, ["b", "a"])
    assert house.go(full=True).delivered.updated == 1


# --- fields that the mapping names, and how ---------------------------------------------------------------------------


def problems(*fields: Field, extensible: bool = True, **changes: Any) -> list[str]:
    schema = ObjectSchema("contacts", {field.name: field for field in fields}, extensible=extensible)
    return [problem.message for problem in check_fields(sync(**changes), schema)]


def test_a_missing_field_comes_with_the_command_that_makes_it_where_one_can_be_made() -> None:
    [said] = problems(FIELDS[0])
    assert said == "contacts has no field `plan`; `reverse-etl fields people --create` makes it"
    assert problems(FIELDS[0], extensible=False) == ["contacts has no field `plan`"]


def test_a_match_that_is_not_unique_comes_with_the_remedy() -> None:
    mine = Field("email", FieldType.TEXT)
    [said] = problems(mine, FIELDS[1], Field("user_id", FieldType.TEXT, identifies=True))
    assert "contacts.email is not unique" in said and "unique ones are user_id" in said
    assert "`reverse-etl fields people --create` makes it as a unique one" in said
    [said] = problems(mine, FIELDS[1], extensible=False)
    assert said.endswith("unique ones are none yet: make one there first")


def test_only_a_field_that_goes_one_way_can_be_allowed_to_go_back() -> None:
    stage = Field("plan", FieldType.CHOICE, one_way=True, backward=True)
    assert problems(FIELDS[0], stage) == []
    assert problems(FIELDS[0], Field("plan", FieldType.TEXT, backward=True)) == [
        "contacts.plan moves either way by itself: take `allow_backward` out"
    ]


def test_a_whole_number_of_more_than_38_digits_is_refused_and_no_other(tmp_path: Path) -> None:
    house = House(tmp_path, sync(mapping={"email": "email", "seats": "seats"}))
    values = ("5", "9" * 38, f"-{'9' * 38}", f"1{'0' * 38}", f"-1{'0' * 38}", None)
    house.people(
        *((at, f"p{at}@x.io", value) for at, value in enumerate(values)),
        columns="id INTEGER, email VARCHAR, seats HUGEINT",
    )
    assert house.go().rows.invalid == 2
    assert house.codes() == {"3": "invalid_number", "4": "invalid_number"}
