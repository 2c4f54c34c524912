"""P57: in every report each row counts once, whatever became of the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from reverse_etl.config.sync import GuardConfig
from reverse_etl.errors import InDoubt, Unavailable
from reverse_etl.report import RunReport
from reverse_etl.testing import MemoryAccount
from tests.house import FIELDS, House


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A house in which row 1 stands on the list, in doubt, and is to be sent again."""
    built = House(tmp_path, crm=MemoryAccount(*FIELDS, batch_size=1, in_flight=1))
    built.people((1, "a@x.io", "free"))
    built.crm.fail(InDoubt("cut off"), call=1)
    built.run()
    assert built.codes() == {"1": "in_doubt"}
    built.people((1, "a@x.io", "free"), (2, "b@x.io", "free"), (3, "c@x.io", "free"))
    return built


def accounted(report: RunReport) -> tuple[int, int]:
    rows, told = report.rows, report.delivered
    settled = told.created + told.updated + told.removed + told.skipped
    owed = rows.added + rows.changed + rows.removed + rows.retried
    return owed, settled + report.rejected + report.in_doubt + report.pending


def test_P57_a_row_in_doubt_that_a_failed_run_did_not_reach_is_not_pending_too(house: House) -> None:
    house.crm.fail(Unavailable("down"), call=2, times=9)
    report = house.run()
    assert (report.delivered.created, report.in_doubt, report.pending) == (1, 1, 1)
    assert accounted(report) == (3, 3)


def test_P57_nor_one_that_a_limit_leaves_for_later(house: House) -> None:
    house.crm.refuse(lambda record: record.get("email") == "a@x.io")
    house.run(limit=1)
    report = house.run(limit=1)
    assert accounted(report) == (3, 3)


def test_P57_nor_one_of_a_run_that_a_guard_stopped(house: House) -> None:
    house.go()
    house.change(guard=GuardConfig(max_changed=0.1, max_emptied=None))
    house.people((1, "a@x.io", "gold"), (2, "b@x.io", "gold"), (3, "c@x.io", "free"))
    report = house.run()
    assert (report.status, report.pending) == ("guarded", 2)
    assert accounted(report) == (2, 2)
