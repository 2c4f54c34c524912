"""docs/records.md: the queries run as they stand there, and every column is named."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest
from pydantic import SecretStr

from reverse_etl.config.project import SourceConfig
from reverse_etl.sources.duckdb import DuckDBSource
from reverse_etl.writeback import WarehouseLog
from tests.house import House

PAGE = (Path(__file__).parents[2] / "docs" / "records.md").read_text()
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
TABLES = ("reverse_etl_runs", "reverse_etl_rows")


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    file = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("CREATE TABLE people AS SELECT 'jane@x.io' AS email, 3 AS workspaces_total")
    config = SourceConfig(name="warehouse", url=SecretStr(f"duckdb:///{file}"))
    house = House(tmp_path)
    house.change(key=("email",))
    house.log_to = WarehouseLog("warehouse", "reverse_etl", lambda: DuckDBSource(config))
    house.people(("jane@x.io", "free"), ("bad@x.io", None), columns="email VARCHAR, plan VARCHAR")
    house.crm.refuse(lambda record: record["email"] == "bad@x.io", code="REFUSED")
    house.go()
    return file


def test_the_queries_run_as_they_stand_there(warehouse: Path) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        latest, worst = (connection.execute(query).fetchall() for query in QUERIES)
    assert [row[:3] for row in latest] == [("jane@x.io", 3, "created")]
    assert [row[:3] for row in worst] in ([("people", "REFUSED", 1)], [])  # the last seven days are the clock's


def test_every_column_is_named(warehouse: Path) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        for table in TABLES:
            (told,) = re.findall(rf"^- \*\*`{table}`\*\*: (.*?)^(?:-|$)", PAGE, re.DOTALL | re.MULTILINE)
            columns = [row[0] for row in connection.execute(f"DESCRIBE reverse_etl.{table}").fetchall()]
            assert [name for name in re.findall(r"`(\w+)`", told) if name != "killed"] == columns
