"""What HubSpot's features do to one another: values to be kept, links, fallbacks and records that people changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.scene import Scene, scene_in
from tests.sandbox.test_hubspot_links import call, links

COLUMNS = "id text, email text, first_name text, title text, city text, domain text, other text"
NAMED = {"email": "email", "firstname": "first_name"}
KEPT = {"jobtitle": {"column": "title", "write": "if_empty"}, "city": {"column": "city", "write": "on_create"}}
COMPANY = {"object": "companies", "match": {"domain": "domain"}}
PARTNER = {"object": "companies", "match": {"domain": "other"}}
CONTACTS = "/crm/objects/2026-09/contacts"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Search that sees everything at once, and two companies."""
    with scene_in(tmp_path, search_lag=0.0) as ready:
        for name in ("acme", "globex"):
            ready.sandbox.hubspot.add("companies", {"name": name, "domain": f"{name}.io"})
        yield ready


def people(scene: Scene, *rows: dict[str, str | None]) -> None:
    """Rows by column; the key is the place unless told."""
    columns = [part.split()[0] for part in COLUMNS.split(", ")]
    filled = [{"id": str(at), **row} for at, row in enumerate(rows, 1)]
    scene.people(*(tuple(row.get(name) for name in columns) for row in filled), columns=COLUMNS)


def define(scene: Scene, mapping: dict[str, Any], **changes: Any) -> None:
    scene.define(mapping={**NAMED, **mapping}, **{"key": "id", **changes})


def ids(scene: Scene) -> dict[str, str]:
    return {record["properties"]["email"]: record["id"] for record in scene.records("contacts")}


def merge(scene: Scene, primary: str, other: str) -> None:
    call(scene, "POST", f"{CONTACTS}/merge", {"primaryObjectId": primary, "objectIdToMerge": other})


def with_secondary(scene: Scene, primary: str, secondary: str) -> None:
    """A contact with two addresses."""
    merge(scene, *(scene.sandbox.hubspot.add("contacts", {"email": email}) for email in (primary, secondary)))


# --- what a record has stays -----------------------------------------------------------------------------------------


def test_a_merged_record_keeps_what_is_written_only_where_empty(scene: Scene) -> None:
    define(scene, KEPT)
    people(scene, {"email": "a@example.com", "first_name": "Ada"})
    scene.sync("people")
    merge(scene, scene.sandbox.hubspot.add("contacts", {"email": "b@example.com"}), ids(scene)["a@example.com"])
    survivor = ids(scene)["b@example.com"]
    call(scene, "PATCH", f"{CONTACTS}/{survivor}", {"properties": {"jobtitle": "theirs"}})
    people(scene, {"email": "a@example.com", "first_name": "Adah", "title": "ours"})
    run = scene.sync("people")
    assert (run["delivered"]["updated"], run["delivered"]["kept_fields"]) == (1, 1)
    assert scene.contacts("firstname", "jobtitle") == {"b@example.com": ("Adah", "theirs")}


def test_a_record_that_somebody_made_anew_keeps_what_they_wrote(scene: Scene) -> None:
    define(scene, KEPT)
    people(scene, {"email": "a@example.com", "first_name": "Ada", "title": "ours", "city": "Rome"})
    scene.sync("people")
    call(scene, "DELETE", f"{CONTACTS}/{ids(scene)['a@example.com']}")
    scene.sandbox.hubspot.add("contacts", {"email": "a@example.com", "jobtitle": "theirs", "city": "Oslo"})
    people(scene, {"email": "a@example.com", "first_name": "Adah", "title": "ours", "city": "Rome"})
    shown = scene.sync("people", dry_run=True, live=True)["plan"]["live"]
    run = scene.sync("people")
    assert scene.contacts("firstname", "jobtitle", "city") == {"a@example.com": ("Adah", "theirs", "Oslo")}
    assert run["delivered"]["kept_fields"] == 2
    assert shown["kept_fields"] == {"city": 1, "jobtitle": 1}
    assert scene.sync("people")["requests"] == 0


