"""Whatever is sent, the sandbox answers as a platform would: never with a failure of its own."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reverse_etl.sandbox.messages import Request
from reverse_etl.sandbox.server import Sandbox, Settings

BATCHES = ["upsert", "update", "create", "read", "archive"]
HUBSPOT = [
    *[("POST", f"/crm/objects/2026-09/contacts/batch/{word}") for word in BATCHES],
    *[("POST", f"/crm/objects/2026-09/contacts/{word}") for word in ("search", "merge", "gdpr-delete", "")],
    ("GET", "/crm/v3/objects/contacts?limit=x&after=y"),
    ("PATCH", "/crm/v3/objects/contacts/101"),
    ("POST", "/crm/v3/properties/contacts"),
    ("POST", "/crm/v3/properties/contacts/batch/create"),
    ("POST", "/crm/v4/associations/contacts/companies/batch/create"),
    ("POST", "/crm/v4/associations/contacts/companies/batch/associate/default"),
    ("POST", "/crm/v4/associations/contacts/companies/batch/read"),
    ("POST", "/crm/v4/associations/contacts/companies/batch/archive"),
    ("POST", "/crm/v4/associations/contacts/companies/batch/labels/archive"),
    ("POST", "/crm/v4/associations/contacts/companies/labels"),
    ("PUT", "/crm/v4/objects/contacts/101/associations/companies/101"),
    ("POST", "/crm/v3/lists"),
    ("POST", "/crm/v3/lists/search"),
    ("POST", "/crm-object-schemas/v3/schemas"),
    ("POST", "/events/v3/send"),
    ("POST", "/events/v3/send/batch"),
    ("POST", "/events/v3/event-definitions"),
    ("GET", "/events/v3/events?limit=x"),
    ("POST", "/oauth/v3/token"),
    ("PATCH", "/crm/v3/properties/contacts/plan"),
    ("POST", "/crm/v3/properties/contacts/batch/archive"),
    ("POST", "/crm/v3/properties/contacts/groups"),
    ("PUT", "/crm/property-validations/2026-09/0-1/email/rule-type/REGEX"),
    ("PUT", "/crm/v4/associations/contacts/companies/labels"),
    ("PATCH", "/crm-object-schemas/v3/schemas/cars"),
    ("POST", "/crm/v3/imports"),
    ("PUT", "/crm/v3/lists/15/memberships/add"),
    ("GET", "/crm/v3/objects/contacts?associations=x&propertiesWithHistory=email"),
]
SALESFORCE = [
    ("PATCH", "/composite/sobjects/Lead/External_Id__c"),
    ("POST", "/composite/sobjects"),
    ("PATCH", "/composite/sobjects"),
    ("POST", "/composite/sobjects/Lead"),
    ("DELETE", "/composite/sobjects?ids=x,,y"),
    ("POST", "/composite"),
    ("POST", "/composite/graph"),
    ("POST", "/composite/tree/Account"),
    ("POST", "/sobjects/Lead"),
    ("PATCH", "/sobjects/Lead/External_Id__c/1"),
    ("POST", "/jobs/ingest"),
    ("POST", "/jobs/query"),
]

keys = st.sampled_from(
    sorted(
        {"inputs", "id", "idProperty", "properties", "email", "plan", "records", "attributes", "type", "Lead"}
        | {
            "Account",
            "External_Id__c",
            "associations",
            "to",
            "from",
            "types",
            "filterGroups",
            "filters",
            "propertyName",
            "operator",
        }
        | {"value", "sorts", "after", "limit", "fields", "ids", "object", "operation", "compositeRequest", "url"}
        | {
            "name",
            "objectWriteTraceId",
            "labels",
            "objectTypeId",
            "processingType",
            "options",
            "eventName",
            "query",
            "Owner",
            "LastName",
        }
        | {"Company", "OwnerId", "IsConverted", "Lead_Score__c", "allOrNone", "label", "groupName", "fieldType"}
    )
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.text(max_size=6),
    st.sampled_from(
        ["email", "contacts", "0-1", "Lead", "upsert", "query", "a@x.io", "101", "EQ", "SELECT Id FROM Lead"]
    ),
)
documents = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=5)),
    max_leaves=25,
)


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    made = Sandbox("http://127.0.0.1:1", Settings(rate=None, hubspot_daily=10**9, salesforce_daily=10**9))
    made.hubspot.add("contacts", {"email": "a@x.io"})
    made.hubspot.add("companies", {"name": "Acme"})
    return made


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(document=documents, wrapped=st.booleans())
@pytest.mark.parametrize(
    ("method", "target"), HUBSPOT + [(method, f"/services/data/v62.0{path}") for method, path in SALESFORCE]
)
def test_any_json_is_answered_with_a_platforms_status(
    sandbox: Sandbox, method: str, target: str, document: Any, wrapped: bool
) -> None:
    body = {"inputs": [document], "records": [document]} if wrapped else document
    token = "sandbox-access-token" if target.startswith("/services") else "sandbox-token"
    headers = {"authorization": f"Bearer {token}", "host": "127.0.0.1:1"}
    sandbox.hubspot.limits.searches = 10**9
    answer = sandbox.application(Request(method, target, headers, orjson.dumps(body)))
    assert b"the sandbox itself failed" not in answer.body


words = st.sampled_from(
    sorted(
        {"SELECT", "Id", ",", "FROM", "Lead", "WHERE", "=", "'x'", "5", "1.5"}
        | {"null", "AND", "OR", "NOT", "(", ")", "IN", "ORDER", "BY", "LIMIT"}
        | {
            "OFFSET",
            "2026-13-45",
            "2026-01-31T10:00:00Z",
            "CreatedDate",
            "Owner.Name",
            "LIKE",
            "<",
            "Lead_Score__c",
            "COUNT",
            "DESC",
        }
        | {"NULLS", "LAST", "'", "true", "IsDeleted", "LastName"}
    )
)


@settings(max_examples=300, deadline=None)
@given(tail=st.lists(words, max_size=12))
def test_any_query_is_answered_with_a_platforms_status(sandbox: Sandbox, tail: list[str]) -> None:
    query = quote("SELECT Id FROM Lead " + " ".join(tail))
    headers = {"authorization": "Bearer sandbox-access-token"}
    answer = sandbox.application(Request("GET", f"/services/data/v62.0/query?q={query}", headers, b""))
    assert answer.status in (200, 400)
