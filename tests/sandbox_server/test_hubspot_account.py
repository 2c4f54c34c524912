"""What an admin of the emulated HubSpot account sets, and what the account tells of itself."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from reverse_etl.sandbox.server import Sandbox

NEW, OLD = "/crm/objects/2026-09/contacts", "/crm/v3/objects/contacts"
RULES = "/crm/property-validations/2026-09/0-1"


def make(client: httpx.Client, path: str = NEW, **properties: str) -> httpx.Response:
    return client.post(path, json={"properties": {"email": "ada@x.io", **properties}, "associations": []})


def batch(client: httpx.Client, version: str, word: str, *rows: dict[str, str]) -> httpx.Response:
    inputs = [
        {"id": row["email"], "idProperty": "email", "objectWriteTraceId": row["email"], "properties": row}
        for row in rows
    ]
    base = "/crm/v3/objects" if version == "v3" else f"/crm/objects/{version}"
    return client.post(f"{base}/contacts/batch/{word}", json={"inputs": inputs})


def require(client: httpx.Client, *names: str) -> None:
    order = {"platform": "hubspot", "object": "contacts", "required": list(names)}
    assert client.post("/__rules", json=order).json() == {"object": "contacts", "required": list(names)}


def test_what_an_admin_requires_of_a_new_record_binds_writes_from_2026_09_on(hubspot: httpx.Client) -> None:
    require(hubspot, "lastname", "jobtitle")
    refused = make(hubspot, lastname="L")
    assert (refused.status_code, refused.json()["category"]) == (400, "VALIDATION_ERROR")
    assert refused.json()["context"] == {"properties": ["jobtitle"]}
    assert make(hubspot, lastname="L", jobtitle="CTO").status_code == 201
    assert make(hubspot, OLD, email="old@x.io").status_code == 201


@pytest.mark.parametrize("word", ["create", "upsert"])
@pytest.mark.parametrize(("version", "errors"), [("v3", 0), ("2026-03", 0), ("2026-09", 1)])
def test_in_a_batch_the_admins_rule_refuses_its_row_alone(
    hubspot: httpx.Client, word: str, version: str, errors: int
) -> None:
    require(hubspot, "lastname")
    answer = batch(hubspot, version, word, {"email": "a@x.io"}, {"email": "b@x.io", "lastname": "B"}).json()
    assert [error["context"]["objectWriteTraceId"] for error in answer.get("errors", [])] == [["a@x.io"]] * errors
    assert len(answer["results"]) == 2 - errors


def test_an_existing_record_may_go_on_without_what_is_required_of_new_ones(hubspot: httpx.Client) -> None:
    batch(hubspot, "2026-09", "upsert", {"email": "a@x.io"})
    require(hubspot, "lastname")
    answer = batch(hubspot, "2026-09", "upsert", {"email": "a@x.io", "firstname": "A"})
    assert answer.json()["results"][0]["new"] is False


@pytest.mark.parametrize(
    ("name", "rule", "argument", "values"),
    [
        ("jobtitle", "MIN_LENGTH", "3", ("CTO", "C")),
        ("jobtitle", "MAX_LENGTH", "3", ("CTO", "Chief")),
        ("jobtitle", "REGEX", "[A-Z]+", ("CTO", "cto")),
        ("workspaces_total", "MIN_NUMBER", "2", ("2", "1")),
        ("workspaces_total", "MAX_NUMBER", "2", ("2", "3")),
    ],
)
def test_a_property_is_held_to_its_rules_from_2026_09_on(
    hubspot: httpx.Client, name: str, rule: str, argument: str, values: tuple[str, str]
) -> None:
    good, bad = values
    assert hubspot.put(f"{RULES}/{name}/rule-type/{rule}", json={"ruleArguments": [argument]}).status_code == 204
    shown = {"ruleType": rule, "ruleArguments": [argument], "shouldApplyNormalization": False}
    assert hubspot.get(f"{RULES}/{name}/rule-type/{rule}").json() == shown
    assert hubspot.get(f"{RULES}/{name}").json() == {"results": [shown]}
    listed = {"propertyName": name, "propertyValidationRules": [shown]}
    assert hubspot.get("/crm/v3/property-validations/contacts").json() == {"results": [listed]}
    refused = make(hubspot, **{name: bad})
    assert (refused.status_code, refused.json()["errors"][0]["context"]) == (400, {"propertyName": [name]})
    assert make(hubspot, OLD, email="old@x.io", **{name: bad}).status_code == 201
    assert make(hubspot, **{name: good}).status_code == 201
    assert make(hubspot, email="none@x.io").status_code == 201


def test_a_rule_that_cannot_be_read_binds_nobody(hubspot: httpx.Client) -> None:
    for rule, arguments in (("MIN_LENGTH", []), ("REGEX", ["("]), ("SOMETHING_ELSE", ["1"])):
        hubspot.put(f"{RULES}/jobtitle/rule-type/{rule}", json={"ruleArguments": arguments})
    assert make(hubspot, jobtitle="CTO").status_code == 201
    assert hubspot.get(f"{RULES}/never").status_code == 404
    assert hubspot.get(f"{RULES}/jobtitle/rule-type/NEVER").status_code == 404


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"domain": "acme.io"}, ("acme.io", "acme.io")),
        ({"website": "https://www.acme.io/about"}, ("acme.io", "https://www.acme.io/about")),
        ({"website": "acme.io"}, ("acme.io", "acme.io")),
        ({"domain": "acme.io", "website": "acme.com"}, ("acme.io", "acme.com")),
        ({}, (None, None)),
    ],
)
def test_a_companys_domain_and_website_fill_each_other(
    sandbox: Sandbox, hubspot: httpx.Client, given: dict[str, str], kept: tuple[str | None, str | None]
) -> None:
    made = hubspot.post("/crm/v3/objects/companies", json={"properties": {"name": "Acme", **given}}).json()
    assert set(made["properties"]) & {"domain", "website"} == set(given) & {"domain", "website"}
    [held] = sandbox.hubspot.records("companies")
    assert (held["properties"].get("domain"), held["properties"].get("website")) == kept


def test_an_update_fills_the_companys_missing_half_and_leaves_the_other(
    sandbox: Sandbox, hubspot: httpx.Client
) -> None:
    company = sandbox.hubspot.add("companies", {"name": "Acme"})
    for domain, website in (("acme.io", "acme.io"), ("acme.com", "acme.io")):
        hubspot.patch(f"/crm/v3/objects/companies/{company}", json={"properties": {"domain": domain}})
        [held] = sandbox.hubspot.records("companies")
        assert (held["properties"]["domain"], held["properties"]["website"]) == (domain, website)


def test_the_account_counts_what_it_holds_against_its_limits(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    car = {"name": "cars", "labels": {"singular": "Car", "plural": "Cars"}, "properties": []}
    hubspot.post("/crm-object-schemas/v3/schemas", json=car)
    sandbox.hubspot.add("contacts", {"email": "ada@x.io"})
    sandbox.hubspot.add("cars", {})
    records = hubspot.get("/crm/limits/2026-09/records").json()
    contacts = next(entry for entry in records["hubspotDefinedObjectTypes"] if entry["objectTypeId"] == "0-1")
    assert (contacts["usage"], contacts["pluralLabel"], contacts["limit"] > 1) == (1, "Contacts", True)
    assert [entry["usage"] for entry in records["customObjectTypes"]["byObjectType"]] == [1]
    assert records["customObjectTypes"]["overallUsage"] == 1
    before = custom_properties(hubspot)
    field = {"name": "fit", "label": "Fit", "groupName": "x", "type": "number", "fieldType": "number"}
    hubspot.post("/crm/v3/properties/contacts", json=field)
    assert custom_properties(hubspot) == before + 1
    hubspot.delete("/crm/v3/properties/contacts/fit")
    assert custom_properties(hubspot) == before
    assert hubspot.get("/crm/v3/limits/custom-object-types").json()["usage"] == 1
    assert hubspot.get("/crm/v3/limits/nothing").status_code == 404


def custom_properties(client: httpx.Client) -> int:
    answer = client.get("/crm/v3/limits/custom-properties").json()
    contacts = next(entry for entry in answer["byObjectType"] if entry["objectTypeId"] == "0-1")
    assert answer["overallUsage"] == sum(entry["usage"] for entry in answer["byObjectType"])
    used: int = contacts["usage"]
    return used


@pytest.mark.parametrize(
    "order",
    [[], {}, {"platform": "hubspot", "object": "contacts"}, {"platform": "hubspot", "object": "x", "required": []}],
)
def test_a_rule_that_cannot_be_set_is_explained(hubspot: httpx.Client, order: Any) -> None:
    answer = hubspot.post("/__rules", json=order)
    assert (answer.status_code, bool(answer.json()["message"])) == (400, True)


# --- imports -------------------------------------------------------------------------------------------------------


def load(
    client: httpx.Client, content: str, *columns: tuple[str, str], kind: str = "0-1", operation: str = "UPSERT"
) -> httpx.Response:
    mapped = [
        {"columnObjectTypeId": kind, "columnName": name, "propertyName": name, "columnType": column_type}
        for name, column_type in columns
    ]
    page = {"hasHeader": True, "columnMappings": mapped}
    asked = {
        "name": "rows",
        "importOperations": {kind: operation},
        "files": [{"fileName": "rows.csv", "fileFormat": "CSV", "fileImportPage": page}],
    }
    parts: dict[str, Any] = {"importRequest": (None, _json(asked)), "files": ("rows.csv", content, "text/csv")}
    return client.post("/crm/imports/2026-09", files=parts)


def _json(value: Any) -> str:
    return httpx.Request("POST", "http://x", json=value).content.decode()


def done(client: httpx.Client, made: httpx.Response) -> dict[str, Any]:
    path = f"/crm/imports/2026-09/{made.json()['id']}"
    states = [made.json()["state"]]
    while states[-1] in ("STARTED", "PROCESSING"):
        states.append(client.get(path).json()["state"])
    assert list(dict.fromkeys(states)) == ["STARTED", "PROCESSING", "DONE"]
    finished: dict[str, Any] = client.get(path).json()
    finished["errors"] = client.get(path + "/errors").json()["results"]
    return finished


EMAIL, FIRST = ("email", "HUBSPOT_ALTERNATE_ID"), ("firstname", "STANDARD")


def test_an_import_updates_what_its_key_finds_and_names_bad_lines_by_number(
    sandbox: Sandbox, hubspot: httpx.Client
) -> None:
    sandbox.hubspot.add("contacts", {"email": "ada@x.io", "firstname": "A", "plan": "pro"})
    content = 'email,firstname,plan\nADA@x.io,"Ada, ""L""",\nbob@x.io,Bob,gold\nbad,,\ncat@x.io,Cat\n'
    finished = done(hubspot, load(hubspot, content, EMAIL, FIRST, ("plan", "STANDARD")))
    assert finished["metadata"]["counters"] == {"TOTAL_ROWS": 4, "UPDATED_OBJECTS": 1, "ERRORS": 3}
    told = [(error["sourceData"]["lineNumber"], error["errorType"]) for error in finished["errors"]]
    assert told == [(3, "INVALID_ENUMERATION_OPTION"), (4, "INVALID_EMAIL"), (5, "INCORRECT_NUMBER_OF_COLUMNS")]
    assert (finished["errors"][0]["invalidValue"], finished["errors"][0]["knownColumnNumber"]) == ("gold", 2)
    assert finished["errors"][2]["sourceData"]["rowData"] == ["cat@x.io", "Cat"]
    [ada] = sandbox.hubspot.records("contacts")
    assert (ada["properties"]["firstname"], ada["properties"]["plan"]) == ('Ada, "L"', "pro")


