"""Bulk API 2.0 on the emulated Salesforce: states, files, and what becomes of each row."""

from __future__ import annotations

import csv
import io
import json
import time
from typing import Any

import httpx
import pytest

from reverse_etl.sandbox.salesforce.bulk_rows import double_text
from reverse_etl.sandbox.server import Sandbox, running

UPSERT = {"object": "Lead", "operation": "upsert", "externalIdFieldName": "External_Id__c", "lineEnding": "LF"}
CSV = {"Content-Type": "text/csv"}


def start(client: httpx.Client, content: str | bytes, **job: str) -> str:
    made: str = client.post("/jobs/ingest", json={**UPSERT, **job}).json()["id"]
    data = content.encode() if isinstance(content, str) else content
    assert client.put(f"/jobs/ingest/{made}/batches", content=data, headers=CSV).status_code == 201
    assert client.patch(f"/jobs/ingest/{made}", json={"state": "UploadComplete"}).json()["state"] == "UploadComplete"
    return made


def finished(client: httpx.Client, job: str) -> dict[str, Any]:
    for _ in range(500):
        body: dict[str, Any] = client.get(f"/jobs/ingest/{job}").json()
        if body["state"] in ("JobComplete", "Failed", "Aborted"):
            return body
        time.sleep(0.01)
    raise AssertionError("the job never ended")


def results(client: httpx.Client, job: str, name: str) -> list[dict[str, str]]:
    answer = client.get(f"/jobs/ingest/{job}/{name}")
    assert answer.headers["content-type"] == "text/csv; charset=UTF-8"
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


def test_a_job_goes_from_open_to_complete_and_every_row_is_in_one_file(
    sandbox: Sandbox, salesforce: httpx.Client
) -> None:
    lines = "".join(f'k{number},"Ng, ""{number}""\n2",Acme,912260031,\n' for number in range(500))
    job = start(salesforce, f"External_Id__c,LastName,Company,AnnualRevenue,Email\n{lines}bad,Ng,Acme,1,bad\n")
    body = finished(salesforce, job)
    assert (body["state"], body["numberRecordsProcessed"], body["numberRecordsFailed"]) == ("JobComplete", 501, 1)
    good = results(salesforce, job, "successfulResults")
    assert {row["sf__Created"] for row in good} == {"true"}
    assert [row["External_Id__c"] for row in good] != [f"k{number}" for number in range(500)]
    assert {row["External_Id__c"] for row in good} == {f"k{number}" for number in range(500)}
    assert good[0]["AnnualRevenue"] == "9.12260031E8"
    bad = results(salesforce, job, "failedResults")
    assert bad[0]["sf__Error"] == "INVALID_EMAIL_ADDRESS:Email: invalid email address: bad:Email --"
    assert results(salesforce, job, "unprocessedRecords") == results(salesforce, job, "unprocessedrecords") == []
    found = sandbox.salesforce.find("Lead", "External_Id__c", "k7")
    assert found is not None
    assert found["LastName"] == 'Ng, "7"\n2'


def test_an_empty_cell_leaves_its_field_alone_and_na_clears_it(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    sandbox.salesforce.add(
        "Lead", {"LastName": "Ng", "Company": "Acme", "External_Id__c": "1", "Title": "CTO", "Phone": "1"}
    )
    job = start(salesforce, "External_Id__c,Title,Phone\n1,,#N/A\n")
    finished(salesforce, job)
    found = sandbox.salesforce.records("Lead")[0]
    assert (found["Title"], found.get("Phone")) == ("CTO", None)
    assert results(salesforce, job, "successfulResults")[0]["sf__Created"] == "false"


def test_an_unknown_column_fails_the_job_and_leaves_all_rows_unprocessed(
    sandbox: Sandbox, salesforce: httpx.Client
) -> None:
    job = start(salesforce, "External_Id__c,Nothing__c,Also__c\n1,2,3\n4,5,6\n")
    assert finished(salesforce, job)["errorMessage"] == "InvalidBatch : Field name not found : Nothing__c"
    assert len(results(salesforce, job, "unprocessedrecords")) == 2
    assert sandbox.salesforce.records("Lead") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"External_Id__c\r\n1\r\n", "LineEnding is invalid on user data. Current LineEnding setting is LF"),
        (b"\xef\xbb\xbfExternal_Id__c\n1\n", "Field name not found : \ufeffExternal_Id__c"),
        (b"External_Id__c,LastName\n1\n", "row has 1 columns, the header 2"),
        (b"External_Id__c,Account.External_Id__c\n1,2\n", "Unable to find relationship: Account"),
        (b"External_Id__c,Owner.Email\n1,2\n", "type is needed for polymorphic foreign key references: Owner"),
        (b"External_Id__c\n\xff\n", "not valid UTF-8"),
        (b"External_Id__c,external_id__c\n1,2\n", "Duplicate column: external_id__c"),
        (b"External_Id__c,User:ConvertedAccount.External_Id__c\n1,2\n", "type is not needed for non polymorphic"),
    ],
)
def test_a_file_that_cannot_be_read_fails_its_job(salesforce: httpx.Client, content: bytes, message: str) -> None:
    body = finished(salesforce, start(salesforce, content))
    assert body["state"] == "Failed"
    assert message in body["errorMessage"]


