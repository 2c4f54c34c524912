"""Rows as members of HubSpot's lists, over real HTTP: in, out, and never out by mistake."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import yaml

from reverse_etl.sandbox.server import Sandbox
from tests.sandbox.scene import Scene

VIPS = {
    "source": "warehouse",
    "query": "select * from vips",
    "key": "id",
    "destination": "hubspot",
    "object": "list:VIPs",
    "match": "email",
    "mode": "mirror",
    "mapping": {"email": "email"},
    "guard": {"max_removed": "none"},
}
ADA, BO, CY, DEE = (f"{name}@x.example" for name in ("ada", "bo", "cy", "dee"))


def made(sandbox: Sandbox, name: str, *, type: str = "0-1", processing: str = "MANUAL") -> str:
    """A list as a person makes it in HubSpot. Returns its id."""
    document = {"name": name, "objectTypeId": type, "processingType": processing}
    return str(json.loads(sandbox.hubspot.lists._create(document).body)["list"]["listId"])


@pytest.fixture
def scene(scene: Scene) -> Scene:
    assert made(scene.sandbox, "VIPs") == "15"
    for email in (ADA, BO, CY):
        scene.sandbox.hubspot.add("contacts", {"email": email})
    scene.define(VIPS, "vips")
    return scene


def vips(scene: Scene, *emails: Any) -> None:
    """The warehouse's rows, numbered from 1; None skips a number."""
    scene.table("vips", "id int, email text", [(n, email) for n, email in enumerate(emails, 1) if email])


def contact(scene: Scene, email: str) -> str:
    found = scene.sandbox.hubspot.find("contacts", "email", email)
    assert found is not None
    return str(found["id"])


def members(scene: Scene, list_id: str = "15") -> set[str]:
    """Who is in a list, by address."""
    records = [scene.sandbox.hubspot.record("contacts", id) for id in scene.sandbox.hubspot.lists.members(list_id)]
    return {record["properties"]["email"] for record in records if record is not None}


def puts(scene: Scene) -> list[str]:
    return [entry.path.rpartition("/")[2] for entry in scene.sandbox.requests if entry.method == "PUT"]


# --- in and out ------------------------------------------------------------------------------------------------------


def test_rows_become_members_and_leave_with_their_rows(scene: Scene) -> None:
    vips(scene, ADA, " BO@X.example ")
    run = scene.sync("vips")
    assert (run["exit"], run["delivered"]["created"], members(scene)) == (0, 2, {ADA, BO})
    assert scene.sync("vips")["requests"] == 0
    vips(scene, None, " BO@X.example ", CY)
    run = scene.sync("vips")
    assert (run["exit"], run["delivered"]["created"], run["delivered"]["removed"]) == (0, 1, 1)
    assert members(scene) == {BO, CY}
    assert ADA in scene.contacts()


def test_somebody_who_was_a_member_already_counts_as_updated_and_is_ours_from_then_on(scene: Scene) -> None:
    scene.sandbox.hubspot.lists._lists["15"].members |= {contact(scene, ADA): "x", contact(scene, CY): "x"}
    vips(scene, ADA, BO)
    run = scene.sync("vips")
    assert (run["delivered"]["created"], run["delivered"]["updated"]) == (1, 1)
    vips(scene, None, BO)
    assert scene.sync("vips")["delivered"]["removed"] == 1
    assert members(scene) == {BO, CY}  # who was put in by hand stays


def test_upsert_takes_nobody_out_unless_told(scene: Scene) -> None:
    vips(scene, ADA, BO)
    scene.define(VIPS, "vips", mode="upsert")
    scene.sync("vips")
    vips(scene, ADA)
    assert scene.sync("vips")["rows"]["removed"] == 0
    assert members(scene) == {ADA, BO}
    scene.define(VIPS, "vips", mode="upsert", on_removed="archive")
    scene.sync("vips")
    assert members(scene) == {ADA}


def test_a_row_without_a_record_is_rejected_and_joins_when_there_is_one(scene: Scene) -> None:
    vips(scene, ADA, DEE)
    run = scene.sync("vips")
    assert (run["exit"], run["delivered"]["created"], run["rejected"]) == (3, 1, 1)
    (row,) = scene.rejected("vips")
    assert (row["key"], row["code"]) == (2, "missing_record")
    scene.sandbox.hubspot.add("contacts", {"email": DEE})
    assert scene.sync("vips")["exit"] == 0
    assert members(scene) == {ADA, DEE}


