"""Rejected rows: kept with the destination's words, offered again, never in another row's way."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import datetime
from typing import Any

from reverse_etl import Project, clock
from reverse_etl.model import JSON
from reverse_etl.standing import HELD, Acknowledgement, RefusedRow
from tests.sandbox.scene import LEADS, Scene

ADA, BO, BAD = ("ada@x.example", "Ada", 1), ("bo@x.example", "Bo", 2), ("not..an@address.io", "Cy", 3)


def test_one_bad_row_does_not_sink_its_batch(scene: Scene) -> None:
    scene.people(ADA, BAD, BO)
    scene.define()
    run = scene.sync()
    assert (run["exit"], run["status"], run["rejected"], run["pending"]) == (3, "partial", 1, 0)
    assert set(scene.contacts()) == {"ada@x.example", "bo@x.example"}


def test_a_rejected_row_is_kept_with_everything_that_says_why(scene: Scene) -> None:
    scene.people(ADA, BAD)
    scene.define()
    scene.sync()
    (row,) = scene.rejected()
    assert row["key"] == "not..an@address.io"
    assert row["attempts"] == 1
    assert row["request_id"]
    assert row["message"]
    assert row["values"] == {"email": "not..an@address.io", "firstname": "Cy", "workspaces_total": 3}
    assert datetime.fromisoformat(row["first_at"]) <= datetime.fromisoformat(row["last_at"])
    assert datetime.fromisoformat(row["next_at"]) >= datetime.fromisoformat(row["last_at"])


def test_a_standing_rejected_row_makes_an_otherwise_idle_run_partial(scene: Scene) -> None:
    scene.people(ADA, BAD)
    scene.define()
    scene.sync()
    for _ in range(3):
        run = scene.sync()
        assert (run["exit"], run["status"], run["rejected"]) == (3, "partial", 1)


def test_P06_a_rejected_row_is_offered_again_on_the_next_run_then_with_growing_pauses(scene: Scene) -> None:
    scene.people(ADA, BAD)
    scene.define()
    attempts = []
    for _ in range(5):
        scene.sync()
        attempts.append(scene.rejected()[0]["attempts"])
    assert attempts[1] == 2
    assert attempts[-1] < 5


def test_P06_a_rejected_row_goes_at_once_when_it_changed(scene: Scene) -> None:
    scene.people(ADA, BAD)
    scene.define()
    for _ in range(4):
        scene.sync()
    before = scene.rejected()[0]["attempts"]
    scene.people(ADA, ("not..an@address.io", "Cyd", 3))
    scene.sync()
    (row,) = scene.rejected()
    assert (row["attempts"], row["values"]["firstname"]) == (before + 1, "Cyd")


def test_a_rejected_row_that_left_the_warehouse_leaves_the_list(scene: Scene) -> None:
    scene.people(ADA, BAD)
    scene.define()
    scene.sync()
    scene.people(ADA)
    run = scene.sync()
    assert (run["exit"], run["rejected"], scene.rejected()) == (0, 0, [])


def test_retry_offers_only_the_refused_rows(scene: Scene) -> None:
    scene.people(ADA, BAD)
    scene.define()
    for _ in range(3):
        scene.sync()
    scene.people(ADA, ("not..an@address.io", "Cy", 3), ("new@x.example", "New", 1))
    before = scene.rejected()[0]["attempts"]
    code, document = scene.json("rejected", "people", "--retry")
    assert code == 3
    assert scene.rejected()[0]["attempts"] == before + 1
    assert set(scene.contacts()) == {"ada@x.example"}
    assert document["runs"][0]["rows"]["retried"] == 1
    assert scene.sync()["rows"]["added"] >= 1


def test_retry_with_nothing_refused_does_nothing(scene: Scene) -> None:
    scene.people(ADA)
    scene.define(mode="mirror")
    scene.sync()
    scene.people(BO)
    code, document = scene.json("rejected", "people", "--retry")
    assert (code, document["runs"][0]["requests"]) == (0, 0)
    assert set(scene.contacts()) == {"ada@x.example"}


def test_P20_a_batch_refused_whole_is_split_until_the_guilty_row_stands_alone(scene: Scene) -> None:
    scene.people(*[(f"u{at:03}@x.example", "U", at) for at in range(100)])
    scene.define()
    scene.sandbox.faults.add("refuse", path="batch/upsert", times=1, rows=1, code="INVALID", message="no")
    run = scene.sync()
    assert run["exit"] in (0, 3)
    assert len(scene.contacts()) >= 99


def test_a_known_row_that_is_refused_keeps_its_old_acknowledged_value(scene: Scene) -> None:
    columns = "id bigint, email text, name text"
    scene.people((1, "ada@x.example", "Ada"), columns=columns)
    scene.define(key="id", mapping={"email": "email", "firstname": "name"})
    scene.sync()
    scene.people((1, "bro..ken@x.io", "Ada"), columns=columns)
    assert scene.sync()["exit"] == 3
    code, found = scene.json("explain", "people", "1")
    assert code == 0
    assert (found["state"], found["acknowledged"]["values"]["email"]) == ("rejected", "ada@x.example")
    scene.people((1, "ada@x.example", "Ada"), columns=columns)
    run = scene.sync()
    assert (run["exit"], run["requests"], scene.rejected()) == (0, 0, [])


def test_a_lead_without_a_required_field_is_rejected_alone(scene: Scene) -> None:
    columns = "id text, name text, company text, email text"
    rows: list[Any] = [("1", "Ada", "X", None), ("2", None, "Y", None), ("3", "Cy", "Z", "not an address")]
    scene.table("leads", columns, rows)
    scene.define(LEADS)
    run = scene.sync()
    assert (run["exit"], run["rejected"] + run["rows"]["invalid"]) == (3, 2)
    assert [lead["External_Id__c"] for lead in scene.sandbox.salesforce.records("Lead")] == ["1"]


def held(scene: Scene) -> None:
    """What a run leaves that sent Bo's row, of a kind that must not be sent twice, and got no answer."""
    scene.people(ADA)
    scene.define()
    scene.sync()
    scene.people(ADA, BO)
    project, now = Project.load(scene.folder), clock.SYSTEM.now()
    values: dict[str, JSON] = {"email": "bo@x.example", "firstname": "Bo", "workspaces_total": 2}
    row = RefusedRow("in_doubt", HELD, "nobody answered", now, now, "bo@x.example", "bo@x.example", values=values)
    with closing(project.parts.ledger(project.named("people"))) as ledger:
        ledger.record(Acknowledgement("people", "run-x", refused=[row]))


