"""Warehouses that are written to: tables made where there are none, nothing twice, nothing left of a rehearsal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from threading import Timer
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.pool import NullPool

from reverse_etl import registry
from reverse_etl.config.project import SourceConfig
from reverse_etl.errors import SourceError
from reverse_etl.model import Query
from reverse_etl.protocols import Load
from reverse_etl.sources import inserting
from reverse_etl.sources.duckdb import DuckDBSource
from reverse_etl.sources.sql import SqlSource

SCHEMA = pa.schema(
    [
        ("run_id", pa.string()),
        ("entry", pa.int64()),
        ("row_key", pa.string()),
        ("verdict_at", pa.timestamp("us", "UTC")),
    ]
)
AT = datetime(2026, 11, 24, 12, 30, 0, 250_000, UTC)


def lines(run: str, *entries: tuple[int, str | None]) -> Load:
    rows = [{"run_id": run, "entry": entry, "row_key": key, "verdict_at": AT} for entry, key in entries]
    return Load("rows_log", pa.Table.from_pylist(rows, SCHEMA), "run_id", "entry")


class Warehouse:
    def __init__(self, url: str, schema: str) -> None:
        self.config = SourceConfig(name="warehouse", url=SecretStr(url))
        self.schema = schema

    def opened(self) -> Any:
        return registry.source(self.config.dialect)(self.config)

    def load(self, *loads: Load, rehearse: bool = False) -> None:
        with closing(self.opened()) as source:
            source.load(self.schema, loads, rehearse=rehearse)

    def rows(self, columns: str = "run_id, entry, row_key") -> list[Any]:
        with closing(self.opened()) as source:
            query = Query(f"select {columns} from {self.schema}.rows_log order by run_id, entry, row_key")
            with source.read(query) as batches:
                return [tuple(row.values()) for batch in batches for row in batch.to_pylist()]


@pytest.fixture(params=["duckdb", "sqlite", "postgres"])
def warehouse(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Warehouse]:
    if request.param == "postgres":
        yield Warehouse(request.getfixturevalue("postgres"), "ops")
    elif request.param == "sqlite":
        sa.create_engine(f"sqlite:///{tmp_path}/w.db", poolclass=NullPool).connect().close()
        (tmp_path / "w.db").touch()
        yield Warehouse(f"sqlite:///{tmp_path}/w.db", "main")
    else:
        duckdb.connect(str(tmp_path / "w.duckdb")).close()
        yield Warehouse(f"duckdb:///{tmp_path}/w.duckdb", "ops")


def test_rows_arrive_in_a_table_that_is_made_for_them(warehouse: Warehouse) -> None:
    warehouse.load(lines("r1", (1, "a"), (1, "b"), (2, None)))
    assert sorted(warehouse.rows(), key=str) == sorted([("r1", 1, "a"), ("r1", 1, "b"), ("r1", 2, None)], key=str)


def test_what_is_there_already_is_not_added_again(warehouse: Warehouse) -> None:
    warehouse.load(lines("r1", (1, "a"), (2, "b")))
    warehouse.load(lines("r1", (1, "a"), (2, "b"), (3, "c")), lines("r2", (1, "a")))
    assert warehouse.rows() == [("r1", 1, "a"), ("r1", 2, "b"), ("r1", 3, "c"), ("r2", 1, "a")]


def test_a_series_without_numbers_is_one_row(warehouse: Warehouse) -> None:
    for _ in range(2):
        warehouse.load(Load("rows_log", lines("r1", (1, "a")).rows, "run_id"))
    assert len(warehouse.rows()) == 1


def test_columns_of_a_newer_release_are_added(warehouse: Warehouse) -> None:
    older = lines("r1", (1, "a"))
    warehouse.load(Load(older.table, older.rows.drop_columns(["row_key"]), "run_id", "entry"))
    warehouse.load(lines("r2", (1, "a")))
    assert warehouse.rows() == [("r1", 1, None), ("r2", 1, "a")]


def test_times_keep_their_zone_and_every_digit(warehouse: Warehouse) -> None:
    warehouse.load(lines("r1", (1, "a")))
    ((found,),) = warehouse.rows("verdict_at")
    if isinstance(found, str):  # SQLite has no times
        found = datetime.fromisoformat(found).replace(tzinfo=UTC)
    assert found == AT


def test_a_rehearsal_leaves_nothing(warehouse: Warehouse) -> None:
    warehouse.load(lines("r1", (1, "a")), rehearse=True)
    with pytest.raises(SourceError):
        warehouse.rows()


def test_many_rows_arrive_all(warehouse: Warehouse) -> None:
    count = 20_000
    table = pa.table(
        {
            "run_id": pa.repeat("r1", count),
            "entry": pa.array(range(count), pa.int64()),
            "row_key": pa.array([str(each) for each in range(count)]),
            "verdict_at": pa.repeat(pa.scalar(AT, pa.timestamp("us", "UTC")), count),
        }
    )
    warehouse.load(Load("rows_log", table, "run_id", "entry"))
    assert len(warehouse.rows("run_id")) == count


def test_a_user_without_the_right_to_write_is_told_what_is_missing(postgres: str) -> None:
    engine = sa.create_engine(postgres, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP ROLE IF EXISTS looker")
        connection.exec_driver_sql("CREATE ROLE looker LOGIN PASSWORD 'looker-secret'")
    url = sa.make_url(postgres).set(username="looker", password="looker-secret").render_as_string(hide_password=False)
    try:
        with pytest.raises(SourceError) as refusal:
            Warehouse(url, "ops").load(lines("r1", (1, "a")), rehearse=True)
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP ROLE looker")
    assert refusal.value.code == "source_log"
    assert "permission denied" in refusal.value.message
    assert "looker-secret" not in refusal.value.message
    assert "right to make tables in the schema" in str(refusal.value.hint)


def test_a_duckdb_file_that_is_being_read_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "w.duckdb"
    duckdb.connect(str(file)).close()
    with duckdb.connect(str(file), read_only=True):
        source = DuckDBSource(SourceConfig(name="w", url=SecretStr(f"duckdb:///{file}")), lock_wait_seconds=0.3)
        with pytest.raises(SourceError) as refusal:
            source.load("ops", [lines("r1", (1, "a"))])
        assert refusal.value.code == "source_locked"
    source.load("ops", [lines("r1", (1, "a"))])
    assert Warehouse(f"duckdb:///{file}", "ops").rows() == [("r1", 1, "a")]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_closing_ends_the_wait_for_a_table_that_somebody_else_writes_to(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "w.db").touch()
    url = f"sqlite:///{tmp_path}/w.db" if kind == "sqlite" else request.getfixturevalue("postgres")
    warehouse = Warehouse(url, "main" if kind == "sqlite" else "public")
    warehouse.load(lines("r1", (1, "a")))
    source: Any = registry.source(kind)(SourceConfig(name="w", url=SecretStr(url)))
    began = time.monotonic()
    with sa.create_engine(url, poolclass=NullPool).connect() as holder:
        holder.exec_driver_sql("BEGIN IMMEDIATE" if kind == "sqlite" else "LOCK TABLE rows_log")
        Timer(0.2, source.close).start()
        with pytest.raises(SourceError):
            source.load(warehouse.schema, [lines("r1", (2, "b"))])
    assert time.monotonic() - began < 10, "nobody waits for a lock any more"
    assert warehouse.rows() == [("r1", 1, "a")]


def test_other_warehouses_get_many_rows_a_statement(tmp_path: Path) -> None:
    """As BigQuery and Snowflake are written to: SQLite stands in for them, with its own quick way taken away."""
    (tmp_path / "w.db").touch()
    config = SourceConfig(name="w", url=SecretStr(f"sqlite:///{tmp_path}/w.db"))
    statements: list[str] = []
    source = SqlSource(config)
    sa.event.listen(source._engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    slow = {name for name in inserting.IN_ONE_GO if name != "sqlite"}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(inserting, "IN_ONE_GO", frozenset(slow))
        source.load("main", [lines("r1", *((entry, str(entry)) for entry in range(1200)))])
    inserts = [statement for statement in statements if statement.startswith("INSERT")]
    assert len(inserts) == 3, "500 rows of 4 columns a statement"
    assert len(Warehouse(f"sqlite:///{tmp_path}/w.db", "main").rows()) == 1200