def test_a_changed_address_takes_one_contact_out_and_another_in_at_once(scene: Scene) -> None:
    vips(scene, ADA)
    scene.sync("vips")
    vips(scene, BO)
    run = scene.sync("vips")
    assert (run["delivered"]["created"], members(scene)) == (1, {BO})
    assert puts(scene)[-1] == "add-and-remove"
    vips(scene, DEE)  # nobody has this address: the old member stays until somebody has
    assert scene.sync("vips")["rejected"] == 1
    assert members(scene) == {BO}


def test_an_address_that_moves_to_another_row_stays_a_member(scene: Scene) -> None:
    vips(scene, ADA, BO)
    scene.sync("vips")
    vips(scene, CY, BO, ADA)  # row 1 gives its address to row 3, which waits until that is delivered
    assert [scene.sync("vips")["exit"], scene.sync("vips")["exit"]] == [3, 0]
    assert members(scene) == {ADA, BO, CY}
    vips(scene, None, BO, ADA, CY)  # and leaves, its next address going to row 4
    assert scene.sync("vips")["exit"] == 0
    assert members(scene) == {ADA, BO, CY}
    vips(scene, None, ADA, BO, CY)  # two rows swap theirs
    assert scene.sync("vips")["exit"] == 0
    assert members(scene) == {ADA, BO, CY}


def test_a_full_send_puts_back_who_was_taken_out_by_hand(scene: Scene) -> None:
    vips(scene, ADA, BO)
    scene.sync("vips")
    scene.sandbox.hubspot.lists._lists["15"].members.pop(contact(scene, ADA))
    assert scene.sync("vips")["requests"] == 0
    run = scene.sync("vips", full=True)
    assert (run["delivered"]["created"], run["delivered"]["updated"]) == (1, 1)
    assert members(scene) == {ADA, BO}


def test_five_hundred_members_share_a_call(scene: Scene) -> None:
    for n in range(620):
        scene.sandbox.hubspot.add("contacts", {"email": f"p{n}@x.example"})
    vips(scene, *(f"p{n}@x.example" for n in range(620)))
    assert scene.sync("vips")["delivered"]["created"] == 620
    assert sorted(entry.rows for entry in scene.sandbox.requests if entry.method == "PUT") == [120, 500]
    assert len(members(scene)) == 620


def test_a_baseline_puts_nobody_in_and_takes_nobody_out(scene: Scene) -> None:
    scene.define(VIPS, "vips", first_run="baseline")
    vips(scene, ADA)
    assert scene.sync("vips")["requests"] == 0
    vips(scene, None, BO)
    assert scene.sync("vips")["delivered"]["created"] == 1
    assert members(scene) == {BO}


# --- which list ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "object"),
    [
        ("v3", "list:vips"),
        ("2025-09", "list:15"),
        ("2026-03", "list: VIPs"),
        ("2026-09", "list:contacts/VIPs"),
        ("2026-09", "list:0-1/VIPs"),
    ],
)
def test_a_list_is_named_or_given_by_its_id(scene: Scene, version: str, object: str) -> None:
    project = yaml.safe_load((scene.folder / "reverse_etl.yml").read_text())
    project["destinations"]["hubspot"]["api_version"] = version
    scene.write("reverse_etl.yml", yaml.safe_dump(project))
    scene.define(VIPS, "vips", object=object)
    vips(scene, ADA)
    assert scene.sync("vips")["exit"] == 0
    vips(scene, BO)
    assert scene.sync("vips")["exit"] == 0
    assert members(scene) == {BO}
    root = "/crm/v3/lists" if version == "v3" else f"/crm/lists/{version}"
    assert f"{root}/15/memberships/add" in {entry.path for entry in scene.sandbox.requests}


def test_a_list_of_companies_takes_companies(scene: Scene) -> None:
    key = made(scene.sandbox, "Partners / EMEA", type="0-2", processing="SNAPSHOT")
    company = scene.sandbox.hubspot.add("companies", {"app_company_id": "c1", "name": "Acme"})
    scene.table("vips", "id text", [("c1",)])
    scene.define(
        VIPS, "vips", object="list:companies/Partners / EMEA", match="app_company_id", mapping={"app_company_id": "id"}
    )
    assert scene.sync("vips")["exit"] == 0
    assert scene.sandbox.hubspot.lists.members(key) == [company]


