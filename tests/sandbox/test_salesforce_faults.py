"""Bulk jobs that fail, also in a run that is killed then: nothing is lost, nothing doubled, nothing left open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.scene import LEADS, Scene, scene_in
from tests.sandbox.test_salesforce_bulk import calls, connect, crowd, killed_when, made, open_jobs
from tests.unit.destinations.salesforce.org import new_process

ROWS = 450  # three chunks
CLOSED = {"method": "PATCH", "path": "jobs/ingest"}
FAULTS: dict[str, dict[str, Any]] = {
    "lost PUT, applied": {"kind": "cut", "method": "PUT", "path": "batches$", "applied": True},
    "lost PUT": {"kind": "cut", "method": "PUT", "path": "batches$", "applied": False},
    "lost PATCH, applied": {"kind": "cut", **CLOSED, "applied": True},
    "lost PATCH": {"kind": "cut", **CLOSED, "applied": False},
    "half-way": {"kind": "fail_job", **CLOSED, "rows": 200, "message": "Timeout : too slow"},
    "at once": {"kind": "fail_job", **CLOSED, "rows": 0, "message": "TooManyLockFailure : too many"},
    "vanished rows": {"kind": "vanish", **CLOSED, "rows": 5},
    "locked rows": {"kind": "lock", **CLOSED, "rows": 5},
}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    new_process()
    with scene_in(tmp_path, bulk_polls=0) as scene:
        connect(scene, bulk_from=100)
        scene.define(LEADS, "leads")
        yield scene


def all_there(scene: Scene, run: dict[str, Any]) -> None:
    delivered = run["delivered"]
    assert (run["status"], run["rejected"], run["pending"], run["in_doubt"]) == ("succeeded", 0, 0, 0), run
    assert delivered["created"] + delivered["updated"] == ROWS
    assert len(made(scene)) == scene.sandbox.salesforce.count("Lead") == ROWS
    assert open_jobs(scene) == []
    assert scene.sync("leads")["requests"] == 0


@pytest.mark.parametrize("name", FAULTS)
def test_a_run_lives_through_it(scene: Scene, name: str) -> None:
    scene.sandbox.faults.add(**FAULTS[name])
    crowd(scene, ROWS)
    all_there(scene, scene.sync("leads"))


def killed_at_a_look(scene: Scene, name: str) -> None:
    """With this fault, while the job is looked at."""
    seen = len(calls(scene, "GET", "jobs/ingest/750"))
    scene.sandbox.faults.add(**FAULTS[name])
    scene.sandbox.faults.add("slow", method="GET", path="jobs/ingest/750", seconds=30)
    killed_when(scene, lambda: len(calls(scene, "GET", "jobs/ingest/750")) > seen)


@pytest.mark.parametrize("name", FAULTS)
def test_killed_while_the_job_is_at_it_the_next_run_brings_it_to_its_end(scene: Scene, name: str) -> None:
    crowd(scene, ROWS)
    killed_at_a_look(scene, name)
    all_there(scene, scene.sync("leads"))


def test_killed_twice_in_a_row_it_is_all_the_same(scene: Scene) -> None:
    crowd(scene, ROWS)
    killed_at_a_look(scene, "half-way")
    killed_at_a_look(scene, "half-way")
    all_there(scene, scene.sync("leads"))


def named(scene: Scene, name: str, company: str) -> None:
    scene.table(
        "leads", "id text, name text, company text, email text", [lead(at, name, company) for at in range(ROWS)]
    )


def lead(at: int, name: str, company: str) -> tuple[str, str, str, str]:
    return (f"L{at}", name, company, f"lead{at}@example.com")


def killed_in_a_change(scene: Scene) -> None:
    """Of the company of all leads; its job is carried out all the same."""
    named(scene, "Ng", "Acme")
    scene.sync("leads")
    named(scene, "Ng", "Hooli")
    killed_at_a_look(scene, "lost PATCH, applied")


def fields(scene: Scene) -> set[tuple[str, str]]:
    return {(record["LastName"], record["Company"]) for record in made(scene).values()}


@pytest.mark.parametrize("name", ["Ng", "Oh"], ids=["the whole row has gone back", "another field has changed"])
def test_what_a_killed_job_has_changed_and_has_gone_back_since_is_changed_back(scene: Scene, name: str) -> None:
    killed_in_a_change(scene)
    named(scene, name, "Acme")
    assert scene.sync("leads")["status"] == "succeeded"
    assert fields(scene) == {(name, "Acme")}
    assert scene.sync("leads")["requests"] == 0


def test_a_change_that_a_killed_job_has_carried_goes_into_no_second_one(scene: Scene) -> None:
    killed_in_a_change(scene)
    before = len(calls(scene, "POST", "jobs/ingest"))
    run = scene.sync("leads")
    assert (run["status"], run["delivered"]["updated"], run["in_doubt"]) == ("succeeded", ROWS, 0)
    assert fields(scene) == {("Ng", "Hooli")}
    assert len(calls(scene, "POST", "jobs/ingest")) == before
    assert scene.sync("leads")["requests"] == 0
