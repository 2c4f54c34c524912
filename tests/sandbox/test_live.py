"""`sync --dry-run --live`: what the CRM holds now, beside what would be sent. It only ever reads."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.scene import COMPANIES, LEADS, PEOPLE, Scene

READS = ("/batch/read", "/query", "/oauth2/token")
LEAD_COLUMNS = "id text, name text, company text, email text"


def look(scene: Scene, name: str = "people", **wishes: Any) -> dict[str, Any]:
    """A live look; nothing is written by it, there or here."""
    state = scene.folder / ".reverse_etl"
    files = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
    written, before = len(scene.sandbox.ledger), len(list(scene.sandbox.requests))
    run = scene.sync(name, dry_run=True, live=True, **wishes)
    made = list(scene.sandbox.requests)[before:]
    assert len(scene.sandbox.ledger) == written
    assert [entry.path for entry in made if entry.method != "GET" and not entry.path.endswith(READS)] == []
    assert {path: path.read_bytes() for path in state.rglob("*") if path.is_file()} == files
    assert run["requests"] == len(made)
    found: dict[str, Any] = run["plan"]["live"]
    assert len(found["sample"]) <= 20
    return found


def counts(found: dict[str, Any]) -> dict[str, int]:
    return {name: number for name, number in found.items() if isinstance(number, int) and number}


def by_key(found: dict[str, Any]) -> dict[Any, tuple[str, dict[str, Any]]]:
    return {row["key"]: (row["state"], row["fields"]) for row in found["sample"]}


# --- HubSpot ----------------------------------------------------------------------------------------------------------


def test_before_the_first_run_each_row_is_laid_beside_the_contact_that_has_its_email(scene: Scene) -> None:
    scene.define()
    scene.people(("new@x.io", "Nia", 1), ("Other@x.io", "Olu", 2), ("same@x.io", "Sam", 3))
    scene.sandbox.hubspot.add("contacts", {"email": "other@x.io", "firstname": "Ola", "workspaces_total": "2"})
    scene.sandbox.hubspot.add("contacts", {"email": "same@x.io", "firstname": "Sam", "workspaces_total": "3.0"})
    found = look(scene)
    assert counts(found) == {"read": 2, "create": 1, "update": 1, "equal": 1}
    assert by_key(found) == {
        "new@x.io": (
            "create",
            {"email": [None, "new@x.io"], "firstname": [None, "Nia"], "workspaces_total": [None, 1]},
        ),
        "Other@x.io": ("update", {"firstname": ["Ola", "Olu"]}),
        "same@x.io": ("equal", {}),
    }


def test_only_the_fields_that_would_be_sent_are_compared_and_edits_by_people_count_as_drift(scene: Scene) -> None:
    scene.define()
    scene.people(("a@x.io", "Ann", 1), ("b@x.io", "Bob", 2), ("c@x.io", "Cat", 3))
    scene.sync()
    ids = {record["properties"]["email"]: record["id"] for record in scene.records("contacts")}
    scene.sandbox.hubspot.change("contacts", ids["a@x.io"], {"firstname": "Annie"})  # of a row that is sent
    scene.sandbox.hubspot.change("contacts", ids["c@x.io"], {"firstname": "", "workspaces_total": "30"})
    scene.people(("a@x.io", "Ann", 10), ("b@x.io", "Bob", 2), ("c@x.io", "Cat", 3))
    found = look(scene)
    assert counts(found) == {"read": 3, "update": 1, "drift": 3, "drift_looked_at": 3}
    assert found["drift_fields"] == {"firstname": 2, "workspaces_total": 1}
    assert by_key(found) == {"a@x.io": ("update", {"workspaces_total": [1, 10]})}


def test_what_was_just_sent_is_equal_in_every_type(scene: Scene) -> None:
    mapped = {"email": "email", "workspaces_total": "score", "closedate": "closed", "hs_buying_role": "roles"}
    scene.define(mapping=mapped)
    columns = "email text, score double, closed timestamp, roles text[]"
    scene.people(("A@x.io", 1.5e7, "2026-03-01 12:30:15.123456", ["CHAMPION", "BLOCKER"]), columns=columns)
    scene.sync()
    assert counts(look(scene, full=True)) == {"read": 1, "equal": 1, "drift_looked_at": 1}
    [contact] = scene.records("contacts")
    scene.sandbox.hubspot.change("contacts", contact["id"], {"hs_buying_role": "BLOCKER;CHAMPION"})
    assert counts(look(scene, full=True)) == {"read": 1, "equal": 1, "drift_looked_at": 1}


def test_a_record_is_found_by_its_id_when_somebody_changed_its_match_value(scene: Scene) -> None:
    scene.define(COMPANIES, "companies")
    scene.table("companies", "id text, name text", [("c1", "One"), ("c2", "Two")])
    scene.sync("companies")
    first = next(record for record in scene.records("companies") if record["properties"]["name"] == "One")
    scene.sandbox.hubspot.change("companies", first["id"], {"app_company_id": "mine"})
    scene.table("companies", "id text, name text", [("c1", "Eins"), ("c2", "Two")])
    found = look(scene, "companies")
    assert by_key(found) == {"c1": ("update", {"name": ["One", "Eins"]})}
    assert found["drift_fields"] == {"app_company_id": 1}


def test_a_record_that_is_gone_would_be_created_whole(scene: Scene) -> None:
    scene.define()
    scene.people(("a@x.io", "Ann", 1), ("b@x.io", "Bob", 2))
    scene.sync()
    for record in scene.records("contacts"):
        scene.sandbox.hubspot.portal.type("contacts").table.remove(record["id"])
    scene.people(("a@x.io", "Ann", 10), ("b@x.io", "Bob", 2))
    found = look(scene)
    assert counts(found) == {"create": 1, "gone": 1}
    assert by_key(found)["a@x.io"][1]["firstname"] == [None, "Ann"]


def test_an_update_never_creates_and_an_insert_never_touches(scene: Scene) -> None:
    scene.sandbox.hubspot.add("contacts", {"email": "a@x.io", "firstname": "Ann"})
    scene.people(("a@x.io", "Anna", 1), ("b@x.io", "Bob", 2))
    scene.define(mode="update")
    assert counts(look(scene)) == {"read": 1, "update": 1, "missing": 1}
    scene.define(mode="insert")
    assert counts(look(scene)) == {"read": 1, "kept": 1, "create": 1}


def test_a_plan_that_a_guard_stops_is_looked_at_too(scene: Scene) -> None:
    scene.define()
    rows = [(f"p{n}@x.io", f"P{n}", n) for n in range(40)]
    scene.people(*rows)
    scene.sync()
    scene.define(guard={"max_changed": "10%"})
    scene.people(*((email, name + "!", number) for email, name, number in rows))
    run = scene.sync(dry_run=True, live=True)
    assert (run["status"], run["exit"]) == ("guarded", 4)
    assert run["plan"]["live"]["update"] == 40
    assert len(run["plan"]["live"]["sample"]) == 20


def test_only_the_rows_of_a_limited_run_are_looked_at(scene: Scene) -> None:
    scene.define()
    scene.people(*((f"p{n:03d}@x.io", f"P{n}", n) for n in range(250)))
    assert counts(look(scene, limit=7)) == {"create": 7}
    assert counts(look(scene)) == {"create": 250}


def test_fallbacks_kept_fields_and_rows_that_fit_two_contacts_are_shown_as_a_run_would_treat_them(scene: Scene) -> None:
    mapped = {"app_user_id": "id", "email": "email", "firstname": {"column": "name", "write": "if_empty"}}
    scene.define(key="id", match=["app_user_id", "email"], mapping=mapped)
    rows = [
        ("u1", "one@x.io", "Ann"),
        ("u2", "two@x.io", "Bob"),
        ("u3", "three@x.io", "Cat"),
        ("u4", "four@x.io", "Dan"),
    ]
    scene.people(*rows, columns="id text, email text, name text")
    add = scene.sandbox.hubspot.add
    add("contacts", {"app_user_id": "u1", "email": "one@x.io", "firstname": "Annie"})
    add("contacts", {"email": "two@x.io"})
    named = [add("contacts", {"app_user_id": "u3", "email": "other@x.io"}), add("contacts", {"email": "three@x.io"})]
    found = look(scene)
    shown = by_key(found)
    assert (shown["u1"], shown["u2"]) == (
        ("kept", {}),
        ("update", {"app_user_id": [None, "u2"], "firstname": [None, "Bob"]}),
    )
    assert (shown["u3"], shown["u4"][0]) == (("ambiguous", {}), "create")
    by_name = {row["key"]: row for row in found["sample"]}
    assert by_name["u1"]["kept"] == {"firstname": ["Annie", "Ann"]}
    assert all(record in by_name["u3"]["reason"] for record in named)
    run = scene.sync()
    assert (run["delivered"], run["rejected"]) == (
        {"created": 1, "updated": 1, "removed": 0, "skipped": 1, "kept_fields": 1},
        1,
    )
    assert counts(look(scene))["drift_looked_at"] == 3
    assert look(scene)["drift_fields"] == {}


def test_a_protected_secondary_address_is_no_difference(scene: Scene) -> None:
    scene.define(match={"field": "email", "secondary": "protect"})
    scene.people(("second@x.io", "Ann", 1))
    contacts = scene.sandbox.hubspot.portal.type("contacts")
    record = scene.sandbox.hubspot.add("contacts", {"email": "first@x.io", "firstname": "Anna"})
    before = contacts.table.get(record)
    contacts.table.put(record, {**(before or {}), "hs_additional_emails": "second@x.io"}, before)
    contacts.secondary["second@x.io"] = record
    assert by_key(look(scene)) == {
        "second@x.io": ("update", {"firstname": ["Anna", "Ann"], "workspaces_total": [None, 1]})
    }
    scene.sync()
    assert scene.contacts("firstname") == {"first@x.io": "Ann"}
    assert look(scene)["drift_fields"] == {}


# --- Salesforce -------------------------------------------------------------------------------------------------------


def test_leads_are_read_back_by_external_id_and_by_record_id(scene: Scene) -> None:
    scene.define(LEADS, "leads")
    scene.table("leads", LEAD_COLUMNS, [("1", "Ada", "Acme", "ada@x.io"), ("2", "Bob", "Acme", None)])
    assert counts(look(scene, "leads")) == {"create": 2}
    scene.sync("leads")
    rows = [("1", "Ada", "Acme Inc", "ada@x.io"), ("2", "Bob", "Acme", None), ("3", "Cy", "Acme", None)]
    scene.table("leads", LEAD_COLUMNS, rows)
    ids = {record["External_Id__c"]: record["Id"] for record in scene.sandbox.salesforce.records("Lead")}
    scene.sandbox.salesforce.change("Lead", ids["2"], {"LastName": "Robert"})
    found = look(scene, "leads")
    assert counts(found) == {"read": 2, "create": 1, "update": 1, "drift": 1, "drift_looked_at": 2}
    assert by_key(found)["1"] == ("update", {"Company": ["Acme", "Acme Inc"]})
    assert found["drift_fields"] == {"LastName": 1}


def test_a_value_that_finds_two_leads_is_ambiguous(scene: Scene) -> None:
    mapped = {"Email": "email", "Company": "company"}
    scene.define(LEADS, "leads", mode="update", match="Email", mapping=mapped)
    scene.table("leads", LEAD_COLUMNS, [("1", "", "New", "two@x.io"), ("2", "", "New", "one@x.io")])
    for name, email in (("A", "two@x.io"), ("B", "two@x.io"), ("C", "one@x.io")):
        scene.sandbox.salesforce.add("Lead", {"LastName": name, "Company": "Old", "Email": email})
    found = look(scene, "leads")
    assert counts(found) == {"read": 2, "update": 1, "ambiguous": 1}
    assert by_key(found) == {"1": ("ambiguous", {}), "2": ("update", {"Company": ["Old", "New"]})}


@pytest.mark.parametrize(
    ("on_converted", "said"), [(None, "Salesforce refuses the row"), ("contact", "its contact 003")]
)
def test_a_converted_lead_is_shown_as_such_with_what_becomes_of_its_row(
    scene: Scene, on_converted: str | None, said: str
) -> None:
    scene.define(LEADS, "leads", on_converted=on_converted)
    scene.table("leads", LEAD_COLUMNS, [("1", "Ann", "Acme", None), ("2", "Bob", "Bolt", None)])
    scene.sync("leads")
    made = {lead["External_Id__c"]: lead["Id"] for lead in scene.sandbox.salesforce.records("Lead")}
    scene.sandbox.salesforce.convert_lead(made["1"])
    scene.table("leads", LEAD_COLUMNS, [("1", "Anna", "Acme", None), ("2", "Bo", "Bolt", None)])
    found = look(scene, "leads")
    assert counts(found) == {"read": 2, "update": 1, "frozen": 1, "drift_looked_at": 2}
    assert next(row for row in found["sample"] if row["state"] == "frozen")["reason"].count(said) == 1
    run = scene.sync("leads")
    assert (run["rejected"], run["delivered"]["updated"]) == ((0, 2) if on_converted else (1, 1))


def test_what_salesforce_gives_back_in_its_own_form_is_equal(scene: Scene) -> None:
    mapped = {"External_Id__c": "id", "LastName": "name", "Company": "company"}
    mapped |= {"Lead_Score__c": "score", "Workspaces_Total__c": "workspaces", "HasOptedOutOfEmail": "out"}
    scene.define(LEADS, "leads", mapping=mapped)
    columns = LEAD_COLUMNS + ", score decimal(5,2), workspaces bigint, out boolean"
    scene.table("leads", columns, [("1", " Ada ", "Acme", None, "87.50", 3, True)])
    scene.sync("leads")
    assert counts(look(scene, "leads", full=True)) == {"read": 1, "equal": 1, "drift_looked_at": 1}

    scene.table("leads", columns, [("1", " Ada ", "Acme", None, "87.50", 3, None)])
    assert by_key(look(scene, "leads")) == {"1": ("update", {"HasOptedOutOfEmail": [True, False]})}
    scene.sync("leads")
    assert counts(look(scene, "leads", full=True)) == {"read": 1, "equal": 1, "drift_looked_at": 1}


# --- what was asked ---------------------------------------------------------------------------------------------------


def test_a_live_look_is_part_of_a_dry_run(scene: Scene) -> None:
    scene.define()
    scene.people(("a@x.io", "Ann", 1))
    ended = scene.cli("sync", "--live")
    assert (ended.returncode, scene.calls()) == (2, 0)
    assert "add --dry-run" in ended.stderr


def test_the_look_is_shown_in_a_few_lines(scene: Scene) -> None:
    scene.define(PEOPLE)
    scene.people(("a@x.io", "Ann", 1), ("b@x.io", "Bob", 2))
    scene.sandbox.hubspot.add("contacts", {"email": "a@x.io", "firstname": "Anna", "workspaces_total": "1"})
    shown = scene.cli("sync", "--dry-run", "--live").stdout
    assert "in the CRM now: 1 to create · 1 to update" in shown
    assert "Anna → Ann" in shown
    code, document = scene.json("sync", "--dry-run", "--live")
    assert (code, document["runs"][0]["plan"]["live"]["create"]) == (0, 1)