def test_a_parent_is_named_by_its_own_key(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    account = sandbox.salesforce.add("Account", {"Name": "Acme", "External_Id__c": "a-1"})
    content = "External_Id__c,LastName,Account.External_Id__c\n1,Ng,a-1\n2,Ng,a-9\n"
    job = start(salesforce, content, object="Contact")
    finished(salesforce, job)
    assert sandbox.salesforce.records("Contact")[0]["AccountId"] == account
    assert "a-9 not found for field External_Id__c" in results(salesforce, job, "failedResults")[0]["sf__Error"]


def test_updates_inserts_and_deletes_are_jobs_too(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    inserted = start(salesforce, "LastName,Company\nNg,Acme\n", operation="insert")
    finished(salesforce, inserted)
    made = results(salesforce, inserted, "successfulResults")[0]["sf__Id"]
    updated = start(salesforce, f"Id,Title\n{made},CTO\n00QSb0000000zzz,CTO\n", operation="update")
    finished(salesforce, updated)
    assert sandbox.salesforce.records("Lead")[0]["Title"] == "CTO"
    assert results(salesforce, updated, "failedResults")[0]["sf__Id"] == "00QSb0000000zzz"
    finished(salesforce, start(salesforce, f"Id\n{made}\n", operation="delete"))
    assert sandbox.salesforce.records("Lead") == []


def test_a_job_takes_one_upload_and_keeps_its_order_of_states(salesforce: httpx.Client) -> None:
    made = salesforce.post("/jobs/ingest", json=UPSERT).json()
    assert made["state"] == "Open"
    assert made["apiVersion"] == 62.0
    assert made["contentUrl"] == f"services/data/v62.0/jobs/ingest/{made['id']}/batches"
    path = f"/jobs/ingest/{made['id']}"
    assert salesforce.delete(path).json()[0]["errorCode"] == "API_ERROR"
    salesforce.put(path + "/batches", content=b"", headers=CSV)
    assert salesforce.put(path + "/batches", content=b"x\n", headers=CSV).status_code == 400
    assert salesforce.get(path + "/successfulResults").json()[0]["errorCode"] == "INVALIDJOBSTATE"
    salesforce.patch(path, json={"state": "UploadComplete"})
    assert finished(salesforce, made["id"])["numberRecordsProcessed"] == 0
    refused = salesforce.patch(path, json={"state": "Aborted"}).json()[0]
    assert refused == {"message": "Aborting already Completed Job not allowed", "errorCode": "INVALIDJOBSTATE"}
    assert salesforce.delete(path).status_code == 204
    assert salesforce.get(path).status_code == 404


def test_an_open_job_can_be_aborted(salesforce: httpx.Client) -> None:
    made = salesforce.post("/jobs/ingest", json=UPSERT).json()["id"]
    assert salesforce.patch(f"/jobs/ingest/{made}", json={"state": "Aborted"}).json()["state"] == "Aborted"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"object": "Nothing__c"}, "INVALIDENTITY"),
        ({"operation": "x"}, "INVALIDJOB"),
        ({"externalIdFieldName": "x"}, "INVALIDJOB"),
    ],
)
def test_a_job_that_cannot_be_made_says_why(salesforce: httpx.Client, change: dict[str, str], code: str) -> None:
    answer = salesforce.post("/jobs/ingest", json={**UPSERT, **change})
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, code)


