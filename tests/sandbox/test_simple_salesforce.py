"""simple-salesforce, as it is published, drives the emulator: every login, records, queries and Bulk API 2.0.

The client writes `https://` into each of its addresses. Its session's adapter, which it takes as it is, sends them to
the emulator instead, whatever host they name.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from requests.adapters import HTTPAdapter
from simple_salesforce import exceptions
from simple_salesforce.api import Salesforce
from simple_salesforce.bulk2 import Operation
from simple_salesforce.login import SalesforceLogin

from reverse_etl.sandbox.server import Sandbox, running

USER = "integration@sandbox.example"
PASSWORD = "sandbox-password"
APP = {"consumer_key": "sandbox", "consumer_secret": "sandbox-secret"}


class ToSandbox(HTTPAdapter):
    def __init__(self, origin: str) -> None:
        super().__init__()
        self._origin = origin
        self.hosts: list[str] = []

    def send(self, request: Any, *arguments: Any, **more: Any) -> Any:
        target = urlsplit(request.url)
        self.hosts.append(target.netloc)
        request.url = self._origin + target.path + (f"?{target.query}" if target.query else "")
        return super().send(request, *arguments, **more)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running(rate=None) as server:
        yield server


@pytest.fixture
def session(sandbox: Sandbox) -> Iterator[requests.Session]:
    with requests.Session() as opened:
        opened.trust_env = False
        opened.mount("https://", ToSandbox(sandbox.url))
        yield opened


@pytest.fixture
def salesforce(sandbox: Sandbox, session: requests.Session) -> Any:
    url = sandbox.url.replace("http://", "https://")
    return connect(session_id="sandbox-access-token", instance_url=url, session=session)


def connect(**how: Any) -> Any:
    """The client, whose own types know neither its object names nor what an error holds."""
    return Salesforce(**how)


def told(caught: pytest.ExceptionInfo[Any]) -> Any:
    return caught.value.content


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def lead(key: str, **more: Any) -> dict[str, Any]:
    return {"External_Id__c": key, "LastName": "Ng", "Company": "Acme", **more}


# --- logging in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "host"),
    [
        ({"username": USER, "password": PASSWORD, "security_token": "sandbox-security-token"}, "login.salesforce.com"),
        ({"username": USER, "password": PASSWORD, "organizationId": "00DSb0000000001"}, "login.salesforce.com"),
        ({"username": USER, "password": PASSWORD, "domain": "test", **APP}, "test.salesforce.com"),
        ({"domain": "acme.my", **APP}, "acme.my.salesforce.com"),
    ],
    ids=["security token", "trusted address", "password and app", "client credentials"],
)
def test_every_login_opens_a_session_on_the_instance_it_names(
    sandbox: Sandbox, session: requests.Session, how: dict[str, str], host: str
) -> None:
    salesforce = connect(**how, session=session)
    assert salesforce.sf_instance == sandbox.url.removeprefix("http://")
    assert salesforce.query("SELECT Id FROM Lead")["totalSize"] == 0
    adapter = session.get_adapter("https://")
    assert isinstance(adapter, ToSandbox)
    assert adapter.hosts == [host, salesforce.sf_instance]


def test_a_signed_assertion_opens_a_session(session: requests.Session) -> None:
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    salesforce = connect(username=USER, consumer_key="sandbox", privatekey=key.decode(), session=session)
    assert salesforce.query("SELECT Id FROM Lead")["totalSize"] == 0
    with (
        pytest.warns(UserWarning, match="self-authorize"),
        pytest.raises(exceptions.SalesforceAuthenticationFailed, match="hasn't approved this consumer"),
    ):
        connect(username="x@x.io", consumer_key="sandbox", privatekey=key.decode(), session=session)


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"username": USER, "password": PASSWORD, "security_token": "old"}, "INVALID_LOGIN"),
        ({"username": "x@x.io", "password": PASSWORD, "security_token": ""}, "INVALID_LOGIN"),
        ({"username": USER, "password": "wrong", **APP}, "invalid_grant"),
        ({"domain": "acme.my", "consumer_key": "sandbox", "consumer_secret": "wrong"}, "invalid_client"),
    ],
)
def test_a_refused_login_carries_its_code(session: requests.Session, how: dict[str, str], code: str) -> None:
    with pytest.raises(exceptions.SalesforceAuthenticationFailed) as refused:
        connect(**how, session=session)
    assert refused.value.code == code


def test_soap_login_is_gone_from_version_65_on(session: requests.Session) -> None:
    with pytest.raises(exceptions.SalesforceAuthenticationFailed, match="UNSUPPORTED_API_VERSION"):
        connect(username=USER, password=PASSWORD, security_token="", version="65.0", session=session)


def test_soap_login_works_over_plain_http_at_the_address_of_a_scratch_org(sandbox: Sandbox) -> None:
    token, instance = SalesforceLogin(username=USER, password=PASSWORD, security_token="", scratch_url=sandbox.url)
    assert (token.startswith("00D"), instance) == (True, sandbox.url.removeprefix("http://"))


def test_an_expired_session_is_opened_anew_once_and_one_that_was_given_is_an_error(
    sandbox: Sandbox, session: requests.Session, salesforce: Any
) -> None:
    logged_in = connect(username=USER, password=PASSWORD, security_token="", session=session)
    sandbox.salesforce.sessions.expire_all()
    assert logged_in.query("SELECT Id FROM Lead")["totalSize"] == 0
    with pytest.raises(exceptions.SalesforceExpiredSession) as expired:
        salesforce.query("SELECT Id FROM Lead")
    assert told(expired)[0]["errorCode"] == "INVALID_SESSION_ID"


# --- records -------------------------------------------------------------------------------------------------------


def test_one_record_is_made_read_changed_and_deleted(sandbox: Sandbox, salesforce: Any) -> None:
    made = salesforce.Lead.create(lead("1", Title="CTO"))
    assert (made["success"], len(made["id"])) == (True, 18)
    assert salesforce.Lead.get(made["id"])["Title"] == "CTO"
    assert salesforce.Lead.get_by_custom_id("External_Id__c", "1")["Id"] == made["id"]
    assert salesforce.Lead.update(made["id"], {"Title": None}) == 204
    assert salesforce.Lead.get(made["id"])["Title"] is None
    assert salesforce.Lead.upsert("External_Id__c/1", {"Title": "CEO"}) == 200
    assert salesforce.Lead.upsert("External_Id__c/a%2Fb", {"LastName": "Ng", "Company": "Acme"}) == 201
    assert {record["External_Id__c"] for record in sandbox.salesforce.records("Lead")} == {"1", "a/b"}
    assert salesforce.Lead.delete(made["id"]) == 204
    with pytest.raises(exceptions.SalesforceResourceNotFound) as gone:
        salesforce.Lead.delete(made["id"])
    assert told(gone)[0]["errorCode"] == "ENTITY_IS_DELETED"
    salesforce.query("SELECT Id FROM Lead")
    assert salesforce.api_usage["api-usage"] == (len(sandbox.requests), 100_000)


def test_errors_are_the_clients_own_by_status_with_the_platforms_list(sandbox: Sandbox, salesforce: Any) -> None:
    with pytest.raises(exceptions.SalesforceMalformedRequest) as bad:
        salesforce.Lead.create({"LastName": "Ng", "Email": "bad"})
    assert [(item["errorCode"], item["fields"]) for item in told(bad)] == [("REQUIRED_FIELD_MISSING", ["Company"])]
    with pytest.raises(exceptions.SalesforceResourceNotFound):
        salesforce.Lead.get("00QSb0000000zzz")
    with pytest.raises(exceptions.SalesforceMalformedRequest, match="MALFORMED_QUERY"):
        salesforce.query("SELECT FROM Lead")
    sandbox.faults.add("throttle", policy="daily")
    with pytest.raises(exceptions.SalesforceRefusedRequest, match="TotalRequests Limit exceeded"):
        salesforce.query("SELECT Id FROM Lead")
    sandbox.faults.add("html", status=503)
    with pytest.raises(exceptions.SalesforceGeneralError, match="503"):
        salesforce.query("SELECT Id FROM Lead")


def test_several_matches_of_an_external_id_are_an_error_of_their_own(sandbox: Sandbox, salesforce: Any) -> None:
    sandbox.salesforce.org.object("Lead").fields["External_Id__c"].unique = False
    for _ in range(2):
        sandbox.salesforce.add("Lead", lead("1"))
    with pytest.raises(exceptions.SalesforceMoreThanOneRecord) as several:
        salesforce.Lead.upsert("External_Id__c/1", {"Title": "CEO"})
    assert len(told(several)) == 2
    assert all(url.startswith("/services/data/v59.0/sobjects/Lead/00Q") for url in told(several))


def test_the_org_describes_itself(salesforce: Any) -> None:
    assert "Lead" in {entry["name"] for entry in salesforce.describe()["sobjects"]}
    described = salesforce.Lead.describe()
    fields = {field["name"]: field for field in described["fields"]}
    assert (fields["External_Id__c"]["externalId"], described["keyPrefix"]) == (True, "00Q")
    assert salesforce.Lead.metadata()["objectDescribe"]["name"] == "Lead"
    assert salesforce.limits()["DailyBulkApiBatches"]["Max"] == 15_000
    assert salesforce.oauth2("userinfo")["preferred_username"] == USER


def test_queries_are_paged_to_their_end(sandbox: Sandbox, salesforce: Any) -> None:
    for number in range(450):
        sandbox.salesforce.add("Lead", lead(str(number)))
    options = {"Sforce-Query-Options": "batchSize=200"}
    whole = salesforce.query_all("SELECT Id, External_Id__c FROM Lead", headers=options)
    assert (whole["totalSize"], whole["done"], len(whole["records"])) == (450, True, 450)
    assert len(sandbox.requests.matching("GET", "/query/")) == 3
    assert len(list(salesforce.query_all_iter("SELECT Id FROM Lead WHERE External_Id__c IN ('1', '2')"))) == 2
    removed = sandbox.salesforce.records("Lead")[0]["Id"]
    salesforce.Lead.delete(removed)
    assert salesforce.query("SELECT Id FROM Lead", include_deleted=True)["totalSize"] == 450


def test_collections_and_composite_calls_go_through_its_plain_calls(sandbox: Sandbox, salesforce: Any) -> None:
    records = [{"attributes": {"type": "Lead"}, **lead("1")}, {"attributes": {"type": "Lead"}, "External_Id__c": "2"}]
    body = json.dumps({"allOrNone": False, "records": records})
    good, bad = salesforce.restful("composite/sobjects/Lead/External_Id__c", method="PATCH", data=body)
    assert (good["created"], bad["errors"][0]["statusCode"]) == (True, "REQUIRED_FIELD_MISSING")
    deleted = salesforce.restful("composite/sobjects", method="DELETE", params={"ids": good["id"]})
    assert deleted == [{"id": good["id"], "success": True, "errors": []}]
    assert sandbox.salesforce.records("Lead") == []


# --- Bulk API 2.0 --------------------------------------------------------------------------------------------------


def test_a_bulk_upsert_tells_created_updated_and_failed_rows(sandbox: Sandbox, salesforce: Any) -> None:
    sandbox.salesforce.add("Lead", lead("1"))
    sent = [lead("1", LastName="Ångström, 'Ng'\n2"), lead("2"), lead("3", Email="bad")]
    [job] = salesforce.bulk2.Lead.upsert(records=sent, external_id_field="External_Id__c", wait=0.01)
    assert (job["numberRecordsProcessed"], job["numberRecordsFailed"], job["numberRecordsTotal"]) == (3, 1, 3)
    good = rows(salesforce.bulk2.Lead.get_successful_records(job["job_id"]))
    assert {row["External_Id__c"]: row["sf__Created"] for row in good} == {"1": "false", "2": "true"}
    [bad] = rows(salesforce.bulk2.Lead.get_failed_records(job["job_id"]))
    assert bad["sf__Error"] == "INVALID_EMAIL_ADDRESS:Email: invalid email address: bad:Email --"
    assert rows(salesforce.bulk2.Lead.get_unprocessed_records(job["job_id"])) == []
    found = sandbox.salesforce.find("Lead", "External_Id__c", "1")
    assert found is not None
    assert found["LastName"] == "Ångström, 'Ng'\n2"


def test_bulk_inserts_updates_and_deletes(sandbox: Sandbox, salesforce: Any) -> None:
    leads = salesforce.bulk2.Lead
    [inserted] = leads.insert(records=[lead(str(number)) for number in range(3)], wait=0.01)
    ids = [row["sf__Id"] for row in rows(leads.get_successful_records(inserted["job_id"]))]
    [updated] = leads.update(records=[{"Id": ids[0], "Title": "CTO"}, {"Id": ids[1], "Title": "#N/A"}], wait=0.01)
    assert updated["numberRecordsFailed"] == 0
    assert sorted(str(record.get("Title")) for record in sandbox.salesforce.records("Lead")) == ["CTO", "None", "None"]
    [deleted] = leads.delete(records=[{"Id": each} for each in ids], wait=0.01)
    assert deleted["numberRecordsProcessed"] == 3
    assert sandbox.salesforce.records("Lead") == []


def test_a_job_that_fails_half_way_leaves_its_unprocessed_rows_to_be_fetched(sandbox: Sandbox, salesforce: Any) -> None:
    sandbox.faults.add("fail_job", method="PATCH", path="jobs/ingest", rows=200, message="InvalidBatch : no more")
    records = [lead(str(number)) for number in range(450)]
    with pytest.raises(exceptions.SalesforceOperationError, match="no more"):
        salesforce.bulk2.Lead.insert(records=records, wait=0.01)
    [job] = [job["id"] for job in salesforce.restful("jobs/ingest")["records"]]
    files = salesforce.bulk2.Lead.get_all_ingest_records(job)
    assert {name: len(lines) for name, lines in files.items()} == {
        "successfulRecords": 200,
        "failedRecords": 0,
        "unprocessedRecords": 250,
    }
    assert len(sandbox.salesforce.records("Lead")) == 200


def test_an_unknown_column_and_a_wrong_object_are_told(salesforce: Any) -> None:
    with pytest.raises(exceptions.SalesforceOperationError, match="Field name not found : Nothing__c"):
        salesforce.bulk2.Lead.insert(records=[lead("1", Nothing__c="1")], wait=0.01)
    with pytest.raises(exceptions.SalesforceMalformedRequest, match="INVALIDENTITY"):
        salesforce.bulk2.Nothing__c.insert(records=[{"Name": "1"}], wait=0.01)


def test_an_open_job_is_aborted_and_deleted(salesforce: Any) -> None:
    jobs = salesforce.bulk2.Lead._client
    made = jobs.create_job(Operation.insert)["id"]
    assert jobs.abort_job(made, False)["state"] == "Aborted"
    with pytest.raises(requests.exceptions.JSONDecodeError):  # the client reads the answer of a 204
        jobs.delete_job(made, False)
    with pytest.raises(exceptions.SalesforceResourceNotFound):
        jobs.get_job(made, False)


def test_a_bulk_query_is_read_in_parts(sandbox: Sandbox, salesforce: Any) -> None:
    for number in range(5):
        sandbox.salesforce.add("Lead", lead(str(number), LastName=f"Ng {number}"))
    parts = list(salesforce.bulk2.Lead.query("SELECT External_Id__c, LastName FROM Lead", max_records=2, wait=0.01))
    assert [len(rows(part)) for part in parts] == [2, 2, 1]
    assert {row["LastName"] for part in parts for row in rows(part)} == {f"Ng {number}" for number in range(5)}
