"""What runs did, written back to the warehouse: all of it, once, and never at the cost of a delivery."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from anyio import from_thread
from pydantic import SecretStr

from reverse_etl.config.project import SourceConfig
from reverse_etl.config.sync import RemovedSet
from reverse_etl.errors import InDoubt, Interrupted, SourceError
from reverse_etl.protocols import Load
from reverse_etl.report import RunReport
from reverse_etl.sources.duckdb import DuckDBSource
from reverse_etl.state.forgetting import forget
from reverse_etl.stop import Stop
from reverse_etl.writeback import WarehouseLog
from tests.house import House


class Logged(House):
    """A house whose runs are written back to a DuckDB file."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.file = root / "warehouse.duckdb"
        duckdb.connect(str(self.file)).close()
        self.wait = 5.0
        self.log_to = WarehouseLog("warehouse", "ops", self.target)

    def target(self) -> DuckDBSource:
        config = SourceConfig(name="warehouse", url=SecretStr(f"duckdb:///{self.file}"))
        return DuckDBSource(config, lock_wait_seconds=self.wait)

    def ask(self, sql: str) -> list[Any]:
        with duckdb.connect(str(self.file), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def told(self, columns: str = "row_key, verdict") -> list[Any]:
        """The log's lines, run by run."""
        return self.ask(f"SELECT {columns} FROM ops.reverse_etl_rows ORDER BY run_id, row_key NULLS FIRST")

    def waiting(self) -> int:
        with closing(self.ledger()) as ledger:
            assert ledger.state() is not None
            return len(ledger.outbox.waiting())


class Unheard:
    """A warehouse that does what it is asked, and whose answer is lost."""

    def __init__(self, warehouse: DuckDBSource) -> None:
        self.describe, self.read, self.names = warehouse.describe, warehouse.read, warehouse.names
        self.clock, self.quote, self.close = warehouse.clock, warehouse.quote, warehouse.close
        self._load = warehouse.load

    def load(self, schema: str, loads: Sequence[Load], *, rehearse: bool = False) -> None:
        self._load(schema, loads, rehearse=rehearse)
        raise SourceError("the answer was lost", code="source_connection")


@pytest.fixture
def house(tmp_path: Path) -> Logged:
    return Logged(tmp_path)


def test_each_row_that_was_offered_has_its_verdict_with_record_and_time(house: Logged) -> None:
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "gold"))
    house.crm.refuse(lambda record: record.get("plan") == "gold", code="SOLD_OUT", message="no more gold")
    house.go()
    assert house.told("row_key, row_key_json, verdict, code, message, record_id, request_id") == [
        ("1", "[1]", "created", None, None, "r1", None),
        ("2", "[2]", "rejected", "SOLD_OUT", "no more gold", None, "request-1"),
    ]
    (when,) = house.ask("SELECT DISTINCT verdict_at FROM ops.reverse_etl_rows")
    assert when[0] == house.clock.now()


def test_each_run_has_its_line_with_what_its_report_says(house: Logged) -> None:
    house.people((1, "a@x.io", "free"))
    report = house.go()
    house.go()
    columns = "run_id, status, destination, object, rows_read, delivered_created, rejected, finished_at"
    lines = house.ask(f"SELECT {columns} FROM ops.reverse_etl_runs ORDER BY run_id")
    assert lines[0] == (report.run_id, "succeeded", "crm", "contacts", 1, 1, 0, report.finished_at)
    assert [line[4:6] for line in lines] == [(1, 1), (1, 0)]
    assert len(house.told()) == 1, "an unchanged row is no verdict"


def test_the_log_joins_the_query_on_its_key(house: Logged) -> None:
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "gold"))
    house.go()
    with duckdb.connect(str(house.file)) as connection:
        connection.execute("CREATE TABLE people AS SELECT * FROM (VALUES (1, 'Ada'), (2, 'Ben')) p(id, name)")
        joined = connection.execute(
            "SELECT name, verdict FROM people JOIN ops.reverse_etl_rows ON row_key = CAST(id AS VARCHAR) ORDER BY 1"
        ).fetchall()
    assert joined == [("Ada", "created"), ("Ben", "created")]


def test_no_values_are_written(house: Logged) -> None:
    house.people((1, "secret@x.io", "free"))
    house.crm.refuse(lambda record: True, message="no")
    house.go()
    assert "secret" not in str(house.ask("SELECT * FROM ops.reverse_etl_rows"))


def test_an_invalid_row_is_told_once_and_again_with_another_reason(house: Logged) -> None:
    house.people((1, "a@x.io", "free"), (1, "b@x.io", "free"), (2, None, "free"))
    house.go()
    house.go()
    assert house.told("row_key, verdict, code") == [
        ("1", "invalid", "invalid_repeated_key"),
        ("2", "invalid", "invalid_null_match"),
    ]
    house.people((1, None, "free"), (2, "c@x.io", "free"))
    house.go()
    assert house.told("row_key, verdict, code")[2:] == [("1", "invalid", "invalid_null_match"), ("2", "created", None)]


