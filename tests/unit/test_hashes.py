"""`values: hashes`: changes are told, and no acknowledged value stays on disk."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reverse_etl import diff
from reverse_etl.config.sync import FieldMapping, GuardConfig, RemovedSet
from reverse_etl.model import Operation
from tests.house import House, sync

ADA, BEN = (1, "ada@secret.io", "free"), (2, "ben@secret.io", "gold")


def house(root: Path, **changes: Any) -> House:
    at = House(root, sync(**changes))
    at.hashes = True
    return at


def bytes_of(at: House) -> bytes:
    return b"".join(path.read_bytes() for path in (at.root / ".reverse_etl").rglob("*") if path.is_file())


def fields_sent(at: House) -> list[tuple[Operation, dict[str, Any]]]:
    return [(operation, row) for operation, _, row in at.crm.sent()]


def test_an_unchanged_row_is_unchanged_and_of_a_changed_one_only_the_changed_field_goes_out(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.people(ADA, BEN)
    at.go()
    at.idle()
    at.people((1, "ada@secret.io", "pro"), BEN)
    report = at.go()
    assert (report.rows.changed, report.rows.unchanged) == (1, 1)
    assert fields_sent(at)[2:] == [(Operation.UPDATE, {"plan": "pro"})]
    at.idle()


def test_no_acknowledged_value_stays_on_disk(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.people(ADA, BEN)
    at.go()
    at.people((1, "ada@secret.io", "platinum-plan"), BEN)
    at.go()
    assert b"secret.io" not in bytes_of(at)
    assert b"platinum-plan" not in bytes_of(at)
    assert not [name for name in at.known()["1"] if name.startswith("f_")]


def test_two_projects_have_other_digests_of_one_value(tmp_path: Path) -> None:
    digests = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        at = house(tmp_path / name)
        at.people(ADA)
        at.go()
        row = at.known()["1"]
        digests |= {(row["x_email"], row["h"])}
    assert len(digests) == 2


def test_a_field_that_turns_null_and_one_that_gets_a_value_are_told(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.people(ADA, (2, "ben@secret.io", None))
    at.go()
    at.people((1, "ada@secret.io", None), (2, "ben@secret.io", "gold"))
    assert at.go().rows.changed == 2
    assert [row for _, row in fields_sent(at)[2:]] == [{"plan": None}, {"plan": "gold"}]
    at.idle()


def test_a_change_of_type_that_changes_no_value_is_no_change(tmp_path: Path) -> None:
    at = house(tmp_path, mapping={"email": "email", "seats": "seats"})
    at.people((1, "a@x.io", 5), columns="id INTEGER, email VARCHAR, seats INTEGER")
    at.go()
    at.people((1, "a@x.io", 5), columns="id INTEGER, email VARCHAR, seats DECIMAL(10,2)")
    at.idle()
    at.people((1, "a@x.io", 5.5), columns="id INTEGER, email VARCHAR, seats DOUBLE")
    assert at.go().rows.changed == 1


def test_in_reports_the_old_value_is_null(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.people(ADA)
    at.go()
    at.people((1, "ada@secret.io", "pro"))
    plan = at.go(dry_run=True).plan
    assert plan is not None
    assert plan.sample[0].fields == {"plan": (None, "pro")}
    told = at.explain("1")
    assert told.state == "pending"
    assert told.acknowledged is not None
    assert told.acknowledged["values"] == {"email": None, "plan": None}
    assert told.acknowledged["hashed"] == ["email", "plan"]
    assert told.acknowledged["record_id"] == "r1"


def test_a_removed_row_is_removed_and_one_that_comes_back_is_made_anew(tmp_path: Path) -> None:
    at = house(tmp_path, mode="mirror", on_removed="delete")
    at.people(ADA, BEN)
    at.go()
    at.people(ADA)
    assert at.go().delivered.removed == 1
    at.people(ADA, BEN)
    assert at.go().delivered.created == 1
    assert set(at.crm.by("email")) == {"ada@secret.io", "ben@secret.io"}


def test_values_set_on_removal_are_the_acknowledged_ones(tmp_path: Path) -> None:
    at = house(tmp_path, on_removed=RemovedSet(set={"plan": "gone"}))
    at.people(ADA, BEN)
    at.go()
    at.people(ADA)
    assert at.go().delivered.removed == 1
    at.idle()
    at.people(ADA, BEN)
    report = at.go()
    assert (report.rows.changed, fields_sent(at)[-1]) == (1, (Operation.UPDATE, {"plan": "gold"}))
    at.idle()


def test_a_null_that_is_no_value_leaves_the_acknowledged_one_known(tmp_path: Path) -> None:
    at = house(
        tmp_path, mapping={"email": "email", "plan": FieldMapping(column="plan", nulls="ignore"), "seats": "seats"}
    )
    columns = "id INTEGER, email VARCHAR, plan VARCHAR, seats INTEGER"
    at.people((1, "a@x.io", "free", 1), columns=columns)
    at.go()
    at.people((1, "a@x.io", None, 2), columns=columns)
    at.go()
    at.people((1, "a@x.io", "free", 2), columns=columns)
    assert at.idle().rows.unchanged == 1
    at.people((1, "a@x.io", "gold", 2), columns=columns)
    at.go()
    assert [row for _, row in fields_sent(at)[1:]] == [{"seats": 2}, {"plan": "gold"}]


def test_who_owns_a_record_is_told_whatever_the_case(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.people((2, "Ada@secret.io", "free"))
    at.go()
    at.people((1, "ada@secret.io", "free"), (2, "Ada@secret.io", "gold"))
    assert at.go().rows.invalid == 1
    assert at.codes() == {"1": "invalid_match_clash"}
    assert at.crm.by("plan").keys() == {"gold"}


def test_a_row_that_was_taken_over_is_no_removal(tmp_path: Path) -> None:
    at = house(tmp_path, mode="mirror", on_removed="delete")
    at.people(ADA)
    at.go()
    at.people((7, "ADA@secret.io", "free"))
    assert at.go().delivered.removed == 0
    assert len(at.crm.records) == 1


def test_a_wave_of_emptied_fields_is_stopped(tmp_path: Path) -> None:
    at = house(tmp_path, guard=GuardConfig(max_emptied=0.3, emptied_floor=0))
    at.people(*((each, f"{each}@x.io", "free") for each in range(10)))
    at.go()
    at.people(*((each, f"{each}@x.io", None) for each in range(10)))
    assert at.run().status == "guarded"


def test_baseline_rows_are_known(tmp_path: Path) -> None:
    at = house(tmp_path, first_run="baseline")
    at.people(ADA, BEN)
    at.go()
    at.idle()
    assert b"secret.io" not in bytes_of(at)
    at.people((1, "ada@secret.io", "pro"), BEN)
    assert at.go().rows.changed == 1


@pytest.mark.parametrize("stale_rows", [1000, 2])
def test_from_values_to_hashes_nothing_is_sent_again_and_the_values_go(
    tmp_path: Path, stale_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diff, "STALE_ROWS", stale_rows)
    at, rows = house(tmp_path), 5
    at.hashes = False
    at.people(*((each, f"{each}@secret.io", "free") for each in range(rows)))
    at.go()
    assert b"secret.io" in bytes_of(at)
    at.hashes = True
    at.idle()
    assert b"secret.io" not in bytes_of(at)
    assert len(at.known()) == rows
    assert {row["h"] for row in at.known().values()} != {1}
    at.people((0, "0@secret.io", "pro"), *((each, f"{each}@secret.io", "free") for each in range(1, rows)))
    assert at.go().rows.changed == 1
    at.idle()


def test_a_change_in_the_very_run_that_turns_to_hashes_is_sent(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.hashes = False
    at.people(ADA, BEN)
    at.go()
    at.hashes = True
    at.people((1, "ada@secret.io", "pro"), BEN)
    assert at.go(dry_run=True).rows.changed == 1
    assert at.go().rows.changed == 1
    assert fields_sent(at)[-1] == (Operation.UPDATE, {"plan": "pro"})
    at.idle()


@pytest.mark.parametrize("stale_rows", [1000, 2])
def test_back_to_values_nothing_is_sent_again_and_they_become_known_as_they_are_sent(
    tmp_path: Path, stale_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diff, "STALE_ROWS", stale_rows)
    at, rows = house(tmp_path), 5
    at.people(*((each, f"{each}@secret.io", "free") for each in range(rows)))
    at.go()
    at.hashes = False
    at.idle()
    at.people((0, "0@secret.io", "pro"), *((each, f"{each}@secret.io", "free") for each in range(1, rows)))
    assert at.go().rows.changed == 1
    known = at.known()
    assert (known["0"]["f_plan"], known["0"]["x_plan"]) == ("pro", None)
    assert known["1"]["x_plan"] is not None
    at.people(
        (0, "0@secret.io", "max"), (1, "1@secret.io", None), *((e, f"{e}@secret.io", "free") for e in range(2, rows))
    )
    assert at.go().rows.changed == 2
    assert at.known()["1"]["x_plan"] is None
    at.idle()


def test_back_to_values_a_removal_keeps_what_it_does_not_set(tmp_path: Path) -> None:
    at = house(
        tmp_path,
        on_removed=RemovedSet(set={"plan": "gone"}),
        mapping={"email": "email", "plan": "plan", "seats": "seats"},
    )
    columns = "id INTEGER, email VARCHAR, plan VARCHAR, seats INTEGER"
    rows = (1, "a@x.io", "free", 5), (2, "b@x.io", "free", 6)
    at.people(*rows, columns=columns)
    at.go()
    at.hashes = False
    at.people(rows[0], columns=columns)
    at.go()
    at.people(rows[0], (2, "b@x.io", "free", None), columns=columns)
    at.go()
    assert fields_sent(at)[-1] == (Operation.UPDATE, {"plan": "free", "seats": None})


def test_a_refused_row_is_offered_again_as_ever(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.people(ADA, BEN)
    at.crm.refuse(lambda record: record.get("plan") == "gold")
    assert at.go().rejected == 1
    at.crm.obey()
    at.clock.advance(timedelta(hours=1))
    assert at.go().delivered.created == 1
    at.idle()


def test_a_full_send_sends_every_field(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.people(ADA)
    at.go()
    at.go(full=True)
    assert fields_sent(at)[-1] == (Operation.UPDATE, {"email": "ada@secret.io", "plan": "free"})
