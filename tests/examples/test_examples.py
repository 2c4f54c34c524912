"""Each example runs against the sandbox as its README says."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest

from reverse_etl.project import Project
from reverse_etl.report import RunReport, SyncResult
from reverse_etl.sandbox.server import Sandbox, running

EXAMPLES = Path(__file__).parents[2] / "examples"
AS_CURL = {"Authorization": "Bearer sandbox-token", "Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running(rate=None) as served:
        yield served


def opened(name: str, folder: Path, sandbox: Sandbox, **variables: str) -> Project:
    """The example, copied without what it may have left behind."""
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("*.parquet", "*.duckdb", ".reverse_etl"))
    return loaded(folder, sandbox, **variables)


def loaded(folder: Path, sandbox: Sandbox, **variables: str) -> Project:
    addresses = {"HUBSPOT_BASE_URL": sandbox.url, "SALESFORCE_LOGIN_URL": sandbox.url}
    return Project.load(folder, env={**addresses, **variables})


def build_of(name: str) -> Any:
    return import_module(f"examples.{name}.build").build


def only(result: SyncResult) -> RunReport:
    (report,) = result.runs
    assert report.error is None, report.error
    return report


def idle(result: SyncResult) -> bool:
    return result.exit_code == 0 and all(
        report.requests == 0 and report.status == "succeeded" for report in result.runs
    )


def test_a_parquet_file_is_mirrored_to_hubspot(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, build = tmp_path / "project", build_of("parquet_to_hubspot")
    project = opened("parquet_to_hubspot", folder, sandbox)
    build(folder)
    assert only(project.sync()).rows.added == 60
    assert idle(project.sync())
    build(folder, next_night=True)
    report = only(project.sync())
    assert (report.rows.added, report.rows.changed, report.rows.removed) == (1, 1, 2)
    companies = {record["properties"]["app_company_id"]: record for record in sandbox.hubspot.records("companies")}
    assert len(companies) == 59
    assert companies["co-007"]["properties"]["name"] == "Renamed & Sons"
    assert companies["co-005"]["properties"]["annualrevenue"] == "61728.35"
    gone = {record["properties"]["app_company_id"] for record in sandbox.hubspot.records("companies", archived=True)}
    assert gone == {"co-011", "co-042"}


def test_postgres_contacts_follow_their_cursor_to_salesforce(tmp_path: Path, sandbox: Sandbox, postgres: str) -> None:
    build = build_of("postgres_to_salesforce")
    build(postgres)
    project = opened("postgres_to_salesforce", tmp_path / "project", sandbox, WAREHOUSE_URL=postgres)
    assert only(project.sync()).rows.added == 250
    assert idle(project.sync())
    build(postgres, next_day=True)
    result = project.sync()
    report = only(result)
    assert result.exit_code == 3
    assert report.rows.read < 20, "the cursor left out what had not changed"
    contacts = {record["External_Id__c"]: record for record in sandbox.salesforce.records("Contact")}
    assert len(contacts) == 251
    assert contacts["p-3"]["LastName"] == "Lindqvist"
    assert contacts["p-4"]["LastName"], "a refused change leaves the record as it was"
    (refused,) = project.rejected("contacts")
    assert refused.key == "p-4"


def commands_of(name: str) -> list[tuple[str, bytes]]:
    """What an example's README has one send to the sandbox, as path and body."""
    text = (EXAMPLES / name / "README.md").read_text().replace("\\\n", " ")
    found = re.findall(r"curl -s http://127\.0\.0\.1:8750(\S+) .*? -d '(.*?)'", text, re.DOTALL)
    return [(path, body.encode()) for path, body in found]


def test_events_and_a_list_follow_the_app(tmp_path: Path, sandbox: Sandbox) -> None:
    folder, build = tmp_path / "project", build_of("events_and_lists")
    project = opened("events_and_lists", folder, sandbox)
    for path, body in commands_of("events_and_lists"):
        answer = httpx.post(sandbox.url + path, content=body, headers=AS_CURL)
        assert answer.is_success, answer.text
    build(folder)
    assert project.check(connect=True) == []
    created = {report.sync: report.delivered.created for report in project.sync().runs}
    assert created == {"users": 30, "workspace_created": 40, "without_workspace": 10}
    assert idle(project.sync())
    build(folder, next_day=True)
    done = {report.sync: report.delivered for report in project.sync().runs}
    assert (done["users"].created, done["workspace_created"].created) == (1, 2)
    assert (done["without_workspace"].created, done["without_workspace"].removed) == (1, 1)
    assert len(sandbox.hubspot.events.taken) == 42
    assert len(sandbox.hubspot.lists.members("15")) == 10


def test_one_warehouse_feeds_both_crms_in_order(tmp_path: Path, sandbox: Sandbox) -> None:
    folder, build = tmp_path / "project", build_of("one_warehouse_two_crms")
    project = opened("one_warehouse_two_crms", folder, sandbox)
    build(folder)
    assert [(report.sync, report.rows.added) for report in project.sync().runs] == [("accounts", 80), ("contacts", 80)]
    assert idle(project.sync())
    build(folder, next_day=True)
    assert [(report.sync, report.rows.changed) for report in project.sync().runs] == [("accounts", 3), ("contacts", 2)]
    stages = [record["properties"]["lifecyclestage"] for record in sandbox.hubspot.records("contacts")]
    assert stages.count("customer") == 62
    accounts = {record["External_Id__c"]: record for record in sandbox.salesforce.records("Account")}
    assert accounts["cu-71"]["AnnualRevenue"] == 25
    assert accounts["cu-71"]["Type"] == "Customer - Direct"
