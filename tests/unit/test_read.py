"""The cursor: what is read, what is read again, and how far it moves."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reverse_etl.config.schedule import Every
from reverse_etl.config.sync import CursorConfig
from reverse_etl.errors import SourceError, Unavailable
from reverse_etl.model import Limits
from reverse_etl.testing.clock import MIDDAY
from tests.house import House, sync

TIMES = "id INTEGER, email VARCHAR, plan VARCHAR, seen TIMESTAMPTZ"
NUMBERS = "id INTEGER, email VARCHAR, plan VARCHAR, seen BIGINT"
NAMED = "select * from people where seen >= :cursor or seen is null"
BOTH_FORMS = pytest.mark.parametrize("sql", ["select * from people", NAMED], ids=["wrapped", "named"])


def at(minutes: float) -> datetime:
    """So many minutes before midday, when the house's clock starts."""
    return MIDDAY - timedelta(minutes=minutes)


def seen(house: House, *rows: tuple[object, ...], columns: str = TIMES) -> None:
    """Rows of (id, cursor value) or (id, cursor value, plan)."""
    house.people(
        *((row[0], f"p{row[0]}@x.io", row[2] if len(row) > 2 else "free", row[1]) for row in rows), columns=columns
    )


@BOTH_FORMS
def test_a_first_run_reads_everything_and_the_next_from_the_lag(tmp_path: Path, sql: str) -> None:
    house = House(tmp_path, sync(cursor="seen", sql=sql))
    seen(house, (1, at(600)), (2, at(30)), (3, at(25)))
    report = house.go()
    assert (report.rows.read, report.rows.added) == (3, 3)
    assert report.cursor_to == "2026-06-01T11:35:00.000000Z"
    assert house.idle().rows.read == 2  # 25 minutes before, less the ten of the lag
    assert house.crm.described == 1


@BOTH_FORMS
def test_rows_of_one_cursor_value_are_never_skipped_nor_sent_for_ever(tmp_path: Path, sql: str) -> None:
    house = House(tmp_path, sync(cursor="seen", sql=sql))
    seen(house, (1, 7), (2, 7), columns=NUMBERS)
    house.go()
    seen(house, (1, 7), (2, 7), (3, 7), columns=NUMBERS)
    report = house.go()
    assert (report.rows.read, report.rows.added, report.cursor_to) == (3, 1, "7")
    house.idle()


def test_late_rows_inside_the_lag_arrive_and_do_not_move_the_cursor_back(tmp_path: Path) -> None:
    house = House(tmp_path, sync(cursor="seen"))
    seen(house, (1, at(30)))
    house.go()
    seen(house, (1, at(30)), (2, at(39)), (3, at(41)))
    report = house.go()
    assert (report.rows.read, report.rows.added) == (2, 1)
    assert report.cursor_to == report.cursor_from == "2026-06-01T11:30:00.000000Z"


def test_a_lag_of_ones_own_is_taken(tmp_path: Path) -> None:
    house = House(tmp_path, sync(cursor=CursorConfig(column="seen", lag=timedelta(hours=1))))
    seen(house, (1, at(30)))
    house.go()
    seen(house, (1, at(30)), (2, at(89)))
    assert house.go().rows.added == 1


def test_a_lag_behind_a_number_is_an_error_of_the_definition_before_anything_is_sent(tmp_path: Path) -> None:
    house = House(tmp_path, sync(cursor=CursorConfig(column="seen", lag=timedelta(hours=1))))
    seen(house, (1, 5), columns=NUMBERS)
    report = house.run()
    assert report.exit_code == 2
    assert "a lag is a span of time" in report.problems[0].message
    assert not house.crm.described


def test_a_start_of_ones_own_is_where_the_named_cursor_begins(tmp_path: Path) -> None:
    house = House(tmp_path, sync(cursor=CursorConfig(column="seen", start=5), sql=NAMED))
    seen(house, (1, 4), (2, 5), columns=NUMBERS)
    assert house.go().rows.read == 1


@BOTH_FORMS
def test_rows_without_a_cursor_value_are_delivered_and_move_nothing(tmp_path: Path, sql: str) -> None:
    house = House(tmp_path, sync(cursor="seen", sql=sql))
    seen(house, (1, None), (2, None))
    if "cursor" in sql:
        house.change(sql=sql.replace(":cursor", "cast(:cursor as timestamptz)"))
    report = house.go()
    assert (report.rows.added, report.cursor_to) == (2, None)
    seen(house, (1, None), (2, None), (3, at(30)), (4, None))
    report = house.go()
    assert (report.rows.added, report.cursor_to) == (2, "2026-06-01T11:30:00.000000Z")
    seen(house, (1, None, "pro"), (2, None), (3, at(30)), (4, None))
    assert house.go().rows.changed == 1


