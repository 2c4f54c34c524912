"""Rows as custom events in HubSpot, over real HTTP: each once, whatever becomes of the answers."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from reverse_etl.sandbox.server import Sandbox
from tests.sandbox.scene import Scene

NAME = "pe12345678_workspace_created"
COLUMNS = "id text, email text, happened timestamptz, workspace text, seats bigint"
AT = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
CREATED = {
    "source": "warehouse",
    "query": "select * from created",
    "key": "id",
    "destination": "hubspot",
    "object": NAME,
    "mode": "append",
    "mapping": {"email": "email", "occurredAt": "happened", "workspace_id": "workspace", "seats": "seats"},
}


def defined(sandbox: Sandbox, *more: str) -> None:
    """The event's definition, as a person makes it in HubSpot."""
    properties = [
        {"name": "workspace_id", "label": "Workspace", "type": "string", "fieldType": "text"},
        {"name": "seats", "label": "Seats", "type": "number", "fieldType": "number"},
        {"name": "email", "label": "Address typed in", "type": "string", "fieldType": "text"},
        {"name": "hs_url", "label": "URL", "type": "string", "fieldType": "text"},
        {
            "name": "plan",
            "label": "Plan",
            "type": "enumeration",
            "fieldType": "select",
            "options": [{"label": "Free", "value": "free"}, {"label": "Pro", "value": "pro"}],
        },
    ]
    for name in ("workspace_created", *more):
        sandbox.hubspot.events._define({"name": name, "properties": properties})


@pytest.fixture
def scene(scene: Scene) -> Scene:
    defined(scene.sandbox)
    for email in ("ada@x.example", "bo@x.example"):
        scene.sandbox.hubspot.add("contacts", {"email": email})
    scene.define(CREATED, "created")
    return scene


def rows(scene: Scene, *rows: tuple[Any, ...]) -> None:
    scene.table("created", COLUMNS, rows)


def taken(scene: Scene) -> list[dict[str, Any]]:
    """What HubSpot keeps, in the order it came."""
    return list(scene.sandbox.hubspot.events.taken)


def sends(scene: Scene) -> list[Any]:
    return [entry for entry in scene.sandbox.requests if entry.path.endswith("/send/batch")]


ADA = ("w1", "ada@x.example", AT, "ws_1", 3)
BO = ("w2", "bo@x.example", AT, "ws_2", None)


def test_each_new_row_becomes_an_event_with_its_own_time_and_text_properties(scene: Scene) -> None:
    rows(scene, ADA, BO)
    run = scene.sync("created")
    assert (run["exit"], run["delivered"]["created"], run["rows"]["added"]) == (0, 2, 2)
    first, second = taken(scene)
    assert (first["eventType"], first["occurredAt"]) == (NAME, "2026-11-23T02:00:00.000Z")
    assert first["properties"] == {"workspace_id": "ws_1", "seats": "3"}
    assert second["properties"] == {"workspace_id": "ws_2"}
    idle = scene.sync("created")
    assert (idle["exit"], idle["requests"], idle["rows"]["unchanged"]) == (0, 0, 2)


def test_a_plain_name_finds_the_event_in_any_case(scene: Scene) -> None:
    rows(scene, ADA)
    scene.define(CREATED, "created", object="Workspace_Created")
    assert scene.sync("created")["exit"] == 0
    assert taken(scene)[0]["eventType"] == NAME


@pytest.mark.parametrize(
    ("version", "path"),
    [
        ("v3", "/events/v3/send/batch"),
        ("2025-09", "/events/custom/2025-09/send/batch"),
        ("2026-03", "/events/custom/2026-09/send/batch"),
        ("2026-09", "/events/custom/2026-09/send/batch"),
    ],
)
def test_every_version_of_the_api_takes_events(scene: Scene, version: str, path: str) -> None:
    project = yaml.safe_load((scene.folder / "reverse_etl.yml").read_text())
    project["destinations"]["hubspot"]["api_version"] = version
    scene.write("reverse_etl.yml", yaml.safe_dump(project))
    rows(scene, ADA)
    assert scene.sync("created")["delivered"]["created"] == 1
    assert [entry.path for entry in sends(scene)] == [path]
    assert len(taken(scene)) == 1