def test_a_person_who_has_looked_can_say_that_a_row_in_doubt_did_arrive(scene: Scene) -> None:
    held(scene)
    listed = scene.cli("rejected", "people").stdout
    assert "reverse-etl rejected people --arrived bo@x.example" in listed
    code, document = scene.json("rejected", "people", "--arrived", "bo@x.example")
    assert (code, document) == (0, {"rows": [], "arrived": ["bo@x.example"]})
    code, found = scene.json("explain", "people", "bo@x.example")
    assert (found["state"], found["acknowledged"]["values"]["firstname"]) == ("unchanged", "Bo")
    assert found["reason"] == "nobody answered when it was sent; a person has said that it arrived"
    (line,) = (scene.folder / ".reverse_etl" / "audit.jsonl").read_text().splitlines()
    noted = json.loads(line)
    assert (noted["action"], noted["sync"], noted["word"]) == ("arrived", "people", found["acknowledged"]["run_id"])
    assert "taken as arrived" in scene.cli("explain", "people", "bo@x.example").stdout
    run = scene.sync()
    assert (run["exit"], run["requests"], run["rows"]["unchanged"]) == (0, 0, 2)


def test_of_a_row_that_is_not_in_doubt_nobody_can_say_that_it_arrived(scene: Scene) -> None:
    held(scene)
    ended = scene.cli("rejected", "people", "--arrived", "bo@x.example", "--arrived", "ada@x.example")
    assert (ended.returncode, len(scene.rejected())) == (2, 1)
    assert "ada@x.example: nothing of this row is in doubt" in ended.stderr
    assert scene.cli("rejected", "people", "--arrived", "bo@x.example", "--retry").returncode == 2
    assert not (scene.folder / ".reverse_etl" / "audit.jsonl").exists()
