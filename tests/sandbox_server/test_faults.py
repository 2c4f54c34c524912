"""Ordered faults: each strikes what it is meant to, as often as told, and tells the truth in the ledger."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from reverse_etl.sandbox.faults import BadFault
from reverse_etl.sandbox.server import Sandbox

UPSERT = "/crm/objects/2026-09/contacts/batch/upsert"


def send(client: httpx.Client, *emails: str) -> httpx.Response:
    rows = [
        {"id": email, "idProperty": "email", "objectWriteTraceId": email, "properties": {"email": email}}
        for email in emails
    ]
    return client.post(UPSERT, json={"inputs": rows})


def test_a_status_is_answered_in_place_of_the_work_with_its_headers(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    sandbox.faults.add("status", status=503, body={"message": "down"}, retry_after="7", path="upsert", times=2)
    answers = [send(hubspot, "ada@x.io") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert answers[0].headers["Retry-After"] == "7"
    assert answers[0].json() == {"message": "down"}
    assert [write["action"] for write in sandbox.ledger] == ["create"]


def test_a_status_can_hide_work_that_was_done(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    sandbox.faults.add("html", status=504, applied=True)
    answer = send(hubspot, "ada@x.io")
    assert (answer.status_code, answer.headers["content-type"]) == (504, "text/html; charset=utf-8")
    assert len(sandbox.hubspot.records("contacts")) == 1


@pytest.mark.parametrize("applied", [False, True])
def test_a_connection_is_cut_before_or_after_the_work(sandbox: Sandbox, hubspot: httpx.Client, applied: bool) -> None:
    sandbox.faults.add("cut", applied=applied)
    with pytest.raises(httpx.RemoteProtocolError):
        send(hubspot, "ada@x.io")
    assert len(sandbox.hubspot.records("contacts")) == int(applied)
    assert [entry.status for entry in sandbox.requests] == [0]
    assert send(hubspot, "ada@x.io").json()["results"][0]["new"] is not applied


def test_an_answer_can_end_half_way(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    sandbox.faults.add("truncate")
    with pytest.raises(httpx.RemoteProtocolError):
        send(hubspot, "ada@x.io")
    assert len(sandbox.hubspot.records("contacts")) == 1


def test_an_answer_can_be_slow_or_drip_while_others_are_served(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    sandbox.faults.add("slow", seconds=0.2)
    began = time.monotonic()
    send(hubspot, "ada@x.io")
    assert time.monotonic() - began >= 0.2
    sandbox.faults.add("drip", seconds=0.0001)
    assert send(hubspot, "ada@x.io").json()["results"][0]["new"] is False
    assert send(hubspot, "ada@x.io").status_code == 200


def test_an_empty_success_wrote_nothing(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    sandbox.faults.add("empty")
    assert send(hubspot, "ada@x.io").json() == {"status": "COMPLETE", "results": []}
    assert sandbox.hubspot.records("contacts") == []


def test_answers_can_lack_repeat_and_invent_records(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    for kind, expected in (("omit", 2), ("duplicate", 4), ("stranger", 4), ("reverse", 3)):
        sandbox.faults.add(kind)
        answer = send(hubspot, "a@x.io", "b@x.io", "c@x.io").json()
        assert len(answer["results"]) == expected
    assert len(sandbox.hubspot.records("contacts")) == 3


def test_throttles_speak_the_platforms_words(sandbox: Sandbox, hubspot: httpx.Client, salesforce: httpx.Client) -> None:
    sandbox.faults.add("throttle", platform="hubspot", retry_after="3")
    sandbox.faults.add("throttle", platform="hubspot", policy="daily", after=1)
    sandbox.faults.add("throttle", platform="salesforce", policy="concurrent")
    first, second = send(hubspot, "ada@x.io"), send(hubspot, "ada@x.io")
    assert (first.status_code, first.json()["policyName"]) == (429, "TEN_SECONDLY_ROLLING")
    assert first.headers["Retry-After"] == "3"
    assert second.json()["policyName"] == "DAILY"
    refused = salesforce.get("/limits")
    assert (refused.status_code, refused.json()[0]["errorCode"]) == (403, "REQUEST_LIMIT_EXCEEDED")
    assert refused.json()[0]["message"].startswith("ConcurrentRequests")


def test_an_expired_token_stays_expired(sandbox: Sandbox, hubspot: httpx.Client, salesforce: httpx.Client) -> None:
    sandbox.faults.add("expire", times=2)
    assert send(hubspot, "ada@x.io").json()["category"] == "EXPIRED_AUTHENTICATION"
    assert send(hubspot, "ada@x.io").status_code == 401
    assert salesforce.get("/limits").json()[0]["errorCode"] == "INVALID_SESSION_ID"
    assert salesforce.get("/limits").status_code == 401


def test_rows_are_refused_by_order(sandbox: Sandbox, hubspot: httpx.Client, salesforce: httpx.Client) -> None:
    sandbox.faults.add("refuse", platform="hubspot", rows=2, code="OBJECT_NOT_FOUND", message="by order")
    body = send(hubspot, "a@x.io", "b@x.io", "c@x.io").json()
    assert [error["message"] for error in body["errors"]] == ["by order"] * 2
    sandbox.faults.add("lock", platform="salesforce", rows=1)
    rows = [{"attributes": {"type": "Account"}, "Name": str(number)} for number in range(3)]
    results = salesforce.post("/composite/sobjects", json={"records": rows}).json()
    assert [result.get("errors", [{}])[0]["statusCode"] for result in results if not result["success"]] == [
        "UNABLE_TO_LOCK_ROW"
    ]
    sandbox.faults.add("lock", platform="hubspot")
    assert send(hubspot, "a@x.io").status_code == 423


def test_a_fault_strikes_the_nth_match_of_its_method_and_path(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    sandbox.faults.add("status", status=500, method="POST", path="batch/(upsert|update)$", nth=2)
    hubspot.get("/account-info/2026-09/details")
    assert [send(hubspot, "ada@x.io").status_code for _ in range(4)] == [200, 500, 200, 200]


def test_probabilities_strike_alike_for_one_seed(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    def statuses() -> list[int]:
        sandbox.faults.clear()
        sandbox.faults.add("status", status=500, probability=0.5, times=None)
        return [send(hubspot, "ada@x.io").status_code for _ in range(20)]

    first = statuses()
    assert first == statuses()
    assert set(first) == {200, 500}


def test_faults_are_ordered_listed_and_removed_over_http(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    ordered = hubspot.post("/__faults", json={"kind": "status", "status": 503, "path": "upsert"})
    assert ordered.status_code == 201
    assert send(hubspot, "ada@x.io").status_code == 503
    assert [fault["struck"] for fault in hubspot.get("/__faults").json()["faults"]] == [1]
    assert hubspot.delete("/__faults").status_code == 204
    assert hubspot.get("/__faults").json() == {"faults": []}


@pytest.mark.parametrize(
    "order", [{"kind": "meteor"}, {"kind": "status"}, {"kind": "slow", "path": "("}, {"kind": "slow", "x": 1}, {}, []]
)
def test_an_order_that_cannot_be_met_is_explained(sandbox: Sandbox, hubspot: httpx.Client, order: Any) -> None:
    answer = hubspot.post("/__faults", json=order)
    assert answer.status_code == 400
    assert answer.json()["message"]
    if order and isinstance(order, dict):
        with pytest.raises(BadFault):
            sandbox.faults.add(**order)


def test_the_log_keeps_time_path_status_and_rows_and_no_token(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    send(hubspot, "a@x.io", "b@x.io")
    text = hubspot.get("/__requests").text
    body = hubspot.get("/__requests").json()
    assert (body["total"], body["peak_per_10s"], body["by_route"]) == (1, 1, {f"POST {UPSERT}": 1})
    assert (body["requests"][0]["rows"], body["requests"][0]["status"]) == (2, 200)
    assert "sandbox-token" not in text
    assert sandbox.requests.matching("POST", "upsert")[0].token is not None
    hubspot.post("/__reset")
    assert hubspot.get("/__requests").json()["total"] == 0
    assert sandbox.hubspot.records("contacts") == []


@pytest.mark.parametrize("status", [423, 429, 477, 500, 503, 521, 522, 523, 524, 525, 526])
def test_every_status_of_the_platform_can_be_ordered(sandbox: Sandbox, hubspot: httpx.Client, status: int) -> None:
    sandbox.faults.add("status", status=status, retry_after="2" if status == 477 else None)
    answer = send(hubspot, "ada@x.io")
    assert (answer.status_code, answer.headers.get("Retry-After")) == (status, "2" if status == 477 else None)
    assert sandbox.hubspot.records("contacts") == []


def test_a_share_of_the_rows_can_be_struck(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    rows = [{"attributes": {"type": "Account"}, "Name": str(number)} for number in range(40)]
    for kind, code in (("lock", "UNABLE_TO_LOCK_ROW"), ("refuse", "FIELD_CUSTOM_VALIDATION_EXCEPTION")):
        sandbox.faults.add(kind, share=0.25)
        results = salesforce.post("/composite/sobjects", json={"records": rows}).json()
        codes = [result["errors"][0]["statusCode"] for result in results if not result["success"]]
        assert codes == [code] * 10


def test_a_full_org_and_maintenance_are_refusals_with_their_codes(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    for code in ("STORAGE_LIMIT_EXCEEDED", "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE"):
        sandbox.faults.add("refuse", code=code, message="by order", share=1.0)
        rows = [{"attributes": {"type": "Account"}, "Name": "Acme"}] * 2
        results = salesforce.post("/composite/sobjects", json={"records": rows}).json()
        assert [result["errors"][0]["statusCode"] for result in results] == [code] * 2
