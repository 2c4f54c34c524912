"""Salesforce's Bulk API 2.0 over real HTTP, against the emulator: every way in which a job can go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.sandbox.scene import LEADS, Scene, scene_in
from tests.unit.destinations.salesforce.org import new_process

COLUMNS = "id text, name text, company text, email text"
JOBS = r"/jobs/ingest"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    new_process()
    with scene_in(tmp_path, bulk_polls=0) as scene:
        connect(scene)
        scene.define(LEADS, "leads")
        yield scene


def connect(scene: Scene, **settings: Any) -> None:
    document = yaml.safe_load((scene.folder / "reverse_etl.yml").read_text())
    document["destinations"]["salesforce"] |= {"bulk_from": "always", **settings}
    scene.write("reverse_etl.yml", yaml.safe_dump(document, sort_keys=False))


def leads(scene: Scene, *names: str, **values: str) -> None:
    rows = [(name.lower(), values.get(name, name), "Acme", None) for name in names]
    scene.table("leads", COLUMNS, rows)


def made(scene: Scene) -> dict[str, dict[str, Any]]:
    return {record["External_Id__c"]: record for record in scene.sandbox.salesforce.records("Lead")}


def calls(scene: Scene, method: str, path: str) -> list[Any]:
    return [entry for entry in scene.sandbox.requests if entry.method == method and path in entry.path]


def test_rows_go_up_as_one_job_and_come_back_with_their_ids(scene: Scene) -> None:
    leads(scene, "Ada", "Bob", "Cay")
    run = scene.sync("leads")
    assert (run["status"], run["delivered"]["created"], run["exit"]) == ("succeeded", 3, 0), run
    assert sorted(made(scene)) == ["ada", "bob", "cay"]
    assert len(calls(scene, "POST", "jobs/ingest")) == 1
    leads(scene, "Ada", "Bob", "Cay", Bob="Bobby")
    run = scene.sync("leads")
    assert (run["delivered"]["updated"], run["rows"]["changed"]) == (1, 1)
    assert made(scene)["bob"]["LastName"] == "Bobby"
    assert scene.sync("leads")["requests"] == 0