def test_five_hundred_events_share_a_call(scene: Scene) -> None:
    scene.warehouse(
        "create table created as select 'w' || n as id, 'ada@x.example' as email, "
        "timestamptz '2026-11-23 02:00:00+00' as happened, 'ws' as workspace, n as seats from range(1101) t(n)"
    )
    plan = scene.sync("created", dry_run=True)
    assert (plan["plan"]["requests"], len(sends(scene))) == (3, 0)
    assert scene.sync("created")["delivered"]["created"] == 1101
    assert sorted(entry.rows for entry in sends(scene)) == [101, 500, 500]
    assert len(taken(scene)) == 1101


# --- lost answers, refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("applied", [False, True])
def test_a_cut_connection_neither_loses_nor_doubles_an_event(scene: Scene, applied: bool) -> None:
    rows(scene, ADA, BO)
    scene.sandbox.faults.add("cut", path="/send/batch", applied=applied)
    run = scene.sync("created")
    assert (run["exit"], run["delivered"]["created"]) == (0, 2)
    assert len(sends(scene)) == 2
    assert len(taken(scene)) == 2


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_goes_wrong_each_row_is_one_event_in_the_end(scene: Scene, seed: int) -> None:
    chance = random.Random(seed)
    for run in range(3):
        rows(scene, *((f"w{n}", "ada@x.example", AT, "ws", n) for n in range(20 * (run + 1))))
        kind = chance.choice(["cut", "html", "slow", "status"])
        scene.sandbox.faults.add(kind, path="/send/batch", status=500, seconds=0.1, applied=chance.random() < 0.5)
        scene.sync("created")
        scene.sandbox.faults.clear()
    assert scene.sync("created")["exit"] == 0
    assert sorted(int(event["properties"]["seats"]) for event in taken(scene)) == list(range(60))


def test_a_run_whose_answers_are_all_lost_is_repaired_by_the_next(scene: Scene) -> None:
    rows(scene, ADA, BO)
    scene.sandbox.faults.add("status", path="/send/batch", status=400, applied=True, times=None)
    first = scene.sync("created")
    assert (first["exit"], first["rejected"], len(taken(scene))) == (3, 2, 2)
    scene.sandbox.faults.clear()
    again = scene.sync("created")
    assert (again["exit"], again["rows"]["retried"] + again["rows"]["added"]) == (0, 2)
    assert len(taken(scene)) == 2


def test_a_full_send_and_a_reset_double_nothing_in_hubspot(scene: Scene) -> None:
    rows(scene, ADA)
    scene.sync("created")
    rows(scene, ("w1", "ada@x.example", AT, "other", 9))
    assert scene.sync("created")["rows"]["unchanged"] == 1
    assert scene.sync("created", full=True)["delivered"]["created"] == 1
    assert scene.cli("reset", "created", "--yes").returncode == 0
    assert scene.sync("created")["delivered"]["created"] == 1
    (event,) = taken(scene)
    assert event["properties"]["workspace_id"] == "ws_1"


def test_two_syncs_may_send_events_of_one_kind_with_the_same_keys(scene: Scene) -> None:
    rows(scene, ADA)
    scene.define(CREATED, "others")
    scene.sync("created")
    scene.sync("others")
    assert len({event["id"] for event in taken(scene)}) == 2


def test_a_call_refused_whole_is_halved_down_to_the_guilty_event(scene: Scene) -> None:
    rows(scene, *((f"w{n}", "ada@x.example", AT, "ws", n) for n in range(4)))
    refused = {"status": "error", "message": "too long", "category": "VALIDATION_ERROR", "correlationId": "c-1"}
    for nth in (1, 2, 4):
        scene.sandbox.faults.add("status", path="/send/batch", nth=nth, status=400, body=refused)
    run = scene.sync("created")
    assert run["exit"] == 3
    assert run["delivered"]["created"] + run["rejected"] == 4
    assert len(taken(scene)) == run["delivered"]["created"]
    assert {row["code"] for row in scene.rejected("created")} == {"VALIDATION_ERROR"}