def test_rows_from_the_future_are_delivered_named_and_do_not_move_the_cursor(tmp_path: Path) -> None:
    house = House(tmp_path, sync(cursor="seen"))
    seen(house, (1, at(30)), (2, at(-600)))
    report = house.go()
    assert (report.rows.added, report.cursor_to) == (2, "2026-06-01T11:30:00.000000Z")
    assert report.notes == ["1 row has a seen in the future: sent, without moving the cursor"]
    assert house.run().rows.unchanged == 2


@pytest.mark.parametrize(
    ("type", "values"),
    [
        ("TIMESTAMP", [datetime(2026, 5, 1, 0, 0, 0, 1), datetime(2026, 5, 1, 0, 0, 0, 2)]),
        ("TIMESTAMPTZ", [datetime(2026, 5, 1, 0, 0, 0, 1, UTC), datetime(2026, 5, 1, 0, 0, 0, 2, UTC)]),
        ("DATE", ["2026-05-01", "2026-05-02"]),
        ("BIGINT", [2**53, 2**53 + 1]),
        ("DECIMAL(38,10)", ["1234567890123456789.0000000001", "1234567890123456789.0000000002"]),
        ("DOUBLE", [0.1, 0.1 + 2**-55]),
        ("VARCHAR", ["a", "b"]),
        ("BOOLEAN", [False, True]),
    ],
)
def test_the_cursor_is_the_sources_exact_value(tmp_path: Path, type: str, values: list[Any]) -> None:
    definition = sync(cursor=CursorConfig(column="seen", lag=timedelta()), sql="select * from people")
    house = House(tmp_path, definition)
    columns = f"id INTEGER, email VARCHAR, plan VARCHAR, seen {type}"
    seen(house, (1, values[0]), (2, values[1]), columns=columns)
    house.go()
    assert house.idle().rows.read == 1  # the greatest itself, and nothing below it
    seen(house, (1, values[0]), (2, values[1]), (3, values[1]), columns=columns)
    assert house.go().rows.added == 1


def test_the_cursor_stays_while_rows_are_pending(tmp_path: Path) -> None:
    house = House(tmp_path, sync(cursor="seen"))
    house.crm.limits = Limits(batch_size=1, in_flight=1)
    seen(house, (1, 1), (2, 2), (3, 3), columns=NUMBERS)
    house.crm.fail(Unavailable("down"), call=2)
    report = house.run()
    assert (report.status, report.pending, report.cursor_to) == ("failed", 2, None)
    report = house.go()
    assert (report.delivered.created, report.cursor_to) == (2, "3")


def test_a_limit_does_not_move_the_cursor(tmp_path: Path) -> None:
    house = House(tmp_path, sync(cursor="seen"))
    seen(house, (1, 1), (2, 2), columns=NUMBERS)
    assert house.go(limit=1).cursor_to is None
    assert house.go().cursor_to == "2"


def test_somebody_else_who_moved_the_cursor_wins(tmp_path: Path) -> None:
    house = House(tmp_path, sync(cursor="seen"))
    seen(house, (1, 1), columns=NUMBERS)
    house.go()
    seen(house, (1, 1), (2, 2), columns=NUMBERS)

    def meddle(record: object) -> bool:
        with closing(sqlite3.connect(tmp_path / ".reverse_etl" / "state.db", isolation_level=None)) as store:
            store.execute("UPDATE syncs SET cursor_value = '9'")
        return False

    house.crm.refuse(meddle)
    report = house.go()
    assert (report.cursor_from, report.cursor_to) == ("1", "1")
    assert report.notes == ["the cursor was moved by somebody else meanwhile, and stays where it is"]
    assert house.state().cursor_value == "9"


# --- refused rows --------------------------------------------------------------------------------------------------


def test_a_refused_row_that_the_cursor_has_passed_is_read_again_by_its_key(tmp_path: Path) -> None:
    house = House(tmp_path, sync(cursor="seen"))
    house.crm.refuse(lambda record: record.get("plan") == "gold")
    seen(house, (1, 1, "gold"), (2, 2), columns=NUMBERS)
    report = house.go()
    assert (report.rejected, report.exit_code, report.cursor_to) == (1, 3, "2")
    seen(house, (1, 1, "free"), (2, 2), columns=NUMBERS)  # corrected, without a newer cursor value
    report = house.go()
    assert (report.rows.read, report.rows.retried, report.delivered.created, report.rejected) == (1, 1, 1, 0)
    assert house.refused() == {}


