"""Old runs leave the record; what stands never does."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from reverse_etl.state import retention
from reverse_etl.state.retention import Retention
from reverse_etl.state.store import StateStore
from tests.house import House

ADA, BEN = (1, "ada@x.io", "free"), (2, "ben@x.io", "gold")


def runs(house: House) -> list[str]:
    with closing(StateStore(house.url)) as store:
        return [str(report["run_id"]) for report in store.runs.recent(limit=1000)]


def test_runs_that_are_older_than_they_are_kept_leave_the_record(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people(ADA)
    house.go()
    house.go()
    house.clock.advance(timedelta(days=89))
    house.go()
    assert runs(house) == ["run-003", "run-002", "run-001"]
    house.clock.advance(timedelta(days=2))
    house.go()
    assert runs(house) == ["run-004", "run-003"]


def test_what_stands_stays_however_old_it_is(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.retention = Retention(timedelta())
    house.people(ADA, BEN)
    house.crm.refuse(lambda record: record.get("plan") == "gold", code="SOLD_OUT")
    house.go()
    house.clock.advance(timedelta(days=400))
    house.go()
    assert runs(house) == ["run-002"], "the last one stays"
    assert house.codes() == {"2": "SOLD_OUT"}
    assert house.known()["1"]["run_id"] == "run-001"
    assert house.explain("1").state == "unchanged"


def test_other_syncs_keep_their_runs(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people(ADA)
    house.go()
    house.change(name="others")
    house.clock.advance(timedelta(days=400))
    house.go()
    house.go()
    assert "run-001" in runs(house)


def test_a_run_clears_a_bounded_number_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 2)
    house = House(tmp_path)
    house.people(ADA)
    for _ in range(5):
        house.go()
    house.clock.advance(timedelta(days=400))
    house.go()
    assert runs(house) == ["run-006", "run-005", "run-004", "run-003"]
    house.go()
    assert runs(house) == ["run-007", "run-006", "run-005"]


def test_plans_that_nobody_can_approve_any_more_go(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people(ADA)
    house.go()
    with closing(house.ledger()) as ledger:
        ledger.plans.hold("plan-1", house.clock.now(), b"rows")
    house.clock.advance(timedelta(days=3))
    house.go()
    engine = sa.create_engine(house.url)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM plans")).scalar_one() == 0
    engine.dispose()
