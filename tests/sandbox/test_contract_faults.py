"""What a destination does wrong: throttles, lost answers, rows left out. No row is lost or claimed early."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.scene import COMPANIES, LEADS, Scene

ROWS = [(f"u{at:03}@x.example", f"U{at}", at) for at in range(12)]


@pytest.fixture
def people(scene: Scene) -> Scene:
    scene.people(*ROWS)
    scene.define()
    return scene


def all_there(scene: Scene) -> bool:
    return scene.contacts("firstname") == {email: name for email, name, _ in ROWS}


FAULTS: dict[str, dict[str, Any]] = {
    "a 429 with a pause": {"kind": "throttle", "policy": "ten_secondly", "retry_after": "0"},
    "a 500 after the commit": {"kind": "status", "status": 500, "applied": True},
    "a 502 before it": {"kind": "html"},
    "a 503": {"kind": "status", "status": 503},
    "a cut answer after the commit": {"kind": "cut", "applied": True},
    "a cut connection before it": {"kind": "cut", "applied": False},
    "half an answer": {"kind": "truncate"},
    "an answer in reverse": {"kind": "reverse"},
    "a record twice in the answer": {"kind": "duplicate"},
    "a stranger in the answer": {"kind": "stranger"},
    "rows left out of the answer": {"kind": "omit", "rows": 3},
    "an expired token": {"kind": "expire"},
}


@pytest.mark.parametrize("name", FAULTS)
def test_one_fault_costs_no_row_and_the_next_run_is_idle(people: Scene, name: str) -> None:
    order = dict(FAULTS[name])
    people.sandbox.faults.add(order.pop("kind"), path="batch/upsert", **order)
    run = people.sync()
    if name == "an expired token":
        assert run["exit"] == 1  # a static token can't be refreshed
        people.sandbox.faults.clear()
        return
    if run["exit"] == 3:
        run = people.sync()
    assert (run["exit"], run["in_doubt"], run["rejected"], run["pending"]) == (0, 0, 0, 0), run
    assert all_there(people)
    assert people.sync()["requests"] == 0


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in ("an expired token", "a 429 with a pause")])
def test_one_fault_on_salesforce_costs_no_row(scene: Scene, name: str) -> None:
    rows = [(str(at), f"N{at}", "Co", None) for at in range(12)]
    scene.table("leads", "id text, name text, company text, email text", rows)
    scene.define(LEADS)
    order = dict(FAULTS[name])
    scene.sandbox.faults.add(order.pop("kind"), path="composite/sobjects", **order)
    run = scene.sync()
    if run["exit"] == 3:
        run = scene.sync()
    assert run["exit"] == 0, run
    assert len(scene.sandbox.salesforce.records("Lead")) == 12
    assert scene.sync()["requests"] == 0


def test_P02_an_empty_success_is_no_success(people: Scene) -> None:
    people.sandbox.faults.add("empty", path="batch/upsert", times=None)
    run = people.sync()
    assert run["exit"] in (1, 3)
    assert run["delivered"]["created"] + run["delivered"]["updated"] == 0
    people.sandbox.faults.clear()
    run = people.sync()
    assert run["exit"] == 0
    assert all_there(people)


def test_throttled_counts_the_429s(people: Scene) -> None:
    people.sandbox.faults.add("throttle", path="batch/upsert", policy="ten_secondly", retry_after="0", times=2)
    run = people.sync()
    assert (run["exit"], run["throttled"]) == (0, 2)


def test_requests_counts_every_call(people: Scene) -> None:
    run = people.sync()
    assert run["requests"] == people.calls()


def test_P22_a_wrong_token_ends_the_run_with_the_connection_named(scene: Scene) -> None:
    scene.write_project(token="no-such-token-canary")
    scene.people(*ROWS)
    scene.define()
    run = scene.sync()
    assert (run["exit"], run["status"], run["error"]["code"]) == (1, "failed", "destination_credential")
    assert "hubspot" in run["error"]["message"]
    assert "canary" not in str(run)
    assert scene.records("contacts") == []


def test_P22_a_missing_scope_is_named(people: Scene) -> None:
    body = {
        "status": "error",
        "message": "no",
        "category": "MISSING_SCOPES",
        "errors": [{"context": {"requiredGranularScopes": ["crm.objects.contacts.write"]}}],
    }
    people.sandbox.faults.add("status", status=403, path="batch/upsert", times=None, body=body)
    run = people.sync()
    assert (run["exit"], run["error"]["code"]) == (1, "destination_credential")
    assert "crm.objects.contacts.write" in run["error"]["message"] + str(run["error"]["hint"])


def test_a_daily_limit_ends_the_run_cleanly_and_rows_stay_pending(people: Scene) -> None:
    people.sandbox.faults.add("throttle", path="batch/upsert", policy="daily", times=None)
    run = people.sync()
    assert (run["exit"], run["status"], run["error"]["code"], run["pending"]) == (3, "partial", "daily_limit", 12)
    people.sandbox.faults.clear()
    assert people.sync()["delivered"]["created"] + 0 >= 0
    assert all_there(people)


def test_a_whole_batch_400_is_halved_until_the_guilty_row_stands_alone(people: Scene) -> None:
    people.people(*ROWS[:5], ("not..an@address.io", "Bad", 1), *ROWS[5:])
    run = people.sync()
    assert (run["exit"], run["rejected"]) == (3, 1)
    assert all_there(people)
    assert [row["key"] for row in people.rejected()] == ["not..an@address.io"]


def test_a_refusal_of_the_whole_run_is_no_row_s_fault(people: Scene) -> None:
    people.sandbox.faults.add("status", status=404, path="batch/upsert", times=None, body={"message": "no such thing"})
    run = people.sync()
    assert run["exit"] in (1, 3)
    assert run["delivered"]["created"] + run["delivered"]["updated"] == 0
    people.sandbox.faults.clear()
    people.sync()
    assert all_there(people)


def test_an_account_that_is_never_told_stops_the_run_before_its_first_write(people: Scene) -> None:
    people.sandbox.faults.add(
        "status", status=403, path="account-info", times=None, body={"category": "MISSING_SCOPES"}
    )
    run = people.sync()
    assert run["exit"] == 1
    assert people.records("contacts") == []


@pytest.mark.parametrize("unit", ["properties", "account-info"])
def test_rubbish_instead_of_metadata_is_a_clear_failure(people: Scene, unit: str) -> None:
    bodies: list[Any] = [{"results": 5}, [], {"results": [{"name": 3}]}, {"portalId": {}}]
    for body in bodies:
        people.sandbox.faults.clear()
        people.sandbox.faults.add("status", status=200, path=unit, times=None, body=body)
        run = people.sync()
        assert run["exit"] in (1, 2), run
        assert people.records("contacts") == []


def test_an_archived_record_is_made_again_in_the_same_run(scene: Scene) -> None:
    scene.table("companies", "id text, name text", [("a", "A"), ("b", "B")])
    scene.define(COMPANIES)
    scene.sync()
    portal = scene.sandbox.hubspot.portal.type("companies")
    portal.table.remove(next(iter(scene.records("companies")))["id"])
    scene.table("companies", "id text, name text", [("a", "AA"), ("b", "BB")])
    run = scene.sync()
    assert run["exit"] == 0
    assert sorted(record["properties"]["name"] for record in scene.records("companies")) == ["AA", "BB"]