@pytest.mark.parametrize(
    ("operation", "counters"),
    [
        ("CREATE", {"TOTAL_ROWS": 2, "CREATED_OBJECTS": 1, "ERRORS": 1}),
        ("UPDATE", {"TOTAL_ROWS": 2, "UPDATED_OBJECTS": 1, "ERRORS": 1}),
        ("UPSERT", {"TOTAL_ROWS": 2, "UPDATED_OBJECTS": 1, "CREATED_OBJECTS": 1}),
    ],
)
def test_an_import_creates_updates_or_both(
    sandbox: Sandbox, hubspot: httpx.Client, operation: str, counters: dict[str, int]
) -> None:
    sandbox.hubspot.add("contacts", {"email": "ada@x.io"})
    made = load(hubspot, "email,firstname\nada@x.io,A\nbob@x.io,B\n", EMAIL, FIRST, operation=operation)
    assert done(hubspot, made)["metadata"]["counters"] == counters


def test_an_import_finds_records_by_their_ids(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    ada = sandbox.hubspot.add("contacts", {"email": "ada@x.io"})
    made = load(hubspot, f"id,firstname\n{ada},Ada\n", ("id", "HUBSPOT_OBJECT_ID"), FIRST)
    assert done(hubspot, made)["metadata"]["counters"] == {"TOTAL_ROWS": 1, "UPDATED_OBJECTS": 1}
    assert [write["action"] for write in sandbox.ledger] == ["update"]


def test_an_import_can_be_cancelled_before_it_is_done(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    made = load(hubspot, "email\nada@x.io\n", EMAIL).json()["id"]
    assert hubspot.post(f"/crm/imports/2026-09/{made}/cancel").json()["status"] == "COMPLETE"
    assert hubspot.get(f"/crm/imports/2026-09/{made}").json()["state"] == "CANCELED"
    assert [entry["id"] for entry in hubspot.get("/crm/v3/imports").json()["results"]] == [made]
    assert sandbox.hubspot.records("contacts") == []


def test_an_import_that_cannot_begin_says_why(hubspot: httpx.Client) -> None:
    for refused, text in (
        (load(hubspot, "x\n1\n", ("never", "STANDARD")), 'Property "never" does not exist'),
        (load(hubspot, "x\n1\n", ("firstname", "HUBSPOT_ALTERNATE_ID")), 'Property "firstname" is not unique'),
        (load(hubspot, "x\n1\n", ("email", "STANDARD"), kind="9-9"), "Unable to infer object type from: 9-9"),
        (hubspot.post("/crm/v3/imports", files={"importRequest": (None, "nonsense")}), "Invalid input JSON"),
        (hubspot.post("/crm/v3/imports", files={"importRequest": (None, "{}")}), "importRequest and files"),
    ):
        assert refused.status_code == 400
        assert text in refused.json()["message"]


def test_what_is_not_known_of_the_real_service_can_be_set_each_way(hubspot: httpx.Client) -> None:
    order = {"mixed_status": 200, "echo_trace_ids": True}
    now = {"mixed_status": 200, "update_traces": True, "echo_trace_ids": True, "strict": False}
    assert hubspot.post("/__unsure", json=order).json() == now
    answer = batch(hubspot, "2026-09", "upsert", {"email": "a@x.io"}, {"email": "bad"})
    assert (answer.status_code, answer.json()["results"][0]["objectWriteTraceId"]) == (200, "a@x.io")
    wrongs: list[Any] = [{"mixed_status": "200"}, {"unknown": True}, ["strict"]]
    for wrong in wrongs:
        assert hubspot.post("/__unsure", json=wrong).status_code == 400
        assert hubspot.post("/__unsure", json={}).json() == now


def test_a_reset_forgets_what_an_admin_has_set(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    require(hubspot, "lastname")
    hubspot.put(f"{RULES}/jobtitle/rule-type/MIN_LENGTH", json={"ruleArguments": ["3"]})
    hubspot.post("/__rules", json={"platform": "salesforce", "object": "Lead", "duplicate_field": "Email"})
    assert hubspot.post("/__reset").status_code == 204
    assert make(hubspot, jobtitle="C").status_code == 201
    assert sandbox.salesforce.org.duplicate_rules == {}
