"""The sandbox as a process: its first line, its end, its data file and its extra fields."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

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
