"""The built-in destinations, and the one in memory, through the suite that plug-ins run too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from reverse_etl.destinations.hubspot import HubSpot, HubSpotConfig
from reverse_etl.destinations.salesforce import Salesforce
from reverse_etl.destinations.salesforce.config import SalesforceConfig
from reverse_etl.model import Field, FieldType
from reverse_etl.protocols import Destination, Opening
from reverse_etl.sandbox.server import Sandbox, running
from reverse_etl.testing import DestinationSuite, FakeClock, Forgetful, MemoryAccount, MemoryDestination
from tests.unit.destinations.salesforce.org import new_process

EMAIL = Field("email", FieldType.TEXT, identifies=True, folds_case=True)


class TestMemory(DestinationSuite):
    object, match, changed_field = "contacts", "email", "plan"

    @pytest.fixture(autouse=True)
    def account(self) -> None:
        self.at = MemoryAccount(EMAIL, Field("plan", FieldType.TEXT), Field("note", FieldType.TEXT))
        self.at.refuse(lambda record: record.get("plan") == "gold")

    def make_destination(self) -> Destination:
        return MemoryDestination(account=self.at)

    def row(self, number: int) -> dict[str, Any]:
        return {"email": f"p{number}@example.com", "plan": "free", "note": f"note {number}"}

    def refused_row(self, number: int) -> dict[str, Any]:
        return {**self.row(number), "plan": "gold"}

    def records(self) -> dict[str, dict[str, Any]]:
        return self.at.by("email")

    event_object = "contacts"
    event = row

    def events(self) -> list[Any]:
        return [*self.at.events]


class SandboxSuite(DestinationSuite):
    @pytest.fixture(autouse=True)
    def sandbox(self) -> Iterator[None]:
        new_process()
        with running(rate=None, search_lag=0) as self.at:
            yield

    at: Sandbox


class TestHubSpotContacts(SandboxSuite):
    object, match, changed_field = "contacts", "email", "city"

    def make_destination(self) -> Destination:
        config = HubSpotConfig.model_validate(
            {"type": "hubspot", "access_token": "sandbox-token", "base_url": self.at.url}
        )
        return HubSpot(config, Opening("crm", Forgetful(), FakeClock()))

    def row(self, number: int) -> dict[str, Any]:
        return {"email": f"p{number}@example.com", "city": "Delft", "lastname": f"Person {number}"}

    def refused_row(self, number: int) -> dict[str, Any] | None:
        return {**self.row(number), "email": "no-address"}

    def records(self) -> dict[str, dict[str, Any]]:
        found = (record["properties"] for record in self.at.hubspot.records("contacts"))
        return {properties["email"]: properties for properties in found}

    event_object = "opened"

    @pytest.fixture(autouse=True)
    def definition(self, sandbox: None) -> None:
        properties = [{"name": "size", "label": "Size", "type": "number"}]
        self.at.hubspot.events._define({"name": "opened", "properties": properties})

    def event(self, number: int) -> dict[str, Any]:
        reader = f"reader{number}@example.com"
        self.at.hubspot.add("contacts", {"email": reader})
        return {"email": reader, "size": number}

    def events(self) -> list[Any]:
        return self.at.hubspot.events.taken


class TestHubSpotCompanies(TestHubSpotContacts):
    object, match, changed_field = "companies", "app_company_id", "city"

    def row(self, number: int) -> dict[str, Any]:
        name = f"Company {number}"
        return {"app_company_id": f"c{number}", "city": "Delft", "name": name, "numberofemployees": "12"}

    def refused_row(self, number: int) -> dict[str, Any] | None:
        return {**self.row(number), "numberofemployees": "a dozen"}

    def records(self) -> dict[str, dict[str, Any]]:
        found = (record["properties"] for record in self.at.hubspot.records("companies"))
        return {properties["app_company_id"]: properties for properties in found}


class TestSalesforceLeads(SandboxSuite):
    object, match, changed_field = "Lead", "External_Id__c", "Title"
    missing_id = "00Q000000000000EAA"
    most_rows = 200

    def make_destination(self) -> Destination:
        login = {"flow": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox-secret"}
        config = SalesforceConfig.model_validate({"type": "salesforce", "auth": login, "login_url": self.at.url})
        return Salesforce(config, Opening("sales", Forgetful(), FakeClock()))

    def row(self, number: int) -> dict[str, Any]:
        person = {"LastName": f"Person {number}", "Company": "Acme", "Email": f"p{number}@example.co"}
        return {"External_Id__c": f"u{number}", **person, "Title": "Engineer"}

    def refused_row(self, number: int) -> dict[str, Any]:
        return {**self.row(number), "Email": "no-address"}

    def records(self) -> dict[str, dict[str, Any]]:
        return {record["External_Id__c"]: record for record in self.at.salesforce.records("Lead")}
