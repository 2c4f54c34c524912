"""What goes out, and what doesn't: rows against what the destination last acknowledged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from reverse_etl.config.sync import GuardConfig
from reverse_etl.diff import STALE_ROWS
from reverse_etl.model import Field, FieldType, Operation
from reverse_etl.testing import MemoryAccount
from tests.house import FIELDS, House, mapping, sync

UPSERT, UPDATE, CREATE = Operation.UPSERT, Operation.UPDATE, Operation.CREATE


def test_a_new_key_sends_every_mapped_field_that_is_not_null(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"), (2, "b@x.io", None))
    report = house.go()
    assert (report.rows.read, report.rows.added, report.delivered.created) == (2, 2, 2)
    assert house.crm.sent() == [
        (UPSERT, "1", {"email": "a@x.io", "plan": "free"}),
        (UPSERT, "2", {"email": "b@x.io"}),
    ]


def test_an_unchanged_run_opens_no_destination(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"), (2, "b@x.io", None))
    house.go()
    assert house.idle().rows.unchanged == 2


def test_of_a_changed_row_only_the_changed_fields_go_out_by_id(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    house.go()
    house.people((1, "a@x.io", "pro"), (2, "new@x.io", "free"))
    report = house.go()
    assert (report.rows.changed, report.delivered.updated) == (2, 2)
    assert house.crm.sent()[2:] == [(UPDATE, "1", {"plan": "pro"}), (UPDATE, "2", {"email": "new@x.io"})]
    assert house.crm.writes[-1].record_ids == ["r1", "r2"]
    house.idle()


def test_a_value_that_turned_null_clears_the_field(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"))
    house.go()
    house.people((1, "a@x.io", None))
    house.go()
    assert house.crm.sent()[1:] == [(UPDATE, "1", {"plan": None})]
    house.idle()


def test_null_and_empty_text_are_different_values(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", None))
    house.go()
    house.people((1, "a@x.io", ""))
    assert house.go().rows.changed == 1
    assert house.crm.sent()[1:] == [(UPDATE, "1", {"plan": ""})]


def test_a_null_that_is_to_be_ignored_is_neither_sent_nor_compared(tmp_path: Path) -> None:
    house = House(tmp_path, sync(mapping=mapping(email="email", plan={"column": "plan", "nulls": "ignore"})))
    house.people((1, "a@x.io", "free"))
    house.go()
    house.people((1, "a@x.io", None))
    house.idle()
    house.people((1, "b@x.io", None))
    house.go()
    assert house.crm.sent()[1:] == [(UPDATE, "1", {"email": "b@x.io"})]
    house.people((1, "b@x.io", "free"))
    house.idle()  # the destination still has it
    house.people((1, "b@x.io", "pro"))
    assert house.go().rows.changed == 1


def test_a_field_that_is_not_compared_goes_along_and_is_never_a_reason(tmp_path: Path) -> None:
    house = House(tmp_path, sync(mapping=mapping(email="email", plan="plan", seats={"column": "n", "compare": False})))
    columns = "id INTEGER, email VARCHAR, plan VARCHAR, n INTEGER"
    house.people((1, "a@x.io", "free", 1), columns=columns)
    house.go()
    house.people((1, "a@x.io", "free", 2), columns=columns)
    house.idle()
    house.people((1, "a@x.io", "pro", 3), columns=columns)
    house.go()
    assert house.crm.sent()[1:] == [(UPDATE, "1", {"plan": "pro", "seats": 3})]


def test_unmapped_columns_and_column_order_cost_nothing(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"))
    house.go()
    house.people((7, "free", 1, "a@x.io"), columns="noise INTEGER, plan VARCHAR, id INTEGER, email VARCHAR")
    house.idle()


def test_an_edited_mapping_resends_exactly_the_rows_whose_payload_differs(tmp_path: Path) -> None:
    house = House(tmp_path)
    columns = "id INTEGER, email VARCHAR, plan VARCHAR, n INTEGER"
    house.people((1, "a@x.io", "free", 5), (2, "b@x.io", "free", None), columns=columns)
    house.go()
    house.change(mapping=mapping(plan="plan", email="email", seats="n"))
    report = house.go()
    assert (report.rows.changed, report.rows.unchanged) == (1, 1)
    assert house.crm.sent()[2:] == [(UPDATE, "1", {"seats": 5})]
    house.change(mapping=mapping(email="email", seats="n"))
    house.idle()
    house.change(mapping=mapping(email="email", seats="n", plan="plan"))
    house.idle()  # what was mapped before is still at the destination, and still known


def test_a_default_is_compared_like_a_value(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", None), (2, "b@x.io", "free"))
    house.go()
    house.change(mapping=mapping(email="email", plan={"column": "plan", "default": "free"}))
    assert house.go().rows.changed == 1
    assert house.crm.sent()[2:] == [(UPDATE, "1", {"plan": "free"})]


# --- bad keys ----------------------------------------------------------------------------------------------------


def test_null_keys_share_one_entry_and_the_others_go_on(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((None, "a@x.io", "free"), (None, "b@x.io", "free"), (3, "c@x.io", "free"))
    report = house.go()
    assert (report.rows.invalid, report.rows.added, report.exit_code, report.status) == (2, 1, 3, "partial")
    (row,) = house.refused().values()
    assert (row.key, row.code, row.count, row.attempts, row.request_id) == (None, "invalid_null_key", 2, 0, None)
    assert list(house.crm.by("email")) == ["c@x.io"]
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"), (3, "c@x.io", "free"))
    assert house.go().rows.added == 2
    assert house.refused() == {}


def test_every_row_of_a_repeated_key_is_invalid_until_it_stands_once(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"), (1, "b@x.io", "free"), (2, "c@x.io", "free"))
    report = house.go()
    assert (report.rows.invalid, report.rows.added) == (2, 1)
    assert house.codes() == {"1": "invalid_repeated_key"}
    house.people((1, "a@x.io", "free"), (2, "c@x.io", "free"))
    house.go()
    assert house.codes() == {}
    assert set(house.crm.by("email")) == {"a@x.io", "c@x.io"}


def test_a_repeated_key_is_no_removal_of_its_record(tmp_path: Path) -> None:
    house = House(tmp_path, sync(mode="mirror", on_removed="delete"))
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    house.go()
    house.people((1, "a@x.io", "free"), (1, "a@x.io", "pro"), (2, "b@x.io", "free"))
    assert house.go().rows.removed == 0
    assert len(house.crm.records) == 2


# --- rows that find the same record --------------------------------------------------------------------------------


def test_of_rows_with_one_match_value_the_first_in_key_order_goes_out(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((10, "A@x.io ", "ten"), (9, "a@x.io", "nine"), (11, "b@x.io", "free"))
    report = house.go()
    assert (report.rows.added, report.rows.invalid) == (2, 1)
    assert house.codes() == {"10": "invalid_match_clash"}  # 9 comes before 10, though not as text
    assert house.crm.by("email")["a@x.io"]["plan"] == "nine"
    assert house.codes() == {"10": "invalid_match_clash"}
    assert house.go().rows.invalid == 1


def test_the_row_that_owns_the_record_keeps_it(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((5, "a@x.io", "free"))
    house.go()
    house.people((1, "a@x.io", "thief"), (5, "a@x.io", "free"))
    house.go()
    assert house.codes() == {"1": "invalid_match_clash"}
    house.people((1, "a@x.io", "thief"), (5, "a@x.io", "pro"))
    house.go()
    assert house.crm.by("email") == {"a@x.io": {"email": "a@x.io", "plan": "pro"}}


def test_the_owner_counts_when_it_was_not_read(tmp_path: Path) -> None:
    house = House(tmp_path, sync(cursor="n"))
    columns = "id INTEGER, email VARCHAR, plan VARCHAR, n INTEGER"
    house.people((5, "a@x.io", "free", 1), (6, "b@x.io", "free", 50), columns=columns)
    house.go()
    house.people((5, "a@x.io", "free", 1), (6, "b@x.io", "free", 50), (1, "a@x.io", "thief", 60), columns=columns)
    report = house.go()
    assert (report.rows.read, report.rows.invalid) == (2, 1)
    assert house.codes() == {"1": "invalid_match_clash"}


def test_a_match_value_that_its_owner_gives_up_is_free(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"))
    house.go()
    house.people((1, "b@x.io", "free"), (2, "a@x.io", "free"))
    house.go()
    house.go()
    assert house.codes() == {}
    assert set(house.crm.by("email")) == {"a@x.io", "b@x.io"}


def test_on_duplicate_none_refuses_all_of_them(tmp_path: Path) -> None:
    house = House(tmp_path, sync(on_duplicate="none"))
    house.people((1, "a@x.io", "x"), (2, "a@x.io", "y"), (3, "c@x.io", "z"))
    assert house.go().rows.invalid == 2
    assert set(house.codes()) == {"1", "2"}


def test_a_row_without_a_match_value_is_invalid(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, None, "x"), (2, " ", "y"), (3, "c@x.io", "z"))
    assert house.go().rows.invalid == 2
    assert set(house.codes().values()) == {"invalid_null_match"}


# --- composite keys ------------------------------------------------------------------------------------------------


def test_a_composite_key_is_a_list_of_its_parts(tmp_path: Path) -> None:
    house = House(tmp_path, sync(key=("org", "id")))
    columns = "org VARCHAR, id INTEGER, email VARCHAR, plan VARCHAR"
    house.people(('a"b', 1, "a@x.io", "free"), ("a", 2, "b@x.io", "free"), (None, 3, "c@x.io", "free"), columns=columns)
    report = house.go()
    assert (report.rows.added, report.rows.invalid) == (2, 1)
    assert set(house.known()) == {'["a\\"b", 1]', '["a", 2]'}
    assert house.codes() == {None: "invalid_null_key"}
    house.run()
    assert house.explain('["a",2]').state == "unchanged"


def test_parts_of_a_composite_key_never_run_together(tmp_path: Path) -> None:
    house = House(tmp_path, sync(key=("a", "b")))
    columns = "a VARCHAR, b VARCHAR, email VARCHAR, plan VARCHAR"
    house.people(
        ("x", "y, z", "a@x.io", "p"), ("x, y", "z", "b@x.io", "p"), ('x", "y', "z", "c@x.io", "p"), columns=columns
    )
    assert house.go().rows.added == 3


# --- wishes --------------------------------------------------------------------------------------------------------


def test_full_sends_every_row_with_all_fields_and_clears_nulls(tmp_path: Path) -> None:
    house = House(tmp_path, sync(guard=GuardConfig(max_changed=0.0)))
    house.people((1, "a@x.io", "free"), (2, "b@x.io", None))
    house.go()
    house.crm.records["r2"]["plan"] = "set by hand"
    report = house.go(full=True)
    assert (report.rows.changed, report.rows.unchanged) == (2, 0)
    assert house.crm.sent()[2:] == [
        (UPDATE, "1", {"email": "a@x.io", "plan": "free"}),
        (UPDATE, "2", {"email": "b@x.io", "plan": None}),
    ]
    house.idle()


def test_full_still_removes(tmp_path: Path) -> None:
    house = House(tmp_path, sync(mode="mirror", on_removed="delete"))
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    house.go()
    house.people((1, "a@x.io", "free"))
    report = house.go(full=True)
    assert (report.rows.changed, report.rows.removed, report.delivered.removed) == (1, 1, 1)
    assert list(house.crm.by("email")) == ["a@x.io"]


def test_a_limit_takes_the_first_keys_by_their_value(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people(*((number, f"p{number}@x.io", "free") for number in (100, 9, 20, 3)))
    report = house.go(limit=2)
    assert sorted(key for _, key, _ in house.crm.sent()) == ["3", "9"]
    assert (report.pending, report.status, report.exit_code) == (2, "succeeded", 0)
    assert house.go().rows.added == 2


def test_a_limit_removes_nothing(tmp_path: Path) -> None:
    house = House(tmp_path, sync(mode="mirror", on_removed="delete"))
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    house.go()
    house.people((1, "a@x.io", "pro"))
    report = house.go(limit=5)
    assert (report.delivered.removed, report.delivered.updated, report.pending) == (0, 1, 1)
    assert house.go().delivered.removed == 1


def test_a_baseline_remembers_and_sends_nothing(tmp_path: Path) -> None:
    house = House(tmp_path, sync(first_run="baseline", mode="mirror", on_removed="delete"))
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"), (3, "c@x.io", "free"))
    house.unopened = True
    report = house.go()
    assert (report.rows.read, report.rows.unchanged, report.rows.added, report.status) == (3, 3, 0, "succeeded")
    house.unopened = False
    house.people((1, "a@x.io", "pro"), (2, "b@x.io", "free"))
    report = house.go()
    assert (report.rows.changed, report.rows.removed) == (1, 0)  # its record was never ours to remove
    assert house.crm.sent() == [(UPSERT, "1", {"email": "a@x.io", "plan": "pro"})]


def test_of_a_record_that_an_insert_skipped_nothing_is_known_when_it_may_be_updated(tmp_path: Path) -> None:
    house = House(tmp_path, sync(mode="insert", mapping=mapping(email="email", plan="plan", seats="seats")))
    columns = "id INTEGER, email VARCHAR, plan VARCHAR, seats INTEGER"
    house.crm.add(email="a@x.io", plan="theirs")
    house.people((1, "a@x.io", "free", 1), columns=columns)
    assert house.go().delivered.skipped == 1
    house.change(mode="upsert")
    house.idle()
    house.people((1, "a@x.io", "free", 2), columns=columns)
    house.go()
    assert house.crm.by("email") == {"a@x.io": {"email": "a@x.io", "plan": "free", "seats": 2}}


@pytest.mark.parametrize("hashes", [False, True])
def test_a_record_made_anew_gets_a_value_whose_null_was_ignored(tmp_path: Path, hashes: bool) -> None:
    ignoring = mapping(email="email", plan={"column": "plan", "nulls": "ignore"}, seats="seats")
    house = House(tmp_path, sync(mapping=ignoring))
    house.hashes, columns = hashes, "id INTEGER, email VARCHAR, plan VARCHAR, seats INTEGER"
    house.people((1, "a@x.io", "free", 1), columns=columns)
    house.go()
    house.crm.records.clear()
    house.people((1, "a@x.io", None, 2), columns=columns)
    house.go()
    house.people((1, "a@x.io", "free", 2), columns=columns)
    house.go()
    assert house.crm.by("email")["a@x.io"]["plan"] == "free"


@pytest.mark.parametrize("hashes", [False, True])
def test_an_ignored_null_sends_nothing_of_what_only_a_baseline_knows(tmp_path: Path, hashes: bool) -> None:
    ignoring = mapping(email="email", plan={"column": "plan", "nulls": "ignore"}, seats="seats")
    house = House(tmp_path, sync(first_run="baseline", mapping=ignoring))
    house.hashes, columns = hashes, "id INTEGER, email VARCHAR, plan VARCHAR, seats INTEGER"
    house.people((1, "a@x.io", "old", 1), columns=columns)
    house.go()
    house.people((1, "a@x.io", None, 2), columns=columns)
    house.go()
    house.people((1, "a@x.io", "old", 2), columns=columns)
    house.go()
    assert [row for _, _, row in house.crm.sent()] == [{"email": "a@x.io", "seats": 2}, {"plan": "old"}]


@pytest.mark.parametrize("wishes", [{}, {"limit": 1}])
def test_a_baseline_is_one_run_though_it_moves_no_cursor(tmp_path: Path, wishes: dict[str, Any]) -> None:
    house = House(tmp_path, sync(first_run="baseline", cursor="seen"))
    columns = "id INTEGER, email VARCHAR, plan VARCHAR, seen INTEGER"
    house.people((1, "a@x.io", "pro", None), columns=columns)
    house.go(**wishes)
    house.people((1, "a@x.io", "pro", None), (2, "b@x.io", "pro", 1), columns=columns)
    house.go()
    assert house.crm.sent() == [(UPSERT, "2", {"email": "b@x.io", "plan": "pro"})]


def test_insert_sends_new_keys_only_and_skips_what_exists(tmp_path: Path) -> None:
    house = House(tmp_path, sync(mode="insert"))
    house.crm.add(email="b@x.io", plan="theirs")
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    report = house.go()
    assert (report.delivered.created, report.delivered.skipped) == (1, 1)
    house.people((1, "a@x.io", "pro"), (2, "b@x.io", "pro"), (3, "c@x.io", "pro"))
    report = house.go()
    assert (report.rows.added, report.rows.changed, report.rows.unchanged) == (1, 0, 2)
    assert house.crm.by("email")["b@x.io"]["plan"] == "theirs"
    assert [operation for operation, _, _ in house.crm.sent()] == [CREATE] * 3


def test_update_never_creates(tmp_path: Path) -> None:
    house = House(tmp_path, sync(mode="update"))
    house.crm.add(email="a@x.io")
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    report = house.go()
    assert (report.delivered.updated, report.rejected, report.exit_code) == (1, 1, 3)
    assert house.codes() == {"2": "missing_record"}
    assert list(house.crm.by("email")) == ["a@x.io"]
    house.crm.add(email="b@x.io")
    house.go()
    assert house.codes() == {}


# --- rows that leave, and come back ----------------------------------------------------------------------------------


def test_mirror_removes_what_it_wrote_and_makes_it_anew_when_it_returns(tmp_path: Path) -> None:
    house = House(tmp_path, sync(mode="mirror", on_removed="delete"))
    house.crm.add(email="theirs@x.io")
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    house.go()
    house.people((2, "b@x.io", "free"))
    report = house.go()
    assert (report.rows.removed, report.delivered.removed) == (1, 1)
    assert set(house.crm.by("email")) == {"theirs@x.io", "b@x.io"}
    house.idle()
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    report = house.go()
    assert (report.rows.added, report.delivered.created) == (1, 1)


def test_set_values_go_out_once_and_a_returning_row_is_changed(tmp_path: Path) -> None:
    house = House(tmp_path, sync(on_removed={"set": {"plan": "gone"}}))
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    house.go()
    house.people((2, "b@x.io", "free"))
    report = house.go()
    assert (report.rows.removed, report.delivered.removed) == (1, 1)
    assert house.crm.sent()[2:] == [(UPDATE, "1", {"plan": "gone"})]
    house.idle()
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    report = house.go()
    assert (report.rows.changed, report.rows.added) == (1, 0)
    assert house.crm.sent()[3:] == [(UPDATE, "1", {"plan": "free"})]
    house.idle()


def test_a_renamed_key_takes_its_record_over_and_loses_it_not(tmp_path: Path) -> None:
    house = House(tmp_path, sync(mode="mirror", on_removed="delete"))
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    house.go()
    house.people((7, "a@x.io", "free"), (2, "b@x.io", "free"))
    house.go()
    assert set(house.crm.by("email")) == {"a@x.io", "b@x.io"}
    house.go()
    assert set(house.crm.by("email")) == {"a@x.io", "b@x.io"}


def test_a_record_that_somebody_deleted_is_made_anew_with_all_fields(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"))
    house.go()
    house.crm.records.clear()
    house.people((1, "a@x.io", "pro"))
    report = house.go()
    assert report.delivered.created == 1
    assert house.crm.by("email") == {"a@x.io": {"email": "a@x.io", "plan": "pro"}}
    house.people((1, "a@x.io", "team"))
    house.go()
    assert house.crm.writes[-1].record_ids == ["r2"]


# --- fingerprints ----------------------------------------------------------------------------------------------------


def test_stale_fingerprints_send_nothing_and_are_written_anew(tmp_path: Path) -> None:
    house = House(tmp_path)
    size = STALE_ROWS + 1
    numbers = range(size)
    people = {"id": list(numbers), "email": [f"p{n}@x.io" for n in numbers], "plan": ["free"] * size}
    house.warehouse.arrow("people", pa.table(people))
    house.go()
    before = house.known()["7"]["h"]
    snapshot = tmp_path / ".reverse_etl" / "snapshots" / "people.duckdb"
    with duckdb.connect(str(snapshot)) as connection:
        connection.execute("UPDATE rows SET h = 1")
    assert house.idle().rows.unchanged == size
    assert house.known()["7"]["h"] == before


def test_rows_that_swap_their_values_are_both_changed(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "pro"))
    house.go()
    house.people((1, "a@x.io", "pro"), (2, "b@x.io", "free"))
    assert house.go().rows.changed == 2
    assert house.crm.by("email")["a@x.io"]["plan"] == "pro"


def test_rows_of_hundreds_of_fields_are_compared(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(600)]
    crm = MemoryAccount(*FIELDS, *(Field(name, FieldType.TEXT) for name in names))
    house = House(tmp_path, sync(mapping=mapping(email="email", **{name: name for name in names})), crm=crm)
    for text in ("old", "new"):
        columns = {"id": [1], "email": ["a@x.io"], **{name: [f"{text} {name}"] for name in names}}
        house.warehouse.arrow("people", pa.table(columns))
        house.go()
    assert house.crm.by("email")["a@x.io"]["c599"] == "new c599"
