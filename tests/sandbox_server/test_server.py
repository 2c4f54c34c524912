"""The sandbox as a process: its first line, its end, its data file and its extra fields."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from reverse_etl.sandbox.messages import Request
from reverse_etl.sandbox.server import running

HEADERS = {"Authorization": "Bearer sandbox-token"}


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "reverse_etl.sandbox", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        try:
            yield started, started.stdout.readline().strip()
        finally:
            started.kill()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_first_line_is_the_address_and_a_signal_ends_it_and_saves(tmp_path: Path, ending: signal.Signals) -> None:
    data = tmp_path / "crm.json"
    with process("--data", str(data), "--rate", "off") as (started, url):
        assert url.startswith("http://127.0.0.1:")
        made = httpx.post(
            url + "/crm/v3/objects/contacts",
            json={"properties": {"email": "ada@x.io"}},
            headers=HEADERS,
            trust_env=False,
        )
        assert made.status_code == 201
        started.send_signal(ending)
        assert started.wait(10) == 0
    with process("--data", str(data)) as (_, url):
        path = "/crm/v3/objects/contacts/ada@x.io?idProperty=email"
        assert httpx.get(url + path, headers=HEADERS, trust_env=False).json()["id"] == made.json()["id"]


def test_a_data_file_keeps_everything_that_identifies_and_links_records(tmp_path: Path) -> None:
    data = tmp_path / "crm.json"
    with running(data=data) as first:
        contact = first.hubspot.add("contacts", {"email": "ada@x.io", "app_user_id": "u1"})
        other = first.hubspot.add("contacts", {"email": "lovelace@x.io"})
        archived = first.hubspot.add("contacts", {"email": "old@x.io"})
        first.salesforce.add("Lead", {"LastName": "Ng", "Company": "Acme", "External_Id__c": "l1"})
        with httpx.Client(base_url=first.url, headers=HEADERS, trust_env=False) as client:
            client.delete(f"/crm/v3/objects/contacts/{archived}")
            client.post("/crm/v3/objects/contacts/merge", json={"primaryObjectId": contact, "objectIdToMerge": other})
            client.post(
                "/crm/v3/properties/contacts",
                json={"name": "seats", "label": "Seats", "groupName": "x", "type": "number", "fieldType": "number"},
            )
        before = (first.hubspot.records("contacts"), first.salesforce.records("Lead"))
    with running(data=data) as second:
        assert (second.hubspot.records("contacts"), second.salesforce.records("Lead")) == before
        assert second.hubspot.record("contacts", other) == second.hubspot.find("contacts", "app_user_id", "u1")
        assert second.hubspot.records("contacts", archived=True)[0]["archived"] is True
        assert second.salesforce.find("Lead", "External_Id__c", "L1") is not None
        assert second.hubspot.add("contacts", {"email": "new@x.io", "seats": "4"}) not in (contact, other, archived)


def test_a_data_file_keeps_lists_labels_events_rules_and_custom_objects(tmp_path: Path) -> None:
    data = tmp_path / "crm.json"
    labels, contacts = "/crm/v4/associations/contacts/companies/labels", "/crm/v3/objects/contacts"
    event = {"eventName": "pe1_visit", "email": "ada@x.io", "uuid": "u1", "properties": {}}
    cars = {"labels": {"singular": "Car", "plural": "Cars"}, "properties": []}
    with (
        running(data=data) as first,
        httpx.Client(base_url=first.url, headers=HEADERS, trust_env=False) as client,
    ):
        contact = client.post(contacts, json={"properties": {"email": "ada@x.io"}}).json()["id"]
        for name in ("bikes", "cars"):
            client.post("/crm-object-schemas/v3/schemas", json={**cars, "name": name})
        client.delete("/crm-object-schemas/v3/schemas/bikes")
        client.post("/crm/v3/lists", json={"name": "Active", "objectTypeId": "0-1", "processingType": "MANUAL"})
        client.put("/crm/v3/lists/15/memberships/add", json=[contact])
        client.post(labels, json={"label": "Billing", "name": "billing"})
        client.post("/events/v3/send", json=event)
        client.post("/crm/v3/properties/contacts/groups", json={"name": "mine", "label": "Mine"})
        client.put(
            "/crm/v3/property-validations/0-1/phone/rule-type/MIN_LENGTH", json={"ruleArguments": ["5"]}
        ).raise_for_status()
        client.post("/__rules", json={"platform": "hubspot", "object": "contacts", "required": ["lastname"]})
    with (
        running(data=data) as second,
        httpx.Client(base_url=second.url, headers=HEADERS, trust_env=False) as client,
    ):
        assert second.hubspot.lists.members("15") == [contact]
        assert client.post("/crm/v3/lists", json={"name": "active", "objectTypeId": "0-1"}).status_code == 400
        assert "Billing" in {entry["label"] for entry in client.get(labels).json()["results"]}
        client.post("/events/v3/send", json=event)
        assert len(second.hubspot.events.taken) == 1
        assert client.get("/crm-object-schemas/v3/schemas/cars").json()["objectTypeId"] == "2-3457"
        groups = client.get("/crm/v3/properties/contacts/groups").json()["results"]
        assert "mine" in {group["name"] for group in groups}
        for refused in ({"email": "b@x.io"}, {"email": "b@x.io", "lastname": "B", "phone": "1"}):
            assert client.post("/crm/objects/2026-09/contacts", json={"properties": refused}).status_code == 400


def test_a_data_file_keeps_bulk_jobs_and_goes_on_with_those_at_work(tmp_path: Path) -> None:
    data = tmp_path / "crm.json"
    upsert = {"object": "Lead", "operation": "insert"}
    content = "LastName,Company\n" + "Ng,Acme\n" * 700
    headers = {"Authorization": "Bearer sandbox-access-token"}
    with (
        running(data=data) as first,
        httpx.Client(base_url=f"{first.url}/services/data/v62.0", headers=headers, trust_env=False) as client,
    ):
        made = client.post("/jobs/ingest", json=upsert).json()["id"]
        client.put(f"/jobs/ingest/{made}/batches", content=content, headers={"Content-Type": "text/csv"})
        with first.application.lock:  # as if it were stopped after the first two chunks
            first.salesforce.bulk.answer(
                Request("PATCH", "", {}, b'{"state": "UploadComplete"}', notes={"version": "v62.0"}), [made]
            )
            first.salesforce.bulk.step()
            first.salesforce.bulk.step()
            first.save()
            kept = data.read_bytes()
        query = client.post("/jobs/query", json={"operation": "query", "query": "SELECT Id FROM Lead"}).json()["id"]
    assert query.encode() in data.read_bytes()
    data.write_bytes(kept)
    with running(data=data, bulk_polls=0) as second:
        assert len(second.salesforce.records("Lead")) >= 400
        with httpx.Client(base_url=f"{second.url}/services/data/v62.0", headers=headers, trust_env=False) as client:
            while client.get(f"/jobs/ingest/{made}").json()["state"] != "JobComplete":
                time.sleep(0.01)
            assert client.get(f"/jobs/ingest/{made}").json()["numberRecordsProcessed"] == 700
        assert len(second.salesforce.records("Lead")) == 700


def test_a_file_that_is_no_data_file_is_left_alone_and_named(tmp_path: Path) -> None:
    data = tmp_path / "notes.json"
    data.write_text('{"shopping": ["milk"]}')
    with process("--data", str(data)) as (started, url):
        assert url == ""
        assert started.wait(10) == 2
        assert started.stderr is not None
        assert f"{data} is not a sandbox data file" in started.stderr.read()
    assert data.read_text() == '{"shopping": ["milk"]}'


def test_a_fields_file_adds_fields_to_both_platforms(tmp_path: Path) -> None:
    fields = tmp_path / "fields.yml"
    fields.write_text(
        """