def test_a_slash_may_be_part_of_a_name(scene: Scene) -> None:
    key = made(scene.sandbox, "Q1/Q2 leads")
    scene.define(VIPS, "vips", object="list:Q1/Q2 leads")
    vips(scene, ADA)
    assert scene.sync("vips")["exit"] == 0
    assert members(scene, key) == {ADA}


def test_members_by_record_id_need_no_look(scene: Scene) -> None:
    scene.table("vips", "id bigint", [(int(contact(scene, ADA)),), (999_999,)])
    scene.define(VIPS, "vips", match="hs_object_id", mapping={"hs_object_id": "id"})
    run = scene.sync("vips")
    assert (run["exit"], run["delivered"]["created"], members(scene)) == (3, 1, {ADA})
    assert [(row["key"], row["code"]) for row in scene.rejected("vips")] == [(999_999, "missing_record")]
    assert not [entry for entry in scene.sandbox.requests if entry.path.endswith("batch/read")]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"object": "list:VIP"}, "HubSpot has no list 'VIP' (did you mean 'VIPs'?)"),
        ({"object": "list:Partners"}, "there is one of another object: write `object: list:16`"),
        ({"object": "list:99"}, "HubSpot has no list '99'"),
        ({"object": "list:Active"}, "HubSpot fills the list 'Active' by its own filters (DYNAMIC)"),
        ({"mode": "update"}, "list:VIPs has no mode `update`; it has mirror, upsert"),
        ({"mode": "insert"}, "list:VIPs has no mode `insert`; it has mirror, upsert"),
        ({"mode": "append", "match": None}, "list:VIPs has no mode `append`; it has mirror, upsert"),
        (
            {"mapping": {"email": "email", "firstname": "email"}},
            "list:VIPs.firstname can't be written: a list takes members, not values",
        ),
        (
            {"match": ["email", "app_user_id"], "mapping": {"email": "email", "app_user_id": "email"}},
            "list:VIPs finds its rows by one field",
        ),
        (
            {
                "mapping": {
                    "email": "email",
                    "company": {"object": "companies", "match": {"app_company_id": "email"}},
                }
            },
            "only objects with records of their own can have links",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_check_and_run(scene: Scene, changes: dict[str, Any], said: str) -> None:
    made(scene.sandbox, "Partners", type="0-2")
    made(scene.sandbox, "Active", processing="DYNAMIC")
    vips(scene, ADA)
    scene.define(VIPS, "vips", **changes)
    checked = scene.cli("check", "--connect")
    assert checked.returncode == 2
    assert said in " ".join((checked.stdout + checked.stderr).split())
    ran = scene.cli("sync", "vips")
    assert ran.returncode in (1, 2)
    assert puts(scene) == []


def test_a_missing_scope_stops_the_run_and_is_named(scene: Scene) -> None:
    scopes = frozenset({"crm.objects.contacts.read", "crm.lists.read"})
    scene.sandbox.hubspot.limits.tokens["sandbox-token"].scopes = scopes
    vips(scene, ADA)
    ended = scene.cli("sync", "vips")
    assert ended.returncode == 1
    assert "crm.lists.write" in ended.stdout + ended.stderr


# --- lost answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("kind", ["cut", "html"])
def test_a_lost_answer_does_no_harm(scene: Scene, kind: str, applied: bool) -> None:
    scene.sandbox.faults.add(kind, path="memberships/", applied=applied)
    vips(scene, ADA, BO)
    run = scene.sync("vips")
    assert (run["exit"], sum(run["delivered"].values()), members(scene)) == (0, 2, {ADA, BO})
    scene.sandbox.faults.add(kind, path="memberships/", applied=applied)
    vips(scene, None, CY)
    run = scene.sync("vips")
    assert (run["exit"], run["delivered"]["removed"], members(scene)) == (0, 1, {CY})
    assert scene.sync("vips")["requests"] == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_goes_wrong_the_list_is_the_result_in_the_end(scene: Scene, seed: int) -> None:
    chance, everybody = random.Random(seed), [ADA, BO, CY, *(f"p{n}@x.example" for n in range(30))]
    for email in everybody[3:]:
        scene.sandbox.hubspot.add("contacts", {"email": email})
    for _ in range(3):
        wanted = chance.sample(everybody, 20)
        vips(scene, *(email if email in wanted else None for email in everybody))
        kind, path = chance.choice(["cut", "html", "empty", "truncate"]), chance.choice(["memberships/", "batch/read"])
        scene.sandbox.faults.add(kind, path=path, applied=chance.random() < 0.5)
        scene.sync("vips")
        scene.sandbox.faults.clear()
    scene.sync("vips")
    assert members(scene) == {*wanted}
    assert scene.rejected("vips") == []


def test_an_answer_that_says_nothing_is_asked_for_again(scene: Scene) -> None:
    scene.sandbox.faults.add("empty", path="memberships/add")
    vips(scene, ADA)
    assert scene.sync("vips")["exit"] == 0
    assert members(scene) == {ADA}


def test_rows_nobody_ever_answered_for_are_in_doubt_until_the_next_run(scene: Scene) -> None:
    scene.sandbox.faults.add("empty", path="memberships/add", times=None)
    vips(scene, ADA)
    assert (scene.sync("vips")["in_doubt"], members(scene)) == (1, set())
    scene.sandbox.faults.clear()
    assert scene.sync("vips")["exit"] == 0
    assert members(scene) == {ADA}


def test_a_call_refused_whole_is_halved_down_to_the_guilty_row(scene: Scene) -> None:
    body = {"status": "error", "message": "Too many records", "category": "VALIDATION_ERROR", "correlationId": "c-1"}
    scene.sandbox.faults.add("status", path="memberships/add", status=413, times=2, body=body)
    vips(scene, ADA, BO, CY)
    run = scene.sync("vips")
    assert (run["exit"], run["delivered"]["created"], run["rejected"]) == (3, 2, 1)
    (row,) = scene.rejected("vips")
    assert (row["code"], row["message"], row["request_id"]) == ("VALIDATION_ERROR", "Too many records", "c-1")
    assert scene.sync("vips")["exit"] == 0
    assert members(scene) == {ADA, BO, CY}


def test_a_list_deleted_meanwhile_stops_the_run(scene: Scene) -> None:
    scene.sandbox.faults.add("status", path="memberships/add", status=404, body={"message": "resource not found"})
    vips(scene, ADA)
    run = scene.sync("vips")
    assert (run["exit"], run["error"]["code"]) == (1, "destination_object")
    assert run["error"]["message"] == "HubSpot has no 'list:VIPs' any more"


# --- looking ---------------------------------------------------------------------------------------------------------


def test_a_live_look_says_who_would_join_and_who_was_taken_out_by_hand(scene: Scene) -> None:
    vips(scene, ADA, BO)
    scene.sync("vips")
    scene.sandbox.hubspot.lists._lists["15"].members.pop(contact(scene, BO))
    scene.sandbox.hubspot.lists._lists["15"].members[contact(scene, CY)] = "x"
    scene.sandbox.hubspot.add("contacts", {"email": DEE})
    vips(scene, ADA, BO, CY, DEE)
    before = len(puts(scene))
    live = scene.sync("vips", dry_run=True, live=True)["plan"]["live"]
    assert (live["create"], live["equal"], live["update"]) == (1, 1, 0)  # CY is in already, DEE would join
    assert (live["drift_looked_at"], live["gone"]) == (1, 1)  # BO is out, and no row of his changes that
    assert len(puts(scene)) == before


def test_a_dry_run_and_explain_know_members(scene: Scene) -> None:
    vips(scene, ADA)
    planned = scene.sync("vips", dry_run=True)
    assert (planned["pending"], planned["plan"]["requests"], puts(scene)) == (1, 1, [])
    scene.sync("vips")
    _, told = scene.json("explain", "vips", "1")
    assert (told["state"], told["acknowledged"]["record_id"]) == ("unchanged", contact(scene, ADA))


def test_the_fields_of_a_list_are_those_that_find_its_records(scene: Scene) -> None:
    code, document = scene.json("fields", "hubspot", "list:VIPs")
    assert code == 0
    writable = {field["name"] for field in document["fields"] if not field.get("read_only")}
    assert writable == {"email", "app_user_id", "hs_object_id"}
