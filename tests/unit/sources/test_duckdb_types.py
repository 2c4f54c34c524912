"""Every type DuckDB knows either arrives exactly, at its extremes, or is refused with a cast to write instead."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from pydantic import BaseModel, SecretStr

from reverse_etl.errors import SourceError
from reverse_etl.model import Query
from reverse_etl.sources.duckdb import DuckDBSource


class Config(BaseModel):
    name: str = "warehouse"
    url: SecretStr = SecretStr("duckdb:///:memory:")
    external_access: bool = False


# Each type with SQL for its extreme values and what must arrive, by `repr` of Arrow's own number where Python has none.
EXACT: dict[str, tuple[pa.DataType, dict[str, Any]]] = {
    "BOOLEAN": (pa.bool_(), {"true": True, "false": False}),
    "TINYINT": (pa.int8(), {"(-128)": -128, "127": 127}),
    "SMALLINT": (pa.int16(), {"(-32768)": -32768, "32767": 32767}),
    "INTEGER": (pa.int32(), {"(-2147483648)": -(2**31), "2147483647": 2**31 - 1}),
    "BIGINT": (pa.int64(), {"(-9223372036854775808)": -(2**63), "9223372036854775807": 2**63 - 1}),
    "UTINYINT": (pa.uint8(), {"255": 255}),
    "USMALLINT": (pa.uint16(), {"65535": 65535}),
    "UINTEGER": (pa.uint32(), {"4294967295": 2**32 - 1}),
    "UBIGINT": (pa.uint64(), {"18446744073709551615": 2**64 - 1}),
    "HUGEINT": (
        pa.decimal128(38, 0),
        {"9" * 38: Decimal("9" * 38), f"(-{'9' * 38})": Decimal("-" + "9" * 38), "0": Decimal(0)},
    ),
    "DECIMAL(4,1)": (pa.decimal128(4, 1), {"999.9": Decimal("999.9")}),
    "DECIMAL(18,3)": (pa.decimal128(18, 3), {"999999999999999.999": Decimal("999999999999999.999")}),
    "DECIMAL(38,0)": (pa.decimal128(38, 0), {"9" * 38: Decimal("9" * 38)}),
    "DECIMAL(38,38)": (pa.decimal128(38, 38), {f"'0.{'9' * 38}'": Decimal("0." + "9" * 38)}),
    "FLOAT": (pa.float32(), {"'0.5'": 0.5, "'3.4028235e38'": 3.4028234663852886e38}),
    "DOUBLE": (pa.float64(), {"'0.1'": 0.1, "'1.7976931348623157e308'": 1.7976931348623157e308, "'5e-324'": 5e-324}),
    "VARCHAR": (pa.string(), {"'é\U0001f600'": "é\U0001f600", "''": ""}),
    "UUID": (pa.string(), {"'FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF'": "ffffffff-ffff-ffff-ffff-ffffffffffff"}),
    "JSON": (pa.string(), {"'{\"a\": 1.10}'": '{"a": 1.10}'}),
    "ENUM('a', 'b')": (pa.string(), {"'b'": "b"}),
    "DATE": (pa.date32(), {"'0001-01-01'": date(1, 1, 1), "'9999-12-31'": date(9999, 12, 31)}),
    "TIME": (pa.time64("us"), {"'23:59:59.999999'": time(23, 59, 59, 999999)}),
    "TIMESTAMP_S": (pa.timestamp("s"), {"'9999-12-31 23:59:59'": datetime(9999, 12, 31, 23, 59, 59)}),
    "TIMESTAMP_MS": (pa.timestamp("ms"), {"'1969-12-31 23:59:59.999'": datetime(1969, 12, 31, 23, 59, 59, 999000)}),
    "TIMESTAMP": (pa.timestamp("us"), {"'9999-12-31 23:59:59.999999'": datetime(9999, 12, 31, 23, 59, 59, 999999)}),
    "TIMESTAMP_NS": (pa.timestamp("ns"), {"'2262-04-11 23:47:16.854775806'": 2**63 - 2}),
    "TIMESTAMPTZ": (
        pa.timestamp("us", "UTC"),
        {"'2026-06-01 12:00:00.123456+09:00'": datetime(2026, 6, 1, 3, 0, 0, 123456, tzinfo=UTC)},
    ),
    "INTEGER[]": (pa.list_(pa.field("l", pa.int32())), {"[1, NULL]": [1, None]}),
    "INTEGER[2]": (pa.list_(pa.field("", pa.int32()), 2), {"[1, 2]": [1, 2]}),
    "STRUCT(a INTEGER, b VARCHAR)": (
        pa.struct([("a", pa.int32()), ("b", pa.string())]),
        {"{'a': 1, 'b': NULL}": {"a": 1, "b": None}},
    ),
    "MAP(VARCHAR, INTEGER)": (pa.map_(pa.string(), pa.int32()), {"MAP {'a': 1}": [("a", 1)]}),
    "STRUCT(a ENUM('x'), b DECIMAL(5,2)[])": (
        pa.struct([("a", pa.string()), ("b", pa.list_(pa.decimal128(5, 2)))]),
        {"{'a': 'x', 'b': [1.50]}": {"a": "x", "b": [Decimal("1.50")]}},
    ),
}
REFUSED = [
    "UHUGEINT",
    "BIGNUM",
    "TIMETZ",
    "INTERVAL",
    "BLOB",
    "BIT",
    "VARIANT",
    "UNION(i INTEGER, s VARCHAR)",
    "GEOMETRY",
    "TUPLE(INTEGER, VARCHAR)",
    "BLOB[]",
    "STRUCT(a STRUCT(b INTERVAL))",
    "MAP(VARCHAR, BIT)",
]


def read(sql: str) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    source = DuckDBSource(Config())
    schema = source.describe(Query(sql))
    with source.read(Query(sql)) as batches:
        return schema, list(batches)


def knows(type: str) -> bool:
    try:
        duckdb.execute(f"SELECT NULL::{type}")
    except duckdb.Error:
        return False
    return True


@pytest.mark.parametrize(("type", "value"), [(type, value) for type, (_, values) in EXACT.items() for value in values])
def test_a_type_arrives_exactly(type: str, value: str) -> None:
    arrow, values = EXACT[type]
    schema, batches = read(f"SELECT CAST({value} AS {type}) AS x UNION ALL SELECT NULL")
    assert schema.field("x").type.equals(arrow), schema
    assert [batch.schema for batch in batches] == [schema] * len(batches)
    arrived = [cell for batch in batches for cell in batch.column(0) if cell.is_valid]
    assert len(arrived) == 1
    number = pa.types.is_timestamp(arrow) and arrow.unit == "ns"
    assert (arrived[0].value if number else arrived[0].as_py()) == values[value]


@pytest.mark.parametrize("type", ["TIME_NS", "TIMESTAMPTZ_NS"])
def test_a_type_of_nanoseconds_arrives_exactly_where_this_duckdb_has_it(type: str) -> None:
    text = "23:59:59.999999999" if type == "TIME_NS" else "2026-06-01 12:00:00.123456789+00"
    try:
        _, batches = read(f"SELECT CAST('{text}' AS {type}) AS x")
    except SourceError as refused:  # before 2.0 DuckDB itself refuses one of them
        assert refused.code == "source_query"
        return
    assert batches[0].column(0).cast(pa.int64())[0].as_py() % 1000 in (999, 789)


@pytest.mark.parametrize("type", REFUSED)
def test_a_type_that_would_lose_something_is_refused_with_a_cast_to_write(type: str) -> None:
    if not knows(type):
        pytest.skip("this duckdb doesn't know the type")
    with pytest.raises(SourceError) as refused:
        DuckDBSource(Config()).describe(Query(f"SELECT NULL::{type} AS lost"))
    assert refused.value.code == "source_type"
    assert "'lost'" in str(refused.value)
    assert "cast(lost as " in str(refused.value.hint)


def test_every_type_of_this_duckdb_is_either_taken_or_refused_here() -> None:
    ours = {type.partition("(")[0].partition("[")[0].upper() for type in [*EXACT, *REFUSED]} | {
        "TIME_NS", "TIMESTAMPTZ_NS", "TIME WITH TIME ZONE", "TIMESTAMP WITH TIME ZONE", "LIST", "ARRAY", "NULL", "TYPE",
    }  # fmt: skip
    known = {row[0] for row in duckdb.execute("SELECT DISTINCT logical_type FROM duckdb_types()").fetchall()}
    assert known - ours == set()


def test_null_without_a_type_is_text() -> None:
    schema, _ = read("SELECT NULL AS x")
    assert schema.field("x").type in (pa.string(), pa.int32())  # before 2.0 DuckDB calls it an integer


def test_a_whole_number_of_39_digits_arrives_for_its_row_to_be_refused() -> None:
    _, batches = read("SELECT 170141183460469231731687303715884105727::HUGEINT AS x")
    assert batches[0].to_pylist() == [{"x": Decimal("170141183460469231731687303715884105727")}]


def test_a_whole_number_of_39_digits_inside_of_a_list_is_refused_while_reading() -> None:
    with pytest.raises(SourceError, match="more than 38 digits"):
        read("SELECT [170141183460469231731687303715884105727::HUGEINT] AS x")


def test_a_sum_of_whole_numbers_is_taken() -> None:
    _, batches = read("SELECT sum(range) AS total FROM range(10)")
    assert batches[0].to_pylist() == [{"total": 45}]


@pytest.mark.parametrize(("text", "ticks"), [("infinity", 2**63 - 1), ("-infinity", -(2**63) + 1)])
def test_infinite_times_arrive_as_what_they_are(text: str, ticks: int) -> None:
    _, batches = read(f"SELECT '{text}'::TIMESTAMPTZ AS x")
    assert batches[0].column(0)[0].value == ticks
