"""`fields SYNC --create`: what a mapping needs and the object lacks is shown, and made only when told to."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from reverse_etl import Project
from reverse_etl.errors import ConfigError
from tests.sandbox.scene import COMPANIES, LEADS, PEOPLE, Scene

COLUMNS = (
    "email text, name text, seats bigint, paying boolean, born date, seen timestamp, share decimal(9,2), tags text[]"
)
MAPPING = {
    "email": "email",
    "fs_name": "name",
    "fs_seats": "seats",
    "fs_paying": "paying",
    "fs_born": "born",
    "fs_seen": "seen",
    "fs_share": "share",
    "fs_tags": "tags",
    "fs_kind": {"value": "trial"},
}
MADE = ("name", "type", "fieldType", "groupName", "hasUniqueValue")


class Keyboard(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def wide(scene: Scene) -> Scene:
    """A sync that maps eight properties which the contacts lack."""
    row = ("ada@x.example", "Ada", 3, True, "1990-01-02", "2026-01-02 03:04:05", "1.50", ["a", "b"])
    scene.people(row, columns=COLUMNS)
    scene.define(PEOPLE, mapping=MAPPING)
    return scene


def properties(scene: Scene, kind: str = "contacts") -> dict[str, dict[str, Any]]:
    known = scene.sandbox.hubspot.portal.type(kind).properties
    return {name: known[name].document() for name in known}


def made(scene: Scene, kind: str = "contacts") -> list[tuple[Any, ...]]:
    return [
        tuple(document[key] for key in MADE)
        for name, document in sorted(properties(scene, kind).items())
        if name.startswith("fs_")
    ]


def posts(scene: Scene) -> int:
    return sum(entry.method == "POST" for entry in scene.sandbox.requests)


def test_missing_properties_are_shown_and_made_with_the_types_of_their_columns(wide: Scene) -> None:
    ended = wide.cli("fields", "people", "--create", "--yes")
    assert ended.returncode == 0
    assert "contacts in hubspot lacks 8 fields" in ended.stdout
    assert ended.stdout.index("fs_seats") < ended.stdout.index("made contacts.fs_name")
    group = "contactinformation"
    assert made(wide) == [
        ("fs_born", "date", "date", group, False),
        ("fs_kind", "string", "text", group, False),
        ("fs_name", "string", "text", group, False),
        ("fs_paying", "bool", "booleancheckbox", group, False),
        ("fs_seats", "number", "number", group, False),
        ("fs_seen", "datetime", "date", group, False),
        ("fs_share", "number", "number", group, False),
        ("fs_tags", "string", "text", group, False),
    ]
    assert [option["value"] for option in properties(wide)["fs_paying"]["options"]] == ["true", "false"]
    assert wide.sync("people")["exit"] == 0
    assert wide.contacts("fs_seats", "fs_paying", "fs_born")["ada@x.example"] == ("3", "true", "1990-01-02")


def test_a_second_time_there_is_nothing_to_make(wide: Scene) -> None:
    wide.cli("fields", "people", "--create", "--yes")
    before = posts(wide)
    ended = wide.cli("fields", "people", "--create")
    assert (ended.returncode, posts(wide)) == (0, before)
    assert "has every field that the mapping needs" in ended.stdout


def test_nothing_is_made_without_a_yes(wide: Scene) -> None:
    ended = wide.cli("fields", "people", "--create")
    assert (ended.returncode, posts(wide)) == (2, 0)
    assert "fs_seats" in ended.stdout
    assert "--yes" in ended.stderr


@pytest.mark.parametrize(("answer", "count"), [("n\n", 0), ("y\n", 8)])
def test_on_a_terminal_it_asks(wide: Scene, answer: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Keyboard(answer))
    ended = wide.cli("fields", "people", "--create")
    assert (ended.returncode, len(made(wide))) == (0, count)
    assert "Everybody who works with contacts will see them" in ended.stderr


def test_the_match_is_made_unique_and_finds_records_from_then_on(scene: Scene) -> None:
    scene.table("companies", "id text, name text", [("c1", "Copperfern")])
    scene.define(COMPANIES, "companies", match="fs_id", mapping={"fs_id": "id", "name": "name"})
    assert scene.cli("fields", "companies", "--create", "--yes").returncode == 0
    assert made(scene, "companies") == [("fs_id", "string", "text", "companyinformation", True)]
    assert scene.sync("companies")["delivered"]["created"] == 1


def test_every_field_of_a_list_that_finds_records_is_made_unique(scene: Scene) -> None:
    scene.table("companies", "id text, other text, name text", [("c1", "o1", "Copperfern")])
    mapped = {"fs_id": "id", "fs_other_id": "other", "name": "name"}
    scene.define(COMPANIES, "companies", match=["fs_id", "fs_other_id"], mapping=mapped)
    assert scene.cli("fields", "companies", "--create", "--yes").returncode == 0
    assert [(row[0], row[-1]) for row in made(scene, "companies")] == [("fs_id", True), ("fs_other_id", True)]


def test_with_json_it_is_one_document_and_needs_a_yes(wide: Scene) -> None:
    code, document = wide.json("fields", "people", "--create")
    assert (code, posts(wide)) == (2, 0)
    assert "--yes" in document["problems"][0]["message"]
    code, document = wide.json("fields", "people", "--create", "--yes")
    assert (code, document["object"], document["refused"]) == (0, "contacts", [])
    assert document["created"][1] == {
        "name": "fs_seats",
        "label": "Fs seats",
        "type": "number",
        "control": "number",
        "group": "contactinformation",
        "unique": False,
    }


def test_a_refused_property_is_named_and_the_others_are_made(wide: Scene) -> None:
    found = Project.load(wide.folder).missing_fields("people")
    wide.cli("fields", "people", "--create", "--yes")
    wide.sandbox.hubspot.portal.type("contacts").archive_property("fs_seats")
    refused = Project.load(wide.folder).make_fields("people", [field.new for field in found])
    assert set(refused) == set(MAPPING) - {"email", "fs_seats"}
    assert refused["fs_born"].code == "OBJECT_ALREADY_EXISTS"
    assert "already exists" in refused["fs_born"].message


def test_a_name_that_hubspot_can_not_have_is_a_problem_of_the_mapping(wide: Scene) -> None:
    wide.define(PEOPLE, mapping={"email": "email", "Firstname": "name", "fs_seats": "seats"})
    code, document = wide.json("fields", "people", "--create", "--yes")
    assert (code, posts(wide)) == (2, 0)
    (problem,) = document["problems"]
    assert (problem["text"], problem["nearest"]) == ("Firstname", "firstname")
    assert problem["line"] > 0


def test_a_name_that_is_almost_one_that_is_there_is_doubted(wide: Scene) -> None:
    wide.define(PEOPLE, mapping={"email": "email", "workspace_total": "seats"})
    ended = wide.cli("fields", "people", "--create")
    assert "workspaces_total is there: is that one meant?" in ended.stdout


def test_a_missing_scope_stops_it_with_the_scope(wide: Scene) -> None:
    scopes = frozenset({"crm.objects.contacts.read", "crm.objects.contacts.write"})
    wide.write_project(token=wide.sandbox.hubspot.limits.grant(3600, scopes))
    ended = wide.cli("fields", "people", "--create", "--yes")
    assert ended.returncode == 1
    assert "crm.schemas.contacts.write" in ended.stderr


def test_salesforce_makes_no_fields_and_says_so(scene: Scene) -> None:
    scene.define(LEADS, "leads")
    with pytest.raises(ConfigError, match="making fields is not supported for this kind of destination"):
        Project.load(scene.folder).missing_fields("leads")
    ended = scene.cli("fields", "leads", "--create", "--yes")
    assert (ended.returncode, scene.calls()) == (2, 0)


LIMIT = {"status": "error", "message": "You have reached the limit of properties.", "category": "LIMIT"}


@pytest.mark.parametrize(("strikes", "code", "count"), [(1, 3, 7), (None, 1, 0)])
def test_what_hubspot_refuses_shows_beside_what_was_made(
    wide: Scene, strikes: int | None, code: int, count: int
) -> None:
    wide.sandbox.faults.add("status", method="POST", path="crm/properties", status=400, body=LIMIT, times=strikes)
    ended = wide.cli("fields", "people", "--create", "--yes")
    assert (ended.returncode, len(made(wide))) == (code, count)
    assert "contacts.fs_name: LIMIT: You have reached the limit of properties." in ended.stdout
    assert ended.stdout.count("made contacts.") == count


def test_a_lost_answer_ends_it_and_the_next_time_only_the_rest_is_missing(wide: Scene) -> None:
    wide.sandbox.faults.add("cut", method="POST", path="crm/properties", nth=3, applied=True)
    ended = wide.cli("fields", "people", "--create", "--yes")
    assert (ended.returncode, len(made(wide))) == (1, 3)
    assert "shows what is still missing" in ended.stderr
    found = Project.load(wide.folder).missing_fields("people")
    assert len(found) == 5
    assert wide.cli("fields", "people", "--create", "--yes").returncode == 0
