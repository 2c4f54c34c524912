"""Bad input rows: invalid with column and reason, before any call; the others go on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.scene import COMPANIES, PEOPLE, Scene

ADA, BO = ("ada@x.example", "Ada", 1), ("bo@x.example", "Bo", 2)


def codes(scene: Scene, sync: str = "people") -> dict[Any, str]:
    return {row["key"]: row["code"] for row in scene.rejected(sync)}


def mapped(**more: Any) -> dict[str, Any]:
    return {"email": "email", **more}


def test_P38_rows_with_a_null_key_are_invalid_and_share_one_entry(scene: Scene) -> None:
    scene.people(ADA, (None, "No", 1), (None, "Nobody", 2))
    scene.define()
    run = scene.sync()
    assert (run["exit"], run["status"]) == (3, "partial")
    assert (run["rows"]["invalid"], run["delivered"]["created"] + run["delivered"]["updated"]) == (2, 1)
    (entry,) = scene.rejected()
    assert entry["key"] is None
    assert entry["code"].startswith("invalid_")
    assert (entry["request_id"], entry["attempts"], entry["count"]) == (None, 0, 2)


def test_P38_every_row_of_a_repeated_key_is_invalid(scene: Scene) -> None:
    scene.people(ADA, BO, ("bo@x.example", "Bob", 3))
    scene.define()
    run = scene.sync()
    assert run["rows"]["invalid"] == 2
    assert codes(scene) == {"bo@x.example": "invalid_repeated_key"}
    assert set(scene.contacts()) == {"ada@x.example"}


def test_a_repeated_key_that_was_delivered_before_is_neither_removed_nor_changed(scene: Scene) -> None:
    scene.people(ADA, BO)
    scene.define(mode="mirror")
    scene.sync()
    scene.people(ADA, ("bo@x.example", "X", 1), ("bo@x.example", "Y", 1))
    run = scene.sync()
    assert (run["exit"], run["rows"]["removed"], run["rows"]["invalid"]) == (3, 0, 2)
    assert scene.contacts("firstname")["bo@x.example"] == "Bo"
    scene.people(ADA, BO)
    run = scene.sync()
    assert (run["exit"], run["rows"]["unchanged"]) == (0, 2)
    assert scene.rejected() == []


def test_P38_of_rows_that_render_to_one_match_value_the_first_in_key_order_goes_out(scene: Scene) -> None:
    scene.people(("Ada@x.example", "Big", 1), ("ada@x.example", "Small", 1), BO)
    scene.define()
    run = scene.sync()
    assert (run["rows"]["invalid"], len(scene.contacts())) == (1, 2)
    (entry,) = scene.rejected()
    assert entry["code"] == "invalid_match_clash"
    again = scene.sync()
    assert again["exit"] == 3
    assert scene.rejected()[0]["key"] == entry["key"]


def test_P38_the_row_that_owns_the_record_keeps_it_when_a_rival_sorts_before(scene: Scene) -> None:
    scene.people(("ada@x.example", "Small", 1), BO)
    scene.define()
    scene.sync()
    scene.people(("Ada@x.example", "Big", 1), ("ada@x.example", "Small", 5), BO)
    scene.sync()
    assert codes(scene) == {"Ada@x.example": "invalid_match_clash"}
    assert scene.contacts("firstname", "workspaces_total")["ada@x.example"] == ("Small", "5")


def test_on_duplicate_none_refuses_every_rival(scene: Scene) -> None:
    scene.people(("Ada@x.example", "Big", 1), ("ada@x.example", "Small", 1), BO)
    scene.define(on_duplicate="none")
    run = scene.sync()
    assert (run["rows"]["invalid"], set(scene.contacts())) == (2, {"bo@x.example"})


@pytest.mark.parametrize(
    ("column", "good", "bad", "field", "code"),
    [
        ("double", 1.5, float("nan"), "workspaces_total", "invalid_number"),
        ("double", 1.5, float("inf"), "workspaces_total", "invalid_number"),
        ("double", 1.5, float("-inf"), "workspaces_total", "invalid_number"),
        ("text", "3", "three", "workspaces_total", "invalid_number"),
        ("text", "Ada", "A\0da", "firstname", "invalid_text"),
        ("text", "short", "x" * 70_000, "firstname", "invalid_too_long"),
        ("text", "free", "platinum", "plan", "invalid_option"),
        ("text[]", ["CHAMPION"], ["CHAMPION", "KING"], "hs_buying_role", "invalid_option"),
        ("text", "2026-01-31", "yesterday", "first_workspace_at", "invalid_time"),
        ("timestamp", "2026-01-31 10:00:00", "infinity", "last_active_at", "invalid_time"),
        ("date", "2026-01-31", "-infinity", "first_workspace_at", "invalid_time"),
        ("date", "2026-01-31", "12026-01-31", "first_workspace_at", "invalid_time"),
        ("timestamptz", "2026-01-31 10:00:00+02", "0044-03-15 (BC) 10:00:00+00", "last_active_at", "invalid_time"),
    ],
)
def test_P40_a_bad_value_makes_its_row_invalid_with_column_and_reason(
    scene: Scene, *, column: str, good: Any, bad: Any, field: str, code: str
) -> None:
    scene.people(("ada@x.example", good), ("bad@x.example", bad), columns=f"email text, v {column}")
    scene.define(mapping=mapped(**{field: "v"}))
    planned = scene.sync(dry_run=True)
    (problem,) = planned["plan"]["problems"]
    assert (problem["code"], problem["column"], problem["count"]) == (code, field, 1)
    assert problem["keys"] == ["bad@x.example"]
    run = scene.sync()
    assert (run["exit"], run["rows"]["added"], run["rows"]["invalid"]) == (3, 1, 1)
    assert (planned["rows"], planned["pending"]) == (run["rows"], 1)
    assert codes(scene) == {"bad@x.example": code}
    assert set(scene.contacts()) == {"ada@x.example"}
    scene.people(("ada@x.example", good), ("bad@x.example", good), columns=f"email text, v {column}")
    assert scene.sync()["exit"] == 0
    assert scene.rejected() == []


def test_an_empty_match_value_is_invalid(scene: Scene) -> None:
    scene.table("companies", "id bigint, app_id text, name text", [(1, "a", "A"), (2, None, "B"), (3, " ", "C")])
    scene.define(COMPANIES, mapping={"app_company_id": "app_id", "name": "name"})
    run = scene.sync()
    assert (run["rows"]["added"], run["rows"]["invalid"]) == (1, 2)
    assert {row["key"] for row in scene.rejected()} == {2, 3}


def test_a_row_that_turned_invalid_keeps_its_record_and_comes_back_as_unchanged(scene: Scene) -> None:
    scene.people(("ada@x.example", 1.0), columns="email text, v double")
    scene.define(mapping=mapped(workspaces_total="v"), mode="mirror")
    scene.sync()
    scene.people(("ada@x.example", float("nan")), columns="email text, v double")
    assert scene.sync()["exit"] == 3
    assert scene.contacts("workspaces_total") == {"ada@x.example": "1"}
    scene.people(("ada@x.example", 1.0), columns="email text, v double")
    run = scene.sync()
    assert (run["exit"], run["rows"]["unchanged"], scene.rejected()) == (0, 1, [])


def test_an_invalid_row_that_left_the_warehouse_leaves_the_list(scene: Scene) -> None:
    scene.people(ADA, (None, "No", 1), ("Ada@x.example", "Rival", 1))
    scene.define()
    assert scene.sync()["exit"] == 3
    scene.people(("Ada@x.example", "Rival", 1))
    assert scene.sync()["exit"] == 0
    assert scene.rejected() == []


def test_invalid_rows_are_the_same_at_any_row_order(scene: Scene) -> None:
    rows = [("C@x.example", "1", 1), ("c@x.example", "2", 1), ("c@X.example", "3", 1), BO]
    scene.people(*rows)
    scene.define()
    first = scene.sync(dry_run=True)["plan"]["problems"]
    scene.people(*reversed(rows))
    assert scene.sync(dry_run=True)["plan"]["problems"] == first


def test_P42_odd_text_arrives_code_point_for_code_point(scene: Scene) -> None:
    odd = [
        "\u202eright to left",
        "e\u0301",
        "\ufeffbom",
        "\U0001f468\u200d\U0001f469",
        "tab\there",
        " spaces ",
        "\x1b[31mred",
        "\x7f",
        "line\nbreak",
        "\ufffe",
        "null",
        "''",
        '"',
        "\\u0000",
    ]
    scene.people(*[(f"u{at}@x.example", text, at) for at, text in enumerate(odd)])
    scene.define()
    run = scene.sync()
    assert run["exit"] == 0
    assert scene.contacts("firstname") == {f"u{at}@x.example": text for at, text in enumerate(odd)}
    assert scene.sync()["requests"] == 0


def test_the_rival_takes_over_when_the_owner_has_left(scene: Scene) -> None:
    scene.people(ADA, ("ADA@x.example", "Rival", 1))
    scene.define(PEOPLE, mode="mirror")
    scene.sync()
    owner = next(iter({"ada@x.example", "ADA@x.example"} - set(codes(scene))))
    rival = {"ada@x.example", "ADA@x.example"} - {owner}
    scene.people((*rival, "Heir", 9))
    run = scene.sync()
    assert (run["exit"], run["delivered"]["removed"]) == (0, 0)
    assert scene.contacts("firstname")["ada@x.example"] == "Heir"
