"""A clock that was ahead for a while keeps nothing from being done when it is right again."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import anyio
import pyarrow as pa
import pytest

from tests.house import House

YEAR = timedelta(days=365)


@pytest.fixture
def house(tmp_path: Path) -> House:
    built = House(tmp_path)
    built.people((1, "a@x.io", "free"), (2, "b@x.io", "gold"))
    return built


def test_a_row_that_was_refused_by_a_clock_that_was_ahead_is_offered_again(house: House) -> None:
    house.crm.refuse(lambda record: record.get("plan") == "gold", code="SOLD_OUT")
    house.clock.advance(YEAR)
    for _ in range(3):
        house.go()  # its pauses grow
    house.clock.advance(-YEAR)
    house.crm.obey()
    assert house.go().delivered.created == 1
    assert house.codes() == {}


def test_what_a_run_left_under_way_when_the_clock_was_ahead_is_sent_again_and_once_more(house: House) -> None:
    house.go()
    house.clock.advance(-YEAR)  # its file says that it was sent in the future
    with closing(house.ledger()) as ledger:
        anyio.run(ledger.under_way.flight(0).begin, pa.array(["1"], pa.string()))
    before = len(house.crm.sent())
    house.go()
    house.go()
    assert [key for _, key, _ in house.crm.sent()[before:]] == ["1", "1"]


def test_a_run_whose_clock_went_back_keeps_its_record_and_its_lists(house: House) -> None:
    house.go()
    house.clock.advance(-YEAR)
    house.people((1, "a@x.io", "pro"), (2, "b@x.io", "gold"))
    assert house.go().delivered.updated == 1
    with closing(house.ledger()) as ledger:
        assert len(ledger.access.store().runs.recent("people")) == 2
    house.idle()