def test_a_contact_found_by_its_address_after_all_keeps_what_it_has(scene: Scene) -> None:
    define(scene, {"app_user_id": "id", **KEPT}, match="app_user_id")
    scene.sandbox.hubspot.add("contacts", {"email": "a@example.com", "jobtitle": "theirs"})
    people(
        scene,
        {"email": "a@example.com", "first_name": "Ada", "title": "ours", "city": "Rome"},
        {"email": "b@example.com", "first_name": "Bob", "title": "ours", "city": "Rome"},
    )
    run = scene.sync("people")
    assert scene.contacts("app_user_id", "firstname", "jobtitle", "city") == {
        "a@example.com": ("1", "Ada", "theirs", None),
        "b@example.com": ("2", "Bob", "ours", "Rome"),
    }
    assert (run["delivered"]["created"], run["delivered"]["updated"], run["delivered"]["kept_fields"]) == (1, 1, 2)


def test_choices_that_were_added_to_others_have_not_drifted(scene: Scene) -> None:
    options = [{"label": each.upper(), "value": each, "displayOrder": at} for at, each in enumerate("abc")]
    made = {"name": "topics", "label": "Topics", "type": "enumeration", "fieldType": "checkbox", "options": options}
    call(scene, "POST", "/crm/properties/2026-09/contacts", {**made, "groupName": "contactinformation"})
    define(scene, {"topics": "title"})
    scene.sandbox.hubspot.add("contacts", {"email": "a@example.com", "topics": "a"})
    people(scene, {"email": "a@example.com", "title": ";B"}, {"email": "b@example.com", "title": "A;b"})
    scene.sync("people")
    assert scene.contacts("topics") == {"a@example.com": "a;b", "b@example.com": "a;b"}
    assert scene.sync("people", dry_run=True, live=True)["plan"]["live"]["drift_fields"] == {}


# --- protected addresses ---------------------------------------------------------------------------------------------

PROTECTED = {"field": "email", "secondary": "protect"}


def test_sending_everything_again_changes_no_protected_address(scene: Scene) -> None:
    define(scene, {}, match=PROTECTED)
    with_secondary(scene, "main@example.com", "second@example.com")
    people(scene, {"email": "second@example.com", "first_name": "Ada"})
    scene.sync("people")
    assert scene.sync("people", full=True)["delivered"]["updated"] == 1
    assert scene.contacts("firstname") == {"main@example.com": "Ada"}
    people(scene, {"email": "third@example.com", "first_name": "Ada"})
    scene.sync("people")
    assert list(scene.contacts()) == ["third@example.com"]  # an address that is new to HubSpot goes out


def test_an_address_is_protected_when_the_remembered_contact_is_gone(scene: Scene) -> None:
    define(scene, {}, match=PROTECTED)
    people(scene, {"email": "second@example.com", "first_name": "Ada"})
    scene.sync("people")
    call(scene, "DELETE", f"{CONTACTS}/{ids(scene)['second@example.com']}")
    with_secondary(scene, "main@example.com", "second@example.com")
    people(scene, {"email": "second@example.com", "first_name": "Adah"})
    assert scene.sync("people")["delivered"]["updated"] == 1
    assert scene.contacts("firstname") == {"main@example.com": "Adah"}


# --- modes -----------------------------------------------------------------------------------------------------------


def test_insert_skips_a_record_that_any_of_its_match_fields_finds(scene: Scene) -> None:
    define(scene, {"app_user_id": "id"}, mode="insert", match=["app_user_id", "email"])
    scene.sandbox.hubspot.add("contacts", {"email": "a@example.com", "firstname": "theirs"})
    people(
        scene,
        {"email": "a@example.com", "first_name": "Ada"},
        {"email": "b@example.com", "first_name": "Bob"},
    )
    run = scene.sync("people")
    assert (run["exit"], run["delivered"]["created"], run["delivered"]["skipped"]) == (0, 1, 1)
    assert scene.contacts("firstname") == {"a@example.com": "theirs", "b@example.com": "Bob"}
    assert scene.sync("people")["requests"] == 0


