"""Rows as the cells of a bulk job: every value, every mask, every file."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverse_etl import values
from reverse_etl.destinations.salesforce.links import Link
from reverse_etl.destinations.salesforce.sheet import files, sheet_of, strings
from reverse_etl.model import Field, FieldType, Operation, Parent
from tests.unit.destinations.salesforce.org import FIELDS, batch

MOMENT = datetime(2026, 1, 31, 10, 20, 30, 123456, tzinfo=UTC)
COLUMNS: list[pa.Array] = [
    pa.array(["a", None, "", " x ", "+5", "TRUE", "1e3"]),
    pa.array(["a", None], pa.large_string()),
    pa.array([1, None, -(2**62)]),
    pa.array([0, 1, None], pa.int8()),
    pa.array([2**63 + 1], pa.uint64()),
    pa.array([1.5, None, 0.1, 1e22, 1e-9, -0.0, 100.0]),
    pa.array([1.5, 2.0]),
    pa.array([1.5, None], pa.float32()),
    pa.array([Decimal("1.50"), None, Decimal("-0.01"), Decimal("100.00")], pa.decimal128(9, 2)),
    pa.array([Decimal("0.0000001"), Decimal("12")], pa.decimal128(12, 7)),
    pa.array([Decimal(100), Decimal(-20)], pa.decimal128(5, 0)),
    pa.array([True, False, None]),
    pa.array([date(2026, 1, 31), None]),
    pa.array([MOMENT, None], pa.timestamp("us", "Europe/Berlin")),
    pa.array([MOMENT.replace(tzinfo=None)], pa.timestamp("s")),
    pa.array([datetime(1969, 12, 31, 23, 59, 59, 999999)], pa.timestamp("us")),
    pa.array([123456789012345678], pa.timestamp("ns")),
    pa.array([time(10, 20, 30), None], pa.time64("us")),
    pa.array([["a", "b", "a"], None]),
    pa.array([{"a": 1}, None]),
    pa.nulls(2),
]
TYPES = [kind for kind in FieldType]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: str(column.type))
def test_a_column_of_text_says_what_the_table_of_values_says(column: pa.Array, kind: FieldType) -> None:
    field = Field("f", kind)
    try:
        expected = values.as_text(column, field)
    except (TypeError, ValueError):  # no such pair ever gets here
        return
    assert strings(column, field).to_pylist() == expected


@given(st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False)))
def test_every_float_keeps_its_digits(numbers: list[float | None]) -> None:
    column = pa.array(numbers, pa.float64())
    assert strings(column, FIELDS["Score__c"]).to_pylist() == values.as_text(column, FIELDS["Score__c"])


def cells(table: Any) -> list[dict[str, str]]:
    """What a strict reader of CSV finds in the files."""
    found: list[dict[str, str]] = []
    for file, rows in files(table.take(range(len(table.speechless)))):
        file.seek(0)
        read = list(csv.DictReader(io.StringIO(file.read().decode(), newline=""), strict=True))
        assert len(read) == rows
        found += read
    return found


def test_what_is_not_sent_is_an_empty_cell_and_what_is_cleared_says_so() -> None:
    update = batch(
        Operation.UPDATE,
        {"Email": ["a@x.io", None, "", "d@x.io"], "Active__c": [True, None, False, True], "LastName": list("abcd")},
        ids=["00Q1", "00Q2", "00Q3", "00Q4"],
        sends={
            "Email": [True, True, True, False],
            "Active__c": [False, True, True, False],
            "LastName": [False, False, False, True],
        },
    )
    assert cells(sheet_of(update, update.record_ids.to_pylist(), {})) == [
        {"Id": "00Q1", "Email": "a@x.io", "Active__c": "", "LastName": ""},
        {"Id": "00Q2", "Email": "#N/A", "Active__c": "false", "LastName": ""},
        {"Id": "00Q3", "Email": "#N/A", "Active__c": "false", "LastName": ""},
        {"Id": "00Q4", "Email": "", "Active__c": "", "LastName": "d"},
    ]


def test_a_new_row_sends_what_it_has_and_clears_with_an_empty_text() -> None:
    rows = batch(Operation.UPSERT, {"External_Id__c": ["a", "b", "c"], "Email": ["a@x.io", None, ""]})
    assert cells(sheet_of(rows, None, {})) == [
        {"External_Id__c": "a", "Email": "a@x.io"},
        {"External_Id__c": "b", "Email": ""},
        {"External_Id__c": "c", "Email": "#N/A"},
    ]


def test_a_column_that_says_nothing_of_any_row_stays_out() -> None:
    rows = batch(Operation.UPSERT, {"External_Id__c": ["a"], "Email": pa.array([None], pa.string())})
    assert cells(sheet_of(rows, None, {})) == [{"External_Id__c": "a"}]


def test_a_text_that_would_clear_its_field_is_for_no_file() -> None:
    texts = ["#N/A", " #n/a", "#N/A!", None, "x" * 131_073]
    rows = batch(Operation.UPSERT, {"External_Id__c": list("abcde"), "LastName": texts})
    assert sheet_of(rows, None, {}).speechless.to_pylist() == [True, True, False, False, True]
    sends = {"External_Id__c": [False] * 5, "LastName": [False, True, True, True, True]}
    rows = batch(Operation.UPDATE, {"External_Id__c": list("abcde"), "LastName": texts}, sends=sends, ids=list("12345"))
    assert sheet_of(rows, list("12345"), {}).speechless.to_pylist() == [False, True, False, False, True]


def test_a_parent_is_a_column_of_its_relationship_and_taken_away_by_no_file() -> None:
    fields = {**FIELDS, "Account": Field("Account", FieldType.TEXT, parent=Parent("Ext__c"))}
    columns = {"External_Id__c": list("abc"), "Account": ["p", None, "q"]}
    links = {"Account": Link("AccountId", "Account", "Ext__c")}
    rows = batch(Operation.UPSERT, columns, fields=fields)
    made = sheet_of(rows, None, links)
    assert cells(made)[0] == {"External_Id__c": "a", "Account.Ext__c": "p"}
    assert made.speechless.to_pylist() == [False] * 3
    sends = {"External_Id__c": [False] * 3, "Account": [True] * 3}
    rows = batch(Operation.UPDATE, columns, fields=fields, ids=list("123"), sends=sends)
    assert sheet_of(rows, list("123"), links).speechless.to_pylist() == [False, True, False]
    assert Link("OwnerId", "Owner", "Email", "User").column == "User:Owner.Email"


WRITTEN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(
    lambda text: text.strip().upper() != "#N/A"
)


@given(st.lists(st.none() | WRITTEN, min_size=1, max_size=30), st.integers(50, 400))
def test_files_hold_every_text_exactly_and_are_cut_where_they_would_be_too_large(
    texts: list[str | None], most: int
) -> None:
    keys = [f"k{at}" for at in range(len(texts))]
    table = sheet_of(
        batch(Operation.UPSERT, {"External_Id__c": keys, "LastName": pa.array(texts, pa.string())}), None, {}
    )
    read: list[dict[str, str]] = []
    for file, rows in files(table.take(range(len(texts))), most):
        assert file.tell() <= most or rows == 1
        file.seek(0)
        data = file.read()
        assert b"\r" not in data
        part = list(csv.DictReader(io.StringIO(data.decode(), newline=""), strict=True))
        assert len(part) == rows
        read += part
    assert [row["External_Id__c"] for row in read] == keys
    expected = ["" if text is None else text.replace("\r\n", "\n").replace("\r", "\n") or "#N/A" for text in texts]
    assert [row.get("LastName", "") for row in read] == expected


def test_rows_are_told_apart_by_what_they_say_and_by_what_they_are() -> None:
    rows = batch(Operation.UPSERT, {"External_Id__c": ["a", "a", "b"], "Email": ["x", "x", None]})
    keys, said = sheet_of(rows, None, {}).fingerprints(pa.array(["1", "2", "1"]))
    assert keys[0] == keys[2] != keys[1]
    assert said[0] == said[1] != said[2]
