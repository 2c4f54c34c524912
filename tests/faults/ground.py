"""The warehouse of a case: what its rows are, how they are written, and what the destination should hold of them."""

from __future__ import annotations

import random
import sqlite3
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import duckdb
import pyarrow as pa

START = datetime(2026, 1, 5, tzinfo=UTC)
COLUMNS = "email text, firstname text, seats bigint, changed_at timestamp"


@dataclass(frozen=True)
class Row:
    email: str
    firstname: str | None
    seats: int | None
    changed_at: datetime

    @property
    def wanted(self) -> dict[str, str]:
        """The record's values; empty where the row has none."""
        return {
            "email": self.email,
            "firstname": self.firstname or "",
            "seats": "" if self.seats is None else str(self.seats),
        }


class Store(Protocol):
    """A database that can be filled."""

    url: str

    def put(self, rows: list[Row]) -> None: ...


@dataclass
class DuckDB:
    folder: Path
    url: str = "duckdb:///warehouse.duckdb"

    @property
    def path(self) -> Path:
        return self.folder / "warehouse.duckdb"

    def put(self, rows: list[Row]) -> None:
        table = pa.table(
            {
                "email": pa.array([row.email for row in rows], pa.string()),
                "firstname": pa.array([row.firstname for row in rows], pa.string()),
                "seats": pa.array([row.seats for row in rows], pa.int64()),
                "changed_at": pa.array([row.changed_at.replace(tzinfo=None) for row in rows], pa.timestamp("us")),
            }
        )
        with duckdb.connect(str(self.path)) as connection:
            connection.register("arriving", table)
            connection.execute("create or replace table people as select * from arriving")


@dataclass
class SQLite:
    folder: Path
    url: str = "sqlite:///warehouse.sqlite"

    @property
    def path(self) -> Path:
        return self.folder / "warehouse.sqlite"

    def put(self, rows: list[Row]) -> None:
        connection = sqlite3.connect(self.path, timeout=30)
        try:
            with connection:
                connection.execute(f"create table if not exists people ({COLUMNS})")
                connection.execute("delete from people")
                connection.executemany(
                    "insert into people values (?, ?, ?, ?)",
                    [(row.email, row.firstname, row.seats, row.changed_at.isoformat(" ")[:19]) for row in rows],
                )
        finally:
            connection.close()


@dataclass
class Ground:
    """The rows as they are now, by key, and every change that can happen to them. Seeded: a case can be replayed."""

    store: Store
    random: random.Random
    rows: dict[str, Row] = field(default_factory=dict)
    ever: set[str] = field(default_factory=set)
    now: datetime = START

    def add(self, count: int) -> list[str]:
        """New rows, with new keys."""
        keys = [f"p{len(self.ever) + at:06d}@example.com" for at in range(count)]
        self.now += timedelta(minutes=1)
        for key in keys:
            self.rows[key] = Row(key, f"Name {self.random.randrange(10**6)}", self.random.randrange(10**6), self.now)
        self.ever.update(keys)
        return keys

    def change(self, count: int) -> list[str]:
        """Other values in rows that are there."""
        keys = self.random.sample(sorted(self.rows), min(count, len(self.rows)))
        self.now += timedelta(minutes=1)
        for key in keys:
            fresh = self.random.randrange(10**6, 10**9)
            emptied = self.random.random() < 0.02
            name = None if emptied else self.rows[key].firstname or "Again"
            self.rows[key] = replace(self.rows[key], seats=fresh, firstname=name, changed_at=self.now)
        return keys

    def remove(self, count: int) -> list[str]:
        """Rows leave."""
        keys = self.random.sample(sorted(self.rows), min(count, len(self.rows)))
        for key in keys:
            del self.rows[key]
        return keys

    def put(self) -> None:
        """Into the warehouse, in an order of no meaning."""
        rows = list(self.rows.values())
        self.random.shuffle(rows)
        self.store.put(rows)
