"""Several calls in one on the emulated Salesforce: composite requests, graphs and trees."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from reverse_etl.sandbox.server import Sandbox

ROOT = "/services/data/v62.0"


def call(name: str, url: str, body: Any = None, method: str = "POST") -> dict[str, Any]:
    return {"method": method, "url": ROOT + url, "referenceId": name, "body": body}


def account(name: str, **fields: str) -> dict[str, Any]:
    return call(name, "/sobjects/Account", {"Name": name, **fields})


BAD = call("bad", "/sobjects/Contact", {"FirstName": "Ada"})


def compose(client: httpx.Client, *calls: dict[str, Any], together: bool = True) -> list[tuple[int, str | None]]:
    body = {"allOrNone": together, "compositeRequest": list(calls)}
    answer = client.post("/composite", json=body)
    assert answer.status_code == 200
    return told(answer.json()["compositeResponse"])


def told(answers: list[dict[str, Any]]) -> list[tuple[int, str | None]]:
    """Each answer's status and, where it has one, its error's code."""

    def code(body: Any) -> str | None:
        return body[0].get("errorCode") if isinstance(body, list) and body else None

    return [(answer["httpStatusCode"], code(answer["body"])) for answer in answers]


def test_with_all_or_none_one_failure_takes_every_call_back(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    old = sandbox.salesforce.add("Account", {"Name": "Old", "Site": "here"})
    gone = sandbox.salesforce.add("Account", {"Name": "Gone", "External_Id__c": "g"})
    before = sandbox.salesforce.records("Account")
    rows = [{"attributes": {"type": "Account"}, "Name": "Row"}]
    answers = compose(
        salesforce,
        account("new"),
        call("old", f"/sobjects/Account/{old}", {"Site": "there"}, "PATCH"),
        call("gone", f"/sobjects/Account/{gone}", method="DELETE"),
        call("rows", "/composite/sobjects", {"records": rows}),
        BAD,
        account("later"),
    )
    halted = (400, "PROCESSING_HALTED")
    assert answers == [halted, halted, halted, halted, (400, "REQUIRED_FIELD_MISSING"), halted]
    assert sorted(sandbox.salesforce.records("Account"), key=str) == sorted(before, key=str)
    assert sandbox.salesforce.records("Account", deleted=True) == []
    assert sandbox.salesforce.find("Account", "External_Id__c", "g") is not None
    assert len(sandbox.ledger) == 0


def test_without_it_each_call_stands_alone(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    answers = compose(salesforce, account("a"), BAD, account("b"), together=False)
    assert [status for status, _ in answers] == [201, 400, 201]
    assert len(sandbox.salesforce.records("Account")) == len(sandbox.ledger) == 2


def test_with_all_or_none_and_no_failure_all_is_kept(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    assert [status for status, _ in compose(salesforce, account("a"), account("b"))] == [201, 201]
    assert len(sandbox.salesforce.records("Account")) == len(sandbox.ledger) == 2


def test_a_refused_row_of_collections_is_a_failure_too(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    rows = [{"attributes": {"type": "Account"}, "Name": "Good"}, {"attributes": {"type": "Account"}}]
    [first, second] = compose(salesforce, account("a"), call("rows", "/composite/sobjects", {"records": rows}))
    assert (first, second[0]) == ((400, "PROCESSING_HALTED"), 200)
    assert sandbox.salesforce.records("Account") == []


def test_a_reference_that_leads_nowhere_halts_its_call(salesforce: httpx.Client) -> None:
    child = call("child", "/sobjects/Contact", {"LastName": "Ng", "AccountId": "@{bad.id}"})
    assert compose(salesforce, BAD, child, together=False)[1] == (400, "PROCESSING_HALTED")


@pytest.mark.parametrize(
    "calls",
    [
        [account(f"a{number}") for number in range(26)],
        [call(f"q{number}", "/query?q=SELECT+Id+FROM+Lead", method="GET") for number in range(6)],
        [],
    ],
    ids=["26 calls", "6 queries", "none"],
)
def test_a_composite_request_holds_25_calls_and_5_queries(
    salesforce: httpx.Client, calls: list[dict[str, Any]]
) -> None:
    assert salesforce.post("/composite", json={"compositeRequest": calls}).status_code == 400


def test_a_composite_request_is_no_subrequest(salesforce: httpx.Client) -> None:
    inner = call("inner", "/composite", {"allOrNone": True, "compositeRequest": [account("a")]})
    assert compose(salesforce, inner) == [(400, "INVALID_INPUT")]


def test_each_graph_stands_or_falls_alone(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    child = call("child", "/sobjects/Contact", {"LastName": "Ng", "AccountId": "@{parent.id}"})
    graphs = [
        {"graphId": "good", "compositeRequest": [account("parent"), child]},
        {"graphId": "bad", "compositeRequest": [account("lost"), BAD]},
    ]
    shown = salesforce.post("/composite/graph", json={"graphs": graphs}).json()["graphs"]
    assert [(graph["graphId"], graph["isSuccessful"]) for graph in shown] == [("good", True), ("bad", False)]
    assert told(shown[1]["graphResponse"]["compositeResponse"]) == [
        (400, "PROCESSING_HALTED"),
        (400, "REQUIRED_FIELD_MISSING"),
    ]
    [kept], [contact] = sandbox.salesforce.records("Account"), sandbox.salesforce.records("Contact")
    assert (kept["Name"], contact["AccountId"]) == ("parent", kept["Id"])


def test_after_fourteen_failed_graphs_the_rest_is_not_begun(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    graphs = [{"graphId": str(number), "compositeRequest": [BAD]} for number in range(14)]
    graphs.append({"graphId": "last", "compositeRequest": [account("never")]})
    last = salesforce.post("/composite/graph", json={"graphs": graphs}).json()["graphs"][-1]
    assert (last["isSuccessful"], told(last["graphResponse"]["compositeResponse"])) == (
        False,
        [(400, "PROCESSING_HALTED")],
    )
    assert sandbox.salesforce.records("Account") == []
    many = [{"graphId": str(number), "compositeRequest": [account("a")]} for number in range(76)]
    assert salesforce.post("/composite/graph", json={"graphs": many}).status_code == 400
    assert salesforce.post("/composite/graph", json={"graphs": []}).status_code == 400


def node(kind: str, reference: str, **fields: Any) -> dict[str, Any]:
    return {"attributes": {"type": kind, "referenceId": reference}, **fields}


def test_a_tree_is_planted_whole(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    contacts = [node("Contact", "c1", LastName="Ng"), node("Contact", "c2", LastName="Ada")]
    records = [node("Account", "a1", Name="Acme", Contacts={"records": contacts}), node("Account", "a2", Name="B")]
    answer = salesforce.post("/composite/tree/Account", json={"records": records})
    assert (answer.status_code, answer.json()["hasErrors"]) == (201, False)
    made = {result["referenceId"]: result["id"] for result in answer.json()["results"]}
    assert {record["AccountId"] for record in sandbox.salesforce.records("Contact")} == {made["a1"]}
    assert set(made) == {"a1", "a2", "c1", "c2"}
    assert len(sandbox.ledger) == 4


def test_a_tree_with_one_bad_record_is_not_planted(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    records = [node("Account", "a1", Name="Acme", Contacts={"records": [node("Contact", "c1", FirstName="Ada")]})]
    answer = salesforce.post("/composite/tree/Account", json={"records": records})
    assert (answer.status_code, answer.json()["hasErrors"]) == (400, True)
    [failed] = answer.json()["results"]
    assert (failed["referenceId"], failed["errors"][0]["statusCode"]) == ("c1", "REQUIRED_FIELD_MISSING")
    assert sandbox.salesforce.records("Account") == []
    assert len(sandbox.ledger) == 0


@pytest.mark.parametrize(
    "records",
    [
        "nothing",
        [node("Account", "", Name="Acme")],
        [node("Account", "a", Name="Acme"), node("Account", "a", Name="Acme")],
        [node("Account", str(number), Name="Acme") for number in range(201)],
        [node("Account", "a", Name="Acme", Nothing={"records": []})],
        [node("Account", "a", Name="Acme", Nothing__c="x")],
    ],
    ids=["no list", "no reference", "one reference twice", "201 records", "unknown children", "unknown column"],
)
def test_a_tree_of_another_shape_is_refused(sandbox: Sandbox, salesforce: httpx.Client, records: Any) -> None:
    assert salesforce.post("/composite/tree/Account", json={"records": records}).status_code == 400
    assert sandbox.salesforce.records("Account") == []


def test_changes_are_taken_back_the_last_first(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    old = sandbox.salesforce.add("Account", {"Name": "Old", "External_Id__c": "1"})
    changes = [
        call(f"c{number}", f"/sobjects/Account/{old}", {"Name": f"New {number}", "External_Id__c": None}, "PATCH")
        for number in range(3)
    ]
    compose(salesforce, *changes, BAD)
    found = sandbox.salesforce.find("Account", "External_Id__c", "1")
    assert found is not None
    assert found["Name"] == "Old"
