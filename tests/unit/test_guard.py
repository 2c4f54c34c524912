"""Waves: what stops a run before its first write, and what lets it through."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from reverse_etl.config.sync import GuardConfig
from reverse_etl.report import RunReport
from tests.house import House, sync

MIRROR: dict[str, Any] = {"mode": "mirror", "on_removed": "delete"}


def people(house: House, *numbers: int, plan: str | None = "free") -> None:
    house.people(*((number, f"p{number}@x.io", plan) for number in numbers))


def mirrored(root: Path, size: int, **guard: Any) -> House:
    """A mirror that has sent rows 1 to `size`."""
    house = House(root, sync(**MIRROR, **({"guard": GuardConfig(**guard)} if guard else {})))
    people(house, *range(1, size + 1))
    house.go()
    return house


def guarded(house: House, **wishes: Any) -> RunReport:
    before = len(house.crm.writes)
    report = house.run(**wishes)
    assert (report.status, report.exit_code) == ("guarded", 4), report
    assert report.error is not None
    assert report.plan_id is not None
    assert report.plan_id in (report.error.hint or "")
    assert len(house.crm.writes) == before
    return report


def test_ten_removals_never_trip_the_default_and_eleven_of_more_than_a_tenth_do(tmp_path: Path) -> None:
    house = mirrored(tmp_path, 12)
    people(house, 1, 2)
    assert house.go().delivered.removed == 10
    people(house, *range(1, 13))
    house.go()
    people(house, 1)
    report = guarded(house)
    assert report.error is not None
    assert "11 of 12 known rows would be removed (max_removed: 10%)" in report.error.message
    assert report.pending == 11


def test_eleven_removals_out_of_many_are_no_wave(tmp_path: Path) -> None:
    house = mirrored(tmp_path, 110)
    people(house, *range(12, 111))
    assert house.go().delivered.removed == 11


def test_a_share_that_somebody_wrote_holds_for_the_first_row(tmp_path: Path) -> None:
    house = mirrored(tmp_path, 4, max_removed=0.0, removed_floor=0)
    people(house, 1, 2, 3)
    guarded(house)


def test_no_rows_after_some_always_stops(tmp_path: Path) -> None:
    house = mirrored(tmp_path, 2, max_removed=None)
    people(house)
    report = guarded(house)
    assert report.error is not None
    assert "gave no rows" in report.error.message
    plain = House(tmp_path / "plain")
    plain.root.mkdir()
    people(plain, 1)
    plain.go()
    people(plain)
    guarded(plain)  # also where nothing would be removed
    guarded(plain, full=True)


def test_no_rows_of_a_first_run_are_no_wave(tmp_path: Path) -> None:
    house = House(tmp_path)
    people(house)
    assert house.go().rows.read == 0


def test_changes_are_only_guarded_when_somebody_says_so(tmp_path: Path) -> None:
    house = mirrored(tmp_path, 4)
    people(house, 1, 2, 3, 4, plan="pro")
    assert house.go().rows.changed == 4
    house.change(guard=GuardConfig(max_changed=0.5))
    people(house, 1, 2, 3, 4, plan="team")
    guarded(house)
    assert house.go(full=True).rows.changed == 4  # every row was asked for


def test_a_field_that_goes_empty_in_many_rows_stops_the_run(tmp_path: Path) -> None:
    house = House(tmp_path)
    people(house, *range(1, 61))
    house.go()
    house.people(*((number, f"p{number}@x.io", None if number <= 51 else "free") for number in range(1, 61)))
    report = guarded(house)
    assert report.error is not None
    assert "plan would become empty in 51 of 60 rows" in report.error.message


def test_fifty_emptied_rows_never_trip_the_default(tmp_path: Path) -> None:
    house = House(tmp_path)
    people(house, *range(1, 61))
    house.go()
    house.people(*((number, f"p{number}@x.io", None if number <= 50 else "free") for number in range(1, 61)))
    assert house.go().rows.changed == 50


def test_an_approved_plan_goes_through_once(tmp_path: Path) -> None:
    house = mirrored(tmp_path, 12)
    people(house, 1)
    plan = guarded(house).plan_id
    assert house.go(approve=plan).delivered.removed == 11
    people(house, *range(1, 13))
    house.go()
    people(house, 1)
    again = guarded(house, approve=plan)
    assert again.error is not None
    assert "has been used" in again.error.message


def test_an_approval_holds_for_a_day(tmp_path: Path) -> None:
    house = mirrored(tmp_path, 12)
    people(house, 1)
    plan = guarded(house).plan_id
    house.clock.advance(timedelta(hours=25))
    report = guarded(house, approve=plan)
    assert report.error is not None
    assert "more than a day old" in report.error.message
    assert house.go(approve=report.plan_id).delivered.removed == 11  # the refusal held the plan anew


def test_an_approval_covers_a_smaller_wave_and_no_larger_one(tmp_path: Path) -> None:
    house = mirrored(tmp_path, 30)
    people(house, *range(1, 10))
    plan = guarded(house).plan_id
    people(house, *range(1, 9))
    report = guarded(house, approve=plan)
    assert report.error is not None
    assert "goes further than the approved one" in report.error.message
    people(house, *range(1, 11))
    assert house.go(approve=plan).delivered.removed == 20


def test_an_approval_covers_the_very_payloads(tmp_path: Path) -> None:
    house = mirrored(tmp_path, 3, max_changed=0.0)
    people(house, 1, 2, 3, plan="pro")
    plan = guarded(house).plan_id
    people(house, 1, 2, 3, plan="team")
    guarded(house, approve=plan)
    people(house, 1, 2, 3, plan="pro")
    assert house.go(approve=plan).delivered.updated == 3


def test_an_unknown_plan_and_one_of_another_sync_let_nothing_through(tmp_path: Path) -> None:
    house = mirrored(tmp_path, 12)
    people(house, 1)
    plan = guarded(house).plan_id
    report = guarded(house, approve="0123456789ab")
    assert report.error is not None
    assert "no such plan is held" in report.error.message
    house.change(name="others", match="email")
    people(house, *range(1, 13))
    house.go()
    people(house, 2)
    report = guarded(house, approve=plan)
    assert report.error is not None
    assert "one of people" in report.error.message


def test_a_dry_run_names_the_plan_that_a_real_run_would_hold(tmp_path: Path) -> None:
    house = mirrored(tmp_path, 12)
    people(house, 1)
    dry = guarded(house, dry_run=True)
    assert house.go(approve=dry.plan_id).delivered.removed == 11
