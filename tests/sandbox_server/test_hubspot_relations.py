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


@pytest.mark.parametrize(("version", "status"), [("v4", 201), ("2026-03", 201), ("2026-09", 200)])
def test_one_pair_is_linked_with_the_status_of_its_version(
    hubspot: httpx.Client, pair: tuple[str, str], version: str, status: int
) -> None:
    contact, company = pair
    root = "/crm/v4/objects" if version == "v4" else f"/crm/objects/{version}"
    path = f"{root}/contacts/{contact}/associations"
    types = [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 1}]
    made = hubspot.put(f"{path}/companies/{company}", json=types)
    assert (made.status_code, made.json()["labels"]) == (status, ["Primary"])
    plain = hubspot.put(f"{path}/default/companies/{company}").json()["results"]
    assert [link["associationSpec"]["associationTypeId"] for link in plain] == [279, 280]
    assert hubspot.delete(f"{path}/companies/{company}").status_code == 204
    assert hubspot.put(f"{path}/companies/999", json=types).status_code == 404


def test_a_label_is_renamed_and_taken_away(hubspot: httpx.Client) -> None:
    labels = "/crm/associations/2026-09/contacts/companies/labels"
    made = hubspot.post(labels, json={"label": "Billing", "name": "billing"}).json()["results"]
    number = made[0]["typeId"]
    assert hubspot.put(labels, json={"label": "Accounts", "associationTypeId": number}).status_code == 204
    assert "Accounts" in {label["label"] for label in hubspot.get(labels).json()["results"]}
    assert hubspot.put(labels, json={"label": "x", "associationTypeId": 5}).status_code == 404
    assert hubspot.delete(f"{labels}/{number}").status_code == 204
    assert number not in {label["typeId"] for label in hubspot.get(labels).json()["results"]}
    again = hubspot.post(labels, json={"label": "Other", "name": "other"}).json()["results"]
    assert not {label["typeId"] for label in again} & {made[1]["typeId"]}


def test_a_read_shows_the_links_that_it_is_asked_for(hubspot: httpx.Client, pair: tuple[str, str]) -> None:
    contact, company = pair
    hubspot.put(f"/crm/v4/objects/contacts/{contact}/associations/default/companies/{company}")
    asked = hubspot.get(f"/crm/v3/objects/contacts/{contact}?associations=companies,deals").json()
    shown = {"companies": {"results": [{"id": company, "type": "contact_to_company"}]}}
    assert asked["associations"] == shown
    listed = hubspot.get("/crm/v3/objects/contacts?associations=companies").json()["results"]
    assert [entry["associations"] for entry in listed] == [shown]
    assert "associations" not in hubspot.get(f"/crm/v3/objects/contacts/{contact}").json()


