"""HubSpot's own Python client, as it is published, drives the emulator: a second opinion on paths, shapes and statuses.

The client turns a status it doesn't know for a call into None, so that every answer read here was also expected.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hubspot
import hubspot.crm.contacts
import hubspot.crm.properties
import hubspot.oauth
import pytest

from reverse_etl.sandbox.server import Sandbox, running


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running(rate=None, search_lag=0) as server:
        yield server


@pytest.fixture
def client(sandbox: Sandbox) -> Any:
    return hubspot.HubSpot(access_token="sandbox-token", host=sandbox.url)


def person(email: str, **more: str) -> dict[str, Any]:
    return {"properties": {"email": email, **more}, "associations": []}


def contacts(client: Any, *emails: str) -> list[str]:
    """Ids of new contacts."""
    made = client.crm.contacts.batch_api.create({"inputs": [person(email) for email in emails]})
    by_email = {record.properties["email"]: record.id for record in made.results}
    return [by_email[email] for email in emails]


def company(client: Any, name: str = "Acme") -> str:
    made: str = client.crm.companies.basic_api.create({"properties": {"name": name}, "associations": []}).id
    return made


# --- who calls -----------------------------------------------------------------------------------------------------


def test_a_refresh_token_is_exchanged_and_the_new_token_works(sandbox: Sandbox, client: Any) -> None:
    form = {"grant_type": "refresh_token", "client_id": "sandbox", "refresh_token": "sandbox-refresh-token"}
    granted = client.oauth.tokens_api.create(**form, client_secret="sandbox-secret")
    assert (granted.expires_in, granted.refresh_token, granted.token_type) == (1800, "sandbox-refresh-token", "bearer")
    app = hubspot.HubSpot(access_token=granted.access_token, host=sandbox.url)
    assert app.crm.contacts.basic_api.get_page().results == []
    told = client.oauth.access_tokens_api.get(granted.access_token)
    assert (told.token, told.hub_id, 1790 <= told.expires_in <= 1800) == (granted.access_token, 12345678, True)
    assert client.oauth.refresh_tokens_api.get("sandbox-refresh-token").client_id == "sandbox"
    with pytest.raises(hubspot.oauth.ApiException) as refused:
        client.oauth.tokens_api.create(**form, client_secret="wrong")
    assert (refused.value.status, json.loads(refused.value.body)["status"]) == (400, "BAD_CLIENT_SECRET")
    client.oauth.refresh_tokens_api.archive("sandbox-refresh-token")
    with pytest.raises(hubspot.oauth.ApiException, match="BAD_REFRESH_TOKEN"):
        client.oauth.tokens_api.create(**form, client_secret="sandbox-secret")


def test_an_error_is_the_clients_exception_with_status_body_and_correlation_id(client: Any) -> None:
    with pytest.raises(hubspot.crm.contacts.ApiException) as caught:
        client.crm.contacts.basic_api.create(person("not an address"))
    body = json.loads(caught.value.body)
    assert (caught.value.status, body["category"], body["errors"][0]["code"]) == (
        400,
        "VALIDATION_ERROR",
        "INVALID_EMAIL",
    )
    assert body["correlationId"] == caught.value.headers["X-HubSpot-Correlation-Id"]
    with pytest.raises(hubspot.crm.contacts.exceptions.NotFoundException):
        client.crm.contacts.basic_api.get_by_id("999")


def test_a_wrong_token_is_unauthorized_and_a_missing_scope_forbidden(sandbox: Sandbox, client: Any) -> None:
    stranger = hubspot.HubSpot(access_token="pat-na1-wrong", host=sandbox.url)
    with pytest.raises(hubspot.crm.contacts.exceptions.UnauthorizedException, match="INVALID_AUTHENTICATION"):
        stranger.crm.contacts.basic_api.get_page()
    sandbox.hubspot.limits.tokens["sandbox-token"].scopes = frozenset({"crm.objects.contacts.read"})
    assert client.crm.contacts.basic_api.get_page().results == []
    with pytest.raises(hubspot.crm.contacts.exceptions.ForbiddenException, match=r"crm\.objects\.contacts\.write"):
        client.crm.contacts.basic_api.create(person("a@x.io"))


# --- records -------------------------------------------------------------------------------------------------------


def test_one_record_is_made_read_changed_listed_and_archived(sandbox: Sandbox, client: Any) -> None:
    api = client.crm.contacts.basic_api
    made = api.create(person("Ada@x.io", firstname="Ada"))
    assert made.properties["email"] == "ada@x.io"
    read = api.get_by_id(made.id, properties=["email", "plan"])
    assert (read.properties["plan"], read.archived, read.created_at == made.created_at) == (None, False, True)
    assert api.get_by_id("ada@x.io", id_property="email").id == made.id
    assert api.update(made.id, {"properties": {"firstname": "Ada L."}}).properties["firstname"] == "Ada L."
    contacts(client, *[f"p{number}@x.io" for number in range(4)])
    page = api.get_page(limit=2)
    assert len(page.results) == 2
    assert len(api.get_page(limit=100, after=page.paging.next.after).results) == 3
    assert len(client.crm.contacts.get_all()) == 5
    api.archive(made.id)
    assert [record.id for record in api.get_page(archived=True).results] == [made.id]
    assert sandbox.hubspot.record("contacts", made.id) is None


def test_batches_create_read_update_upsert_and_archive(client: Any) -> None:
    api = client.crm.contacts.batch_api
    ada, bob = contacts(client, "ada@x.io", "bob@x.io")
    read = api.read(
        {
            "idProperty": "email",
            "properties": ["email"],
            "propertiesWithHistory": [],
            "inputs": [{"id": "BOB@x.io"}, {"id": "nobody@x.io"}],
        }
    )
    assert ([record.id for record in read.results], read.num_errors) == ([bob], 1)
    assert read.errors[0].context == {"ids": ["nobody@x.io"]}
    changed = api.update({"inputs": [{"id": ada, "properties": {"firstname": "Ada"}}]})
    assert [(record.id, record.properties["firstname"]) for record in changed.results] == [(ada, "Ada")]
    upserted = api.upsert(
        {
            "inputs": [
                {"id": "cat@x.io", "idProperty": "email", "objectWriteTraceId": "0", "properties": {"plan": "pro"}},
                {"id": "ada@x.io", "idProperty": "email", "objectWriteTraceId": "1", "properties": {"plan": "pro"}},
                {"id": "dan@x.io", "idProperty": "email", "objectWriteTraceId": "2", "properties": {"plan": "?"}},
            ]
        }
    )
    assert {record.properties.get("email", record.id): record.new for record in upserted.results} == {
        "cat@x.io": True,
        ada: False,
    }
    assert [error.context["objectWriteTraceId"] for error in upserted.errors] == [["2"]]
    assert api.archive({"inputs": [{"id": ada}, {"id": "999"}]}) is None
    assert len(client.crm.contacts.get_all()) == 2


def test_a_bad_row_without_trace_ids_is_the_whole_batchs_error(sandbox: Sandbox, client: Any) -> None:
    with pytest.raises(hubspot.crm.contacts.ApiException, match="Property values were not valid") as caught:
        client.crm.contacts.batch_api.create({"inputs": [person("a@x.io"), person("bad")]})
    assert caught.value.status == 400
    contacts(client, "a@x.io")
    with pytest.raises(hubspot.crm.contacts.ApiException, match="Existing ID") as taken:
        client.crm.contacts.batch_api.create({"inputs": [person("a@x.io")]})
    assert taken.value.status == 409
    assert len(sandbox.hubspot.records("contacts")) == 1


def test_search_filters_sorts_and_pages(client: Any) -> None:
    contacts(client, *[f"p{number}@x.io" for number in range(5)])
    wanted: dict[str, Any] = {
        "filterGroups": [
            {"filters": [{"propertyName": "email", "operator": "IN", "values": ["p1@x.io", "p3@x.io", "p4@x.io"]}]}
        ],
        "sorts": [{"propertyName": "email", "direction": "DESCENDING"}],
        "properties": ["email"],
        "limit": 2,
        "after": "0",
    }
    first = client.crm.contacts.search_api.do_search(wanted)
    assert (first.total, [record.properties["email"] for record in first.results]) == (3, ["p4@x.io", "p3@x.io"])
    second = client.crm.contacts.search_api.do_search({**wanted, "after": first.paging.next.after})
    assert [record.properties["email"] for record in second.results] == ["p1@x.io"]


def test_records_are_merged_and_forgotten(sandbox: Sandbox, client: Any) -> None:
    ada, bob = contacts(client, "ada@x.io", "bob@x.io")
    api = client.crm.contacts.basic_api
    merged = api.merge({"primaryObjectId": ada, "objectIdToMerge": bob})
    assert merged.id not in (ada, bob)
    assert api.get_by_id(bob).id == merged.id
    assert api.get_by_id("bob@x.io", id_property="email").id == merged.id
    api.purge({"objectId": "ada@x.io", "idProperty": "email"})
    assert sandbox.hubspot.records("contacts") == []


def test_reads_show_history_and_links_when_asked(client: Any) -> None:
    [ada] = contacts(client, "ada@x.io")
    for name in ("Ada", "Ada L."):
        client.crm.contacts.basic_api.update(ada, {"properties": {"firstname": name}})
    acme = company(client)
    client.crm.associations.v4.basic_api.create_default("contacts", ada, "companies", acme)
    read = client.crm.contacts.basic_api.get_by_id(
        ada, properties_with_history=["firstname"], associations=["companies", "deals"]
    )
    assert [version.value for version in read.properties_with_history["firstname"]] == ["Ada L.", "Ada"]
    links = read.associations["companies"].results
    assert [(link.id, link.type) for link in links] == [(acme, "contact_to_company")]
    assert "deals" not in read.associations


# --- what describes the account ------------------------------------------------------------------------------------

SCORE = {"name": "fit", "label": "Fit", "groupName": "contactinformation", "type": "number", "fieldType": "number"}


def test_properties_are_listed_made_changed_and_archived(client: Any) -> None:
    api = client.crm.properties
    assert {"email", "lifecyclestage", "app_user_id"} <= {
        prop.name for prop in api.core_api.get_all("contacts").results
    }
    assert api.core_api.get_by_name("contacts", "app_user_id").has_unique_value is True
    assert api.core_api.create("contacts", SCORE).modification_metadata.read_only_value is False
    batch = api.batch_api.create("contacts", {"inputs": [SCORE, {**SCORE, "name": "fit_2"}]})
    assert ([prop.name for prop in batch.results], batch.errors[0].category) == (["fit_2"], "OBJECT_ALREADY_EXISTS")
    assert api.core_api.update("contacts", "fit", {"label": "How well"}).label == "How well"
    read = api.batch_api.read("contacts", {"archived": False, "inputs": [{"name": "fit"}]})
    assert [prop.label for prop in read.results] == ["How well"]
    made = client.crm.contacts.basic_api.create(person("a@x.io", fit="7"))
    assert made.properties["fit"] == "7"
    api.core_api.archive("contacts", "fit")
    api.batch_api.archive("contacts", {"inputs": [{"name": "fit_2"}]})
    with pytest.raises(hubspot.crm.contacts.ApiException, match="PROPERTY_DOESNT_EXIST"):
        client.crm.contacts.basic_api.create(person("b@x.io", fit="7"))
    with pytest.raises(hubspot.crm.properties.exceptions.NotFoundException):
        api.core_api.get_by_name("contacts", "never")
    assert api.groups_api.create("contacts", {"name": "mine", "label": "Mine", "displayOrder": 1}).name == "mine"
    assert "mine" in {group.name for group in api.groups_api.get_all("contacts").results}


def test_owners_and_pipelines_describe_themselves(client: Any) -> None:
    owners = client.crm.owners.owners_api
    first = owners.get_page(limit=100).results[0]
    assert owners.get_by_id(int(first.id)).email == first.email
    assert [owner.id for owner in owners.get_page(email=first.email).results] == [first.id]
    [sales] = client.crm.pipelines.pipelines_api.get_all("deals").results
    assert client.crm.pipelines.pipelines_api.get_by_id("deals", "default").label == sales.label
    stages = client.crm.pipelines.pipeline_stages_api
    assert [stage.id for stage in stages.get_all("deals", "default").results] == [stage.id for stage in sales.stages]
    assert stages.get_by_id("deals", "default", "closedwon").metadata["isClosed"] == "true"


def test_a_custom_object_is_defined_used_changed_and_removed(client: Any) -> None:
    vin = {"name": "vin", "label": "VIN", "type": "string", "fieldType": "text", "hasUniqueValue": True}
    schema = {
        "name": "cars",
        "labels": {"singular": "Car", "plural": "Cars"},
        "primaryDisplayProperty": "vin",
        "requiredProperties": ["vin"],
        "properties": [vin],
        "associatedObjects": ["CONTACT"],
    }
    api = client.crm.schemas.core_api
    made = api.create(schema)
    assert made.fully_qualified_name == "p12345678_cars"
    assert [entry.name for entry in api.get_all().results] == ["cars"]
    assert api.get_by_id(made.object_type_id).required_properties == ["vin"]
    row = {"id": "W1", "idProperty": "vin", "properties": {"vin": "W1"}}
    upserted = client.crm.objects.batch_api.upsert(made.object_type_id, {"inputs": [row]})
    assert upserted.results[0].new is True
    with pytest.raises(hubspot.crm.objects.ApiException, match="vin"):
        client.crm.objects.basic_api.create("cars", {"properties": {}, "associations": []})
    labels = {"singular": "Auto", "plural": "Autos"}
    api.update("cars", {"labels": labels})
    assert api.get_by_id("cars").labels.plural == "Autos"
    client.crm.objects.basic_api.archive("cars", upserted.results[0].id)
    api.archive("cars")
    assert api.get_all().results == []


# --- what records have to do with each other -----------------------------------------------------------------------


def test_links_are_made_labelled_read_and_archived_in_batches(client: Any) -> None:
    ada, bob = contacts(client, "ada@x.io", "bob@x.io")
    acme = company(client)
    links, labels = client.crm.associations.v4.batch_api, client.crm.associations.v4.schema.definitions_api
    plain = links.create_default("contacts", "companies", {"inputs": [{"from": {"id": ada}, "to": {"id": acme}}]})
    assert plain.results[0].association_spec.association_type_id == 279
    made = labels.create("contacts", "companies", {"label": "Billing", "name": "billing"})
    number = made.results[0].type_id
    assert "Billing" in {label.label for label in labels.get_all("contacts", "companies").results}
    types = [{"associationCategory": "USER_DEFINED", "associationTypeId": number}]
    inputs = [{"from": {"id": ada}, "to": {"id": acme}, "types": types}]
    assert links.create("contacts", "companies", {"inputs": inputs}).results[0].labels == ["Billing"]
    read = links.get_page("contacts", "companies", {"inputs": [{"id": ada}, {"id": bob}]})
    assert {kind.label for kind in read.results[0].to[0].association_types} == {None, "Billing"}
    assert read.errors[0].context["fromObjectId"] == [bob]
    labels.update("contacts", "companies", {"label": "Accounting", "associationTypeId": number})
    assert "Accounting" in {label.label for label in labels.get_all("contacts", "companies").results}
    links.archive_labels("contacts", "companies", {"inputs": inputs})
    [linked] = client.crm.associations.v4.basic_api.get_page("contacts", ada, "companies").results
    assert [kind.type_id for kind in linked.association_types] == [279]
    links.archive("contacts", "companies", {"inputs": [{"from": {"id": ada}, "to": [{"id": acme}]}]})
    assert client.crm.associations.v4.basic_api.get_page("contacts", ada, "companies").results == []


def test_one_pair_is_linked_and_parted(client: Any) -> None:
    [ada], acme = contacts(client, "ada@x.io"), company(client)
    api = client.crm.associations.v4.basic_api
    default = [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 279}]
    assert api.create("contacts", ada, "companies", acme, default).to_object_id in (acme, int(acme))
    assert api.create_default("contacts", ada, "companies", acme).status == "COMPLETE"
    assert len(api.get_page("companies", acme, "contacts").results) == 1
    api.archive("contacts", ada, "companies", acme)
    assert api.get_page("companies", acme, "contacts").results == []


def test_lists_are_made_found_filled_and_deleted(client: Any) -> None:
    ada, bob = contacts(client, "ada@x.io", "bob@x.io")
    lists, members = client.crm.lists.lists_api, client.crm.lists.memberships_api
    made = lists.create({"name": "Active", "objectTypeId": "0-1", "processingType": "MANUAL"}).list
    assert lists.get_by_name("active", "0-1").list.list_id == made.list_id
    wanted = {"query": "act", "count": 10, "offset": 0, "listIds": [], "processingTypes": ["MANUAL"]}
    assert [entry.list_id for entry in lists.do_search({**wanted, "additionalProperties": []}).lists] == [made.list_id]
    assert [entry.name for entry in lists.get_all(list_ids=[made.list_id, "999"]).lists] == ["Active"]
    added = members.add(made.list_id, [ada, bob, "999"])
    assert (sorted(added.records_ids_added), added.record_ids_missing) == ([ada, bob], ["999"])
    assert {entry.record_id for entry in members.get_page(made.list_id, limit=250).results} == {ada, bob}
    assert [entry.list_id for entry in members.get_lists("0-1", ada).results] == [made.list_id]
    assert members.remove(made.list_id, [bob]).record_ids_removed == [bob]
    both = members.add_and_remove(made.list_id, {"recordIdsToAdd": [bob], "recordIdsToRemove": [ada]})
    assert (both.records_ids_added, both.record_ids_removed) == ([bob], [ada])
    assert lists.update_name(made.list_id, list_name="Dormant").updated_list.name == "Dormant"
    members.remove_all(made.list_id)
    assert lists.get_by_id(made.list_id).list.size == 0
    lists.remove(made.list_id)
    with pytest.raises(hubspot.crm.lists.ApiException):
        lists.get_by_id(made.list_id)
    lists.restore(made.list_id)
    assert lists.get_by_id(made.list_id).list.name == "Dormant"


def test_events_are_sent_alone_and_in_batches_and_read_back(client: Any) -> None:
    [ada] = contacts(client, "ada@x.io")
    event = {"eventName": "pe12345678_visit", "email": "ada@x.io", "properties": {"page": "/"}, "uuid": "u1"}
    assert client.events.send.basic_api.send(event) is None
    client.events.send.batch_api.send({"inputs": [event, {**event, "uuid": "u2"}]})
    kept = client.events.events_api.get_page(object_type="contact", object_id=int(ada), event_type="pe12345678_visit")
    assert [entry.id for entry in kept.results] == ["u1", "u2"]
    assert client.events.events_api.get_types().event_types == ["pe12345678_visit"]


def test_an_import_tells_its_bad_lines_when_it_is_done(sandbox: Sandbox, client: Any, tmp_path: Path) -> None:
    contacts(client, "ada@x.io")
    (tmp_path / "people.csv").write_text("Email,First,Fit\nada@x.io,Ada,1\nbob@x.io,Bob,many\ncat@x.io,Cat,3\n")
    page = {
        "hasHeader": True,
        "columnMappings": [
            _column("Email", "email", "HUBSPOT_ALTERNATE_ID"),
            _column("First", "firstname"),
            _column("Fit", "workspaces_total"),
        ],
    }
    asked = {
        "name": "People",
        "importOperations": {"0-1": "UPSERT"},
        "files": [{"fileName": "people.csv", "fileFormat": "CSV", "fileImportPage": page}],
    }
    api = client.crm.imports.core_api
    made = api.create(files=str(tmp_path / "people.csv"), import_request=json.dumps(asked))
    states = [made.state]
    while states[-1] not in ("DONE", "FAILED"):
        states.append(api.get_by_id(int(made.id)).state)
        assert len(states) < 10
        time.sleep(0)
    assert list(dict.fromkeys(states)) == ["STARTED", "PROCESSING", "DONE"]
    counters = api.get_by_id(int(made.id)).metadata.counters
    assert counters == {"TOTAL_ROWS": 3, "UPDATED_OBJECTS": 1, "CREATED_OBJECTS": 1, "ERRORS": 1}
    [error] = client.crm.imports.public_imports_api.get_errors(int(made.id)).results
    assert (error.error_type, error.invalid_value, error.source_data.line_number) == (
        "COULD_NOT_PARSE_NUMBER",
        "many",
        3,
    )
    assert len(sandbox.hubspot.records("contacts")) == 2
    assert [entry.import_name for entry in api.get_page().results] == ["People"]


def _column(name: str, prop: str, kind: str = "STANDARD") -> dict[str, str]:
    return {"columnObjectTypeId": "0-1", "columnName": name, "propertyName": prop, "columnType": kind}
