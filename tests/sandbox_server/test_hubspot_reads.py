"""Reading HubSpot: records, search, metadata."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from reverse_etl.sandbox.server import Sandbox, running

READ = "/crm/objects/2026-09/contacts/batch/read"
SEARCH = "/crm/objects/2026-09/contacts/search"


def test_a_batch_read_by_address_gives_nulls_for_unset_values_and_names_the_missing(
    sandbox: Sandbox, hubspot: httpx.Client
) -> None:
    sandbox.hubspot.add("contacts", {"email": "ada@x.io"})
    asked = {"idProperty": "email", "properties": ["email", "plan"], "inputs": [{"id": "ADA@x.io"}, {"id": "no@x.io"}]}
    answer = hubspot.post(READ, json=asked)
    assert answer.status_code == 207
    assert answer.json()["results"][0]["properties"]["plan"] is None
    assert answer.json()["errors"][0]["context"] == {"ids": ["no@x.io"]}


def test_an_unknown_record_is_a_404_without_a_category(hubspot: httpx.Client) -> None:
    answer = hubspot.get("/crm/v3/objects/contacts/999")
    assert (answer.status_code, answer.json()["message"]) == (404, "resource not found")
    assert "category" not in answer.json()
    assert hubspot.patch("/crm/v3/objects/contacts/999", json={"properties": {}}).status_code == 404


def test_an_id_that_is_no_number_is_told_so(hubspot: httpx.Client) -> None:
    body = hubspot.get("/crm/v3/objects/contacts/abc").json()
    assert (body["category"], body["context"]) == ("OBJECT_NOT_FOUND", {"id": ["abc"]})


def test_a_list_of_records_is_read_page_by_page(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    ids = [sandbox.hubspot.add("contacts", {"email": f"u{number}@x.io"}) for number in range(25)]
    got: list[str] = []
    after = "0"
    while after:
        body = hubspot.get(f"/crm/v3/objects/contacts?limit=10&after={after}").json()
        got += [entry["id"] for entry in body["results"]]
        after = body.get("paging", {}).get("next", {}).get("after", "")
    assert got == ids


def test_single_calls_create_change_and_archive_a_record(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    made = hubspot.post("/crm/v3/objects/contacts", json={"properties": {"email": "ada@x.io"}})
    assert made.status_code == 201
    path = "/crm/v3/objects/contacts/ada@x.io?idProperty=email"
    assert hubspot.patch(path, json={"properties": {"plan": "pro"}}).status_code == 200
    assert hubspot.get(path + "&properties=plan").json()["properties"]["plan"] == "pro"
    assert hubspot.delete(f"/crm/v3/objects/contacts/{made.json()['id']}").status_code == 204
    assert sandbox.hubspot.records("contacts") == []
    assert len(sandbox.hubspot.records("contacts", archived=True)) == 1


def test_search_filters_sorts_and_pages(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    for number in range(20):
        sandbox.hubspot.add("contacts", {"email": f"u{number}@x.io", "workspaces_total": str(number)})
    asked = {
        "filterGroups": [{"filters": [{"propertyName": "workspaces_total", "operator": "GTE", "value": "9"}]}],
        "sorts": [{"propertyName": "workspaces_total", "direction": "DESCENDING"}],
        "properties": ["workspaces_total"],
        "limit": 4,
        "after": "4",
    }
    body = hubspot.post(SEARCH, json=asked).json()
    assert body["total"] == 11
    assert [entry["properties"]["workspaces_total"] for entry in body["results"]] == ["15", "14", "13", "12"]
    assert body["paging"]["next"]["after"] == "8"


def test_search_sees_a_write_only_after_a_while_and_a_read_at_once() -> None:
    with running(rate=None, search_lag=5) as sandbox:
        headers = {"Authorization": "Bearer sandbox-token"}
        with httpx.Client(base_url=sandbox.url, trust_env=False, headers=headers) as client:
            made = client.post("/crm/v3/objects/contacts", json={"properties": {"email": "ada@x.io"}}).json()["id"]
            wanted = {"filterGroups": [{"filters": [{"propertyName": "email", "operator": "EQ", "value": "ada@x.io"}]}]}
            assert client.get(f"/crm/v3/objects/contacts/{made}").status_code == 200
            assert client.post(SEARCH, json=wanted).json()["total"] == 0
            client.post("/__time", json={"advance": 6})
            assert client.post(SEARCH, json=wanted).json()["total"] == 1
            client.delete(f"/crm/v3/objects/contacts/{made}")
            body = client.post(SEARCH, json=wanted).json()
            assert (body["total"], body["results"]) == (1, [])


def test_a_search_beyond_ten_thousand_hits_or_three_thousand_characters_is_refused(hubspot: httpx.Client) -> None:
    assert hubspot.post(SEARCH, json={"after": "10000"}).status_code == 400
    long = {"filterGroups": [{"filters": [{"propertyName": "email", "operator": "IN", "values": ["x" * 3000]}]}]}
    assert hubspot.post(SEARCH, json=long).status_code == 400


def test_properties_carry_their_whole_definition(hubspot: httpx.Client) -> None:
    found = {entry["name"]: entry for entry in hubspot.get("/crm/properties/2026-09/contacts").json()["results"]}
    assert len(found) > 50
    assert found["email"]["hasUniqueValue"] is False
    assert found["app_user_id"]["hasUniqueValue"] is True
    assert found["app_user_id"]["hubspotDefined"] is False
    assert [option["value"] for option in found["plan"]["options"]] == ["free", "pro", "team", "enterprise"]
    assert found["hs_object_id"]["calculated"] is True
    assert found["createdate"]["modificationMetadata"]["readOnlyValue"] is True
    assert found["hubspot_owner_id"]["externalOptions"] is True
    assert found["hubspot_owner_id"]["referencedObjectType"] == "OWNER"
    assert found["last_active_at"]["type"] == "datetime"
    assert found["first_workspace_at"]["type"] == "date"


def test_every_standard_object_has_its_properties(hubspot: httpx.Client) -> None:
    for kind, name in [
        ("companies", "app_company_id"),
        ("deals", "dealstage"),
        ("tickets", "subject"),
        ("products", "price"),
        ("line_items", "quantity"),
    ]:
        assert hubspot.get(f"/crm/v3/properties/{kind}/{name}").json()["name"] == name


def test_a_made_property_can_be_written_at_once_and_not_made_twice(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    wanted = {
        "name": "seats",
        "label": "Seats",
        "groupName": "contactinformation",
        "type": "number",
        "fieldType": "number",
    }
    assert hubspot.post("/crm/properties/2026-09/contacts", json=wanted).status_code == 201
    assert hubspot.post("/crm/properties/2026-09/contacts", json=wanted).status_code == 409
    both = hubspot.post(
        "/crm/properties/2026-09/contacts/batch/create", json={"inputs": [wanted, {**wanted, "name": "rooms"}]}
    )
    assert (both.status_code, len(both.json()["results"])) == (207, 1)
    assert both.json()["errors"][0]["category"] == "OBJECT_ALREADY_EXISTS"
    sandbox.hubspot.add("contacts", {"email": "ada@x.io", "seats": "4", "rooms": "5"})
    assert hubspot.get("/crm/properties/2026-09/contacts/nothing_like_it").status_code == 404


def test_the_account_owners_and_pipelines_describe_themselves(hubspot: httpx.Client) -> None:
    assert hubspot.get("/account-info/2026-09/details").json()["portalId"] == 12345678
    owners = hubspot.get("/crm/owners/2026-09?email=sam.sales@example.com").json()["results"]
    assert [owner["id"] for owner in owners] == ["41001"]
    stages = hubspot.get("/crm/v3/pipelines/deals").json()["results"][0]["stages"]
    assert [stage["id"] for stage in stages][-2:] == ["closedwon", "closedlost"]


def test_a_read_leaves_names_out_that_no_property_has(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    contact = sandbox.hubspot.add("contacts", {"email": "ada@x.io"})
    asked = {"properties": ["email", "nothing_like_it"], "inputs": [{"id": contact}]}
    [found] = hubspot.post(READ, json=asked).json()["results"]
    assert set(found["properties"]) == {"email", "hs_object_id", "createdate", "lastmodifieddate"}


def test_an_archived_record_is_read_as_such_only_when_asked_for(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    contact = sandbox.hubspot.add("contacts", {"email": "ada@x.io"})
    hubspot.delete(f"/crm/v3/objects/contacts/{contact}")
    assert hubspot.get(f"/crm/v3/objects/contacts/{contact}").status_code == 404
    archived = hubspot.get(f"/crm/v3/objects/contacts/{contact}?archived=true").json()
    assert (archived["archived"], archived["archivedAt"] >= archived["createdAt"]) == (True, True)


def test_ids_grow_with_gaps_and_are_unique_within_an_object_only(sandbox: Sandbox) -> None:
    contacts = [int(sandbox.hubspot.add("contacts", {"email": f"p{number}@x.io"})) for number in range(20)]
    companies = [int(sandbox.hubspot.add("companies", {"name": f"c{number}"})) for number in range(20)]
    assert contacts == sorted(set(contacts))
    assert contacts[-1] - contacts[0] > 19
    assert set(contacts) & set(companies)


def test_history_tells_what_a_property_has_held_the_latest_first(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    silent = sandbox.hubspot.add("contacts", {"email": "ada@x.io", "firstname": "A"})
    read = {"propertiesWithHistory": ["firstname", "plan", "nothing_like_it"], "inputs": [{"id": silent}]}
    [before] = hubspot.post(READ, json=read).json()["results"]
    assert [entry["value"] for entry in before["propertiesWithHistory"]["firstname"]] == ["A"]
    for name in ("Ada", ""):
        hubspot.patch(f"/crm/v3/objects/contacts/{silent}", json={"properties": {"firstname": name}})
    history = hubspot.get(f"/crm/v3/objects/contacts/{silent}?propertiesWithHistory=firstname,plan").json()
    assert [entry["value"] for entry in history["propertiesWithHistory"]["firstname"]] == ["", "Ada"]
    assert history["propertiesWithHistory"]["plan"] == []


def test_a_pipeline_and_a_stage_are_found_by_their_ids(hubspot: httpx.Client) -> None:
    assert hubspot.get("/crm/pipelines/2026-09/deals/default").json()["label"] == "Sales Pipeline"
    stages = hubspot.get("/crm/pipelines/2026-09/tickets/0/stages").json()["results"]
    assert hubspot.get(f"/crm/v3/pipelines/tickets/0/stages/{stages[0]['id']}").json() == stages[0]
    for path in ("deals/x", "deals/default/stages/x", "deals/default/x/y"):
        assert hubspot.get(f"/crm/v3/pipelines/{path}").status_code in (200, 404)
    assert hubspot.get("/crm/v3/pipelines/deals/x").status_code == 404
    assert hubspot.get("/crm/v3/pipelines/deals/default/stages/x").status_code == 404


@pytest.mark.parametrize("groups", [[1] * 6, [7], [6, 6, 6, 1]], ids=["6 groups", "7 filters", "19 in all"])
def test_a_search_with_too_many_filters_is_refused(hubspot: httpx.Client, groups: list[int]) -> None:
    test = {"propertyName": "email", "operator": "EQ", "value": "a"}
    body: dict[str, Any] = {"filterGroups": [{"filters": [test] * count} for count in groups]}
    assert hubspot.post(SEARCH, json=body).status_code == 400
    body["filterGroups"][0]["filters"].pop()
    body["filterGroups"] = [group for group in body["filterGroups"] if group["filters"]]
    assert hubspot.post(SEARCH, json=body).status_code == 200
