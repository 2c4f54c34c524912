"""Which way rows go to Salesforce, by calls or by bulk jobs, over real HTTP against the emulator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reverse_etl.destinations.salesforce import finding, soql
from tests.sandbox.scene import LEADS, Scene, scene_in
from tests.sandbox.test_salesforce_bulk import calls, connect, crowd, made
from tests.sandbox.test_salesforce_records import FIELDS
from tests.unit.destinations.salesforce.org import new_process

ACCOUNTS: dict[str, Any] = {
    **LEADS,
    "query": "select * from accounts",
    "object": "account",
    "mapping": {"External_Id__c": "id", "Name": "name"},
}
MANY = 2_000  # rows from which jobs are made unless told otherwise


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A connection that says nothing of bulk jobs."""
    new_process()
    with scene_in(tmp_path, bulk_polls=0) as scene:
        scene.define(ACCOUNTS, "accounts")
        yield scene


def accounts(scene: Scene, count: int, name: str = "A") -> None:
    scene.warehouse(
        f"create or replace table accounts as select 'a' || range as id, '{name}' || range as name from range({count})"
    )


def jobs(scene: Scene) -> int:
    return len(calls(scene, "PUT", "batches"))


def test_accounts_go_by_calls_however_many_as_jobs_would_run_their_assignment_rules(scene: Scene) -> None:
    accounts(scene, MANY)
    assert scene.sync("accounts", dry_run=True)["plan"]["requests"] == MANY / 200
    run = scene.sync("accounts")
    assert (run["status"], run["delivered"]["created"], jobs(scene)) == ("succeeded", MANY, 0), run
    assert len(calls(scene, "PATCH", "composite/sobjects/Account")) == MANY / 200


def test_other_records_go_by_jobs_when_they_are_many(scene: Scene) -> None:
    scene.define(LEADS, "leads")
    crowd(scene, MANY)
    assert (scene.sync("leads")["delivered"]["created"], jobs(scene)) == (MANY, 1)


def test_accounts_go_by_jobs_where_the_connection_asks_for_them(scene: Scene) -> None:
    connect(scene, bulk_from=MANY)
    accounts(scene, MANY)
    assert (scene.sync("accounts")["delivered"]["created"], jobs(scene)) == (MANY, 1)


def test_accounts_go_by_jobs_when_calls_of_the_day_get_scarce(scene: Scene) -> None:
    accounts(scene, MANY)
    scene.sandbox.salesforce.sessions.used = scene.sandbox.salesforce.sessions.daily - 20
    run = scene.sync("accounts")
    assert (run["status"], run["delivered"]["created"], jobs(scene)) == ("succeeded", MANY, 1), run


def test_accounts_whose_rows_are_gone_are_deleted_by_a_job_as_no_rule_assigns_them(scene: Scene) -> None:
    scene.define(ACCOUNTS, "accounts", mode="mirror", guard={"max_removed": "none"})
    accounts(scene, MANY + 1)
    scene.sync("accounts")
    accounts(scene, 1)
    run = scene.sync("accounts")
    assert (run["status"], run["delivered"]["removed"], jobs(scene)) == ("succeeded", MANY, 1), run


def test_the_calls_of_rows_that_no_job_takes_are_made_a_few_at_once(scene: Scene) -> None:
    """A refused row in the middle is its own verdict, and the other calls are made all the same."""
    connect(scene, bulk_from="always")
    scene.define(LEADS, "leads")
    crowd(scene, 900)
    scene.warehouse("update leads set company = '#N/A', email = case when id = 'l500' then 'bad' end")
    scene.sandbox.faults.add("slow", method="PATCH", path="composite/sobjects", seconds=0.3, times=None)
    run = scene.sync("leads")
    assert (run["status"], run["delivered"]["created"], run["rejected"]) == ("partial", 899, 1), run
    told = calls(scene, "PATCH", "composite/sobjects")
    assert len(told) == 5
    assert jobs(scene) == 0


def test_a_failure_among_them_keeps_what_the_others_have_written(scene: Scene) -> None:
    connect(scene, bulk_from="always")
    scene.define(LEADS, "leads")
    crowd(scene, 2_000)
    scene.warehouse("update leads set company = '#N/A'")
    scene.sandbox.faults.add("throttle", method="PATCH", path="composite/sobjects", policy="daily", nth=3)
    run = scene.sync("leads")
    assert (run["status"], run["error"]["code"], run["in_doubt"]) == ("partial", "daily_limit", 0), run
    assert run["delivered"]["created"] + run["pending"] == 2_000
    assert len(scene.sandbox.ledger) == run["delivered"]["created"] < 2_000
    assert len(calls(scene, "PATCH", "composite/sobjects")) < 10
    assert scene.sync("leads")["exit"] == 0
    assert len(scene.sandbox.ledger) == 2_000


# --- records looked up -----------------------------------------------------------------------------------------------


@pytest.fixture
def very_many(monkeypatch: pytest.MonkeyPatch) -> int:
    """So many rows count as very many here, for what takes thousands of rows otherwise."""
    monkeypatch.setattr(finding, "VERY_MANY", 30)
    monkeypatch.setattr(soql, "MOST_VALUES", 1)
    return 30


def test_an_update_of_very_many_rows_finds_its_records_by_a_query_job(scene: Scene, very_many: int) -> None:
    connect(scene, bulk_from="always")
    scene.define(LEADS, "leads", mode="update")
    for at in range(0, very_many, 2):
        scene.sandbox.salesforce.add("Lead", {"External_Id__c": f"L{at}", "LastName": "Old", "Company": "Old"})
    crowd(scene, very_many)
    run = scene.sync("leads")
    assert (run["delivered"]["updated"], run["rejected"]) == (very_many / 2, very_many / 2), run
    assert {row["code"] for row in scene.rejected("leads")} == {"missing_record"}
    assert {record["LastName"] for record in made(scene).values()} == {f"L{at}" for at in range(0, very_many, 2)}
    assert len(calls(scene, "POST", "jobs/query")) == 1
    assert len(calls(scene, "GET", "/query")) == 1 + 1 + 1  # a count, the job looked at and read


def test_values_that_records_must_keep_are_read_by_a_query_job(scene: Scene, very_many: int) -> None:
    connect(scene, bulk_from="always")
    mapping = {**FIELDS, "Company": {"column": "company", "write": "if_empty"}}
    scene.define(LEADS, "leads", mapping=mapping)
    for at in range(very_many):
        values = {"External_Id__c": f"l{at}", "LastName": "Old", "Company": 'A "quoted", \n name'}
        scene.sandbox.salesforce.add("Lead", values)
    crowd(scene, very_many)
    run = scene.sync("leads")
    assert (run["status"], run["delivered"]["updated"]) == ("succeeded", very_many), run
    assert run["delivered"]["kept_fields"] == very_many
    assert {record["Company"] for record in made(scene).values()} == {'A "quoted", \n name'}
    assert len(calls(scene, "POST", "jobs/query")) == 1
