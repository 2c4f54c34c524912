"""Guards and approvals: a large wave stops before its first write, and goes through once, when told."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.scene import COMPANIES, Scene

MANY = 40


@pytest.fixture
def mirrored(scene: Scene) -> Scene:
    """Forty companies, mirrored."""
    fill(scene, range(MANY))
    scene.define(COMPANIES, mode="mirror")
    scene.sync()
    return scene


def fill(scene: Scene, ids: Any, name: Any = "Co") -> None:
    scene.table("companies", "id text, name text", [(str(one), name) for one in ids])


def held(run: dict[str, Any]) -> str:
    """The plan's id, wherever the report names it."""
    plan_id: str = run["plan_id"]
    return plan_id


def test_P30_removals_over_the_share_stop_before_the_first_write(mirrored: Scene) -> None:
    fill(mirrored, range(MANY - 11))
    before = len(mirrored.writes())
    run = mirrored.sync()
    assert (run["exit"], run["status"], run["error"]["code"], run["rows"]["removed"]) == (4, "guarded", "guard", 11)
    assert held(run) in run["error"]["hint"]
    assert len(mirrored.writes()) == before


def test_P30_ten_removals_or_fewer_never_trip(mirrored: Scene) -> None:
    fill(mirrored, range(MANY - 10))
    assert mirrored.sync()["delivered"]["removed"] == 10


def test_P31_no_rows_after_a_non_empty_read_always_stops(mirrored: Scene) -> None:
    mirrored.define(COMPANIES)
    fill(mirrored, ())
    run = mirrored.sync()
    assert (run["exit"], run["status"]) == (4, "guarded")
    assert mirrored.sync(full=True)["exit"] == 4


def test_P33_an_approval_lets_exactly_that_plan_through_once(mirrored: Scene) -> None:
    fill(mirrored, range(20))
    plan_id = held(mirrored.sync())
    assert held(mirrored.sync()) == plan_id
    assert mirrored.sync(approve="000000000000")["exit"] == 4
    run = mirrored.sync(approve=plan_id)
    assert (run["exit"], run["delivered"]["removed"]) == (0, 20)
    fill(mirrored, range(MANY))
    mirrored.sync()
    fill(mirrored, range(20))
    assert mirrored.sync(approve=plan_id)["exit"] == 4


def test_P33_an_approval_never_covers_more(mirrored: Scene) -> None:
    fill(mirrored, range(20))
    plan_id = held(mirrored.sync())
    fill(mirrored, range(19))
    run = mirrored.sync(approve=plan_id)
    assert (run["exit"], len(mirrored.records("companies"))) == (4, MANY)


def test_an_approval_covers_a_later_smaller_plan(mirrored: Scene) -> None:
    fill(mirrored, range(20))
    plan_id = held(mirrored.sync())
    fill(mirrored, range(25))
    assert mirrored.sync(approve=plan_id)["delivered"]["removed"] == MANY - 25


def test_a_dry_run_names_the_plan_that_the_real_run_takes(mirrored: Scene) -> None:
    fill(mirrored, range(20))
    planned = mirrored.sync(dry_run=True)
    assert (planned["exit"], planned["status"]) == (4, "guarded")
    assert planned["plan"]["requests"] >= 1
    assert [row["change"] for row in planned["plan"]["sample"]][:1] == ["removed"]
    assert mirrored.sync(approve=held(planned))["delivered"]["removed"] == 20


def test_P32_changes_over_max_changed_stop(scene: Scene) -> None:
    fill(scene, range(10))
    scene.define(COMPANIES, guard={"max_changed": "50%"})
    scene.sync()
    scene.warehouse("update companies set name = 'New' where id::int < 6")
    run = scene.sync()
    assert (run["exit"], run["rows"]["changed"]) == (4, 6)
    assert scene.sync(approve=held(run))["delivered"]["updated"] == 6


def test_P32_a_field_going_empty_in_many_rows_stops(scene: Scene) -> None:
    columns = "id text, name text, city text"
    scene.table("companies", columns, [(str(n), "Co", "Rome") for n in range(60)])
    scene.define(COMPANIES, mapping={**COMPANIES["mapping"], "city": "city"})  # type: ignore[dict-item]
    scene.sync()
    scene.warehouse("update companies set city = null where id::int < 50")
    assert scene.sync()["exit"] == 0
    scene.warehouse("update companies set city = 'Rome'")
    scene.sync()
    scene.warehouse("update companies set city = null")
    run = scene.sync()
    assert (run["exit"], run["status"]) == (4, "guarded")
    assert "city" in run["error"]["message"]
    assert scene.sync(approve=held(run))["exit"] == 0


def test_approve_on_the_command_line_and_in_json(mirrored: Scene) -> None:
    fill(mirrored, range(20))
    code, document = mirrored.json("sync", "people")
    (run,) = document["runs"]
    assert (code, run["status"]) == (4, "guarded")
    shown = mirrored.cli("sync", "people")
    assert run["plan_id"] in shown.stdout + shown.stderr
    ended = mirrored.cli("sync", "people", "--approve", run["plan_id"])
    assert (ended.returncode, len(mirrored.records("companies"))) == (0, 20)


def test_a_guarded_run_that_goes_back_to_normal_runs(mirrored: Scene) -> None:
    fill(mirrored, range(20))
    mirrored.sync()
    fill(mirrored, range(MANY))
    run = mirrored.sync()
    assert (run["exit"], run["requests"]) == (0, 0)


def test_an_approval_of_another_sync_is_refused(mirrored: Scene) -> None:
    fill(mirrored, range(20))
    plan_id = held(mirrored.sync())
    mirrored.define(COMPANIES, name="other", guard={"max_changed": "1%"})
    fill(mirrored, range(MANY))
    mirrored.sync("other")
    fill(mirrored, range(MANY), name="New")
    assert mirrored.sync("other", approve=plan_id)["exit"] == 4
