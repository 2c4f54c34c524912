"""The built-in sources through the suite that plug-ins run too."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import duckdb
import pytest
from pydantic import BaseModel, SecretStr

from reverse_etl.protocols import Source
from reverse_etl.sources.duckdb import DuckDBSource
from reverse_etl.sources.postgres import PostgresSource
from reverse_etl.sources.sql import SqlSource
from reverse_etl.sources.sqlite import SqliteSource
from reverse_etl.testing import SourceSuite


class Config(BaseModel):
    name: str = "warehouse"
    url: SecretStr
    external_access: bool = False


class TestDuckDB(SourceSuite):
    @pytest.fixture(autouse=True)
    def warehouse(self, tmp_path: Path) -> None:
        self.file = tmp_path / "warehouse.duckdb"
        with duckdb.connect(str(self.file)) as connection:
            connection.execute("CREATE TABLE t (n INTEGER)")

    def make_source(self) -> Source:
        return DuckDBSource(Config(url=SecretStr(f"duckdb:///{self.file}")))

    def rows(self, count: int) -> str:
        return f"SELECT range::INTEGER AS n FROM range(1, {count + 1})"  # recursion takes its time here

    def endless(self) -> str:
        return "SELECT count(*) AS n FROM range(1000000000000) WHERE random() < 0"


class TestDuckDBInMemory(TestDuckDB):
    def make_source(self) -> Source:
        return DuckDBSource(Config(url=SecretStr("duckdb:///:memory:")))


class TestSqlite(SourceSuite):
    @pytest.fixture(autouse=True)
    def warehouse(self, tmp_path: Path) -> None:
        self.file = tmp_path / "warehouse.sqlite"
        with sqlite3.connect(self.file) as connection:
            connection.execute("CREATE TABLE t (n INTEGER)")
        connection.close()

    def make_source(self) -> Source:
        return SqliteSource(Config(url=SecretStr(f"sqlite:///{self.file}")))


class TestPostgres(SourceSuite):
    @pytest.fixture(autouse=True)
    def warehouse(self, postgres_server: str) -> None:
        self.url = postgres_server

    def make_source(self) -> Source:
        return PostgresSource(Config(url=SecretStr(self.url)))

    def endless(self) -> str:
        return "SELECT 1 AS n FROM pg_sleep(60)"


class TestAnyOther(TestPostgres):
    """The path of warehouses that have no source of their own, over PostgreSQL."""

    def make_source(self) -> Source:
        return CancellingSource(Config(url=SecretStr(self.url)))


class CancellingSource(SqlSource):
    """The general path knows no way to cancel; psycopg does."""

    def cancel(self, driver: object) -> None:
        driver.cancel_safe(timeout=5.0)  # type: ignore[attr-defined]
