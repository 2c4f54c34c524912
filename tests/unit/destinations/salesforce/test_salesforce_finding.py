"""Very many values looked up: by a bulk query job where it takes fewer calls, else by packed queries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from reverse_etl.destinations.salesforce import Salesforce
from reverse_etl.destinations.salesforce.soql import queries
from reverse_etl.errors import DestinationError, InDoubt, Interrupted
from reverse_etl.protocols import OTHERS
from reverse_etl.stop import Stop
from tests.unit.destinations.salesforce.org import DATA, FIELDS, Org, refused
from tests.unit.destinations.salesforce.test_salesforce_describing import LEAD, told

JOBS = f"{DATA}/jobs/query"
JOB = f"{JOBS}/7500000000000001AA"
RESULTS = f"{JOB}/results"
VALUES = [f"k{number}" for number in range(20_000)]
DESCRIBED: dict[str, Any] = {**LEAD, "fields": [*LEAD["fields"], told("Email", type="email")]}


def org_of(records: int, *parts: httpx.Response, state: str = "JobComplete") -> Org:
    org = Org()
    org.tell("GET", f"{DATA}/sobjects/Lead/describe", DESCRIBED)
    org.tell("GET", f"{DATA}/query", queried(records))
    org.tell("POST", JOBS, job("UploadComplete"))
    org.tell("GET", JOB, job("InProgress"), job(state))
    org.tell("GET", RESULTS, *(parts or [part("null", [])]))
    return org


def queried(records: int) -> Any:
    """Counts; and of the values that a query asks for finds k1."""

    def answer(request: httpx.Request) -> httpx.Response:
        statement = request.url.params["q"]
        if statement.startswith("SELECT COUNT() FROM Lead WHERE"):
            return httpx.Response(200, json={"totalSize": records, "done": True, "records": []})
        found = [{"Id": "00Q1", "External_Id__c": "k1"}] if "'k1'" in statement else []
        return httpx.Response(200, json={"totalSize": len(found), "done": True, "records": found})

    return answer


def job(state: str) -> dict[str, str]:
    return {"id": "7500000000000001AA", "state": state}


def part(locator: str, rows: Sequence[Sequence[str]], names: str = '"Id","External_Id__c"', **headers: str) -> Any:
    lines = [names, *(",".join(f'"{cell}"' for cell in row) for row in rows)]
    told = {"sforce-locator": locator, "sforce-numberofrecords": str(len(rows)), **headers}
    return httpx.Response(200, text="\n".join(lines) + "\n", headers=told)


def find(org: Org, *asked: tuple[Sequence[str], Sequence[str]], match: str = "External_Id__c") -> list[dict[str, Any]]:
    async def scenario(salesforce: Salesforce) -> list[dict[str, Any]]:
        return [await salesforce.find("Lead", match, values, fields) for values, fields in asked]

    return org.use(scenario)


def test_very_many_values_are_found_by_one_job_whose_result_is_read_part_by_part() -> None:
    org = org_of(4, part("MTA", [("00Q1", "k1"), ("00Q2", "K2 ")]), part("null", [("00Q0", "other"), ("00Q3", "k1")]))
    (found,) = find(org, (VALUES, []))
    assert {value: record["id"] for value, record in found.items()} == {"k1": "00Q1", "k2": "00Q2"}
    assert found["k1"][OTHERS] == ["00Q3"]
    assert org.bodies("POST", JOBS) == [
        {"operation": "query", "query": "SELECT Id, External_Id__c FROM Lead WHERE External_Id__c != null"}
    ]
    assert [request.url.params.get("locator") for request in org.calls("GET", RESULTS)] == [None, "MTA"]
    assert len(org.calls("GET", f"{DATA}/query")) == 1


def test_fewer_values_are_asked_for_in_queries() -> None:
    org = org_of(4)
    (found,) = find(org, (VALUES[:19_999], []))
    assert [*found] == ["k1"]
    assert org.calls("POST", JOBS) == []


def everyone(request: httpx.Request) -> httpx.Response:
    """A record for every value that a query asks for."""
    asked = re.findall(r"'(\w+)'", request.url.params["q"])
    records = [{"Id": f"00Q{value}", "External_Id__c": value} for value in reversed(asked)]
    return httpx.Response(200, json={"totalSize": len(records), "done": True, "records": records})


def test_a_few_queries_are_under_way_at_once_and_no_more_of_them_than_one_by_one() -> None:
    org = org_of(4)
    org.tell("GET", f"{DATA}/query", everyone)
    org.takes = 1.0
    (found,) = find(org, (VALUES[:5_000], []))
    assert [*found] == VALUES[:5_000]  # in the order in which they were asked for, whichever was answered first
    assert sorted(org.queries()) == sorted(queries("Lead", FIELDS["External_Id__c"], VALUES[:5_000]))
    assert org.busiest == 4


def test_after_a_query_that_fails_no_further_one_is_made() -> None:
    org = org_of(4)
    org.tell("GET", f"{DATA}/query", everyone, refused(400, "INVALID_FIELD", "No such column 'X'"), everyone)
    org.takes = 1.0
    with pytest.raises(DestinationError, match="No such column"):
        find(org, (VALUES[:19_999], []))
    assert len(org.queries()) <= 5


def test_who_asks_a_run_to_stop_waits_for_the_queries_under_way_and_makes_no_other() -> None:
    org, stop = org_of(4), Stop()

    def asking(request: httpx.Request) -> httpx.Response:
        stop.ask()
        return everyone(request)

    org.tell("GET", f"{DATA}/query", asking)
    org.takes = 1.0

    async def scenario(salesforce: Salesforce) -> None:
        with stop.heeded(), pytest.raises(Interrupted):
            await salesforce.find("Lead", "External_Id__c", VALUES[:19_999], [])

    org.use(scenario)
    assert len(org.queries()) == 4


def test_of_an_object_that_is_much_larger_the_values_are_asked_for_in_queries() -> None:
    org = org_of(50_000_000)
    (found,) = find(org, (VALUES, []))
    assert [*found] == ["k1"]
    assert org.calls("POST", JOBS) == []


@pytest.mark.parametrize("answer", [refused(400, "INVALIDENTITY"), refused(400, "LIMIT_EXCEEDED"), refused(400, "ODD")])
def test_an_object_that_takes_no_job_is_asked_in_queries_and_not_tried_again(answer: httpx.Response) -> None:
    org = org_of(4)
    org.tell("POST", JOBS, answer)
    assert [[*each] for each in find(org, (VALUES, []), (VALUES, []))] == [["k1"], ["k1"]]
    assert len(org.calls("POST", JOBS)) == 1


def test_a_job_that_fails_or_takes_too_long_is_done_without() -> None:
    for state in ("Failed", "Aborted", "InProgress"):
        org = org_of(4, state=state)
        org.tell("PATCH", JOB, job("Aborted"))
        (found,) = find(org, (VALUES, []))
        assert [*found] == ["k1"]
        assert len(org.calls("PATCH", JOB)) == (state == "InProgress")


def test_ids_are_read_once_a_run_and_values_each_time() -> None:
    names = '"Id","External_Id__c","Email"'
    org = org_of(1, part("null", [("00Q1", "k1")]), part("null", [("00Q1", "k1", "a@x.io")], names=names))
    first, again, *read = find(org, (VALUES, []), (VALUES, []), (VALUES, ["Email"]), (VALUES, ["Email"]))
    assert first == again == {"k1": {"id": "00Q1"}}
    assert read == [{"k1": {"id": "00Q1", "Email": "a@x.io"}}] * 2
    assert len(org.calls("POST", JOBS)) == 3


def test_a_number_is_found_in_the_form_that_a_job_gives_it_and_an_empty_cell_is_nothing() -> None:
    names = '"Id","Number__c","Email"'
    org = org_of(1, part("null", [("00Q1", "1.2345678E7", "")], names=names))
    values = [str(number) for number in range(12_340_000, 12_360_000)]
    (found,) = find(org, (values, ["Email"]), match="Number__c")
    assert found == {"12345678": {"id": "00Q1", "Email": None}}


def test_a_result_that_is_not_whole_proves_nothing() -> None:
    cut = part("null", [("00Q1", "k1")], **{"sforce-numberofrecords": "2"})
    endless = part("", [("00Q1", "k1")])
    turning = part("MTA", [("00Q1", "k1")])
    for answer in (cut, endless, turning):
        with pytest.raises(InDoubt):
            find(org_of(1, answer), (VALUES, []))


def test_an_object_without_such_records_finds_nothing() -> None:
    assert find(org_of(0), (VALUES, [])) == [{}]
