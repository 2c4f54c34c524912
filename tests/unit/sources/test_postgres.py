from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from pydantic import BaseModel, SecretStr
from sqlalchemy.engine import make_url

from reverse_etl.errors import SourceError
from reverse_etl.exact import from_exact, to_exact
from reverse_etl.model import Query
from reverse_etl.sources.postgres import PostgresSource
from reverse_etl.testing import refused


class Config(BaseModel):
    name: str = "warehouse"
    url: SecretStr
    external_access: bool = False


def source_of(url: str) -> PostgresSource:
    return PostgresSource(Config(url=SecretStr(url)))


@contextmanager
def connected(url: str) -> Iterator[psycopg.Connection[Any]]:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        yield connection


EXACT: list[tuple[str, pa.DataType, Any]] = [
    ("true", pa.bool_(), True),
    ("(-32768)::smallint", pa.int16(), -32768),
    ("2147483647", pa.int32(), 2**31 - 1),
    ("9223372036854775807", pa.int64(), 2**63 - 1),
    (
        "12345678901234567890.1234567890::numeric(38,10)",
        pa.decimal128(38, 10),
        Decimal("12345678901234567890.1234567890"),
    ),
    (
        "12345678901234567890123456789012345678901234.5::numeric",
        pa.string(),
        "12345678901234567890123456789012345678901234.5",
    ),
    ("0.1::float8", pa.float64(), 0.1),
    ("0.5::float4", pa.float32(), 0.5),
    ("'é'::text", pa.string(), "é"),
    ("'ab'::char(4)", pa.string(), "ab  "),
    ("'{\"a\": 1.10}'::json", pa.string(), '{"a": 1.10}'),
    ("'{\"a\": 12345678901234567890.10}'::jsonb", pa.string(), '{"a": 12345678901234567890.10}'),
    ("'FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF'::uuid", pa.string(), "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    ("date '0001-01-01'", pa.date32(), date(1, 1, 1)),
    ("time '23:59:59.999999'", pa.time64("us"), time(23, 59, 59, 999999)),
    ("timestamp '2026-06-01 12:00:00.123456'", pa.timestamp("us"), datetime(2026, 6, 1, 12, 0, 0, 123456)),
    (
        "timestamptz '2026-06-01 12:00:00.123456+09'",
        pa.timestamp("us", "UTC"),
        datetime(2026, 6, 1, 3, 0, 0, 123456, tzinfo=UTC),
    ),
    ("array['a', null]", pa.list_(pa.string()), ["a", None]),
    ("array[1.50, 2]::numeric[]", pa.list_(pa.string()), ["1.50", "2"]),
]


@pytest.mark.parametrize(("sql", "arrow", "value"), EXACT)
def test_a_type_arrives_exactly(postgres_server: str, sql: str, arrow: pa.DataType, value: Any) -> None:
    query = Query(f"SELECT {sql} AS x")
    assert source_of(postgres_server).describe(query).field("x").type == arrow
    with source_of(postgres_server).read(query) as batches:
        assert next(batches).to_pylist() == [{"x": value}]


@pytest.mark.parametrize(
    "sql",
    ["interval '1 day'", "'\\x00'::bytea", "5::money", "'10:00+01'::timetz", "array[date '2026-01-01']", "point(1, 2)"],
)
def test_a_type_without_an_exact_form_is_refused_with_a_cast(postgres_server: str, sql: str) -> None:
    with pytest.raises(SourceError) as denied:
        source_of(postgres_server).describe(Query(f"SELECT {sql} AS x"))
    assert denied.value.code == "source_type"
    assert "cast(x as text)" in str(denied.value.hint)


def test_an_enumeration_and_text_under_another_name_are_text(postgres: str) -> None:
    with connected(postgres) as connection:
        connection.execute("CREATE TYPE plan AS ENUM ('free', 'pro'); CREATE DOMAIN word AS text")
    with source_of(postgres).read(Query("SELECT 'pro'::plan AS p, 'x'::word AS w")) as batches:
        assert next(batches).to_pylist() == [{"p": "pro", "w": "x"}]


@pytest.mark.parametrize(
    ("value", "beyond"),
    [("infinity", 2**63 - 1), ("-infinity", -(2**63) + 1), ("0044-03-15 BC", -(2**63) + 1), ("12026-01-01", 2**63 - 1)],
)
def test_a_time_outside_of_four_digit_years_is_infinite_and_spoils_no_other_row(
    postgres_server: str, value: str, beyond: int
) -> None:
    query = Query(f"SELECT timestamptz '{value}' AS t UNION ALL SELECT '2026-01-01' UNION ALL SELECT NULL")
    with source_of(postgres_server).read(query) as batches:
        column = next(batches).column(0)
    assert [cell.value for cell in column] == [beyond, 1767225600000000, None]


@pytest.mark.parametrize(
    ("sql", "type"),
    [
        ("timestamptz '2026-06-01 12:00:00.123456+09'", pa.timestamp("us", "UTC")),
        ("timestamp '2026-06-01 12:00:00.123456'", pa.timestamp("us")),
        ("date '2026-06-01'", pa.date32()),
        ("1234567890123456789012345.123456::numeric(38,6)", pa.decimal128(38, 6)),
        ("1e100 / 3", pa.string()),
        ("9223372036854775807", pa.int64()),
        ("0.1::float8", pa.float64()),
        ("gen_random_uuid()", pa.string()),
    ],
)
def test_a_cursor_finds_the_row_it_was_read_from(postgres: str, sql: str, type: pa.DataType) -> None:
    with connected(postgres) as connection:
        connection.execute(f"CREATE TABLE t AS SELECT {sql} AS c")
    with source_of(postgres).read(Query("SELECT c FROM t")) as batches:
        (cell,) = next(batches).column(0)
    assert cell.type == type
    cursor = from_exact(to_exact(cell), type)
    with source_of(postgres).read(Query("SELECT c FROM t WHERE c = :cursor", {"cursor": cursor})) as batches:
        assert [batch.num_rows for batch in batches] == [1]


def test_rows_committed_while_it_is_read_are_for_the_next_read(postgres: str) -> None:
    with connected(postgres) as connection:
        connection.execute("CREATE TABLE t AS SELECT generate_series(1, 25000) AS n")
        with source_of(postgres).read(Query("SELECT n FROM t")) as batches:
            seen = next(batches).num_rows
            connection.execute("INSERT INTO t SELECT generate_series(1, 1000)")
            assert seen + sum(batch.num_rows for batch in batches) == 25_000
        with source_of(postgres).read(Query("SELECT n FROM t")) as batches:
            assert sum(batch.num_rows for batch in batches) == 26_000


def test_a_function_that_writes_is_stopped_by_the_server(postgres: str) -> None:
    with connected(postgres) as connection:
        connection.execute("CREATE TABLE t (n int); CREATE SEQUENCE s")
        connection.execute("CREATE FUNCTION sneak() RETURNS int LANGUAGE sql AS 'INSERT INTO t VALUES (1) RETURNING n'")
    with refused("source_query", "read-only"), source_of(postgres).read(Query("SELECT sneak() AS n")) as batches:
        list(batches)


def test_a_connection_lost_in_the_middle_can_be_told_from_a_bad_query(postgres: str) -> None:
    query = Query("SELECT n, pg_backend_pid() AS pid FROM generate_series(1, 200000) n")
    with refused("source_connection"), source_of(postgres).read(query) as batches:
        pid = next(batches).column("pid")[0].as_py()
        with connected(postgres) as connection:
            connection.execute("SELECT pg_terminate_backend(%s)", [pid])
        list(batches)


def test_closing_cancels_what_the_server_is_doing(postgres: str) -> None:
    source = source_of(postgres)
    threading.Timer(0.3, source.close).start()
    with refused("source_cancelled"), source.read(Query("SELECT pg_sleep(60)::text AS x")) as batches:
        list(batches)
    with connected(postgres) as connection:
        running = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()"
        )
        assert running.fetchone() == (0,)


def test_the_password_is_in_no_message() -> None:
    source = source_of("postgresql://ada:s3cret%2Fpass@127.0.0.1:1/nowhere")
    with pytest.raises(SourceError) as unreachable:
        source.describe(Query("SELECT 1 AS a"))
    assert unreachable.value.code == "source_connection"
    told = f"{unreachable.value} {unreachable.value.hint}"
    assert "s3cret" not in told


def test_a_url_for_another_driver_of_postgresql_is_read_through_ours(postgres_server: str) -> None:
    url = make_url(postgres_server).set(drivername="postgresql").render_as_string(hide_password=False)
    assert source_of(url).describe(Query("SELECT 1 AS a")).names == ["a"]