def test_a_small_job_can_be_made_closed_and_filled_in_one_call(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    files = {
        "job": (None, json.dumps({**UPSERT, "operation": "insert"}), "application/json"),
        "content": ("content", "LastName,Company\nMüller,Acme\n", "text/csv"),
    }
    made = salesforce.post("/jobs/ingest", files=files).json()
    assert made["state"] == "UploadComplete"
    finished(salesforce, made["id"])
    assert sandbox.salesforce.records("Lead")[0]["LastName"] == "Müller"


def test_a_job_can_be_ordered_to_fail_half_way(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    sandbox.faults.add("fail_job", method="PATCH", path="jobs/ingest", rows=200, message="TooManyLockFailure : ordered")
    job = start(salesforce, "External_Id__c,LastName,Company\n" + "".join(f"{n},Ng,Acme\n" for n in range(500)))
    body = finished(salesforce, job)
    assert (body["state"], body["errorMessage"]) == ("Failed", "TooManyLockFailure : ordered")
    assert len(results(salesforce, job, "successfulResults")) == 200
    assert len(results(salesforce, job, "unprocessedrecords")) == 300


def test_rows_can_be_ordered_to_be_locked_or_to_vanish(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    sandbox.faults.add("lock", method="PATCH", path="jobs/ingest", rows=3)
    sandbox.faults.add("vanish", method="PATCH", path="jobs/ingest", rows=2)
    job = start(salesforce, "External_Id__c,LastName,Company\n" + "".join(f"{n},Ng,Acme\n" for n in range(100)))
    finished(salesforce, job)
    failed = results(salesforce, job, "failedResults")
    assert {row["sf__Error"].partition(":")[0] for row in failed} == {"UNABLE_TO_LOCK_ROW"}
    assert len(failed) == 3
    assert 95 <= len(results(salesforce, job, "successfulResults")) <= 97


def test_a_query_job_hands_its_result_out_in_parts(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    for number in range(3):
        sandbox.salesforce.add("Account", {"Name": f"A{number}", "AnnualRevenue": 10_000_000})
    asked = {"operation": "query", "query": "SELECT Name, AnnualRevenue FROM Account ORDER BY Name"}
    made = salesforce.post("/jobs/query", json=asked).json()
    while salesforce.get(f"/jobs/query/{made['id']}").json()["state"] != "JobComplete":
        pass
    first = salesforce.get(f"/jobs/query/{made['id']}/results?maxRecords=2")
    assert (first.headers["Sforce-Locator"], first.headers["Sforce-NumberOfRecords"]) == ("2", "2")
    assert first.text == '"Name","AnnualRevenue"\n"A0","1.0E7"\n"A1","1.0E7"\n'
    last = salesforce.get(f"/jobs/query/{made['id']}/results?maxRecords=2&locator=2")
    assert (last.headers["Sforce-Locator"], last.headers["Sforce-NumberOfRecords"]) == ("null", "1")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.0"),
        (1, "1.0"),
        (-2.5, "-2.5"),
        (9_999_999, "9999999.0"),
        (10_000_000, "1.0E7"),
        (912260031, "9.12260031E8"),
        (0.0001, "1.0E-4"),
    ],
)
def test_doubles_are_written_as_java_does(value: float, text: str) -> None:
    assert double_text(value) == text


@pytest.mark.parametrize("applied", [False, True])
def test_the_answer_to_an_upload_or_to_its_end_can_be_lost(
    sandbox: Sandbox, salesforce: httpx.Client, applied: bool
) -> None:
    sandbox.faults.add("cut", method="PUT", path="jobs/ingest", applied=applied)
    sandbox.faults.add("cut", method="PATCH", path="jobs/ingest", applied=applied)
    path = f"/jobs/ingest/{salesforce.post('/jobs/ingest', json={**UPSERT, 'operation': 'insert'}).json()['id']}"
    content = "LastName,Company\nNg,Acme\n"
    with pytest.raises(httpx.RemoteProtocolError):
        salesforce.put(path + "/batches", content=content, headers=CSV)
    assert salesforce.get(path).json()["state"] == "Open"
    again = salesforce.put(path + "/batches", content=content, headers=CSV)
    assert again.status_code == (400 if applied else 201)
    with pytest.raises(httpx.RemoteProtocolError):
        salesforce.patch(path, json={"state": "UploadComplete"})
    assert (salesforce.get(path).json()["state"] == "Open") is not applied
    if not applied:
        salesforce.patch(path, json={"state": "UploadComplete"})
    assert finished(salesforce, path.rpartition("/")[2])["numberRecordsProcessed"] == 1
    assert len(sandbox.salesforce.records("Lead")) == 1


def test_rows_beyond_the_days_allowance_are_in_none_of_the_files(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    sandbox.salesforce.bulk.batches = 14_999
    job = start(salesforce, "LastName,Company\n" + "Ng,Acme\n" * 10_200, operation="insert")
    body = finished(salesforce, job)
    assert (body["state"], body["numberRecordsProcessed"]) == ("JobComplete", 10_000)
    assert len(results(salesforce, job, "successfulResults")) == 10_000
    assert results(salesforce, job, "unprocessedrecords") == []
    assert salesforce.get("/limits").json()["DailyBulkApiBatches"] == {"Max": 15_000, "Remaining": 0}
    refused = salesforce.post("/jobs/ingest", json=UPSERT)
    assert (refused.status_code, refused.json()[0]["errorCode"]) == (400, "LIMIT_EXCEEDED")


def test_a_duplicate_rule_refuses_rows_of_a_job_whatever_it_would_let_pass(
    sandbox: Sandbox, salesforce: httpx.Client
) -> None:
    order = {"platform": "salesforce", "object": "Lead", "duplicate_field": "Email", "alert": True}
    salesforce.post(sandbox.url + "/__rules", json=order)
    sandbox.salesforce.add("Lead", {"LastName": "Ng", "Company": "Acme", "Email": "ng@x.io"})
    job = start(salesforce, "LastName,Company,Email\nNg,Acme,ng@x.io\nBo,Acme,bo@x.io\n", operation="insert")
    finished(salesforce, job)
    [refused] = results(salesforce, job, "failedResults")
    assert refused["sf__Error"] == "DUPLICATES_DETECTED:Use one of these records?:--"


def test_a_job_can_be_ordered_to_be_stuck(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    sandbox.faults.add("stuck", method="PATCH", path="jobs/ingest")
    job = start(salesforce, "External_Id__c,LastName,Company\n1,Ng,Acme\n")
    time.sleep(0.1)
    assert {salesforce.get(f"/jobs/ingest/{job}").json()["state"] for _ in range(5)} == {"InProgress"}
    assert salesforce.patch(f"/jobs/ingest/{job}", json={"state": "Aborted"}).json()["state"] == "Aborted"


def test_rows_of_a_chunk_that_share_a_key_are_all_refused(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    job = start(salesforce, "External_Id__c,LastName,Company\na,Ng,Acme\nA,Bo,Acme\nb,Cy,Acme\n")
    finished(salesforce, job)
    failed = results(salesforce, job, "failedResults")
    assert {row["sf__Error"].partition(":")[0] for row in failed} == {"DUPLICATE_VALUE"}
    assert [record["External_Id__c"] for record in sandbox.salesforce.records("Lead")] == ["b"]


def test_a_finished_job_is_still_seen_in_progress_for_as_many_looks_as_told() -> None:
    with running(bulk_polls=3) as sandbox:
        headers = {"Authorization": "Bearer sandbox-access-token"}
        base = sandbox.url + "/services/data/v62.0"
        with httpx.Client(base_url=base, trust_env=False, headers=headers) as client:
            job = start(client, "External_Id__c,LastName,Company\n1,Ng,Acme\n")
            while not sandbox.salesforce.records("Lead"):
                time.sleep(0.01)
            time.sleep(0.1)  # its last step is to notice that it is at its end
            states = [client.get(f"/jobs/ingest/{job}").json()["state"] for _ in range(4)]
    assert states == ["InProgress"] * 3 + ["JobComplete"]


def test_a_query_job_belongs_to_the_version_that_made_it(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    made = salesforce.post("/jobs/query", json={"operation": "query", "query": "SELECT Id FROM Lead"}).json()["id"]
    assert salesforce.get(f"/jobs/query/{made}").status_code == 200
    assert salesforce.get(f"{sandbox.url}/services/data/v61.0/jobs/query/{made}").status_code == 409


def test_a_job_in_one_call_is_no_larger_than_100_000_characters(salesforce: httpx.Client) -> None:
    described = json.dumps({**UPSERT, "operation": "insert"})
    for rows, status in ((12_000, 200), (13_000, 400)):
        content = "LastName\n" + "Ng, Ada\n" * rows
        files: dict[str, Any] = {
            "job": (None, described, "application/json"),
            "content": ("content", content, "text/csv"),
        }
        assert salesforce.post("/jobs/ingest", files=files).status_code == status


def test_an_upload_is_csv_and_says_so(salesforce: httpx.Client) -> None:
    made = salesforce.post("/jobs/ingest", json=UPSERT).json()["id"]
    headers = {"Content-Type": "application/json"}
    refused = salesforce.put(f"/jobs/ingest/{made}/batches", content="LastName\nNg\n", headers=headers)
    assert refused.status_code == 415
    assert salesforce.get(f"/jobs/ingest/{made}").json()["state"] == "Open"
