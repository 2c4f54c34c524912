"""What Salesforce's own description forbids, seen before anything is written, over real HTTP against the emulator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reverse_etl.sandbox.salesforce.fields import make
from tests.sandbox.scene import LEADS, Scene, scene_in
from tests.sandbox.test_salesforce_bulk import COLUMNS, connect, leads, made
from tests.sandbox.test_salesforce_records import FIELDS
from tests.unit.destinations.salesforce.org import new_process

MEMBERS: dict[str, Any] = {
    **LEADS,
    "query": "select * from members",
    "object": "CampaignMember",
    "mapping": {
        "External_Id__c": "id",
        "Status": "status",
        "Campaign": {"match": {"External_Id__c": "campaign"}},
        "Lead": {"match": {"External_Id__c": "lead"}},
    },
}


@pytest.fixture(params=["never", "always"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """Every test in both ways of writing."""
    new_process()
    with scene_in(tmp_path, bulk_polls=0) as scene:
        connect(scene, bulk_from=request.param)
        yield scene


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mapping": {**FIELDS, "Compny": "company"}}, "Lead has no field `Compny`"),
        ({"mapping": {**FIELDS, "Compny": "company"}}, "Company"),
        (
            {"mapping": {**FIELDS, "CreatedDate": "name"}},
            "Lead.CreatedDate can't be written: set by Salesforce",
        ),
        ({"mapping": {**FIELDS, "Total__c": "name"}}, "Lead.Total__c can't be written: a formula"),
        (
            {"mapping": {**FIELDS, "IsConverted": "flag"}},
            "only while a record is created: use `mode: insert`, or",
        ),
        ({"match": "Email"}, "Lead.Email is not unique at the destination"),
        ({"mapping": {"External_Id__c": "id", "LastName": "name"}}, "Lead.Company is required to create a record"),
        ({"object": "Leed"}, "did you mean 'Lead'?"),
    ],
)
def test_a_mapping_that_does_not_fit_the_object_stops_the_run(scene: Scene, change: dict[str, Any], words: str) -> None:
    scene.sandbox.salesforce.add_field("Lead", make("Total__c", "Total", "double(18,0)", "ro;calc"))
    scene.define(LEADS, "leads", **{"query": "select *, true as flag from leads", **change})
    leads(scene, "Ada")
    ended = scene.cli("sync", "leads")
    assert ended.returncode in (1, 2), ended
    assert words in ended.stdout + ended.stderr
    assert (made(scene), len(scene.sandbox.ledger)) == ({}, 0)
    ended = scene.cli("check", "--connect")
    assert ended.returncode != 0
    assert words in ended.stdout + ended.stderr


def test_values_that_the_object_never_takes_refuse_their_rows_without_a_call(scene: Scene) -> None:
    scene.sandbox.salesforce.add_field("Lead", make("Plan__c", "Plan", "picklist(40)", "restricted;pick=free,pro"))
    mapping = {**FIELDS, "Plan__c": "plan", "NumberOfEmployees": "staff"}
    scene.define(LEADS, "leads", mapping=mapping)
    rows = [
        ("a", "Ada", "Acme", "free", 1),
        ("b", "B" * 81, "Acme", "free", 1),
        ("c", "Cay", "Acme", "gold", 1),
        ("d", "Dan", "Acme", "pro", 10**9),
        (None, "Eve", "Acme", "pro", 1),
    ]
    scene.table("leads", "id text, name text, company text, plan text, staff bigint", rows)
    scene.warehouse("alter table leads add column email text")
    run = scene.sync("leads")
    assert (run["rows"]["invalid"], run["delivered"]["created"], [*made(scene)]) == (4, 1, ["a"]), run
    codes = {row["key"]: row["code"] for row in scene.rejected("leads")}
    assert codes == {
        "b": "invalid_too_long",
        "c": "invalid_option",
        "d": "invalid_out_of_range",
        None: "invalid_null_key",
    }


def test_a_field_that_went_away_between_two_runs_stops_the_second_before_it_writes(scene: Scene) -> None:
    scene.sandbox.salesforce.add_field("Lead", make("Plan__c", "Plan", "string(40)", ""))
    scene.define(LEADS, "leads", mapping={**FIELDS, "Plan__c": "company"})
    leads(scene, "Ada")
    assert scene.sync("leads")["status"] == "succeeded"
    lead = scene.sandbox.salesforce.org.object("Lead")
    del lead.fields["Plan__c"], lead.by_name["plan__c"]
    leads(scene, "Ada", Ada="Adair")
    run = scene.sync("leads")
    assert run["status"] == "failed"
    assert "Plan__c" in run["error"]["message"]
    assert made(scene)["ada"]["LastName"] == "Ada"


def test_members_of_campaigns_are_made_once_with_what_can_be_set_only_then(scene: Scene) -> None:
    add = scene.sandbox.salesforce.add
    campaign = add("Campaign", {"External_Id__c": "fair", "Name": "Fair"})
    lead = add("Lead", {"External_Id__c": "ada", "LastName": "Ada", "Company": "Acme"})
    scene.define(MEMBERS, "members", mode="insert")
    scene.table("members", "id text, status text, campaign text, lead text", [("m", "Sent", "fair", "ada")])
    run = scene.sync("members")
    assert (run["status"], run["delivered"]["created"]) == ("succeeded", 1), run
    (member,) = scene.sandbox.salesforce.records("CampaignMember")
    assert (member["CampaignId"], member["LeadId"], member["Status"]) == (campaign, lead, "Sent")


def test_what_can_be_set_only_while_a_record_is_created_is_left_out_of_later_updates(scene: Scene) -> None:
    add = scene.sandbox.salesforce.add
    campaign = add("Campaign", {"External_Id__c": "fair", "Name": "Fair"})
    lead = add("Lead", {"External_Id__c": "ada", "LastName": "Ada", "Company": "Acme"})
    add("CampaignMember", {"External_Id__c": "old", "CampaignId": campaign, "LeadId": lead})
    mapping = {
        "External_Id__c": "id",
        "Status": "status",
        "CampaignId": {"column": "campaign", "write": "on_create"},
        "LeadId": {"column": "lead", "write": "on_create"},
    }
    scene.define(MEMBERS, "members", mapping=mapping)
    columns = "id text, status text, campaign text, lead text"
    scene.table("members", columns, [(key, "Sent", campaign, lead) for key in ("old", "new")])
    run = scene.sync("members")
    assert (run["delivered"]["created"], run["delivered"]["updated"], run["rejected"]) == (1, 1, 0), run
    scene.table("members", columns, [(key, "Responded", lead, lead) for key in ("old", "new")])
    run = scene.sync("members")
    assert (run["status"], run["delivered"]["updated"]) == ("succeeded", 2), run
    found = {(each["Status"], each["CampaignId"]) for each in scene.sandbox.salesforce.records("CampaignMember")}
    assert found == {("Responded", campaign)}


def test_parents_go_before_their_children_when_both_are_run_by_hand(scene: Scene) -> None:
    contact = {"External_Id__c": "id", "LastName": "name", "Account": {"match": {"External_Id__c": "account"}}}
    account = {"External_Id__c": "id", "Name": "name"}
    scene.define(
        LEADS,
        "people",
        query="select * from people",
        object="Contact",
        mapping=contact,
        schedule={"after": "the_accounts"},
    )
    scene.define(LEADS, "the_accounts", query="select * from accounts", object="Account", mapping=account)
    scene.table("people", "id text, name text, account text", [("a", "Ada", "acme")])
    scene.table("accounts", "id text, name text", [("acme", "Acme")])
    ended = scene.cli("sync", "people", "the_accounts")
    assert ended.returncode == 0, ended
    (contact_made,) = scene.sandbox.salesforce.records("Contact")
    assert contact_made["AccountId"] == scene.sandbox.salesforce.records("Account")[0]["Id"]


def test_an_owner_is_named_by_a_field_of_the_user(scene: Scene) -> None:
    """The lookup leads to groups, too: the mapping says which is meant."""
    mapping = {**FIELDS, "Owner": {"object": "User", "match": {"Email": "email"}}, "Email": None}
    scene.define(LEADS, "leads", mapping={name: entry for name, entry in mapping.items() if entry})
    users = scene.sandbox.salesforce.records("User")
    scene.table("leads", COLUMNS, [("a", "Ada", "Acme", users[0]["Email"]), ("b", "Bob", "Acme", "nobody@x.io")])
    run = scene.sync("leads")
    assert (run["delivered"]["created"], run["rejected"]) == (1, 1), run
    assert made(scene)["a"]["OwnerId"] == users[0]["Id"]
    assert scene.rejected("leads")[0]["code"] == "INVALID_FIELD"


def test_records_are_updated_by_their_own_ids(scene: Scene) -> None:
    ids = [scene.sandbox.salesforce.add("Lead", {"LastName": "Old", "Company": "Acme"}) for _ in range(2)]
    scene.define(LEADS, "leads", key="id", match="Id", mode="update", mapping={"Id": "id", "LastName": "name"})
    gone = ids[0][:14] + "9"
    scene.table("leads", "id text, name text", [(ids[0], "New"), (ids[1][:15], "Newer"), (gone, "Nobody")])
    run = scene.sync("leads")
    assert (run["delivered"]["updated"], run["rejected"]) == (2, 1), run
    found = {record["Id"]: record["LastName"] for record in scene.sandbox.salesforce.records("Lead")}
    assert found == {ids[0]: "New", ids[1]: "Newer"}
    assert [row["code"] for row in scene.rejected("leads")] == ["missing_record"]