def test_a_listed_row_that_is_owed_nothing_any_more_is_withdrawn(house: Logged) -> None:
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "gold"))
    house.crm.refuse(lambda record: record.get("plan") == "gold")
    house.go()
    house.people((1, "a@x.io", "free"))
    house.go()
    assert house.told()[2:] == [("2", "withdrawn")]


def test_removed_rows_are_told_also_where_only_values_are_set(house: Logged) -> None:
    house.change(on_removed=RemovedSet(set={"plan": "gone"}))
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    house.go()
    house.people((1, "a@x.io", "free"))
    house.go()
    assert house.told("row_key, verdict, record_id")[2:] == [("2", "removed", "r2")]


def test_a_row_in_doubt_is_told_as_such_and_then_as_delivered(house: Logged) -> None:
    house.people((1, "a@x.io", "free"))
    house.crm.fail(InDoubt("cut off"), call=1, applied=True)
    house.run()
    house.clock.advance(timedelta(minutes=5))
    house.go()
    assert house.told("row_key, verdict, code") == [("1", "in_doubt", "in_doubt"), ("1", "updated", None)]
    assert house.ask("SELECT status FROM ops.reverse_etl_runs ORDER BY run_id") == [("failed",), ("succeeded",)]


def test_a_run_that_is_asked_to_stop_waits_for_no_warehouse_that_is_held(house: Logged) -> None:
    stop, target = Stop(), house.target

    class Held(Unheard):
        def load(self, schema: str, loads: Any, **how: Any) -> None:
            from_thread.run_sync(stop.ask, Interrupted("interrupted by SIGTERM", exit_code=143))
            self._load(schema, loads, **how)

    house.wait, began = 60.0, time.monotonic()
    house.log_to = WarehouseLog("warehouse", "ops", lambda: Held(target()))
    house.people((1, "a@x.io", "free"))
    with duckdb.connect(str(house.file), read_only=True):
        report = house.go(stop=stop)
    assert time.monotonic() - began < 15, "it waited for the lock"
    assert report.notes == ["not written back to warehouse, the next run tries again: interrupted by SIGTERM"]
    house.log_to = WarehouseLog("warehouse", "ops", target)
    house.go()
    assert house.told() == [("1", "created")]


def test_a_warehouse_that_is_held_costs_a_note_and_the_next_run_catches_up(house: Logged) -> None:
    house.people((1, "a@x.io", "free"))
    house.wait = 0.1
    house.file.unlink()
    report = house.go()
    assert (report.status, report.delivered.created) == ("succeeded", 1)
    assert "not written back to warehouse" in report.notes[-1]
    duckdb.connect(str(house.file)).close()
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    assert not house.go().notes
    assert house.told() == [("1", "created"), ("2", "created")]
    assert house.waiting() == 0


def test_what_was_written_without_an_answer_is_not_written_twice(house: Logged) -> None:
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    house.log_to = WarehouseLog("warehouse", "ops", lambda: Unheard(house.target()))
    assert "the answer was lost" in house.go().notes[-1]
    assert house.waiting() == 2
    house.log_to = WarehouseLog("warehouse", "ops", house.target)
    house.go()
    assert house.told() == [("1", "created"), ("2", "created")]
    assert house.ask("SELECT run_id FROM ops.reverse_etl_runs ORDER BY 1") == [("run-001",), ("run-002",)]


def test_a_run_that_was_killed_is_told_as_killed(house: Logged) -> None:
    with closing(house.ledger()) as ledger, ledger.hold("killed", house.clock.now()):
        ledger.begin(RunReport("people", "killed", house.clock.now()))
    house.people((1, "a@x.io", "free"))
    house.go()
    assert house.ask("SELECT run_id, status FROM ops.reverse_etl_runs ORDER BY run_id") == [
        ("killed", "killed"),
        ("run-001", "succeeded"),
    ]


def test_what_waits_for_longer_than_runs_are_kept_is_dropped(house: Logged) -> None:
    house.people((1, "a@x.io", "free"))
    house.wait = 0.1
    house.file.unlink()
    house.go()
    assert house.waiting() == 2
    house.clock.advance(timedelta(days=100))
    house.go()
    assert house.waiting() == 1, "only the last run itself"


def test_a_forgotten_row_does_not_wait_any_more(house: Logged) -> None:
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    house.wait = 0.1
    house.file.unlink()
    house.go()
    with closing(house.ledger()) as ledger:
        forget(ledger, "1", "run-forget", house.clock.now())
    duckdb.connect(str(house.file)).close()
    house.people((2, "b@x.io", "free"))
    house.go()
    assert house.told() == [("2", "created")]


def test_a_key_with_a_nul_is_told_all_the_same(house: Logged) -> None:
    house.people(("a\0b", "a@x.io", "free"), columns="id VARCHAR, email VARCHAR, plan VARCHAR")
    house.go()
    assert house.told() == [("a\N{REPLACEMENT CHARACTER}b", "created")]
