from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import BaseModel, SecretStr

from reverse_etl.model import Query
from reverse_etl.sources.sqlite import SqliteSource
from reverse_etl.testing import refused


class Config(BaseModel):
    name: str = "warehouse"
    url: SecretStr
    external_access: bool = False


def source_of(path: Path) -> SqliteSource:
    return SqliteSource(Config(url=SecretStr(f"sqlite:///{path}")))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "warehouse.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (v)")
        connection.commit()
    return path


@pytest.mark.parametrize(
    ("values", "arrow", "arrived"),
    [
        ([1, None, 2**63 - 1, -(2**63)], pa.int64(), [1, None, 2**63 - 1, -(2**63)]),
        ([0.1, 5e-324], pa.float64(), [0.1, 5e-324]),
        ([1, 2.5, None], pa.float64(), [1.0, 2.5, None]),
        (["x", None, ""], pa.string(), ["x", None, ""]),
        (["x", 1, 2.0, 1e300], pa.string(), ["x", "1", "2", "1" + "0" * 300]),
        ([None, None], pa.string(), [None, None]),
    ],
)
def test_the_values_decide_the_type(file: Path, values: list[Any], arrow: pa.DataType, arrived: list[Any]) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.executemany("INSERT INTO t VALUES (?)", [(value,) for value in values])
        connection.commit()
    query = Query("SELECT v FROM t ORDER BY rowid")
    assert source_of(file).describe(query).field("v").type == arrow
    with source_of(file).read(query) as batches:
        assert [value for batch in batches for value in batch.column(0).to_pylist()] == arrived


def test_a_type_that_shows_late_is_seen_in_time(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.executemany("INSERT INTO t VALUES (?)", [(None,)] * 25_000 + [(1.5,)])
        connection.commit()
    with source_of(file).read(Query("SELECT v FROM t ORDER BY rowid")) as batches:
        assert [value for batch in batches for value in batch.column(0).to_pylist()][-2:] == [None, 1.5]


@pytest.mark.parametrize("values", [[b"\x00"], ["x", b"\x00"], [2**53 + 1, 0.5]])
def test_what_has_no_exact_form_is_refused(file: Path, values: list[Any]) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.executemany("INSERT INTO t VALUES (?)", [(value,) for value in values])
        connection.commit()
    with refused("source_type", "'v'"):
        source_of(file).describe(Query("SELECT v FROM t"))


def test_bytes_that_are_no_text_become_a_character_that_no_destination_takes(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("INSERT INTO t VALUES (CAST(x'41ff42' AS TEXT)), ('fine')")
        connection.commit()
    with source_of(file).read(Query("SELECT v FROM t ORDER BY rowid")) as batches:
        assert next(batches).column(0).to_pylist() == ["A\0B", "fine"]


def test_a_missing_file_is_named_and_never_created(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.sqlite"
    with refused("source_missing_file", str(path)):
        source_of(path).describe(Query("SELECT 1 AS a"))
    assert not path.exists()


def test_rows_written_while_it_is_read_are_for_the_next_read(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executemany("INSERT INTO t VALUES (?)", [(number,) for number in range(25_000)])
        connection.commit()
        with source_of(file).read(Query("SELECT v FROM t")) as batches:
            seen = next(batches).num_rows
            connection.executemany("INSERT INTO t VALUES (?)", [(number,) for number in range(1000)])
            connection.commit()
            assert seen + sum(batch.num_rows for batch in batches) == 25_000
