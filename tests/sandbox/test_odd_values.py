"""Values that are seldom seen: what a CRM has of them after a run, and that the next run finds nothing to do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.scene import LEADS, Scene

CONTACTS = {
    "source": "warehouse",
    "query": "select * from odd",
    "key": "id",
    "destination": "hubspot",
    "object": "contacts",
    "match": "app_user_id",
}
TEXTS = {
    "long": "é" * 65_536,
    "emoji": "👩\u200d👩\u200d👧 ok",
    "zero width": "a\u200bb",
    "marks": "a\u2028b\x85c\ufeff",
    "bell": "a\x07",
    "decomposed": "e\u0301",
    "quotes": '"a",b;#N/A',
}
LINES = {"lines": "a\r\nb\rc", "marker": "#N/A"}  # a job's file has line ends of its own, and a meaning for the marker


def stored(scene: Scene, field: str) -> dict[str, Any]:
    """What the contacts have of a property, by their key."""
    return {
        record["properties"]["app_user_id"]: record["properties"].get(field) for record in scene.records("contacts")
    }


def fill(scene: Scene, kind: str, values: dict[str, str]) -> None:
    """The table `odd`, its values given as SQL."""
    rows = ", ".join(f"('{name}', {value})" for name, value in values.items())
    scene.warehouse(
        "drop table if exists odd", f"create table odd (id text, v {kind})", f"insert into odd values {rows}"
    )


def idle(scene: Scene, name: str = "odd") -> None:
    """The next run sends nothing."""
    written = len(scene.writes())
    run = scene.sync(name)
    assert (run["rows"]["added"], run["rows"]["changed"], len(scene.writes())) == (0, 0, written)


NUMBERS: list[tuple[str, dict[str, str], dict[str, str]]] = [
    ("double", {"a": "1e308", "b": "1e-7", "c": "-0.0", "d": "0.1"}, {"b": "0.0000001", "c": "0", "d": "0.1"}),
    (
        "decimal(38, 10)",
        {"a": "1234567890123456789012345678.0123456789", "b": "100", "c": "0.0000000001"},
        {"a": "1234567890123456789012345678.0123456789", "b": "100", "c": "0.0000000001"},
    ),
    ("hugeint", {"a": "9007199254740993"}, {"a": "9007199254740993"}),
    ("text", {"a": "' 12 '", "b": "'+5'"}, {"a": "12", "b": "5"}),
]


@pytest.mark.parametrize(("kind", "values", "expected"), NUMBERS, ids=[row[0] for row in NUMBERS])
def test_P41_numbers_arrive_digit_by_digit(
    scene: Scene, kind: str, values: dict[str, str], expected: dict[str, str]
) -> None:
    scene.define(CONTACTS, "odd", mapping={"app_user_id": "id", "lastname": "id", "workspaces_total": "v"})
    fill(scene, kind, values)
    assert scene.sync("odd")["exit"] == 0
    found = stored(scene, "workspaces_total")
    assert {name: found[name] for name in expected} == expected
    idle(scene)


def test_P42_texts_arrive_code_point_by_code_point(scene: Scene) -> None:
    scene.define(CONTACTS, "odd", mapping={"app_user_id": "id", "lastname": "id", "message": "v"})
    scene.table("odd", "id text, v text", [*TEXTS.items(), *LINES.items()])
    assert scene.sync("odd")["exit"] == 0
    assert stored(scene, "message") == TEXTS | LINES
    idle(scene)


@pytest.mark.parametrize("bulk_from", ["never", "always"])
def test_P42_texts_arrive_code_point_by_code_point_in_salesforce_by_calls_and_by_jobs(
    scene: Scene, bulk_from: str
) -> None:
    path = scene.folder / "reverse_etl.yml"
    path.write_text(path.read_text().replace("type: salesforce", f"type: salesforce\n    bulk_from: {bulk_from}"))
    mapping = {"External_Id__c": "id", "LastName": "id", "Company": "id", "Description": "v"}
    scene.define(LEADS, "odd", query="select * from odd", mapping=mapping)
    texts = {**TEXTS, **LINES, "long": "é" * 32_000}
    scene.table("odd", "id text, v text", [*texts.items()])
    assert scene.sync("odd")["exit"] == 0
    leads = {lead["External_Id__c"]: lead["Description"] for lead in scene.sandbox.salesforce.records("Lead")}
    assert leads == texts | ({"lines": "a\nb\nc"} if bulk_from == "always" else {})
    idle(scene, "odd")


def test_P43_times_arrive_in_utc_whatever_they_come_as(scene: Scene) -> None:
    scene.define(CONTACTS, "odd", mapping={"app_user_id": "id", "lastname": "id", "last_active_at": "v"})
    fill(scene, "text", {"a": "'2024-01-02T03:04:05.123456+02:00'", "b": "'1969-12-31 23:59'", "c": "'2024-01-02'"})
    assert scene.sync("odd")["exit"] == 0
    assert stored(scene, "last_active_at") == {
        "a": "2024-01-02T01:04:05.123Z",
        "b": "1969-12-31T23:59:00.000Z",
        "c": "2024-01-02T00:00:00.000Z",
    }
    idle(scene)


def test_P40_what_a_field_cannot_hold_makes_its_row_invalid_and_no_other(scene: Scene) -> None:
    mapping = {"External_Id__c": "id", "LastName": "id", "Company": "id", "NumberOfEmployees": "v"}
    scene.define(LEADS, "odd", query="select * from odd", mapping=mapping)
    fill(scene, "double", {"a": "12", "b": "1.5", "c": "'nan'", "d": "1e308"})
    run = scene.sync("odd")
    assert (run["delivered"]["created"], run["rows"]["invalid"], run["rejected"]) == (1, 3, 0)
    assert {row["key"]: row["code"] for row in scene.rejected("odd")} == {
        "b": "invalid_number",
        "c": "invalid_number",
        "d": "invalid_out_of_range",
    }
    assert len([entry for entry in scene.writes() if "composite" in entry.path]) == 1
    idle(scene)


def test_keys_that_differ_only_in_case_or_blanks_are_one_record_in_salesforce_and_several_in_hubspot(
    scene: Scene,
) -> None:
    keys = ["Ada", "ada", "ada ", "123", "0123"]
    scene.table("odd", "id text, v text", [(key, "x") for key in keys])
    scene.define(CONTACTS, "odd", mapping={"app_user_id": "id", "lastname": "v"})
    scene.define(
        LEADS, "leads", query="select * from odd", mapping={"External_Id__c": "id", "LastName": "v", "Company": "v"}
    )
    assert scene.sync("odd")["exit"] == 0
    assert sorted(stored(scene, "lastname")) == sorted(keys)
    run = scene.sync("leads")
    assert (run["delivered"]["created"], run["rows"]["invalid"]) == (3, 2)
    assert {row["code"] for row in scene.rejected("leads")} == {"invalid_match_clash"}
    idle(scene)
    idle(scene, "leads")
