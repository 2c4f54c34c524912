"""Did a row's figures reach the destination, when, in which run, and if not, why not?"""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path

from reverse_etl import clock
from reverse_etl.config.sync import RemovedSet
from reverse_etl.model import Operation
from reverse_etl.state.forgetting import forget
from reverse_etl.state.retention import Retention
from tests.house import House, sync

ADA, BEN = (1, "ada@x.io", "free"), (2, "ben@x.io", "gold")


def test_of_a_delivered_row_it_says_when_and_by_which_run(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people(ADA)
    report = house.go()
    told = house.explain("1")
    assert told.state == "unchanged"
    assert told.acknowledged is not None
    assert (told.acknowledged["record_id"], told.acknowledged["run_id"]) == ("r1", report.run_id)


def test_of_a_skipped_row_that_nothing_was_written(tmp_path: Path) -> None:
    house = House(tmp_path, sync(mode="insert"))
    house.crm.add(email="ada@x.io")
    house.people(ADA)
    assert house.go().delivered.skipped == 1
    assert house.explain("1").reason == "a record was there already, and this sync never updates: nothing was written"


def test_of_a_baseline_row_that_it_was_never_sent(tmp_path: Path) -> None:
    house = House(tmp_path, sync(first_run="baseline"))
    house.people(ADA)
    house.go()
    assert "it was never sent" in house.explain("1").reason


def test_of_a_removed_row_which_record_went_when_and_by_which_run(tmp_path: Path) -> None:
    house = House(tmp_path, sync(mode="mirror", on_removed="delete"))
    house.people(ADA, BEN)
    house.go()
    house.people(ADA)
    report = house.go()
    assert [operation for operation, _, _ in house.crm.sent()][-1] is Operation.REMOVE
    told = house.explain("2")
    assert told.state == "absent"
    assert f"its record r2 was removed at {_text(house)} by run {report.run_id}" in told.reason
    house.people(ADA, BEN)
    told = house.explain("2")
    assert (told.state, "was removed" in told.reason, "the next run sends it" in told.reason) == ("pending", True, True)
    house.go()
    assert "removed" not in house.explain("2").reason


def test_of_a_row_whose_removal_only_sets_values_that_they_are_set(tmp_path: Path) -> None:
    house = House(tmp_path, sync(on_removed=RemovedSet(set={"plan": "gone"})))
    house.people(ADA, BEN)
    house.go()
    house.people(ADA)
    house.go()
    assert "its record got what `on_removed` sets" in house.explain("2").reason


def test_a_removal_is_known_for_as_long_as_runs_are_kept(tmp_path: Path) -> None:
    house = House(tmp_path, sync(mode="mirror", on_removed="delete"))
    house.people(ADA, BEN)
    house.go()
    house.people(ADA)
    house.go()
    house.retention = Retention(timedelta(seconds=90))  # a minute passes before each run
    house.people((1, "ada@x.io", "pro"))
    house.go()
    assert "was removed" in house.explain("2").reason
    house.people((1, "ada@x.io", "gold"))
    house.go()
    assert "none was ever acknowledged" in house.explain("2").reason


def test_of_a_forgotten_row_nothing_is_known(tmp_path: Path) -> None:
    house = House(tmp_path, sync(mode="mirror", on_removed="delete"))
    house.people(ADA, BEN)
    house.go()
    house.people(ADA)
    house.go()
    with closing(house.ledger()) as ledger:
        forget(ledger, "2", "run-forget", house.clock.now())
    assert "removed" not in house.explain("2").reason


def _text(house: House) -> str:
    return clock.text(house.clock.now())
