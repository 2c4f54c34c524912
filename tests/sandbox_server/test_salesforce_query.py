"""SOQL on the emulated Salesforce."""

from __future__ import annotations

import httpx
import pytest

from reverse_etl.sandbox.server import Sandbox


@pytest.fixture
def filled(sandbox: Sandbox) -> Sandbox:
    account = sandbox.salesforce.add("Account", {"Name": "Acme", "External_Id__c": "a-1"})
    for number in range(5):
        values = {"LastName": f"Ng {number}", "External_Id__c": f"c{number}", "Email": f"u{number}@x.io"}
        sandbox.salesforce.add("Contact", {**values, **({"AccountId": account} if number < 2 else {})})
    return sandbox


def ask(client: httpx.Client, where: str, fields: str = "External_Id__c") -> list[str]:
    answer = client.get("/query", params={"q": f"SELECT {fields} FROM Contact {where}"})
    assert answer.status_code == 200, answer.text
    return [record["External_Id__c"] for record in answer.json()["records"]]


@pytest.mark.parametrize(
    ("where", "keys"),
    [
        ("WHERE External_Id__c IN ('c1', 'C3', 'nothing')", ["c1", "c3"]),
        ("WHERE External_Id__c = 'c1' AND LastName = 'NG 1'", ["c1"]),
        ("WHERE External_Id__c != 'c1' AND External_Id__c NOT IN ('c2', 'c3')", ["c0", "c4"]),
        ("WHERE Email LIKE 'u_@x.%' AND (NOT (Email = 'u0@x.io' OR Email = 'u1@x.io'))", ["c2", "c3", "c4"]),
        ("WHERE AccountId = null ORDER BY Email DESC LIMIT 2", ["c4", "c3"]),
        ("WHERE Account.External_Id__c = 'A-1'", ["c0", "c1"]),
        ("WHERE CreatedDate > 2020-01-01T00:00:00Z AND CreatedDate < 2099-01-01T00:00:00+01:00 LIMIT 1", ["c0"]),
        ("WHERE IsDeleted = false ORDER BY External_Id__c OFFSET 3", ["c3", "c4"]),
        ("WHERE LastName = 'O\\'Neil'", []),
    ],
)
def test_conditions_find_what_they_say(filled: Sandbox, salesforce: httpx.Client, where: str, keys: list[str]) -> None:
    assert ask(salesforce, where) == keys


def test_a_parents_fields_come_nested_or_null(filled: Sandbox, salesforce: httpx.Client) -> None:
    query = "SELECT Id, Account.Name FROM Contact WHERE External_Id__c IN ('c0', 'c4') ORDER BY External_Id__c"
    with_parent, without = salesforce.get("/query/", params={"q": query}).json()["records"]
    assert with_parent["Account"]["Name"] == "Acme"
    assert with_parent["Account"]["attributes"]["type"] == "Account"
    assert without["Account"] is None


def test_count_gives_only_the_total(filled: Sandbox, salesforce: httpx.Client) -> None:
    body = salesforce.get("/query", params={"q": "SELECT COUNT() FROM Contact"}).json()
    assert body == {"totalSize": 5, "done": True, "records": []}


def test_a_long_result_comes_in_pages_of_at_least_200(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    for number in range(450):
        sandbox.salesforce.add("Account", {"Name": f"A{number}"})
    headers = {"Sforce-Query-Options": "batchSize=10"}
    body = salesforce.get("/query", params={"q": "SELECT Id FROM Account"}, headers=headers).json()
    sizes = [len(body["records"])]
    while not body["done"]:
        body = salesforce.get(sandbox.url + body["nextRecordsUrl"]).json()
        sizes.append(len(body["records"]))
    assert sizes == [200, 200, 50]


def test_deleted_records_are_in_query_all_only(filled: Sandbox, salesforce: httpx.Client) -> None:
    gone = filled.salesforce.records("Contact")[0]["Id"]
    salesforce.delete(f"/sobjects/Contact/{gone}")
    count = {"q": "SELECT COUNT() FROM Contact"}
    assert salesforce.get("/query", params=count).json()["totalSize"] == 4
    assert salesforce.get("/queryAll", params=count).json()["totalSize"] == 5


@pytest.mark.parametrize(
    ("query", "code", "text"),
    [
        ("SELECT Id FROM Contact WHERE", "MALFORMED_QUERY", "unexpected token: '<EOF>'"),
        ("SELECT Id Contact", "MALFORMED_QUERY", "unexpected token: 'Contact'"),
        ("SELECT Id FROM Contact LIMIT x", "MALFORMED_QUERY", "unexpected token: 'x'"),
        ("SELECT Nothing__c FROM Contact", "INVALID_FIELD", "No such column 'Nothing__c' on sobject of type Contact"),
        ("SELECT Id FROM Nothing__c", "INVALID_TYPE", "sObject type 'Nothing__c' is not supported."),
        ("SELECT Boss.Name FROM Contact", "INVALID_FIELD", "Didn't understand relationship 'Boss' in field path."),
        ("SELECT Id FROM Contact WHERE LastName = 5", "INVALID_FIELD", "should be enclosed in quotes"),
        ("SELECT Id FROM Lead WHERE Lead_Score__c = '5'", "INVALID_FIELD", "must be of type double"),
    ],
)
def test_a_query_that_cannot_be_run_says_why(salesforce: httpx.Client, query: str, code: str, text: str) -> None:
    answer = salesforce.get("/query", params={"q": query})
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, code)
    assert text in answer.json()[0]["message"]
