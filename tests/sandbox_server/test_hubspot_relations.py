"""Associations, lists, custom objects and events of the emulated HubSpot."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from reverse_etl.sandbox.server import Sandbox

LINKS = "/crm/associations/2026-09/contacts/companies"


@pytest.fixture
def pair(sandbox: Sandbox) -> tuple[str, str]:
    company = sandbox.hubspot.add("companies", {"name": "Acme"})
    return sandbox.hubspot.add("contacts", {"email": "ada@x.io"}), company


def linked(hubspot: httpx.Client, contact: str) -> list[dict[str, Any]]:
    body = hubspot.post(f"{LINKS}/batch/read", json={"inputs": [{"id": contact}]}).json()
    shown: list[dict[str, Any]] = body["results"][0]["to"] if body["results"] else []
    return shown


def test_the_default_association_links_both_ways_and_can_be_repeated(
    hubspot: httpx.Client, pair: tuple[str, str]
) -> None:
    contact, company = pair
    rows = {"inputs": [{"from": {"id": contact}, "to": {"id": company}}]}
    for _ in range(2):
        answer = hubspot.post(f"{LINKS}/batch/associate/default", json=rows)
        assert answer.json()["results"][0]["associationSpec"]["associationTypeId"] == 279
    assert [entry["toObjectId"] for entry in linked(hubspot, contact)] == [company]
    back = hubspot.post("/crm/v4/associations/companies/contacts/batch/read", json={"inputs": [{"id": company}]}).json()
    assert back["results"][0]["to"][0]["associationTypes"][0]["typeId"] == 280


def test_creating_an_association_replaces_the_labels_of_its_pair(hubspot: httpx.Client, pair: tuple[str, str]) -> None:
    contact, company = pair
    label = hubspot.post(f"{LINKS}/labels", json={"label": "Billing", "name": "billing"}).json()["results"][0]["typeId"]

    def create(category: str, number: int) -> httpx.Response:
        types = [{"associationCategory": category, "associationTypeId": number}]
        rows = [{"from": {"id": contact}, "to": {"id": company}, "types": types}]
        return hubspot.post(f"{LINKS}/batch/create", json={"inputs": rows})

    assert create("USER_DEFINED", label).json()["results"][0]["labels"] == ["Billing"]
    create("HUBSPOT_DEFINED", 1)
    labels = {entry["label"] for entry in linked(hubspot, contact)[0]["associationTypes"]}
    assert labels == {None, "Primary"}
    assert create("HUBSPOT_DEFINED", 4).status_code == 400


def test_an_association_with_a_record_that_does_not_exist_is_an_error_of_its_row(
    hubspot: httpx.Client, pair: tuple[str, str]
) -> None:
    contact, company = pair
    rows = [{"from": {"id": contact}, "to": {"id": other}} for other in (company, "999")]
    answer = hubspot.post(f"{LINKS}/batch/associate/default", json={"inputs": rows})
    assert (answer.status_code, len(answer.json()["results"])) == (207, 1)
    assert answer.json()["errors"][0]["context"]["toObjectId"] == ["999"]


def test_archiving_associations_answers_204_in_v4_and_a_body_in_dated_versions(
    hubspot: httpx.Client, pair: tuple[str, str]
) -> None:
    contact, company = pair
    hubspot.put(f"/crm/v4/objects/contacts/{contact}/associations/default/companies/{company}")
    assert len(linked(hubspot, contact)) == 1
    rows = {"inputs": [{"from": {"id": contact}, "to": [{"id": company}]}]}
    assert hubspot.post(f"{LINKS}/batch/archive", json=rows).status_code == 200
    assert linked(hubspot, contact) == []
    assert hubspot.post("/crm/v4/associations/contacts/companies/batch/archive", json=rows).status_code == 204


def test_a_record_can_be_created_with_its_association(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    company = sandbox.hubspot.add("companies", {"name": "Acme"})
    types = [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 279}]

    def create(email: str, to: str) -> httpx.Response:
        rows = [{"properties": {"email": email}, "associations": [{"to": {"id": to}, "types": types}]}]
        return hubspot.post("/crm/v3/objects/contacts/batch/create", json={"inputs": rows})

    made = create("ada@x.io", company).json()["results"][0]["id"]
    assert [entry["toObjectId"] for entry in linked(hubspot, made)] == [company]
    assert create("eve@x.io", "999").status_code == 400
    assert len(sandbox.hubspot.records("contacts")) == 1


def test_memberships_tell_added_removed_and_missing_and_keep_still_about_the_rest(
    sandbox: Sandbox, hubspot: httpx.Client, pair: tuple[str, str]
) -> None:
    contact, _ = pair
    wanted = {"name": "Active users", "objectTypeId": "0-1", "processingType": "MANUAL"}
    made = hubspot.post("/crm/lists/2026-09", json=wanted).json()["list"]
    path = f"/crm/lists/2026-09/{made['listId']}/memberships"
    first = hubspot.put(f"{path}/add", json=[contact, "999"]).json()
    assert first == {"recordsIdsAdded": [contact], "recordIdsRemoved": [], "recordIdsMissing": ["999"]}
    again = hubspot.put(f"{path}/add", json=[contact]).json()
    assert again == {"recordsIdsAdded": [], "recordIdsRemoved": [], "recordIdsMissing": []}
    assert [entry["recordId"] for entry in hubspot.get(path).json()["results"]] == [contact]
    assert sandbox.hubspot.lists.members(made["listId"]) == [contact]
    named = hubspot.get("/crm/lists/2026-09/object-type-id/0-1/name/active%20USERS").json()["list"]
    assert (named["listId"], named["size"]) == (made["listId"], 1)
    assert hubspot.post("/crm/lists/2026-09", json=wanted).status_code == 400
    found = hubspot.post("/crm/lists/2026-09/search", json={"query": "active", "processingTypes": ["MANUAL"]}).json()
    assert [entry["name"] for entry in found["lists"]] == ["Active users"]


def test_a_dynamic_list_takes_no_memberships(hubspot: httpx.Client) -> None:
    wanted = {"name": "Everyone", "objectTypeId": "0-1", "processingType": "DYNAMIC"}
    made = hubspot.post("/crm/lists/2026-09", json=wanted).json()["list"]
    assert hubspot.put(f"/crm/lists/2026-09/{made['listId']}/memberships/add", json=["1"]).status_code == 400


def test_a_custom_object_is_served_like_a_standard_one(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    schema = {
        "name": "cars",
        "labels": {"singular": "Car", "plural": "Cars"},
        "primaryDisplayProperty": "vin",
        "requiredProperties": ["vin"],
        "properties": [{"name": "vin", "label": "VIN", "type": "string", "fieldType": "text", "hasUniqueValue": True}],
    }
    made = hubspot.post("/crm-object-schemas/2026-09/schemas", json=schema).json()
    assert made["fullyQualifiedName"] == "p12345678_cars"
    rows = [{"id": "V1", "idProperty": "vin", "properties": {}}]
    answer = hubspot.post(f"/crm/objects/2026-09/{made['objectTypeId']}/batch/upsert", json={"inputs": rows})
    assert answer.json()["results"][0]["new"] is True
    assert len(sandbox.hubspot.records("p12345678_cars")) == 1
    listed = hubspot.get("/crm-object-schemas/v3/schemas").json()["results"]
    assert [entry["name"] for entry in listed] == ["cars"]


def test_events_are_taken_with_204_kept_once_a_uuid_and_dropped_when_they_lead_nowhere(
    sandbox: Sandbox, hubspot: httpx.Client, pair: tuple[str, str]
) -> None:
    contact, _ = pair
    event = {"eventName": "pe12345678_made", "email": "ada@x.io", "uuid": "1", "properties": {"id": "w1"}}
    batch = {"inputs": [event, {**event, "uuid": "2"}, event, {**event, "email": "no@x.io", "uuid": "3"}]}
    assert hubspot.post("/events/custom/2026-09/send", json=event).status_code == 204
    assert hubspot.post("/events/v3/send/batch", json=batch).status_code == 204
    assert [entry["id"] for entry in sandbox.hubspot.events.taken] == ["1", "2"]
    read = hubspot.get(f"/events/event-occurrences/2026-09?objectType=contact&objectId={contact}").json()
    assert len(read["results"]) == 2
    assert hubspot.post("/events/custom/2026-09/send", json={}).status_code == 400
