"""`explain --all`: did Jane's count arrive? Asked by who knows neither the sync's name nor its key."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.scene import COMPANIES, LEADS, Scene


def everywhere(scene: Scene, text: str) -> dict[str, Any]:
    code, found = scene.json("explain", "--all", text)
    assert code == 0, found
    return {f"{row['sync']} {row['key']}": row["state"] for row in found["rows"]} | {"absent": found["absent"]}


@pytest.mark.parametrize("values", ["keep", "hashes"])
def test_a_persons_rows_are_found_in_every_sync_by_key_or_by_value(scene: Scene, values: str) -> None:
    scene.write_project(state={"values": values})
    scene.define()
    scene.define(LEADS, "leads")
    scene.define(COMPANIES, "companies")
    scene.people(("jane@x.example", "Jane", 3), ("ann@x.example", "Ann", 1))
    scene.table("leads", "id bigint, name text, company text, email text", [(7, "Doe", "X", "Jane@X.example")])
    scene.table("companies", "id text, name text", [("c1", "X")])
    jane = {"people jane@x.example": "pending", "leads 7": "pending", "absent": ["companies"]}
    assert everywhere(scene, " Jane@x.example") == jane
    assert scene.cli("sync").returncode == 0
    assert everywhere(scene, "jane@x.example") == {**jane, "people jane@x.example": "unchanged", "leads 7": "unchanged"}
    scene.table("leads", "id bigint, name text, company text, email text", [])
    other_case = "Jane@X.example" if values == "hashes" else "JANE@x.example"  # a digest tells case
    assert everywhere(scene, other_case)["leads 7"] == "absent"
    assert everywhere(scene, "7") == {"leads 7": "absent", "absent": ["companies", "people"]}
    assert everywhere(scene, "bob@x.example") == {"absent": ["companies", "leads", "people"]}


def test_it_says_when_each_was_acknowledged_and_how_to_see_its_values(scene: Scene) -> None:
    scene.define()
    scene.people(("jane@x.example", "Jane", 3), ("not..an@address.io", "Cy", 3))
    assert scene.sync()["exit"] == 3
    told = scene.cli("explain", "--all", "jane@x.example").stdout
    assert "jane@x.example in people  unchanged: the destination has acknowledged exactly these values" in told
    assert "(just now) as record" in told
    assert "its values:  reverse-etl explain people jane@x.example" in told
    assert everywhere(scene, "not..an@address.io") == {"people not..an@address.io": "rejected", "absent": []}


def test_a_part_of_a_composite_key_finds_its_rows(scene: Scene) -> None:
    scene.define(key=["email", "workspaces"])
    scene.people(("jane@x.example", "Jane", 3))
    scene.sync()
    assert [*everywhere(scene, "jane@x.example")] == ["people ['jane@x.example', 3]", "absent"]
    scene.people()
    assert everywhere(scene, "jane@x.example")["people ['jane@x.example', 3]"] == "absent"


def test_a_sync_that_cannot_say_hides_no_other_ones_answer(scene: Scene) -> None:
    scene.define()
    scene.define(name="broken", query="select * from nowhere")
    scene.people(("jane@x.example", "Jane", 3))
    code, found = scene.json("explain", "--all", "jane@x.example")
    assert (code, [row["sync"] for row in found["rows"]]) == (1, ["people"])
    assert [(each["sync"], each["code"]) for each in found["failed"]] == [("broken", "source_query")]
    assert "broken  can't say: source_query" in scene.cli("explain", "--all", "jane@x.example").stdout


def test_wrong_uses_are_told(scene: Scene) -> None:
    scene.define()
    scene.people(("jane@x.example", "Jane", 3))
    assert "give it only KEY" in scene.cli("explain", "--all", "people", "jane@x.example").stderr
    assert "Missing argument 'KEY'" in scene.cli("explain", "people").stderr
