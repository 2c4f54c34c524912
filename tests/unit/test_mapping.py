"""Columns to fields: one canonical type for every Arrow type, so that only a change of value is a change."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from reverse_etl.errors import ConfigError
from reverse_etl.mapping import key_kinds, literal_as, shape_of
from reverse_etl.model import Field, FieldType
from reverse_etl.testing import MemoryAccount
from tests.ducks import InMemory
from tests.house import House, mapping, sync

NOON = datetime(2026, 6, 1, 12, 0)
EVERY_TYPE = [
    (pa.bool_(), True, "BOOLEAN", True),
    (pa.int8(), -7, "BIGINT", -7),
    (pa.int16(), 7, "BIGINT", 7),
    (pa.int32(), 7, "BIGINT", 7),
    (pa.int64(), 2**63 - 1, "BIGINT", 2**63 - 1),
    (pa.uint8(), 7, "BIGINT", 7),
    (pa.uint16(), 7, "BIGINT", 7),
    (pa.uint32(), 2**32 - 1, "BIGINT", 2**32 - 1),
    (pa.uint64(), 2**64 - 1, "DECIMAL(20,0)", Decimal(2**64 - 1)),
    (pa.decimal128(38, 10), Decimal("1234567890.0123456789"), "DECIMAL(38,10)", Decimal("1234567890.0123456789")),
    (pa.float32(), 0.1, "DOUBLE", 0.1),
    (pa.float64(), 0.1, "DOUBLE", 0.1),
    (pa.date32(), date(2026, 6, 1), "DATE", date(2026, 6, 1)),
    (pa.time64("us"), time(10, 20, 30, 5), "TIME", time(10, 20, 30, 5)),
    (pa.timestamp("us"), NOON, "TIMESTAMP WITH TIME ZONE", datetime(2026, 6, 1, 10, 0, tzinfo=UTC)),
    (pa.timestamp("ms"), NOON, "TIMESTAMP WITH TIME ZONE", datetime(2026, 6, 1, 10, 0, tzinfo=UTC)),
    (pa.timestamp("us", "UTC"), NOON.replace(tzinfo=UTC), "TIMESTAMP WITH TIME ZONE", NOON.replace(tzinfo=UTC)),
    (pa.string(), "x", "VARCHAR", "x"),
    (pa.large_string(), "x", "VARCHAR", "x"),
    (pa.dictionary(pa.int8(), pa.string()), "x", "VARCHAR", "x"),
    (pa.list_(pa.string()), ["a", "b"], "VARCHAR[]", ["a", "b"]),
    (pa.list_(pa.int64()), [1, 2], "VARCHAR[]", ["1", "2"]),
    (pa.struct([("a", pa.int64())]), {"a": 1}, "VARCHAR", '{"a":1}'),
]


def mapped(type: pa.DataType, value: Any) -> tuple[str, Any]:
    """The canonical type and value of one cell; naive times are Berlin's."""
    given = pa.table({"id": pa.array([1]), "value": pa.array([value], type)})
    shape = shape_of(sync(mapping={"email": "value"}, timezone="Europe/Berlin"), given.schema)
    column = shape.column("email")
    database = InMemory()
    with closing(database.session()) as connection:
        connection.register("given", given)
        found = connection.sql(f"SELECT {column.expression} AS v FROM given")
        assert str(found.types[0]) == column.type
        return column.type, found.to_arrow_table().column(0)[0].as_py()


@pytest.mark.parametrize(("type", "value", "canonical", "expected"), EVERY_TYPE, ids=[str(t[0]) for t in EVERY_TYPE])
def test_every_type_has_one_canonical_form(type: pa.DataType, value: Any, canonical: str, expected: Any) -> None:
    assert mapped(type, value) == (canonical, expected)


@pytest.mark.parametrize("type", [each[0] for each in EVERY_TYPE], ids=str)
def test_null_stays_null_in_every_type(type: pa.DataType) -> None:
    assert mapped(type, None)[1] is None


WHOLE = [
    pa.array([7, 2**31 - 1], pa.int32()),
    pa.array([7, 2**31 - 1], pa.int64()),
    pa.array([7, 2**31 - 1], pa.uint64()),
    pa.array([Decimal(7), Decimal(2**31 - 1)], pa.decimal128(20, 4)),
    pa.array([Decimal(7), Decimal(2**31 - 1)], pa.decimal128(38, 0)),
    pa.array([7.0, 2.0**31 - 1], pa.float64()),
    pa.array(["7", str(2**31 - 1)], pa.string()),
]


def test_a_type_change_that_changes_no_value_sends_nothing(tmp_path: Path) -> None:
    house = House(tmp_path, sync(mapping={"email": "email", "plan": "value"}))
    for nth, column in enumerate(WHOLE):
        emails = pa.array(["a@x.io", "b@x.io"])
        house.warehouse.arrow("people", pa.table({"id": pa.array([1, 2]), "email": emails, "value": column}))
        if nth:
            house.idle()
        else:
            assert house.go().rows.added == 2