hubspot:
  companies:
    - {name: tier, type: enumeration, options: [gold, silver]}
    - {name: crm_key, type: string, unique: true}
salesforce:
  Account:
    - {name: Plan__c, type: picklist, options: [free, pro], restricted: true}
    - {name: Key__c, type: string, length: 20, external_id: true}
  Invoice__c:
    - {name: Number__c, type: string, length: 20, external_id: true, unique: true}
    - {name: Account__c, type: reference, reference_to: [Account], relationship: Account__r, create_only: true}
"""
    )
    with running(fields=fields) as sandbox:
        company = sandbox.hubspot.add("companies", {"name": "Acme", "tier": "gold", "crm_key": "k"})
        assert sandbox.hubspot.find("companies", "crm_key", "k") == sandbox.hubspot.record("companies", company)
        first = sandbox.salesforce.add("Account", {"Name": "A", "Key__c": "same"})
        second = sandbox.salesforce.add("Account", {"Name": "B", "Key__c": "same"})
        headers = {"Authorization": "Bearer sandbox-access-token"}
        with httpx.Client(base_url=sandbox.url + "/services/data/v62.0", headers=headers, trust_env=False) as client:
            several = client.get("/sobjects/Account/Key__c/same")
            assert (several.status_code, len(several.json())) == (300, 2)
            rows = [{"attributes": {"type": "Account"}, "Key__c": "same", "Name": "C"}]
            error = client.patch("/composite/sobjects/Account/Key__c", json={"records": rows}).json()[0]["errors"][0]
            assert error["statusCode"] == "DUPLICATE_EXTERNAL_ID"
            assert first in error["message"]
            assert second in error["message"]
            wrong = client.post("/sobjects/Account", json={"Name": "D", "Plan__c": "gold"}).json()[0]
            assert wrong["errorCode"] == "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"
            made = client.patch("/sobjects/Invoice__c/Number__c/7", json={"Account__c": first}).json()
            assert (made["created"], made["id"][:3]) == (True, "a00")
            read = client.get("/query", params={"q": "SELECT Number__c, Account__r.Name FROM Invoice__c"}).json()
            assert (read["records"][0]["Number__c"], read["records"][0]["Account__r"]["Name"]) == ("7", "A")
            again = client.patch("/sobjects/Invoice__c/Number__c/7", json={"Account__c": second}).json()[0]
            assert again["errorCode"] == "INVALID_FIELD_FOR_INSERT_UPDATE"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("hubspot: {cars: [{name: a, type: string}]}", "there is no object 'cars'"),
        ("hubspot: {contacts: [{name: a}]}", "a field needs a name and a type"),
        ("hubspot: {contacts: [{name: a, type: string, colour: red}]}", "unknown colour"),
        ("pipedrive: {}", "neither hubspot nor salesforce"),
        ("[", "fields.yml"),
    ],
)
def test_a_mistake_in_a_fields_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    fields = tmp_path / "fields.yml"
    fields.write_text(text)
    with pytest.raises(ValueError, match=r"fields\.yml") as raised, running(fields=fields):
        pass
    assert complaint in str(raised.value)


def test_a_port_that_is_taken_is_an_error_of_two(tmp_path: Path) -> None:
    with running() as sandbox:
        port = sandbox.url.rpartition(":")[2]
        command = [sys.executable, "-m", "reverse_etl.sandbox", "--port", port]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 2
    assert "in use" in ended.stderr


def test_it_listens_on_this_machine_only() -> None:
    with running() as sandbox:
        assert sandbox.url.startswith("http://127.0.0.1:")


def test_the_sandbox_imports_nothing_else_of_the_package() -> None:
    code = "import sys, json, reverse_etl.sandbox.server; print(json.dumps([n for n in sys.modules if 'reverse' in n]))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    listed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout
    others = [name for name in json.loads(listed) if name not in ("reverse_etl",) and ".sandbox" not in name]
    assert others == []


def test_the_data_file_is_written_anew_only_when_something_may_have_changed(tmp_path: Path) -> None:
    data = tmp_path / "crm.json"
    with (
        running(data=data) as sandbox,
        httpx.Client(base_url=sandbox.url, headers=HEADERS, trust_env=False) as client,
    ):
        inodes = []
        for method, path in (("GET", "/crm/v3/owners"), ("GET", "/crm/v3/owners"), ("POST", "/crm/v3/lists")):
            client.request(method, path, json={"name": "Active", "objectTypeId": "0-1", "processingType": "MANUAL"})
            sandbox.save()
            inodes.append((data.stat().st_ino, data.stat().st_mtime_ns))
    assert inodes[0] == inodes[1] != inodes[2]
    assert b"Active" in data.read_bytes()
