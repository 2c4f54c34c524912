"""Records looked up before their rows go out: fallbacks, protected addresses, fields written only where empty."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reverse_etl.config.sync import FieldMapping
from reverse_etl.model import Field, FieldType, Operation
from reverse_etl.testing import MemoryAccount, MemoryDestination
from tests.house import House, sync

FIELDS = (
    Field("email", FieldType.TEXT, identifies=True, folds_case=True),
    Field("user_id", FieldType.TEXT, identifies=True),
    Field("plan", FieldType.TEXT),
    Field("note", FieldType.TEXT),
)
COLUMNS = "id INTEGER, email VARCHAR, uid VARCHAR, plan VARCHAR"


def house(root: Path, *rows: Sequence[object], plan: str = "always", **changes: Any) -> House:
    mapping = {"email": "email", "user_id": "uid", "plan": FieldMapping(column="plan", write=plan)}
    built = House(root, sync(**{"mapping": mapping, **changes}), crm=MemoryAccount(*FIELDS))
    built.people(*rows, columns=COLUMNS)
    return built


def calls(house: House) -> list[tuple[Operation, list[dict[str, Any]]]]:
    return [(call.operation, call.rows) for call in house.crm.writes]


# --- write: if_empty -------------------------------------------------------------------------------------------------


def test_a_field_written_if_empty_leaves_what_the_record_has(tmp_path: Path) -> None:
    there = house(tmp_path, (1, "a@x.io", "u1", "free"), (2, "b@x.io", "u2", "free"), plan="if_empty")
    there.crm.add(email="a@x.io", plan="gold")
    there.crm.add(email="b@x.io", plan="")
    report = there.go()
    assert {email: record["plan"] for email, record in there.crm.by("email").items()} == {
        "a@x.io": "gold",
        "b@x.io": "free",
    }
    assert (report.delivered.updated, report.delivered.kept_fields) == (2, 1)
    there.idle()


def test_a_record_that_is_not_there_gets_the_field(tmp_path: Path) -> None:
    there = house(tmp_path, (1, "a@x.io", "u1", "free"), plan="if_empty")
    assert there.go().delivered.created == 1
    assert there.crm.by("email")["a@x.io"]["plan"] == "free"


def test_a_later_value_is_kept_out_too_and_a_row_with_nothing_else_is_skipped(tmp_path: Path) -> None:
    there = house(tmp_path, (1, "a@x.io", "u1", "free"), plan="if_empty")
    there.crm.add(email="a@x.io", plan="gold")
    there.go()
    there.people((1, "a@x.io", "u1", "team"), columns=COLUMNS)
    before = len(there.crm.writes)
    report = there.go()
    assert (report.delivered.skipped, report.delivered.kept_fields, len(there.crm.writes)) == (1, 1, before)
    assert there.crm.by("email")["a@x.io"]["plan"] == "gold"
    there.idle()


def test_a_value_that_somebody_emptied_is_filled_again_when_the_row_changes(tmp_path: Path) -> None:
    there = house(tmp_path, (1, "a@x.io", "u1", "free"), plan="if_empty")
    there.go()
    there.crm.records["r1"].pop("plan")
    there.people((1, "a@x.io", "u1", "team"), columns=COLUMNS)
    there.go()
    assert there.crm.by("email")["a@x.io"]["plan"] == "team"


# --- write: on_create ------------------------------------------------------------------------------------------------


def test_a_field_written_on_create_goes_to_new_records_only(tmp_path: Path) -> None:
    there = house(tmp_path, (1, "a@x.io", "u1", "free"), (2, "b@x.io", "u2", "free"), plan="on_create")
    there.crm.add(email="a@x.io")
    report = there.go()
    assert {email: record.get("plan") for email, record in there.crm.by("email").items()} == {
        "a@x.io": None,
        "b@x.io": "free",
    }
    assert (report.delivered.created, report.delivered.updated, report.delivered.kept_fields) == (1, 1, 1)


def test_a_change_of_such_a_field_costs_no_call_for_a_record_we_know(tmp_path: Path) -> None:
    there = house(tmp_path, (1, "a@x.io", "u1", "free"), plan="on_create")
    there.go()
    there.people((1, "a@x.io", "u1", "team"), columns=COLUMNS)
    before = len(there.crm.writes)
    report = there.go()
    assert (report.delivered.skipped, report.delivered.kept_fields, len(there.crm.writes)) == (1, 1, before)
    there.idle()


def test_a_record_that_was_deleted_is_made_anew_with_every_field(tmp_path: Path) -> None:
    there = house(tmp_path, (1, "a@x.io", "u1", "free"), plan="on_create")
    there.go()
    there.crm.records.clear()
    there.people((1, "a@x.io", "u9", "free"), columns=COLUMNS)
    there.go()
    assert there.crm.by("email") == {"a@x.io": {"email": "a@x.io", "user_id": "u9", "plan": "free"}}


# --- match: [a, b] ---------------------------------------------------------------------------------------------------


def test_the_next_field_finds_a_record_that_the_first_does_not(tmp_path: Path) -> None:
    there = house(tmp_path, (1, "a@x.io", "u1", "free"), match="user_id", fallbacks=("email",))
    there.crm.add(email="a@x.io")
    report = there.go()
    assert (report.delivered.updated, report.delivered.created) == (1, 0)
    assert there.crm.by("email") == {"a@x.io": {"email": "a@x.io", "user_id": "u1", "plan": "free"}}


def test_what_no_field_finds_is_created_by_the_first_that_has_a_value(tmp_path: Path) -> None:
    there = house(
        tmp_path, (1, "a@x.io", None, "free"), (2, "b@x.io", "u2", "free"), match="user_id", fallbacks=("email",)
    )
    assert there.go().delivered.created == 2
    assert set(there.crm.by("email")) == {"a@x.io", "b@x.io"}
    there.idle()


def test_a_row_whose_fields_find_two_records_is_refused_and_both_are_named(tmp_path: Path) -> None:
    there = house(
        tmp_path, (1, "a@x.io", "u1", "free"), (2, "b@x.io", "u2", "free"), match="user_id", fallbacks=("email",)
    )
    one, other = there.crm.add(user_id="u1"), there.crm.add(email="a@x.io")
    report = there.go()
    assert (report.delivered.created, report.rejected) == (1, 1)
    row = there.refused()["1"]
    assert row.code == "ambiguous_match"
    assert one in row.message and other in row.message
    assert there.crm.records[one] == {"user_id": "u1"}


def test_an_ambiguous_row_goes_out_when_the_records_are_merged(tmp_path: Path) -> None:
    there = house(tmp_path, (1, "a@x.io", "u1", "free"), match="user_id", fallbacks=("email",))
    one, other = there.crm.add(user_id="u1"), there.crm.add(email="a@x.io")
    there.go()
    del there.crm.records[other]
    there.crm.records[one]["email"] = "a@x.io"
    assert there.go().delivered.updated == 1
    assert there.refused() == {}


def test_a_row_without_any_match_value_is_invalid(tmp_path: Path) -> None:
    there = house(tmp_path, (1, None, None, "free"), match="user_id", fallbacks=("email",))
    assert there.go().rows.invalid == 1
    assert there.codes() == {"1": "invalid_null_match"}


def test_update_mode_with_fallbacks_creates_nothing(tmp_path: Path) -> None:
    there = house(
        tmp_path,
        (1, "a@x.io", "u1", "free"),
        (2, "b@x.io", "u2", "free"),
        mode="update",
        match="user_id",
        fallbacks=("email",),
    )
    there.crm.add(email="a@x.io")
    report = there.go()
    assert (report.delivered.updated, report.rejected, len(there.crm.records)) == (1, 1, 1)
    assert there.codes() == {"2": "missing_record"}


# --- secondary: protect ----------------------------------------------------------------------------------------------


def test_a_protected_record_keeps_its_own_address(tmp_path: Path) -> None:
    there = house(tmp_path, (1, "A@x.io", "u1", "free"), protects_match=True)
    there.crm.add(email="a@x.io")
    there.go()
    assert calls(there) == [(Operation.UPDATE, [{"user_id": "u1", "plan": "free"}])]


def test_a_protected_address_that_changes_in_the_warehouse_goes_out(tmp_path: Path) -> None:
    there = house(tmp_path, (1, "a@x.io", "u1", "free"), protects_match=True)
    there.crm.add(email="a@x.io")
    there.go()
    there.people((1, "new@x.io", "u1", "free"), columns=COLUMNS)
    there.go()
    assert calls(there)[-1] == (Operation.UPDATE, [{"email": "new@x.io"}])


# --- what needs no look ----------------------------------------------------------------------------------------------


class Blind(MemoryDestination):
    """One whose records can't be read back."""

    find = None  # type: ignore[assignment]


def test_a_plain_sync_looks_nothing_up(tmp_path: Path) -> None:
    there = house(tmp_path, (1, "a@x.io", "u1", "free"))
    there.destination = lambda: Blind(account=there.crm)  # type: ignore[method-assign]
    assert there.go().delivered.created == 1


def test_a_destination_that_cannot_be_read_is_refused_before_any_write(tmp_path: Path) -> None:
    there = house(tmp_path, (1, "a@x.io", "u1", "free"), plan="if_empty")
    there.destination = lambda: Blind(account=there.crm)  # type: ignore[method-assign]
    report = there.run()
    assert (report.status, report.pending, there.crm.writes) == ("failed", 1, [])
    assert report.error is not None and report.error.code == "destination_config"
