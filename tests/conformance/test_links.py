"""Destinations that keep links apart from records, through the suite that plug-ins run too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reverse_etl.destinations.hubspot import HubSpot, HubSpotConfig
from reverse_etl.model import Parent
from reverse_etl.protocols import Destination, Opening
from reverse_etl.sandbox.server import Sandbox, running
from reverse_etl.testing import FakeClock, Forgetful, LinkerSuite, MemoryAccount, MemoryDestination, MemoryParents


class TestMemoryLinks(LinkerSuite):
    object, parent = "contacts", Parent("domain", "companies")

    @pytest.fixture(autouse=True)
    def account(self) -> None:
        self.at = MemoryAccount(parents=MemoryParents(companies=("domain",)))

    def make_destination(self) -> Destination:
        return MemoryDestination(account=self.at)

    def add_record(self, number: int) -> str:
        return self.at.add(email=f"p{number}@example.com")

    def add_parent(self, number: int) -> str:
        self.at.parents.add("companies", domain=f"c{number}.example")
        return f"c{number}.example"

    def parents_of(self, record_id: str) -> set[str]:
        companies = self.at.parents.records["companies"]
        return {companies[id]["domain"] for id in self.at.parents.of(record_id, "link")}


class TestHubSpotLinks(LinkerSuite):
    object, parent = "contacts", Parent("domain", "companies")
    version = "2026-09"

    @pytest.fixture(autouse=True)
    def sandbox(self) -> Iterator[None]:
        with running(rate=None, search_lag=0) as self.at:
            yield

    at: Sandbox

    def make_destination(self) -> Destination:
        config = {
            "type": "hubspot",
            "access_token": "sandbox-token",
            "base_url": self.at.url,
            "api_version": self.version,
        }
        return HubSpot(HubSpotConfig.model_validate(config), Opening("crm", Forgetful(), FakeClock()))

    def add_record(self, number: int) -> str:
        return self.at.hubspot.add("contacts", {"email": f"p{number}@example.com"})

    def add_parent(self, number: int) -> str:
        values = {"name": f"C{number}", "domain": f"c{number}.example", "app_company_id": f"app-{number}"}
        self.at.hubspot.add("companies", values)
        return values[self.parent.match]

    def parents_of(self, record_id: str) -> set[str]:
        found = {record["id"]: record["properties"] for record in self.at.hubspot.records("companies")}
        held = self.at.hubspot.portal.type("contacts").links.get(record_id, {})
        return {found[key.partition("/")[2]][self.parent.match] for key in held}


class TestHubSpotLabelledLinks(TestHubSpotLinks):
    parent = Parent("app_company_id", "companies", "Primary")


class TestHubSpotLinksOfOldVersions(TestHubSpotLinks):
    version = "v3"
