"""The cursor: what is read again, what never moves it, and that no row is lost or sent twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.sandbox.scene import COMPANIES, Scene

COLUMNS = "id bigint, name text, seen_at timestamptz"
START = datetime(2026, 1, 1, tzinfo=UTC)
WRAPPED: dict[str, Any] = {**COMPANIES, "cursor": "seen_at"}


def at(minutes: float) -> str:
    return (START + timedelta(minutes=minutes)).isoformat()


def fill(scene: Scene, *rows: tuple[Any, ...], columns: str = COLUMNS) -> None:
    scene.table("companies", columns, rows)


def add(scene: Scene, *rows: str) -> None:
    scene.warehouse(*[f"insert into companies values ({row})" for row in rows])


def names(scene: Scene) -> list[str]:
    return sorted(record["properties"]["name"] for record in scene.records("companies"))


def test_a_second_run_reads_only_from_the_cursor_less_the_lag(scene: Scene) -> None:
    fill(scene, (1, "A", at(0)), (2, "B", at(100)))
    scene.define(WRAPPED)
    first = scene.sync()
    assert first["rows"]["read"] == 2
    assert first["cursor"]["from"] is None
    add(scene, f"3, 'C', '{at(95)}'", f"4, 'late beyond the lag', '{at(80)}'")
    second = scene.sync()
    assert (second["rows"]["read"], second["rows"]["added"]) == (2, 1)
    assert second["cursor"] == {"from": first["cursor"]["to"], "to": first["cursor"]["to"]}
    assert names(scene) == ["A", "B", "C"]


def test_P08_rows_with_the_same_cursor_value_are_never_skipped_nor_sent_twice(scene: Scene) -> None:
    fill(scene, *[(n, f"N{n:04}", at(0)) for n in range(250)])
    scene.define(WRAPPED, cursor={"column": "seen_at", "lag": "0s"})
    scene.sync()
    add(scene, f"900, 'tie', '{at(0)}'")
    run = scene.sync()
    assert (run["rows"]["read"], run["rows"]["added"], run["rows"]["unchanged"]) == (251, 1, 250)
    assert scene.sync()["requests"] == 0


def test_P10_a_null_cursor_is_neither_lost_nor_sent_twice(scene: Scene) -> None:
    fill(scene, (1, "A", at(0)), (2, "B", None))
    scene.define(WRAPPED)
    scene.sync()
    add(scene, "3, 'C', null")
    run = scene.sync()
    assert (run["rows"]["added"], names(scene)) == (1, ["A", "B", "C"])
    assert scene.sync()["requests"] == 0


def test_P10_a_row_from_the_future_is_delivered_and_does_not_move_the_cursor(scene: Scene) -> None:
    fill(scene, (1, "A", at(0)), (2, "Future", "2190-01-01T00:00:00+00:00"))
    scene.define(WRAPPED)
    run = scene.sync()
    assert names(scene) == ["A", "Future"]
    assert run["cursor"]["to"].startswith("2026-01-01")
    add(scene, f"3, 'C', '{at(20)}'")
    assert scene.sync()["rows"]["added"] == 1


def test_an_infinite_cursor_value_breaks_nothing(scene: Scene) -> None:
    fill(scene, (1, "A", at(0)), (2, "B", "infinity"), (3, "C", "-infinity"))
    scene.define(WRAPPED)
    run = scene.sync()
    assert run["exit"] == 0
    assert names(scene) == ["A", "B", "C"]
    assert scene.sync()["requests"] == 0


def test_P09_a_nanosecond_cursor_is_kept_exactly(scene: Scene) -> None:
    fill(scene, (1, "A", "2026-01-01 00:00:00.123456789"), columns="id bigint, name text, seen_at timestamp_ns")
    scene.define(WRAPPED, cursor={"column": "seen_at", "lag": "0s"})
    assert scene.sync()["cursor"]["to"].endswith(".123456789")
    add(scene, "2, 'B', '2026-01-01 00:00:00.123456788'")
    assert scene.sync()["rows"]["read"] == 1


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("bigint", "9007199254740992", "9007199254740993"),
        ("decimal(38,0)", "99999999999999999999999999999999999998", "99999999999999999999999999999999999999"),
        ("date", "'2026-01-01'", "'2026-01-02'"),
        ("timestamp", "'2026-01-01 00:00:00.000001'", "'2026-01-01 00:00:00.000002'"),
        ("text", "'a'", "'b'"),
        ("hugeint", "1", "2"),
        ("double", "0.1", "0.30000000000000004"),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_a_cursor_of_every_ordered_type(scene: Scene, kind: str, first: str, second: str, named: bool) -> None:
    scene.warehouse(f"create table companies (id bigint, name text, seen_at {kind})")
    add(scene, f"1, 'A', {first}")
    query = "select * from companies" + (" where seen_at >= :cursor" if named else "")
    scene.define(WRAPPED, query=query, cursor={"column": "seen_at", "lag": "0s"} if kind == "timestamp" else "seen_at")
    assert scene.sync()["exit"] == 0
    add(scene, f"2, 'B', {second}")
    run = scene.sync()
    assert (run["exit"], run["rows"]["read"], run["rows"]["added"]) == (0, 2, 1)
    add(scene, f"3, 'below', {first}")
    run = scene.sync()
    assert (run["exit"], run["rows"]["read"]) == (0, 1)


def test_start_says_where_the_first_run_begins(scene: Scene) -> None:
    fill(scene, (1, "A", at(0)), (2, "B", at(100)))
    query = "select * from companies where seen_at >= :cursor"
    scene.define(WRAPPED, query=query, cursor={"column": "seen_at", "start": "2026-01-01T01:00:00Z"})
    scene.sync()
    assert names(scene) == ["B"]


def test_full_ignores_the_cursor_and_reads_everything(scene: Scene) -> None:
    fill(scene, (1, "A", at(0)), (2, "B", at(100)))
    scene.define(WRAPPED)
    scene.sync()
    assert scene.sync(full=True)["delivered"]["updated"] == 2


def test_a_failed_run_leaves_the_cursor_where_it_was(scene: Scene) -> None:
    fill(scene, (1, "A", at(0)))
    scene.define(WRAPPED)
    before = scene.sync()["cursor"]["to"]
    add(scene, f"2, 'B', '{at(100)}'")
    scene.sandbox.faults.add("status", status=401, times=None, body={"category": "INVALID_AUTHENTICATION"})
    run = scene.sync()
    assert (run["exit"], run["status"], run["cursor"]["to"]) == (1, "failed", before)
    scene.sandbox.faults.clear()
    assert scene.sync()["rows"]["added"] == 1


def test_limit_leaves_the_cursor_and_the_rest_arrives_next_time(scene: Scene) -> None:
    fill(scene, *[(n, f"N{n}", at(n * 60)) for n in range(10)])
    scene.define(WRAPPED)
    run = scene.sync(limit=4)
    assert (run["cursor"]["to"], run["pending"], run["exit"]) == (None, 6, 0)
    assert scene.sync()["exit"] == 0
    assert len(names(scene)) == 10


def test_a_rejected_row_is_read_again_though_the_cursor_has_passed_it(scene: Scene) -> None:
    scene.people(
        ("not..an@address.io", "Ada", at(0)),
        ("bo@x.example", "Bo", at(500)),
        columns="id text, name text, seen_at timestamptz",
    )
    scene.define(key="name", mapping={"email": "id", "firstname": "name"}, cursor="seen_at")
    assert scene.sync()["exit"] == 3
    scene.warehouse("update people set id = 'ada@x.example' where name = 'Ada'")
    run = scene.sync()
    assert (run["exit"], run["rows"]["retried"]) == (0, 1)
    assert set(scene.contacts()) == {"ada@x.example", "bo@x.example"}


@pytest.mark.parametrize("query", ["select * from people", "select * from people where seen_at >= :cursor"])
def test_a_rejected_row_that_left_the_warehouse_leaves_the_list_beside_a_cursor(scene: Scene, query: str) -> None:
    scene.people(
        ("not..an@address.io", "Ada", at(0)),
        ("bo@x.example", "Bo", at(500)),
        columns="id text, name text, seen_at timestamptz",
    )
    scene.define(key="name", mapping={"email": "id", "firstname": "name"}, cursor="seen_at", query=query)
    assert scene.sync()["exit"] == 3
    assert scene.sync()["exit"] == 3
    scene.warehouse("delete from people where name = 'Ada'")
    assert scene.sync()["exit"] == 0
    assert scene.rejected() == []


def test_mirror_beside_a_cursor_is_refused_without_a_full_scan(scene: Scene) -> None:
    fill(scene, (1, "A", at(0)))
    scene.define(WRAPPED, mode="mirror")
    code, document = scene.json("check")
    assert code == 2
    assert "full_scan" in document["problems"][0]["message"]


def test_mirror_beside_a_cursor_removes_at_its_full_scan_only(scene: Scene) -> None:
    fill(scene, (1, "A", at(0)), (2, "B", at(100)), (3, "C", at(200)))
    scene.define(WRAPPED, mode="mirror", full_scan="every 1 seconds")
    scene.sync()
    scene.warehouse("delete from companies where id = 1")
    scene.define(WRAPPED, mode="mirror", full_scan="every 1 days")
    assert scene.sync()["rows"]["removed"] == 0
    scene.define(WRAPPED, mode="mirror", full_scan="every 1 seconds")
    import time  # noqa: PLC0415

    time.sleep(1.1)
    assert scene.sync()["delivered"]["removed"] == 1


def test_last_run_at_is_the_start_of_the_last_successful_run(scene: Scene) -> None:
    fill(scene, (1, "A", at(0)))
    query = "select id, strftime(:last_run_at::timestamptz, '%Y') as name from companies"
    scene.define(COMPANIES, query=query)
    scene.sync()
    assert names(scene) == ["1970"]
    scene.sync()
    assert names(scene) == [str(datetime.now(UTC).year)]


def test_check_warns_of_a_strict_cursor_comparison(scene: Scene) -> None:
    fill(scene, (1, "A", at(0)))
    scene.define(WRAPPED, query="select * from companies where seen_at > :cursor")
    ended = scene.cli("check")
    assert ":cursor" in ended.stdout + ended.stderr


def test_an_empty_answer_beside_a_cursor_is_no_alarm(scene: Scene) -> None:
    fill(scene, (1, "A", at(0)))
    scene.define(
        WRAPPED, query="select * from companies where seen_at > :cursor", cursor={"column": "seen_at", "lag": "0s"}
    )
    scene.sync()
    run = scene.sync()
    assert (run["exit"], run["rows"]["read"], run["requests"]) == (0, 0, 0)