def test_a_refused_row_is_counted_with_the_cursor_of_its_first_refusal(tmp_path: Path) -> None:
    columns = "1 as id, 'p1@x.io' as email, count(*)::varchar as plan, max(seen) as seen"
    sql = f"select {columns} from events where seen >= :cursor"
    house = House(tmp_path, sync(cursor="seen", sql=sql))
    house.warehouse.table("events", "seen BIGINT", [(1,), (2,)])
    house.go()
    house.warehouse.table("events", "seen BIGINT", [(1,), (2,), (3,), (4,)])
    house.crm.refuse(lambda record: True)
    house.go()
    assert house.refused()["1"].cursor_value == "2"
    house.crm.obey()
    house.warehouse.table("events", "seen BIGINT", [(1,), (2,), (3,), (4,), (5,)])
    house.go(refused_only=True)
    assert house.crm.by("email")["p1@x.io"]["plan"] == "4"  # 2, 3, 4 and 5: not only what came since


def test_a_refused_row_that_left_the_warehouse_leaves_the_list(tmp_path: Path) -> None:
    house = House(tmp_path, sync(cursor="seen"))
    house.crm.refuse(lambda record: record.get("plan") == "gold")
    seen(house, (1, 1, "gold"), (2, 2), columns=NUMBERS)
    house.go()
    seen(house, (2, 2), columns=NUMBERS)
    report = house.go()
    assert (report.rejected, report.status) == (0, "succeeded")
    assert house.refused() == {}


def test_rows_without_a_key_are_looked_for_again(tmp_path: Path) -> None:
    house = House(tmp_path, sync(cursor="seen"))
    seen(house, (None, 1), (2, 2), (3, 30), columns=NUMBERS)
    assert house.go().rows.invalid == 1
    report = house.go()
    assert (report.rows.invalid, report.exit_code) == (0, 3)  # not among the rows read, and still standing
    seen(house, (1, 1), (2, 2), (3, 30), columns=NUMBERS)
    report = house.go()
    assert house.refused() == {}


# --- complete reads ------------------------------------------------------------------------------------------------


def test_beside_a_cursor_a_full_scan_finds_what_was_removed(tmp_path: Path) -> None:
    every = Every(timedelta(days=1), "every 1 day")
    house = House(tmp_path, sync(cursor="seen", mode="mirror", on_removed="delete", full_scan=every))
    seen(house, (1, 1), (2, 2), columns=NUMBERS)
    house.go()
    seen(house, (2, 2), columns=NUMBERS)
    assert house.go().rows.removed == 0  # not read is not removed
    house.clock.advance(timedelta(days=1))
    report = house.go()
    assert (report.rows.removed, report.delivered.removed) == (1, 1)


@BOTH_FORMS
def test_full_ignores_the_cursor(tmp_path: Path, sql: str) -> None:
    house = House(tmp_path, sync(cursor="seen", sql=sql))
    seen(house, (1, 1), (2, 2), columns=NUMBERS)
    house.go()
    report = house.go(full=True)
    assert (report.rows.read, report.rows.changed, report.cursor_to) == (2, 2, "2")


# --- broken reads --------------------------------------------------------------------------------------------------


def many(house: House) -> None:
    house.people(*((number, f"p{number}@x.io", "free") for number in range(1, 4)))
    house.warehouse._batch_rows = 1


def test_a_lost_connection_starts_the_whole_read_again(tmp_path: Path) -> None:
    house = House(tmp_path)
    many(house)
    lost = SourceError("gone", code="source_connection", hint="try later")
    house.warehouse.break_reads(lost, lost)
    assert house.go().rows.added == 3
    assert len(house.warehouse.asked) == 3


def test_a_read_that_breaks_three_times_fails_and_moves_nothing(tmp_path: Path) -> None:
    house = House(tmp_path, sync(mode="mirror", on_removed="delete"))
    many(house)
    house.go()
    lost = SourceError("gone", code="source_connection", hint="try later")
    house.warehouse.break_reads(lost, lost, lost)
    report = house.run()
    assert (report.status, report.exit_code) == ("failed", 1)
    assert report.error is not None
    assert (report.error.code, report.error.hint) == ("source_connection", "try later")
    assert len(house.crm.records) == 3
    house.idle()


def test_a_read_that_is_refused_is_not_repeated(tmp_path: Path) -> None:
    house = House(tmp_path)
    many(house)
    house.warehouse.break_reads(SourceError("no such column", code="source_query"))
    report = house.run()
    assert report.error is not None
    assert report.error.code == "source_query"
    assert len(house.warehouse.asked) == 1
    assert house.crm.writes == []


def test_last_run_is_the_start_of_the_last_run_that_counts(tmp_path: Path) -> None:
    sql = "select 1 as id, 'a@x.io' as email, cast(:last_run_at as varchar) as plan"
    house = House(tmp_path, sync(sql=sql))
    house.go()
    assert house.crm.by("email")["a@x.io"]["plan"].startswith("1970-01-01 00:00:00")
    house.crm.fail(Unavailable("down"), call=1)
    house.run()
    house.go()
    assert house.crm.by("email")["a@x.io"]["plan"].startswith("2026-06-01 12:01:00")