def test_a_key_column_that_changes_its_type_keeps_its_keys(tmp_path: Path) -> None:
    house = House(tmp_path)
    for nth, keys in enumerate(WHOLE):
        emails = pa.array(["a@x.io", "b@x.io"])
        house.warehouse.arrow("people", pa.table({"id": keys, "email": emails, "plan": emails}))
        if nth:
            house.idle()
        else:
            assert house.go().rows.added == 2


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("TIMESTAMP '2026-06-01 12:00'", "TIMESTAMPTZ '2026-06-01 10:00:00+00'"),
        ("TIMESTAMP '2026-06-01 12:00'", "CAST(TIMESTAMP '2026-06-01 12:00' AS TIMESTAMP_S)"),
        ("CAST(0.1 AS FLOAT)", "CAST(0.1 AS DOUBLE)"),
        ("CAST(0.1 AS DOUBLE)", "CAST(0.1 AS DECIMAL(9,4))"),
        ("CAST(1.50 AS DECIMAL(9,2))", "CAST(1.5 AS DECIMAL(30,10))"),
        ("true", "'true'"),
    ],
)
def test_an_equal_value_of_another_type_is_no_change(tmp_path: Path, was: str, becomes: str) -> None:
    house = House(tmp_path, sync(sql="select 1 as id, 'a@x.io' as email, v as plan from t", timezone="Europe/Berlin"))
    house.warehouse.sql(f"CREATE TABLE t AS SELECT {was} AS v")
    house.go()
    house.warehouse.sql(f"CREATE OR REPLACE TABLE t AS SELECT {becomes} AS v")
    house.idle()


def test_another_value_of_another_type_is_a_change(tmp_path: Path) -> None:
    house = House(tmp_path, sync(sql="select 1 as id, 'a@x.io' as email, v as plan from t"))
    house.warehouse.sql("CREATE TABLE t AS SELECT 7 AS v")
    house.go()
    house.warehouse.sql("CREATE OR REPLACE TABLE t AS SELECT 7.5 AS v")
    assert house.go().rows.changed == 1
    house.warehouse.sql("CREATE OR REPLACE TABLE t AS SELECT '7.50' AS v")
    assert house.go().rows.changed == 1  # a text is its characters


def test_a_constant_needs_no_column() -> None:
    shape = shape_of(
        sync(mapping=mapping(email="email", plan={"value": "it's"}, seats={"value": 3}, open={"value": False})),
        pa.schema([("id", pa.int64()), ("email", pa.string())]),
    )
    assert [(column.expression, column.type) for column in shape.payload[1:]] == [
        ("CAST('it''s' AS VARCHAR)", "VARCHAR"),
        ("CAST(3 AS BIGINT)", "BIGINT"),
        ("CAST(false AS BOOLEAN)", "BOOLEAN"),
    ]


def test_a_default_stands_in_for_null_in_the_columns_type(tmp_path: Path) -> None:
    definition = sync(mapping=mapping(email="email", plan={"column": "plan", "default": "free"}))
    house = House(tmp_path, definition)
    house.people((1, "a@x.io", None), (2, "b@x.io", ""))
    house.go()
    assert house.crm.by("email") == {
        "a@x.io": {"email": "a@x.io", "plan": "free"},
        "b@x.io": {"email": "b@x.io", "plan": ""},
    }


def test_every_missing_column_is_named_at_once_with_the_nearest() -> None:
    definition = sync(key=("ids",), cursor="at", mapping={"email": "emial", "plan": "plan"})
    schema = pa.schema([("id", pa.int64()), ("email", pa.string()), ("plan", pa.string())])
    with pytest.raises(ConfigError) as refused:
        shape_of(definition, schema)
    assert [problem.nearest for problem in refused.value.problems] == ["id", "email", None]
    assert "it has id, email, plan" in refused.value.message


def test_column_names_are_quoted_wherever_they_stand(tmp_path: Path) -> None:
    awkward = "a \"b' ;--"
    field = Field(awkward, FieldType.TEXT)
    crm = MemoryAccount(Field("email", FieldType.TEXT, identifies=True), field)
    definition = sync(sql="select * from t", key=(awkward,), mapping={"email": "E mail", awkward: awkward})
    house = House(tmp_path, definition, crm=crm)
    for value, changed in (("x", 0), ("y'\"", 0)):
        house.warehouse.arrow("t", pa.table({awkward: ["k'1"], "E mail": ["a@x.io"]}))
        assert house.go().rows.changed == changed, value
    assert house.crm.by("email") == {"a@x.io": {"email": "a@x.io", awkward: "k'1"}}


def test_keys_say_what_their_text_stands_for() -> None:
    columns = [
        ("n", pa.int32()),
        ("d", pa.decimal128(9, 2)),
        ("b", pa.bool_()),
        ("t", pa.string()),
        ("day", pa.date32()),
    ]
    shape = shape_of(sync(key=("n", "d", "b", "t", "day"), mapping={"email": "t"}), pa.schema(columns))
    assert key_kinds(shape) == ("number", "number", "boolean", "text", "text")


def test_a_scalar_of_a_file_becomes_a_value_of_the_columns_type() -> None:
    with duckdb.connect(":memory:") as connection:
        found = connection.execute(
            f"SELECT {literal_as('2026-06-01', 'DATE')}, {literal_as(None, 'BIGINT')}"
        ).fetchall()
    assert found == [(date(2026, 6, 1), None)]
