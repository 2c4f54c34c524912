"""What people do in Salesforce behind a sync: records deleted, brought back, made anew; in both ways of writing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.scene import LEADS, Scene, scene_in
from tests.sandbox.test_salesforce_bulk import connect, made
from tests.unit.destinations.salesforce.org import new_process

COLUMNS = "id text, name text, company text, email text"
MIRROR: dict[str, Any] = {"mode": "mirror", "guard": {"max_removed": "none"}}


@pytest.fixture(params=["never", "always"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """Every test in both ways of writing."""
    new_process()
    with scene_in(tmp_path, bulk_polls=0) as scene:
        connect(scene, bulk_from=request.param)
        yield scene


def rows(scene: Scene, **names: str) -> None:
    """A lead a key, with this last name."""
    scene.table("leads", COLUMNS, [(key, name, f"{key} Ltd", f"{key}@x.io") for key, name in names.items()])


def deleted(scene: Scene, *keys: str) -> list[str]:
    """These leads, thrown into the recycle bin by a person; their ids."""
    ids = [str(made(scene)[key]["Id"]) for key in keys]
    for each in ids:
        scene.sandbox.salesforce.delete("Lead", each)
    return ids


def names(scene: Scene) -> dict[str, str]:
    return {key: record["LastName"] for key, record in made(scene).items()}


def whole(scene: Scene, key: str) -> tuple[str, ...]:
    record = made(scene)[key]
    return (record["LastName"], record["Company"], record["Email"])


def test_a_deleted_record_is_made_anew_with_all_its_values(scene: Scene) -> None:
    scene.define(LEADS, "leads")
    rows(scene, a="Ada", b="Bob")
    scene.sync("leads")
    (before,) = deleted(scene, "a")
    rows(scene, a="Adair", b="Bobby")
    run = scene.sync("leads")
    assert (run["status"], run["delivered"]["created"], run["delivered"]["updated"]) == ("succeeded", 1, 1), run
    assert whole(scene, "a") == ("Adair", "a Ltd", "a@x.io")
    assert made(scene)["a"]["Id"] != before
    rows(scene, a="Ada", b="Bobby")
    assert scene.sync("leads")["delivered"]["updated"] == 1
    assert names(scene) == {"a": "Ada", "b": "Bobby"}


def test_a_record_that_was_deleted_and_brought_back_is_gone_on_with(scene: Scene) -> None:
    scene.define(LEADS, "leads")
    rows(scene, a="Ada")
    scene.sync("leads")
    (before,) = deleted(scene, "a")
    scene.sandbox.salesforce.undelete("Lead", before)
    rows(scene, a="Adair")
    run = scene.sync("leads")
    assert (run["delivered"]["updated"], run["delivered"]["created"]) == (1, 0), run
    assert (names(scene), made(scene)["a"]["Id"]) == ({"a": "Adair"}, before)


def test_what_a_mirror_deleted_and_a_person_brought_back_is_found_when_its_row_returns(scene: Scene) -> None:
    scene.define(LEADS, "leads", **MIRROR)
    rows(scene, a="Ada", b="Bob")
    scene.sync("leads")
    before = str(made(scene)["b"]["Id"])
    rows(scene, a="Ada")
    assert scene.sync("leads")["delivered"]["removed"] == 1
    scene.sandbox.salesforce.undelete("Lead", before)
    rows(scene, a="Ada", b="Bobby")
    run = scene.sync("leads")
    assert (run["status"], run["delivered"]["updated"], run["delivered"]["created"]) == ("succeeded", 1, 0), run
    assert made(scene)["b"]["Id"] == before
    rows(scene, a="Ada")
    assert scene.sync("leads")["delivered"]["removed"] == 1
    assert names(scene) == {"a": "Ada"}


def test_a_mirror_takes_a_record_that_is_gone_already_for_removed(scene: Scene) -> None:
    scene.define(LEADS, "leads", **MIRROR)
    rows(scene, a="Ada", b="Bob", c="Cay")
    scene.sync("leads")
    deleted(scene, "b")
    rows(scene, a="Ada")
    run = scene.sync("leads")
    assert (run["status"], run["delivered"]["removed"], run["rejected"]) == ("succeeded", 2, 0), run
    assert names(scene) == {"a": "Ada"}
    assert scene.sync("leads")["requests"] == 0


def test_a_mirror_makes_a_deleted_record_anew_when_its_row_changes(scene: Scene) -> None:
    scene.define(LEADS, "leads", **MIRROR)
    rows(scene, a="Ada", b="Bob")
    scene.sync("leads")
    deleted(scene, "b")
    rows(scene, a="Ada", b="Bobby")
    run = scene.sync("leads")
    assert (run["status"], run["delivered"]["created"]) == ("succeeded", 1), run
    assert whole(scene, "b") == ("Bobby", "b Ltd", "b@x.io")


def test_an_update_whose_record_was_deleted_goes_to_the_one_that_its_match_value_finds_now(scene: Scene) -> None:
    mapping = {"Email": "email", "LastName": "name", "Company": "company"}
    scene.define(LEADS, "leads", key="email", match="Email", mode="update", mapping=mapping)
    add = scene.sandbox.salesforce.add
    old = {key: add("Lead", {"Email": f"{key}@x.io", "LastName": "Old", "Company": "Old"}) for key in "abc"}
    rows(scene, a="Ada", b="Bob", c="Cay")
    assert scene.sync("leads")["delivered"]["updated"] == 3
    for key in "bc":
        scene.sandbox.salesforce.delete("Lead", old[key])
    other = add("Lead", {"Email": "b@x.io", "LastName": "Other", "Company": "Other"})
    rows(scene, a="Adair", b="Bobby", c="Cayce")
    run = scene.sync("leads")
    assert (run["delivered"]["updated"], run["delivered"]["created"], run["rejected"]) == (2, 0, 1), run
    assert [(row["key"], row["code"]) for row in scene.rejected("leads")] == [("c@x.io", "missing_record")]
    record = scene.sandbox.salesforce.record("Lead", other)
    assert record is not None
    assert (record["LastName"], record["Company"]) == ("Bobby", "b Ltd")
    rows(scene, a="Adair", b="Bob", c="Cayce")
    assert scene.sync("leads")["delivered"]["updated"] == 1
    scene.sandbox.salesforce.undelete("Lead", old["c"])
    code, _ = scene.json("rejected", "leads", "--retry")
    assert (code, scene.rejected("leads")) == (0, [])
    assert scene.sandbox.salesforce.record("Lead", old["c"]) is not None


def test_an_inserted_record_that_was_deleted_is_not_made_again(scene: Scene) -> None:
    scene.define(LEADS, "leads", mode="insert")
    rows(scene, a="Ada", b="Bob")
    scene.sync("leads")
    deleted(scene, "a")
    rows(scene, a="Adair", b="Bob", c="Cay")
    run = scene.sync("leads")
    assert (run["status"], run["delivered"]["created"]) == ("succeeded", 1), run
    assert names(scene) == {"b": "Bob", "c": "Cay"}
