"""Modes and removals: what may be created, changed, archived, and by whom."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.scene import COMPANIES, LEADS, PEOPLE, Scene

ADA, BO = ("ada@x.example", "Ada", 1), ("bo@x.example", "Bo", 2)
COLUMNS = "id text, name text"


def companies(scene: Scene, *ids: str, name: str = "Co") -> None:
    scene.table("companies", COLUMNS, [(one, f"{name} {one}") for one in ids])


def there(scene: Scene) -> set[str]:
    return {record["properties"]["app_company_id"] for record in scene.records("companies")}


def test_update_never_creates_and_a_missing_record_is_a_rejected_row(scene: Scene) -> None:
    scene.people(ADA)
    scene.define()
    scene.sync()
    scene.people(("ada@x.example", "Adele", 5), BO)
    scene.define(name="update", mode="update")
    run = scene.sync("update")
    assert (run["exit"], run["rejected"], run["delivered"]["updated"], run["delivered"]["created"]) == (3, 1, 1, 0)
    assert scene.contacts("firstname") == {"ada@x.example": "Adele"}
    assert [row["key"] for row in scene.rejected("update")] == ["bo@x.example"]


def test_insert_never_updates_and_counts_an_existing_record_as_skipped(scene: Scene) -> None:
    scene.people(ADA)
    scene.define()
    scene.sync()
    scene.people(("ada@x.example", "Adele", 5), BO)
    scene.define(name="insert", mode="insert")
    run = scene.sync("insert")
    assert (run["exit"], run["delivered"]["skipped"], run["delivered"]["created"]) == (0, 1, 1)
    assert scene.contacts("firstname") == {"ada@x.example": "Ada", "bo@x.example": "Bo"}
    scene.people(("ada@x.example", "A", 5), ("bo@x.example", "B", 1))
    run = scene.sync("insert")
    assert (run["requests"], run["rows"]["unchanged"]) == (0, 2)


def test_mirror_archives_only_records_that_this_sync_wrote(scene: Scene) -> None:
    companies(scene, "a", "b")
    scene.define(COMPANIES, name="other")
    scene.sync("other")
    companies(scene, "b", "c", "d")
    scene.define(COMPANIES, name="mirror", mode="mirror")
    scene.sync("mirror")
    companies(scene, "c", "d")
    run = scene.sync("mirror")
    assert (run["exit"], run["rows"]["removed"], run["delivered"]["removed"]) == (0, 1, 1)
    assert there(scene) == {"a", "c", "d"}
    assert scene.sync("mirror")["requests"] == 0


def test_a_row_that_comes_back_after_a_removal_is_added_again(scene: Scene) -> None:
    companies(scene, "a", "b")
    scene.define(COMPANIES, mode="mirror")
    scene.sync()
    companies(scene, "a")
    scene.sync()
    companies(scene, "a", "b")
    run = scene.sync()
    assert (run["exit"], run["rows"]["added"] + run["rows"]["changed"]) == (0, 1)
    assert there(scene) == {"a", "b"}
    assert scene.sync()["requests"] == 0


def test_upsert_ignores_removed_rows_unless_told(scene: Scene) -> None:
    companies(scene, "a", "b")
    scene.define(COMPANIES)
    scene.sync()
    companies(scene, "a")
    run = scene.sync()
    assert (run["rows"]["removed"], run["requests"]) == (0, 0)
    companies(scene, "a", "b")
    assert scene.sync()["requests"] == 0


def test_on_removed_archive_archives(scene: Scene) -> None:
    companies(scene, "a", "b")
    scene.define(COMPANIES, on_removed="archive")
    scene.sync()
    companies(scene, "a")
    assert scene.sync()["delivered"]["removed"] == 1
    assert there(scene) == {"a"}


def test_on_removed_set_is_sent_once_and_a_row_that_comes_back_is_changed(scene: Scene) -> None:
    scene.people(ADA, BO)
    scene.define(on_removed={"set": {"workspaces_total": 0}})
    scene.sync()
    scene.people(ADA)
    run = scene.sync()
    assert (run["exit"], run["rows"]["removed"], run["delivered"]["removed"]) == (0, 1, 1)
    assert scene.contacts("firstname", "workspaces_total")["bo@x.example"] == ("Bo", "0")
    assert scene.sync()["requests"] == 0
    scene.people(ADA, BO)
    run = scene.sync()
    assert (run["rows"]["changed"], run["rows"]["added"]) == (1, 0)
    assert scene.contacts("firstname", "workspaces_total")["bo@x.example"] == ("Bo", "2")
    scene.people(ADA)
    assert scene.sync()["delivered"]["removed"] == 1


def test_on_removed_set_needs_mapped_fields(scene: Scene) -> None:
    scene.people(ADA)
    scene.define(on_removed={"set": {"city": "gone"}})
    code, document = scene.json("check")
    assert code == 2
    assert (document["problems"][0]["line"] > 0, "city" in str(document["problems"])) == (True, True)


@pytest.mark.parametrize(
    ("base", "word"), [(COMPANIES, "delete"), (LEADS, "archive")], ids=["delete on HubSpot", "archive on Salesforce"]
)
def test_the_wrong_word_for_a_removal_is_refused_with_the_right_one(
    scene: Scene, base: dict[str, Any], word: str
) -> None:
    scene.table("companies", COLUMNS, [])
    scene.table("leads", "id text, name text, company text, email text", [])
    scene.define(base, on_removed=word)
    code, document = scene.json("check")
    (problem,) = document["problems"]
    assert (code, problem["text"]) == (2, word)
    assert ({"delete", "archive"} - {word}).pop() in problem["message"] + str(problem["nearest"])


def test_salesforce_mirror_deletes(scene: Scene) -> None:
    columns = "id text, name text, company text, email text"
    scene.table("leads", columns, [("1", "A", "X", None), ("2", "B", "Y", None)])
    scene.define(LEADS, mode="mirror")
    scene.sync()
    scene.table("leads", columns, [("1", "A", "X", None)])
    run = scene.sync()
    assert (run["exit"], run["delivered"]["removed"]) == (0, 1)
    assert [lead["External_Id__c"] for lead in scene.sandbox.salesforce.records("Lead")] == ["1"]
    assert scene.sync()["requests"] == 0


def test_first_run_baseline_remembers_and_sends_nothing(scene: Scene) -> None:
    scene.people(ADA, BO)
    scene.define(first_run="baseline", mode="mirror")
    run = scene.sync()
    assert (run["exit"], run["rows"]["unchanged"], run["requests"], run["pending"]) == (0, 2, 0, 0)
    assert scene.calls() == 0
    scene.people(ADA, ("bo@x.example", "Bob", 2), ("cy@x.example", "Cy", 1))
    run = scene.sync()
    assert (run["exit"], run["rows"]["added"], run["rows"]["changed"], run["rows"]["unchanged"]) == (0, 1, 1, 1)
    assert scene.contacts("firstname", "workspaces_total") == {
        "bo@x.example": ("Bob", "2"),
        "cy@x.example": ("Cy", "1"),
    }


def test_baseline_rows_are_never_removed(scene: Scene) -> None:
    scene.people(ADA, BO)
    scene.define(first_run="baseline", mode="mirror")
    scene.sync()
    scene.people(ADA)
    run = scene.sync()
    assert (run["exit"], run["rows"]["removed"], run["requests"]) == (0, 0, 0)


def test_a_baseline_dry_run_says_that_nothing_will_be_sent(scene: Scene) -> None:
    scene.people(ADA, BO)
    scene.define(first_run="baseline")
    planned = scene.sync(dry_run=True)
    run = scene.sync()
    assert (planned["rows"], planned["pending"]) == (run["rows"], 0)
    assert planned["plan"]["requests"] == 0


def test_append_to_a_crm_object_is_refused_or_sends_each_row_once(scene: Scene) -> None:
    companies(scene, "a")
    scene.define(COMPANIES, mode="append")
    code, document = scene.json("check")
    if code == 2:
        assert "append" in str(document["problems"])
        return
    scene.sync()
    companies(scene, "a", name="New")
    assert scene.sync()["rows"]["unchanged"] == 1


@pytest.mark.parametrize("write", ["if_empty"])
def test_a_key_of_the_contract_that_is_not_built_yet_is_refused_as_such(scene: Scene, write: str) -> None:
    scene.people(ADA)
    scene.define(mapping={"email": "email", "firstname": {"column": "first_name", "write": write}})
    code, document = scene.json("check")
    assert code in (0, 2)
    if code == 2:
        assert "not supported yet" in document["problems"][0]["message"]
    else:
        scene.sync()
        scene.people(("ada@x.example", "Adele", 1))
        run = scene.sync()
        assert (run["delivered"]["skipped"], run["delivered"]["kept_fields"]) == (1, 1)


def test_hs_object_id_finds_records_for_update_only(scene: Scene) -> None:
    scene.people(ADA)
    scene.define()
    scene.sync()
    record_id = scene.records("contacts")[0]["id"]
    scene.table("ids", "id text, first_name text", [(record_id, "Zoe")])
    mapping = {"hs_object_id": "id", "firstname": "first_name"}
    scene.define(
        PEOPLE, name="ids", query="select * from ids", key="id", match="hs_object_id", mapping=mapping, mode="update"
    )
    assert scene.sync("ids")["exit"] == 0
    assert scene.contacts("firstname") == {"ada@x.example": "Zoe"}
    scene.define(PEOPLE, name="ids", query="select * from ids", key="id", match="hs_object_id", mapping=mapping)
    assert scene.sync("ids", full=True)["exit"] == 2


def test_removed_rows_are_counted_in_a_dry_run_and_in_a_full_one(scene: Scene) -> None:
    companies(scene, "a", "b")
    scene.define(COMPANIES, mode="mirror")
    scene.sync()
    companies(scene, "a")
    planned = scene.sync(dry_run=True)
    assert (planned["rows"]["removed"], planned["pending"]) == (1, 1)
    assert [row["change"] for row in planned["plan"]["sample"]] == ["removed"]
    run = scene.sync(full=True)
    assert (run["rows"]["removed"], run["delivered"]["removed"]) == (1, 1)
    assert there(scene) == {"a"}


def test_limit_removes_nothing(scene: Scene) -> None:
    companies(scene, "a", "b")
    scene.define(COMPANIES, mode="mirror")
    scene.sync()
    companies(scene, "a")
    run = scene.sync(limit=5)
    assert (run["exit"], run["delivered"]["removed"], run["pending"]) == (0, 0, 1)
    assert there(scene) == {"a", "b"}
