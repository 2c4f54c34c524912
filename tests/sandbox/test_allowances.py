"""Allowances over real HTTP: shared by the runs of a process, never exceeded, and ended by in good time."""

from __future__ import annotations

from bisect import bisect_left

import anyio
import pytest

from reverse_etl import Project
from reverse_etl.report import RunReport
from reverse_etl.stop import Stop
from tests.sandbox.scene import Scene


@pytest.fixture
def many(scene: Scene) -> Scene:
    """Rows for ten batches."""
    scene.warehouse(
        "create table people as select 'u' || range || '@x.example' as email, 'U' || range as first_name, "
        "range as workspaces from range(1000)"
    )
    scene.define()
    return scene


def bounded(scene: Scene, **rate_limit: object) -> None:
    hubspot = {"type": "hubspot", "access_token": "sandbox-token", "base_url": scene.sandbox.url}
    scene.write_project(destinations={"hubspot": {**hubspot, "rate_limit": rate_limit}})


def test_P17_a_run_ends_before_the_day_is_used_up_and_the_next_one_goes_on(many: Scene) -> None:
    many.sandbox.hubspot.limits.daily = 6
    run = many.sync()
    assert (run["exit"], run["status"], run["error"]["code"]) == (3, "partial", "daily_limit")
    assert (run["throttled"], many.sandbox.hubspot.limits.used_today) == (0, 6)
    assert "run again after 20" in run["error"]["hint"]
    assert run["delivered"]["created"] + run["pending"] == 1000
    assert run["in_doubt"] == 0
    many.sandbox.hubspot.limits.daily = 100  # somebody bought more
    run = many.sync()
    assert (run["exit"], run["pending"], run["throttled"]) == (0, 0, 0)
    assert len(many.sandbox.ledger) == 1000


def test_P17_what_is_reserved_of_the_day_is_left_to_others(many: Scene) -> None:
    bounded(many, reserve="50%")
    many.sandbox.hubspot.limits.daily = 12
    run = many.sync()
    assert (run["exit"], run["error"]["code"], run["throttled"]) == (3, "daily_limit", 0)
    assert "reserved for others (reserve: 50%)" in run["error"]["message"]
    assert 3 <= many.sandbox.hubspot.limits.used_today <= 6


def test_P18_two_runs_at_once_share_the_accounts_allowance(many: Scene) -> None:
    bounded(many, requests=4, per="400ms")
    many.define(name="others", query="select 'o' || email as email, first_name, workspaces from people")
    project = Project.load(many.folder)
    reports: list[RunReport] = []

    async def one(name: str) -> None:
        reports.append(await project.carry_out(name, Stop()))

    async def both() -> None:
        async with anyio.create_task_group() as tasks:
            for name in project.syncs:
                tasks.start_soon(one, name)

    anyio.run(both)
    assert [report.exit_code for report in reports] == [0, 0], [report.error for report in reports]
    at = [entry.at for entry in many.sandbox.requests]
    assert max(bisect_left(at, first + 0.4) - place for place, first in enumerate(at)) <= 4
    assert len(at) == 2 * (2 + 10)
    assert at[-1] - at[0] <= 1.25 * 0.4 * len(at) / 4