@pytest.mark.parametrize("match", ["email", PROTECTED])
def test_update_finds_a_contact_that_was_deleted_and_made_again(scene: Scene, match: Any) -> None:
    define(scene, {"company": COMPANY}, mode="update", match=match)
    scene.sandbox.hubspot.add("contacts", {"email": "a@example.com"})
    people(scene, {"email": "a@example.com", "first_name": "Ada", "domain": "acme.io"})
    assert scene.sync("people")["exit"] == 0
    call(scene, "DELETE", f"{CONTACTS}/{ids(scene)['a@example.com']}")
    people(scene, {"email": "a@example.com", "first_name": "Ada", "domain": "globex.io"})
    scene.sync("people")
    assert [row["message"] for row in scene.rejected()] == [
        "no record has this match value, and this sync never creates one"
    ]
    scene.sandbox.hubspot.add("contacts", {"email": "a@example.com"})
    scene.cli("rejected", "people", "--retry")
    assert scene.rejected() == []
    assert scene.contacts("firstname") == {"a@example.com": "Ada"}
    assert links(scene) == {"a@example.com": {"globex.io": []}}
    assert scene.sync("people")["requests"] == 0


# --- links that would undo one another -------------------------------------------------------------------------------


@pytest.mark.parametrize(("one", "two"), [(None, None), ("Primary", None), ("Primary", "primary")])
def test_two_links_that_would_undo_one_another_are_refused(scene: Scene, one: str | None, two: str | None) -> None:
    labelled = [{**link, **({"label": label} if label else {})} for link, label in ((COMPANY, one), (PARTNER, two))]
    define(scene, {"employer": labelled[0], "partner": {**labelled[1], "object": "company"}})
    people(scene, {"email": "a@example.com", "domain": "acme.io", "other": "acme.io"})
    ended = scene.cli("check", "--connect")
    assert ended.returncode == 2
    assert "`employer` leads to company, too" in " ".join(ended.stdout.split())
    assert scene.sync("people")["exit"] == 2
    assert scene.records("contacts") == []


def test_two_links_to_one_record_by_labels_of_their_own_go_their_own_ways(scene: Scene) -> None:
    call(scene, "POST", "/crm/associations/2026-09/contacts/companies/labels", {"label": "Partner", "name": "partner"})
    define(scene, {"employer": {**COMPANY, "label": "Primary"}, "partner": {**PARTNER, "label": "Partner"}})
    people(scene, {"email": "a@example.com", "domain": "acme.io", "other": "acme.io"})
    scene.sync("people")
    assert links(scene) == {"a@example.com": {"acme.io": ["Partner", "Primary"]}}
    people(scene, {"email": "a@example.com", "domain": "globex.io", "other": "acme.io"})
    scene.sync("people")
    assert links(scene) == {"a@example.com": {"acme.io": ["Partner"], "globex.io": ["Primary"]}}
    people(scene, {"email": "a@example.com", "domain": "acme.io", "other": "globex.io"})
    scene.sync("people")
    assert links(scene) == {"a@example.com": {"acme.io": ["Primary"], "globex.io": ["Partner"]}}


def test_a_link_that_cannot_be_hides_no_other_problem(scene: Scene) -> None:
    define(scene, {"company": {**COMPANY, "label": "Primry"}, "nme": "first_name", "createdate": "title"})
    people(scene, {"email": "a@example.com"})
    said = " ".join(scene.cli("check", "--connect").stdout.split())
    assert all(f"found: {name}" in said for name in ("company", "nme", "createdate")), said
