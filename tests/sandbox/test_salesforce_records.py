"""Salesforce's records over real HTTP: parents, converted leads, duplicate rules, removal, both ways of writing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reverse_etl.sandbox.salesforce.org import DuplicateRule
from tests.sandbox.scene import LEADS, Scene, scene_in
from tests.sandbox.test_salesforce_bulk import calls, connect, leads, made
from tests.unit.destinations.salesforce.org import new_process

CONTACTS: dict[str, Any] = {
    "source": "warehouse",
    "query": "select * from contacts",
    "key": "id",
    "destination": "salesforce",
    "object": "Contact",
    "match": "External_Id__c",
    "mapping": {
        "External_Id__c": "id",
        "LastName": "name",
        "Account": {"match": {"External_Id__c": "account_id"}},
    },
}
COLUMNS = "id text, name text, account_id text"
FIELDS: dict[str, Any] = {"External_Id__c": "id", "LastName": "name", "Company": "company", "Email": "email"}


@pytest.fixture(params=["never", "always"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """Every test in both ways of writing."""
    new_process()
    with scene_in(tmp_path, bulk_polls=0) as scene:
        connect(scene, bulk_from=request.param)
        yield scene


@pytest.fixture
def accounts(scene: Scene) -> dict[str, str]:
    add = scene.sandbox.salesforce.add
    return {key: add("Account", {"External_Id__c": key, "Name": key}) for key in ("acme", "bolt")}


def contacts(scene: Scene) -> dict[str, dict[str, Any]]:
    return {record["External_Id__c"]: record for record in scene.sandbox.salesforce.records("Contact")}


def test_a_row_names_its_parent_by_the_parents_external_id(scene: Scene, accounts: dict[str, str]) -> None:
    scene.define(CONTACTS, "contacts")
    scene.table("contacts", COLUMNS, [("a", "Ada", "acme"), ("b", "Bob", "bolt"), ("c", "Cay", None)])
    assert scene.sync("contacts")["delivered"]["created"] == 3
    assert {key: record.get("AccountId") for key, record in contacts(scene).items()} == {
        "a": accounts["acme"],
        "b": accounts["bolt"],
        "c": None,
    }
    scene.table("contacts", COLUMNS, [("a", "Ada", "bolt"), ("b", "Bob", None), ("c", "Cay", None)])
    run = scene.sync("contacts")
    assert (run["status"], run["rows"]["changed"], run["delivered"]["updated"]) == ("succeeded", 2, 2), run
    assert {key: record.get("AccountId") for key, record in contacts(scene).items()} == {
        "a": accounts["bolt"],
        "b": None,
        "c": None,
    }
    assert scene.sync("contacts")["requests"] == 0


def test_a_row_whose_parent_is_not_there_waits_for_it_and_the_others_arrive(scene: Scene) -> None:
    scene.define(CONTACTS, "contacts")
    scene.table("contacts", COLUMNS, [("a", "Ada", "acme"), ("b", "Bob", None)])
    run = scene.sync("contacts")
    assert (run["status"], run["rejected"], run["delivered"]["created"]) == ("partial", 1, 1), run
    (row,) = scene.rejected("contacts")
    assert row["code"] == "INVALID_FIELD"
    assert "Foreign key external ID: acme not found" in row["message"]
    scene.sandbox.salesforce.add("Account", {"External_Id__c": "acme", "Name": "Acme"})
    code, _ = scene.json("rejected", "contacts", "--retry")
    assert (code, scene.rejected("contacts")) == (0, [])
    assert sorted(contacts(scene)) == ["a", "b"]


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ({"Acount": {"match": {"External_Id__c": "account_id"}}}, "did you mean 'Account'?"),
        ({"Account": {"match": {"Name": "account_id"}}}, "External ID"),
        ({"Account": {"object": "Lead", "match": {"External_Id__c": "account_id"}}}, "it leads to Account"),
        (
            {"Account": {"match": {"External_Id__c": "account_id"}}, "AccountId": "account_id"},
            "`Account` and `AccountId` set the same field of Contact: map one of them",
        ),
        (
            {
                "AccountId": {"match": {"External_Id__c": "account_id"}},
                "Account": {"match": {"External_Id__c": "account_id"}},
            },
            "`AccountId` and `Account` set the same field of Contact: map one of them",
        ),
    ],
)
def test_a_link_that_can_not_be_is_refused_in_its_place_before_anything_is_written(
    scene: Scene, link: dict[str, Any], words: str
) -> None:
    mapping = {"External_Id__c": "id", "LastName": "name", **link}
    scene.define(CONTACTS, "contacts", mapping=mapping)
    scene.table("contacts", COLUMNS, [("a", "Ada", "acme")])
    ended = scene.cli("sync", "contacts")
    assert ended.returncode == 2
    assert words in ended.stderr + ended.stdout
    assert "syncs/contacts.yml:" in ended.stderr + ended.stdout
    assert contacts(scene) == {}


def test_the_row_of_a_converted_lead_goes_to_its_contact(scene: Scene) -> None:
    mapping = {**FIELDS, "Lead_Score__c": "score"}
    columns = "id text, name text, company text, email text, score int"
    scene.define(LEADS, "leads", on_converted="contact", mapping=mapping)
    scene.table("leads", columns, [("a", "Ada", "Acme", "a@x.io", 1), ("b", "Bob", "Bolt", "b@x.io", 1)])
    scene.sync("leads")
    contact = scene.sandbox.salesforce.convert_lead(made(scene)["a"]["Id"])["ConvertedContactId"]
    scene.table("leads", columns, [("a", "Adair", "Acme", "new@x.io", 2), ("b", "Bob", "Bolt", "b@x.io", 1)])
    run = scene.sync("leads")
    assert (run["status"], run["rejected"], run["delivered"]["updated"]) == ("succeeded", 0, 1), run
    record = scene.sandbox.salesforce.record("Contact", contact)
    assert record is not None
    assert (record["LastName"], record["Email"]) == ("Adair", "new@x.io")
    assert made(scene)["a"]["LastName"] == "Ada"
    assert len(scene.sandbox.salesforce.records("Lead")) == 2
    assert scene.sync("leads")["requests"] == 0


def test_without_that_the_row_of_a_converted_lead_is_refused(scene: Scene) -> None:
    scene.define(LEADS, "leads")
    leads(scene, "Ada")
    scene.sync("leads")
    scene.sandbox.salesforce.convert_lead(made(scene)["ada"]["Id"])
    leads(scene, "Ada", Ada="Other")
    assert scene.sync("leads")["rejected"] == 1
    assert scene.rejected("leads")[0]["code"] == "CANNOT_UPDATE_CONVERTED_LEAD"


def test_a_duplicate_rule_that_warns_is_passed_where_the_sync_says_so(scene: Scene) -> None:
    scene.sandbox.salesforce.org.duplicate_rules["Lead"] = DuplicateRule("Email", alert=True)
    scene.sandbox.salesforce.add("Lead", {"LastName": "Old", "Company": "Acme", "Email": "a@x.io"})
    columns = "id text, name text, company text, email text"
    scene.define(LEADS, "leads")
    scene.table("leads", columns, [("a", "Ada", "Acme", "a@x.io")])
    assert scene.sync("leads")["rejected"] == 1
    assert scene.rejected("leads")[0]["code"] == "DUPLICATES_DETECTED"
    scene.define(LEADS, "leads", allow_duplicates=True)
    code, _ = scene.json("rejected", "leads", "--retry")
    assert (code, scene.rejected("leads")) == (0, [])


def test_removed_rows_go_to_the_recycle_bin_or_past_it(scene: Scene) -> None:
    scene.define(LEADS, "leads", mode="mirror", guard={"max_removed": "none"}, hard=True)
    leads(scene, "Ada", "Bob")
    scene.sync("leads")
    leads(scene, "Ada")
    run = scene.sync("leads")
    assert (run["status"], run["delivered"]["removed"]) == ("succeeded", 1), run
    assert sorted(made(scene)) == ["ada"]
    assert len(calls(scene, "PUT", "batches")) >= 1


def test_what_is_to_be_deleted_for_good_is_not_put_into_the_recycle_bin_instead(scene: Scene) -> None:
    scene.define(LEADS, "leads", mode="mirror", guard={"max_removed": "none"}, hard=True)
    leads(scene, "Ada", "Bob")
    scene.sync("leads")
    leads(scene, "Ada")
    told = [{"errorCode": "FEATURENOTENABLED", "message": "hardDelete is not enabled"}]
    scene.sandbox.faults.add("status", method="POST", path="ingest$", status=400, body=told)
    run = scene.sync("leads")
    assert (run["status"], run["error"]["code"], run["pending"]) == ("failed", "destination_no_bulk", 1), run
    assert "Bulk API Hard Delete" in run["error"]["hint"]
    assert sorted(made(scene)) == ["ada", "bob"]


def test_only_new_records_get_a_field_and_only_empty_ones_are_filled(scene: Scene) -> None:
    mapping = {
        **FIELDS,
        "Company": {"column": "company", "write": "on_create"},
        "Email": {"column": "email", "write": "if_empty"},
    }
    scene.define(LEADS, "leads", mapping=mapping)
    add = scene.sandbox.salesforce.add
    add("Lead", {"External_Id__c": "a", "LastName": "Old", "Company": "Old", "Email": "old@x.io"})
    add("Lead", {"External_Id__c": "b", "LastName": "Old", "Company": "Old"})
    rows = [(key, "New", "New", "new@x.io") for key in "abc"]
    scene.table("leads", "id text, name text, company text, email text", rows)
    run = scene.sync("leads")
    assert (run["status"], run["delivered"]["created"], run["delivered"]["updated"]) == ("succeeded", 1, 2), run
    assert run["delivered"]["kept_fields"] == 3
    found = {key: (record["LastName"], record["Company"], record["Email"]) for key, record in made(scene).items()}
    assert found == {
        "a": ("New", "Old", "old@x.io"),
        "b": ("New", "Old", "new@x.io"),
        "c": ("New", "New", "new@x.io"),
    }


def test_an_update_finds_its_records_by_any_field_and_makes_none(scene: Scene) -> None:
    add = scene.sandbox.salesforce.add
    add("Lead", {"Email": "a@x.io", "LastName": "Old", "Company": "Acme"})
    twice = {"Email": "b@x.io", "LastName": "Old", "Company": "Acme"}
    add("Lead", twice)
    add("Lead", twice)
    mapping = {"Email": "email", "LastName": "name"}
    scene.define(LEADS, "leads", key="email", match="Email", mode="update", mapping=mapping)
    scene.table("leads", "email text, name text", [(f"{key}@x.io", "New") for key in "abc"])
    run = scene.sync("leads")
    assert (run["delivered"]["updated"], run["rejected"]) == (1, 2), run
    codes = {row["key"]: row["code"] for row in scene.rejected("leads")}
    assert codes == {"b@x.io": "ambiguous_match", "c@x.io": "missing_record"}


def test_a_record_that_was_deleted_by_hand_is_made_anew(scene: Scene) -> None:
    scene.define(LEADS, "leads")
    leads(scene, "Ada", "Bob")
    scene.sync("leads")
    scene.sandbox.salesforce.org.object("Lead").table.remove(made(scene)["ada"]["Id"])
    leads(scene, "Ada", "Bob", Ada="Adair", Bob="Bobby")
    run = scene.sync("leads")
    assert (run["status"], run["delivered"]["created"], run["delivered"]["updated"]) == ("succeeded", 1, 1), run
    assert {key: record["LastName"] for key, record in made(scene).items()} == {"ada": "Adair", "bob": "Bobby"}
