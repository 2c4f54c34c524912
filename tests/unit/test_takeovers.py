"""A record passes from one row to another: a key that was changed, a match value that moved on."""

from __future__ import annotations

from pathlib import Path

import pytest

from reverse_etl.config.sync import GuardConfig
from tests.house import House, sync

UNGUARDED = GuardConfig(max_removed=None, max_emptied=None)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path, sync(guard=UNGUARDED))


@pytest.fixture
def mirror(tmp_path: Path) -> House:
    return House(tmp_path, sync(mode="mirror", on_removed="delete", guard=UNGUARDED))


def test_a_row_may_have_the_match_value_of_one_that_has_left_a_complete_result(house: House) -> None:
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    house.go()
    house.people((3, "a@x.io", "pro"), (2, "b@x.io", "free"))
    report = house.go()
    assert (report.delivered.updated, house.codes()) == (1, {})
    assert house.crm.by("email")["a@x.io"] == {"email": "a@x.io", "plan": "pro"}
    house.idle()


def test_a_row_whose_record_was_taken_over_is_a_stranger_when_it_comes_back(house: House) -> None:
    house.people((1, "a@x.io", "free"))
    house.go()
    house.people((3, "a@x.io", "pro"))
    house.go()
    assert set(house.known()) == {"3"}
    house.people((1, "a@x.io", "free"), (3, "a@x.io", "pro"))
    house.go()
    assert house.codes() == {"1": "invalid_match_clash"}


def test_a_record_that_was_taken_over_is_not_removed_when_its_match_value_changes(mirror: House) -> None:
    mirror.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    mirror.go()
    mirror.people((3, "a@x.io", "free"), (2, "b@x.io", "free"))
    mirror.go()
    mirror.idle()
    mirror.people((3, "c@x.io", "free"), (2, "b@x.io", "free"))
    report = mirror.go()
    assert (report.delivered.updated, report.delivered.removed) == (1, 0)
    assert set(mirror.crm.by("email")) == {"b@x.io", "c@x.io"}


def test_a_record_is_taken_over_only_when_the_new_row_is_delivered(mirror: House) -> None:
    mirror.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    mirror.go()
    mirror.crm.refuse(lambda record: record.get("plan") == "gold")
    mirror.people((3, "a@x.io", "gold"), (2, "b@x.io", "free"))
    mirror.go()
    assert set(mirror.known()) == {"1", "2"}
    mirror.people((2, "b@x.io", "free"))
    assert mirror.go().delivered.removed == 1
    assert set(mirror.crm.by("email")) == {"b@x.io"}


def test_a_match_value_stays_with_the_row_that_has_it_and_cannot_get_another(house: House) -> None:
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    house.go()
    house.people((1, "b@x.io", "free"), (2, "b@x.io", "free"), (3, "a@x.io", "pro"))
    house.go()
    assert house.codes() == {"1": "invalid_match_clash", "3": "invalid_match_clash"}
    assert house.crm.by("email")["a@x.io"]["plan"] == "free"


def test_empty_match_values_of_known_rows_do_not_clash(house: House) -> None:
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    house.go()
    house.people((1, " ", "free"), (2, "b@x.io", "free"))
    house.go()
    house.people((1, " ", "free"), (2, " ", "free"))
    assert (house.go().delivered.updated, house.codes()) == (1, {})


def test_a_match_value_passes_on_only_when_the_row_that_had_it_has_let_go(house: House) -> None:
    house.people((1, "a@x.io", "free"))
    house.go()
    house.crm.refuse(lambda record: record.get("email") == "c@x.io")
    house.people((1, "c@x.io", "free"), (2, "a@x.io", "pro"))
    house.go()
    house.crm.obey()
    house.go()
    house.go()
    assert house.crm.by("email") == {
        "c@x.io": {"email": "c@x.io", "plan": "free"},
        "a@x.io": {"email": "a@x.io", "plan": "pro"},
    }
