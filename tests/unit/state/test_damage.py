"""Values of the store that nobody of ours has written: told as damage, with the way out, by whoever meets them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest

from reverse_etl.errors import StateError
from reverse_etl.report import RunReport
from reverse_etl.standing import Acknowledged, Acknowledgement
from reverse_etl.state.archive import StateArchive
from reverse_etl.state.home import StateHome
from reverse_etl.state.store import StateStore
from reverse_etl.testing.clock import MIDDAY
from tests.house import House

DAMAGED = {
    "key": "UPDATE refused SET key = '{'",
    "values": "UPDATE refused SET row_values = '}'",
    "time": "UPDATE refused SET first_at = 'yesterday'",
    "identity": "UPDATE syncs SET identity = 'people'",
    "journal": "UPDATE journal SET body = x'00'",
    "journal's facts": "UPDATE journal SET body = substr(body, 1, 40)",
}


@pytest.fixture
def house(tmp_path: Path) -> House:
    """State with a refused row, and an acknowledged one that a killed run hasn't folded."""
    built = House(tmp_path)
    built.people((1, "a@x.io", "free"), (2, "b@x.io", "gold"))
    built.crm.refuse(lambda record: record.get("plan") == "gold")
    built.go()
    rows = pa.record_batch({"key": ["3"], "record_id": ["r3"], "h": pa.array([7], pa.uint64()), "f_plan": ["pro"]})
    with closing(built.ledger()) as ledger, ledger.hold("killed", MIDDAY):
        ledger.begin(RunReport("people", "killed", MIDDAY))
        ledger.record(Acknowledgement("people", "killed", [Acknowledged(rows, "killed", "2026-06-01T12:00:00.000Z")]))
    return built


def file(house: House) -> Path:
    return house.root / ".reverse_etl" / "state.db"


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_run_and_a_look_say_that_the_state_is_damaged(house: House, damage: str) -> None:
    with closing(sqlite3.connect(file(house))) as connection:
        assert connection.execute(DAMAGED[damage]).rowcount
        connection.commit()
    report = house.run()
    assert report.error is not None
    assert report.exit_code == 6, report.error
    assert "reset" in str(report.error.hint)
    with pytest.raises(StateError):
        house.explain("1")


def test_a_record_of_a_run_that_is_damaged_is_told_as_such(house: House) -> None:
    with closing(sqlite3.connect(file(house))) as connection:
        connection.execute("UPDATE runs SET report = 'it went well'")
        connection.commit()
    with closing(StateStore(house.url)) as store, pytest.raises(StateError, match="the record of run"):
        store.runs.recent("people")


def test_damage_is_found_by_a_verification(house: House) -> None:
    with closing(sqlite3.connect(file(house))) as connection:
        connection.execute(DAMAGED["values"])
        connection.commit()
    _, findings = StateArchive(StateHome(house.root), house.url).verify()
    assert ["can't be read" in finding.message for finding in findings] == [True]
