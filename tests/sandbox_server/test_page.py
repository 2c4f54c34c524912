"""The page for people: what it shows, and that nothing on it is more than text."""

from __future__ import annotations

import httpx

from reverse_etl.sandbox.server import Sandbox

MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


def test_the_front_page_counts_records_and_lists_requests(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    sandbox.hubspot.add("contacts", {"email": "ada@x.io"})
    hubspot.get("/crm/v3/objects/contacts/999")
    text = hubspot.get("/").text
    assert "contacts" in text
    assert "/crm/v3/objects/contacts/999" in text
    assert "404" in text


def test_S04_values_are_text_wherever_they_stand(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    contact = sandbox.hubspot.add("contacts", {"email": "ada@x.io", "firstname": MARKUP})
    lead = sandbox.salesforce.add("Lead", {"LastName": MARKUP, "Company": MARKUP})
    hubspot.get("/crm/v3/objects/contacts/" + "%3Cscript%3E")
    for path in (
        "/",
        "/requests",
        "/records/hubspot/contacts",
        f"/records/hubspot/contacts/{contact}",
        "/records/salesforce/Lead",
        f"/records/salesforce/Lead/{lead}",
        "/records/hubspot/contacts?find=%3Cscript%3E",
        "/records/hubspot/%3Cscript%3E",
    ):
        text = hubspot.get(path).text
        assert "<script" not in text
        assert "<img" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in hubspot.get(f"/records/salesforce/Lead/{lead}").text


def test_S04_every_page_forbids_scripts_and_foreign_content(hubspot: httpx.Client) -> None:
    for path in ("/", "/style.css", "/requests", "/nothing"):
        policy = hubspot.get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'")


def test_records_are_paged_and_found_by_what_identifies_them(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    for number in range(120):
        sandbox.hubspot.add("contacts", {"email": f"u{number}@x.io", "app_user_id": f"app-{number}"})
    assert "page 1 of 3" in hubspot.get("/records/hubspot/contacts").text
    assert "u119@x.io" in hubspot.get("/records/hubspot/contacts?page=3").text
    found = hubspot.get("/records/hubspot/contacts?find=app-77").text
    assert "u77@x.io" in found
    assert "u78@x.io" not in found


def test_S03_other_sites_and_other_names_of_this_machine_are_turned_away(
    sandbox: Sandbox, hubspot: httpx.Client
) -> None:
    assert hubspot.get("/", headers={"Host": "evil.example:80"}).status_code == 403
    assert hubspot.post("/__reset", headers={"Origin": "https://evil.example"}).status_code == 403
    assert hubspot.post("/__reset").status_code == 204
    assert hubspot.get("/nothing").status_code == 404
