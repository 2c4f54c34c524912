"""P04: a try that got no answer may land late, over newer values: its rows are sent once more when it no longer can."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from reverse_etl.errors import InDoubt
from reverse_etl.model import Batch
from reverse_etl.protocols import Destination
from reverse_etl.retries import doubt
from reverse_etl.state.forgetting import forget
from reverse_etl.testing import MemoryDestination
from reverse_etl.verdicts import Outcomes
from tests.house import House, sync

NUMBERED = "id INTEGER, email VARCHAR, plan VARCHAR, n INTEGER"


class Hesitant(MemoryDestination):
    """One whose first try of every call gets no answer."""

    async def write(self, batch: Batch) -> Outcomes:
        doubt()
        return await super().write(batch)


@pytest.fixture
def house(tmp_path: Path) -> House:
    built = House(tmp_path)
    built.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    return built


def hesitate(house: House) -> None:
    def open() -> Destination:
        return Hesitant(account=house.crm)

    house.destination = open  # type: ignore[method-assign]


def answer(house: House) -> None:
    del house.destination


def settling(house: House) -> list[str | None]:
    with closing(house.ledger()) as ledger:
        return [row.key_text for row in ledger.settling()]


def soon(house: House) -> None:
    """The next run begins half a minute after the last one, not a whole one."""
    house.clock.advance(timedelta(seconds=-30))


def test_P04_rows_whose_first_try_got_no_answer_are_delivered_and_sent_once_more(house: House) -> None:
    hesitate(house)
    report = house.go()
    assert (report.status, report.delivered.created, house.refused()) == ("succeeded", 2, {})
    assert settling(house) == ["1", "2"]
    told = house.explain("1")
    assert (told.state, "sent once more in case that one lands late" in told.reason) == ("unchanged", True)
    answer(house)

    soon(house)
    house.idle()  # it could still land: too early to overwrite it

    writes = len(house.crm.writes)
    report = house.go()
    assert (report.delivered.updated, len(house.crm.writes)) == (2, writes + 1)
    assert house.crm.writes[-1].rows == [{"email": "a@x.io", "plan": "free"}, {"email": "b@x.io", "plan": "free"}]
    assert settling(house) == []
    house.idle()


def test_P04_a_try_that_lands_over_newer_values_does_not_stay(house: House) -> None:
    house.go()
    house.people((1, "a@x.io", "old"), (2, "b@x.io", "free"))
    house.crm.fail(InDoubt("cut off"), call=1)
    assert house.run().status == "failed"
    house.people((1, "a@x.io", "new"), (2, "b@x.io", "free"))
    soon(house)
    assert house.go().delivered.updated == 1
    house.crm.records["r1"]["plan"] = "old"  # the first try, at last
    house.clock.advance(timedelta(seconds=30))
    house.go()
    assert house.crm.by("email")["a@x.io"]["plan"] == "new"
    house.idle()


def test_a_row_in_doubt_that_is_delivered_when_no_try_can_land_any_more_is_settled(house: House) -> None:
    house.crm.fail(InDoubt("cut off"), call=1)
    house.run()
    house.go()
    assert settling(house) == []
    house.idle()


def test_with_a_cursor_the_row_is_read_again_by_its_key(tmp_path: Path) -> None:
    house = House(tmp_path, sync(cursor="n"))
    house.people((1, "a@x.io", "free", 1), columns=NUMBERED)
    hesitate(house)
    house.go()
    answer(house)
    house.people((1, "a@x.io", "free", 1), (2, "b@x.io", "free", 2), columns=NUMBERED)
    house.go()
    sent = [key for _, key, _ in house.crm.sent()]
    assert sorted(sent) == ["1", "1", "2"]
    assert settling(house) == []


def test_a_row_that_left_the_warehouse_is_not_waited_for(house: House) -> None:
    hesitate(house)
    house.go()
    answer(house)
    house.people((1, "a@x.io", "free"))
    house.go()
    assert settling(house) == []


def test_a_row_that_is_refused_when_it_is_sent_once_more_stays_owed(house: House) -> None:
    hesitate(house)
    house.go()
    answer(house)
    house.crm.refuse(lambda record: record.get("email") == "a@x.io")
    house.go()
    assert (settling(house), list(house.refused())) == (["1"], ["1"])
    house.crm.obey()
    house.go()
    assert (settling(house), house.refused()) == ([], {})


def test_a_forgotten_key_is_not_remembered_as_settling(house: House) -> None:
    hesitate(house)
    house.go()
    with closing(house.ledger()) as ledger:
        assert forget(ledger, "1", "run-forget", house.clock.now())
    assert settling(house) == ["2"]