# --- what is refused before anything is sent -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mode": "upsert", "match": "workspace_id"}, f"{NAME} has no mode `upsert`; it has append"),
        ({"object": "contacts", "mapping": {"email": "email"}}, "contacts has no mode `append`; it has insert, mirror"),
        (
            {"mapping": {"workspace_id": "workspace"}},
            f"nothing says whose {NAME} a row is: map one of email, objectId, utk",
        ),
        ({"object": "pe12345678_workspace_craeted"}, f"did you mean '{NAME}'?"),
        ({"object": "workspace_craeted"}, "did you mean 'workspace_created'?"),
        ({"mapping": {"email": "email", "workspace": "workspace"}}, "has no field `workspace`"),
        (
            {"mapping": {"email": "email", "company": {"object": "companies", "match": {"domain": "workspace"}}}},
            "only objects with records of their own can have links",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_check_and_run(scene: Scene, changes: dict[str, Any], said: str) -> None:
    rows(scene, ADA)
    scene.define(CREATED, "created", **changes)
    checked = scene.cli("check", "--connect")
    assert checked.returncode == 2
    assert said in " ".join((checked.stdout + checked.stderr).split())
    ran = scene.cli("sync", "created")
    assert ran.returncode in (1, 2)
    assert said in " ".join((ran.stdout + ran.stderr).split())
    assert sends(scene) == []


def test_rows_that_hubspot_would_lose_in_silence_are_invalid(scene: Scene) -> None:
    scene.define(
        CREATED,
        "created",
        mapping={**CREATED["mapping"], "plan": "plan", "hs_url": "url"},  # type: ignore[dict-item]
        query="select *, 'Pro' as plan, repeat('u', 1000) as url from created",
    )
    rows(
        scene,
        ADA,
        ("nobody", None, AT, "ws", 1),
        ("no address", "ada", AT, "ws", 1),
        ("long", "ada@x.example", AT, "x" * 257, 1),
    )
    run = scene.sync("created")
    assert (run["exit"], run["delivered"]["created"], run["rows"]["invalid"]) == (3, 1, 3)
    assert {row["key"]: row["code"] for row in scene.rejected("created")} == {
        "nobody": "invalid_null_match",
        "no address": "invalid_email",
        "long": "invalid_too_long",
    }
    assert taken(scene)[0]["properties"]["plan"] == "pro"


def test_an_event_may_lead_by_record_id_and_have_a_property_called_email(scene: Scene) -> None:
    contact = scene.sandbox.hubspot.find("contacts", "email", "bo@x.example")
    assert contact is not None
    scene.table("created", "id text, contact bigint, typed text", [("w1", int(contact["id"]), "typo@x")])
    scene.define(CREATED, "created", mapping={"objectId": "contact", "properties.email": "typed"})
    assert scene.sync("created")["exit"] == 0
    (event,) = taken(scene)
    assert (event["objectId"], event["properties"]) == (contact["id"], {"email": "typo@x"})


def test_the_events_fields_are_listed(scene: Scene) -> None:
    listed = scene.cli("fields", "hubspot", "workspace_created")
    assert listed.returncode == 0
    for name in ("email", "objectId", "utk", "occurredAt", "workspace_id", "properties.email"):
        assert name in listed.stdout


def test_a_live_look_and_new_fields_are_refused_with_the_reason(scene: Scene) -> None:
    rows(scene, ADA)
    looked = scene.cli("sync", "created", "--dry-run", "--live")
    assert (looked.returncode, "created appends" in looked.stderr + looked.stdout) == (1, True)
    scene.define(CREATED, "created", mapping={**CREATED["mapping"], "fresh": "workspace"})  # type: ignore[dict-item]
    made = scene.cli("fields", "created", "--create", "--yes")
    assert made.returncode == 1
    assert "only objects with records of their own can have new fields" in " ".join((made.stdout + made.stderr).split())


def test_an_event_with_explain_and_a_key_that_changed(scene: Scene) -> None:
    rows(scene, ADA)
    scene.sync("created")
    rows(scene, ("w1", "ada@x.example", AT, "changed", 3))
    _, told = scene.json("explain", "created", "w1")
    assert told["state"] == "unchanged"
    assert told["acknowledged"]["values"]["workspace_id"] == "ws_1"
