"""Rules that refuse a row before any call: each with its code, its field, and no innocent row."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from reverse_etl.model import Field, FieldType
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
        pa.array(["free", "it's", "Free", "gold", None]),
        [None, None, "invalid_option", "invalid_option", None],
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
        "text that is no time",
        Field("v", FieldType.DATETIME),
        pa.array(["2026-06-01", "2026-06-01T12:00:00Z", "yesterday", None]),
        [None, None, "invalid_time", None],
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