def test_a_lists_name_is_its_own_and_a_deleted_list_can_be_restored(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    for name in ("Active", "Dormant"):
        hubspot.post("/crm/v3/lists", json={"name": name, "objectTypeId": "0-1", "processingType": "MANUAL"})
    rename = "/crm/v3/lists/15/update-list-name"
    assert hubspot.put(rename, params={"listName": "dormant"}).status_code == 400
    assert hubspot.put(rename).status_code == 400
    assert hubspot.put(rename, params={"listName": "ACTIVE"}).json()["updatedList"]["name"] == "ACTIVE"
    contact = sandbox.hubspot.add("contacts", {"email": "ada@x.io"})
    hubspot.put("/crm/v3/lists/15/memberships/add", json=[contact])
    of_record = f"/crm/v3/lists/records/0-1/{contact}/memberships"
    assert [entry["listId"] for entry in hubspot.get(of_record).json()["results"]] == ["15"]
    hubspot.delete("/crm/v3/lists/15")
    assert hubspot.get(of_record).json()["results"] == []
    assert [entry["listId"] for entry in hubspot.get("/crm/v3/lists?listIds=15&listIds=16").json()["lists"]] == ["16"]
    assert hubspot.put("/crm/v3/lists/15/restore").status_code == 204
    assert sandbox.hubspot.lists.members("15") == [contact]


def test_an_event_is_worked_through_later_and_leads_to_whoever_is_there_by_then(
    sandbox: Sandbox, hubspot: httpx.Client
) -> None:
    sandbox.hubspot.events.lag = 60
    for email in ("ada@x.io", "nobody@x.io"):
        sent: dict[str, Any] = {"eventName": "pe1_visit", "email": email, "properties": {}}
        assert hubspot.post("/events/custom/2026-09/send", json=sent).status_code == 204
    contact = sandbox.hubspot.add("contacts", {"email": "ada@x.io"})
    occurrences = "/events/event-occurrences/2026-09?objectType=contact"
    assert hubspot.get(occurrences).json()["results"] == []
    sandbox.clock.advance(61)
    [found] = hubspot.get(occurrences).json()["results"]
    assert found["objectId"] == contact


@pytest.mark.parametrize(
    ("path", "most", "row"),
    [
        (f"{LINKS}/batch/associate/default", 2000, {"from": {"id": "1"}, "to": {"id": "1"}}),
        (f"{LINKS}/batch/read", 1000, {"id": "1"}),
        ("/events/v3/send/batch", 500, {"eventName": "pe1_visit", "email": "nobody@x.io", "properties": {}}),
    ],
)
def test_each_kind_of_batch_has_its_own_size(hubspot: httpx.Client, path: str, most: int, row: dict[str, Any]) -> None:
    assert hubspot.post(path, json={"inputs": [row] * most}).status_code in (204, 207)
    assert hubspot.post(path, json={"inputs": [row] * (most + 1)}).status_code == 400


def test_a_custom_object_with_records_stays(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    schemas = "/crm-object-schemas/2026-09/schemas"
    hubspot.post(schemas, json={"name": "cars", "labels": {"singular": "Car", "plural": "Cars"}, "properties": []})
    car = sandbox.hubspot.add("cars", {})
    assert hubspot.delete(f"{schemas}/cars").status_code == 400
    hubspot.delete(f"/crm/v3/objects/cars/{car}")
    assert hubspot.delete(f"{schemas}/cars").status_code == 204
    assert hubspot.get("/crm/v3/objects/cars").status_code == 400


def test_a_record_whose_association_leads_nowhere_is_not_made(
    sandbox: Sandbox, hubspot: httpx.Client, pair: tuple[str, str]
) -> None:
    _, company = pair
    types = [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 279}]
    inputs = [
        {
            "objectWriteTraceId": email,
            "properties": {"email": email},
            "associations": [{"to": {"id": other}, "types": types}],
        }
        for email, other in (("good@x.io", company), ("bad@x.io", "999"))
    ]
    answer = hubspot.post("/crm/objects/2026-09/contacts/batch/create", json={"inputs": inputs})
    [error] = answer.json()["errors"]
    assert (answer.status_code, error["context"]["objectWriteTraceId"]) == (207, ["bad@x.io"])
    assert error["message"] == "One or more associations are invalid"
    held = {record["properties"]["email"] for record in sandbox.hubspot.records("contacts")}
    assert held == {"ada@x.io", "good@x.io"}


@pytest.mark.parametrize(("version", "status"), [("v4", 201), ("2025-09", 201), ("2026-03", 201), ("2026-09", 200)])
def test_a_batch_of_links_is_answered_with_the_status_of_its_version(
    hubspot: httpx.Client, pair: tuple[str, str], version: str, status: int
) -> None:
    root = "/crm/v4/associations/contacts/companies" if version == "v4" else LINKS.replace("2026-09", version)
    types = [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 279}]
    inputs = [{"from": {"id": pair[0]}, "to": {"id": pair[1]}, "types": types}]
    assert hubspot.post(f"{root}/batch/create", json={"inputs": inputs}).status_code == status
