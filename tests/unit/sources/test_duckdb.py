from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
import sqlalchemy as sa
from pydantic import BaseModel, SecretStr
from sqlalchemy.pool import NullPool

from reverse_etl.errors import SourceError
from reverse_etl.exact import from_exact, to_exact
from reverse_etl.model import Query
from reverse_etl.sources import stream
from reverse_etl.sources.duckdb import DuckDBSource
from reverse_etl.testing import refused

HOLD = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.readline()
"""


class Config(BaseModel):
    name: str = "warehouse"
    url: SecretStr
    external_access: bool = False


def source_of(where: Path | str, *, external: bool = False, wait: float = 5.0) -> DuckDBSource:
    return DuckDBSource(Config(url=SecretStr(f"duckdb:///{where}"), external_access=external), lock_wait_seconds=wait)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("built") / "warehouse.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE t AS SELECT range AS n, range::VARCHAR AS word FROM range(500000)")
    return path


@pytest.fixture
def file(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(built, tmp_path))


@contextmanager
def held_by_another_program(path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=-1, stdout=-1, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            yield holder
        finally:
            holder.kill()


# --- the file -------------------------------------------------------------------------------------------------------


def test_a_missing_file_is_named_and_never_created(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.duckdb"
    with refused("source_missing_file", str(path)):
        source_of(path).describe(Query("SELECT 1 AS a"))
    assert not path.exists()


def test_a_sources_url_means_the_same_to_sqlalchemy(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE t AS SELECT range AS n FROM range(5)")
    url = f"duckdb:///{path}?threads=2"
    asked = "SELECT sum(n)::BIGINT AS n, current_setting('threads')::BIGINT AS threads FROM t"
    with sa.create_engine(url, poolclass=NullPool, connect_args={"read_only": True}).connect() as connection:
        theirs = connection.execute(sa.text(asked)).mappings().one()
    with DuckDBSource(Config(url=SecretStr(url))).read(Query(asked)) as batches:
        ours = pa.Table.from_batches(batches).to_pylist()
    assert ours == [dict(theirs)] == [{"n": 10, "threads": 2}]


def test_a_file_that_stays_locked_is_named_with_its_holder(file: Path) -> None:
    with held_by_another_program(file) as holder, refused("source_locked", str(file), str(holder.pid)):
        source_of(file, wait=0.0).describe(Query("SELECT n FROM t"))


def test_a_locked_file_is_read_as_soon_as_it_is_free(file: Path) -> None:
    with held_by_another_program(file) as holder:
        threading.Timer(0.3, holder.kill).start()
        assert source_of(file).describe(Query("SELECT n FROM t")).names == ["n"]


def test_closing_ends_the_wait_for_a_locked_file(file: Path) -> None:
    source = source_of(file, wait=60.0)
    started = time.monotonic()
    with held_by_another_program(file):
        threading.Timer(0.3, source.close).start()
        with refused("source_locked"):
            source.describe(Query("SELECT n FROM t"))
    assert time.monotonic() - started < 10


def test_the_file_is_free_after_a_half_read(file: Path) -> None:
    with source_of(file).read(Query("SELECT * FROM t")) as batches:
        next(batches)
    with duckdb.connect(str(file)) as writer:  # would fail while anyone else has it open
        writer.execute("INSERT INTO t VALUES (-1, 'new')")


def test_the_file_is_free_after_an_error_in_the_middle(file: Path) -> None:
    query = Query("SELECT CASE WHEN n < 400000 THEN n ELSE error('broken at last') END AS n FROM t")
    with refused("source_query", "broken at last"), source_of(file).read(query) as batches:
        list(batches)
    duckdb.connect(str(file)).close()


def test_cancelling_in_the_middle_of_a_stream_is_an_error(file: Path) -> None:
    source = source_of(file)
    query = Query("SELECT a.n FROM t a, range(20) b")
    with refused("source_cancelled"), source.read(query) as batches:
        next(batches)
        source.close()
        list(batches)


def test_a_file_that_is_no_database_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    path.write_text("this is no database" * 1000)
    with refused("source_connection", "warehouse.duckdb"):
        source_of(path, wait=60.0).describe(Query("SELECT 1 AS a"))


def test_several_readers_share_the_file(file: Path) -> None:
    with source_of(file).read(Query("SELECT * FROM t")) as one, source_of(file).read(Query("SELECT * FROM t")) as other:
        assert sum(batch.num_rows for batch in one) == sum(batch.num_rows for batch in other) == 500_000


def test_a_reader_with_access_to_files_never_shares_it_with_one_without(file: Path) -> None:
    with source_of(file).read(Query("SELECT * FROM t")) as batches:
        next(batches)
        with refused("source_locked"):
            source_of(file, external=True, wait=0.0).describe(Query("SELECT 1 AS a"))


# --- whole, or an error ---------------------------------------------------------------------------------------------


def test_another_statement_on_the_connection_being_read_never_shortens_the_result_silently(file: Path) -> None:
    source = source_of(file)
    seen = 0
    with source.read(Query("SELECT * FROM t")) as batches:
        seen += next(batches).num_rows
        (driver,) = source._open
        try:
            driver.execute("SELECT 1").fetchall()
            interfered = True
        except duckdb.Error:
            interfered = False  # duckdb 2.0 refuses the intruder and keeps the stream
        if interfered:
            with refused("source_truncated", "65536", "500000"):
                list(batches)
            return
        seen += sum(batch.num_rows for batch in batches)
    assert seen == 500_000


def test_a_stream_of_another_length_than_counted_is_an_error() -> None:
    batch = pa.record_batch({"a": [1, 2, 3]})
    for promised in (0, 5, 7):
        with refused("source_truncated", "6 rows"):
            list(stream.whole([batch, batch], promised))
    assert list(stream.whole([batch, batch.slice(0, 0), batch], 6)) == [batch, batch]


def test_a_query_that_gives_other_rows_each_time_is_refused(file: Path) -> None:
    with refused("source_truncated"), source_of(file).read(Query("SELECT n FROM t WHERE random() < 0.5")) as batches:
        list(batches)


# --- what a query may do --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (1, 'x')",
        "WITH x AS (SELECT 1) INSERT INTO t SELECT 1, 'x'",
        "DELETE FROM t RETURNING *",
        "COPY t TO '/tmp/never.csv'",
        "ATTACH 'other.duckdb'",
        "SET TimeZone = 'Asia/Tokyo'",
        "PIVOT t ON word USING count(*)",
    ],
)
def test_nothing_but_a_select_is_taken(file: Path, sql: str) -> None:
    with refused("source_query"):
        source_of(file).describe(Query(sql))


def test_files_are_out_of_reach_unless_the_source_allows_them(file: Path, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("name\nAda\n")
    query = Query(f"SELECT * FROM read_csv('{tmp_path}/people.csv')")
    with pytest.raises(SourceError) as denied:
        source_of(file).describe(query)
    assert "external_access" in str(denied.value.hint)
    with source_of(":memory:", external=True).read(query) as batches:
        assert [batch.to_pylist() for batch in batches] == [[{"name": "Ada"}]]


def test_the_url_cannot_open_what_the_source_keeps_shut(file: Path, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("name\nAda\n")
    with refused("source_query"):
        source_of(f"{file}?enable_external_access=true").describe(Query(f"FROM read_csv('{tmp_path}/people.csv')"))


def test_a_table_name_never_means_a_variable_of_this_program(file: Path) -> None:
    secret = pa.table({"a": [1]})
    assert secret.num_rows == 1
    with refused("source_query", "secret"):
        source_of(file).describe(Query("SELECT * FROM secret"))


def test_two_columns_that_differ_by_case_only_are_refused(file: Path) -> None:
    with refused("source_columns", "'Id' and 'ID'"):
        source_of(file).describe(Query('SELECT 1 AS "Id", 2 AS "ID"'))


def test_a_setting_in_the_url_reaches_duckdb(file: Path) -> None:
    with source_of(f"{file}?memory_limit=1GB").read(Query("SELECT current_setting('memory_limit') AS m")) as batches:
        assert next(batches).to_pylist() == [{"m": "953.6 MiB"}]


# --- parameters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "type"),
    [
        ("9223372036854775807", pa.int64()),
        ("12345678901234567890123456789.123456789::DECIMAL(38,9)", pa.decimal128(38, 9)),
        ("'2026-06-01 12:00:00.123456'::TIMESTAMP", pa.timestamp("us")),
        ("'2026-06-01 12:00:00.123456+09'::TIMESTAMPTZ", pa.timestamp("us", "UTC")),
        ("'2026-06-01 12:00:00.123456789'::TIMESTAMP_NS", pa.timestamp("ns")),
        ("'1969-12-31'::DATE", pa.date32()),
        ("0.1::DOUBLE", pa.float64()),
        ("0.1::FLOAT", pa.float32()),
        ("'O''Brien \\ é'", pa.string()),
    ],
)
def test_a_cursor_finds_the_row_it_was_read_from(sql: str, type: pa.DataType) -> None:
    source = source_of(":memory:")
    with source.read(Query(f"SELECT {sql} AS c")) as batches:
        (cell,) = next(batches).column(0)
    assert cell.type == type
    cursor = from_exact(to_exact(cell), type)
    with source.read(Query(f"SELECT {sql} AS c WHERE c = :cursor", {"cursor": cursor})) as batches:
        assert [batch.num_rows for batch in batches] == [1]


def test_parameters_keep_their_types(file: Path) -> None:
    when = datetime(2026, 1, 1, 3, tzinfo=UTC)
    query = Query("SELECT :cursor AS a, :last_run_at AS b", {"cursor": Decimal("1.50"), "last_run_at": when})
    assert source_of(file).describe(query).types == [pa.decimal128(3, 2), pa.timestamp("us", "UTC")]


def test_a_parameter_that_nobody_gave_is_refused_by_duckdb(file: Path) -> None:
    with refused("source_query", "syntax error"):
        source_of(file).describe(Query("SELECT n FROM t WHERE n >= :nobody"))
