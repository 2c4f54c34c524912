"""What a run sends: what differs from the last acknowledged payload, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.scene import COMPANIES, LEADS, PEOPLE, Scene

ADA, BO = ("ada@x.example", "Ada", 1), ("bo@x.example", "Bo", 2)


def last_body(scene: Scene, action: str = "update") -> dict[str, Any]:
    """The values of the last applied write."""
    writes = [write for write in scene.sandbox.ledger if write["action"].startswith(action)]
    values: dict[str, Any] = writes[-1]["values"]
    return values


def test_an_unchanged_run_makes_no_call_at_all(scene: Scene) -> None:
    scene.people(ADA, BO)
    scene.define()
    scene.sync()
    before = scene.calls()
    run = scene.sync()
    assert (run["exit"], run["rows"]["unchanged"], run["requests"]) == (0, 2, 0)
    assert scene.calls() == before


def test_only_changed_fields_of_a_changed_row_are_sent(scene: Scene) -> None:
    scene.people(ADA, BO)
    scene.define()
    scene.sync()
    scene.people(ADA, ("bo@x.example", "Bo", 7))
    run = scene.sync()
    assert (run["rows"]["changed"], run["delivered"]["updated"]) == (1, 1)
    assert last_body(scene) == {"workspaces_total": "7"}


def test_a_column_that_is_not_mapped_costs_nothing(scene: Scene) -> None:
    scene.people((*ADA, "a"), columns="email text, first_name text, workspaces int, noise text")
    scene.define()
    scene.sync()
    scene.people((*ADA, "b"), columns="email text, first_name text, workspaces int, other text")
    assert scene.sync()["requests"] == 0


def test_a_new_key_sends_every_mapped_field_that_is_not_null(scene: Scene) -> None:
    scene.people(("ada@x.example", None, 1))
    scene.define()
    scene.sync()
    assert set(last_body(scene, "create")) == {"email", "workspaces_total"}


@pytest.mark.parametrize(("nulls", "there"), [("clear", ""), ("ignore", "Ada")])
def test_nulls_says_what_a_value_that_turned_null_does(scene: Scene, nulls: str, there: str) -> None:
    scene.people(ADA)
    scene.define(nulls=nulls)
    scene.sync()
    scene.people(("ada@x.example", None, 1))
    run = scene.sync()
    assert run["rows"]["changed"] == (1 if nulls == "clear" else 0)
    assert (scene.contacts("firstname")["ada@x.example"] or "") == there
    assert scene.sync()["requests"] == 0


def test_an_added_field_resends_only_rows_whose_payload_differs(scene: Scene) -> None:
    rows = [("ada@x.example", "Ada", 1, "Paris"), ("bo@x.example", "Bo", 2, None)]
    scene.people(*rows, columns="email text, first_name text, workspaces int, city text")
    scene.define()
    scene.sync()
    scene.define(mapping={**PEOPLE["mapping"], "city": "city"})  # type: ignore[dict-item]
    run = scene.sync()
    assert (run["rows"]["changed"], run["rows"]["unchanged"]) == (1, 1)
    assert last_body(scene) == {"city": "Paris"}
    assert scene.sync()["requests"] == 0


def test_a_field_taken_out_of_the_mapping_sends_nothing(scene: Scene) -> None:
    scene.people(ADA, BO)
    scene.define()
    scene.sync()
    scene.define(mapping={"email": "email", "firstname": "first_name"})
    assert scene.sync()["requests"] == 0


def test_a_column_of_another_type_with_equal_values_sends_nothing(scene: Scene) -> None:
    scene.people(ADA, BO)
    scene.define()
    scene.sync()
    for kind in ("decimal(18,4)", "double", "hugeint", "text", "utinyint"):
        scene.people(ADA, BO, columns=f"email text, first_name text, workspaces {kind}")
        assert scene.sync()["requests"] == 0, kind


def test_a_constant_and_a_default_are_sent_like_columns(scene: Scene) -> None:
    scene.people(("ada@x.example", None), columns="email text, plan text")
    mapping = {"email": "email", "lifecyclestage": {"value": "customer"}, "plan": {"column": "plan", "default": "free"}}
    scene.define(mapping=mapping)
    assert scene.sync()["exit"] == 0
    assert scene.contacts("lifecyclestage", "plan") == {"ada@x.example": ("customer", "free")}
    assert scene.sync()["requests"] == 0


def test_compare_false_is_never_a_reason_to_send_but_travels_along(scene: Scene) -> None:
    scene.people(ADA)
    mapping = {
        "email": "email",
        "firstname": "first_name",
        "workspaces_total": {"column": "workspaces", "compare": False},
    }
    scene.define(mapping=mapping)
    scene.sync()
    scene.people(("ada@x.example", "Ada", 9))
    assert scene.sync()["requests"] == 0
    scene.people(("ada@x.example", "Adele", 9))
    assert scene.sync()["rows"]["changed"] == 1
    assert scene.contacts("firstname", "workspaces_total") == {"ada@x.example": ("Adele", "9")}


def test_a_changed_match_value_moves_the_same_record(scene: Scene) -> None:
    columns = "id bigint, email text, first_name text"
    scene.people((1, "ada@x.example", "Ada"), columns=columns)
    scene.define(key="id", mapping={"email": "email", "firstname": "first_name"})
    scene.sync()
    (before,) = scene.records("contacts")
    scene.people((1, "ada@new.example", "Ada"), columns=columns)
    assert scene.sync()["rows"]["changed"] == 1
    (after,) = scene.records("contacts")
    assert (after["id"], after["properties"]["email"]) == (before["id"], "ada@new.example")


def test_two_rows_that_swap_their_match_values_end_right(scene: Scene) -> None:
    columns = "id bigint, code text, name text"
    scene.table("companies", columns, [(1, "a", "One"), (2, "b", "Two")])
    scene.define(COMPANIES, mapping={"app_company_id": "code", "name": "name"})
    scene.sync()
    scene.table("companies", columns, [(1, "b", "One"), (2, "a", "Two")])
    for _ in range(3):
        run = scene.sync()
    assert run["exit"] in (0, 3)
    found = {
        record["properties"]["name"]: record["properties"]["app_company_id"] for record in scene.records("companies")
    }
    if run["exit"] == 0:
        assert found == {"One": "b", "Two": "a"}
    else:
        assert scene.rejected("people")


def test_a_record_that_is_gone_at_the_destination_is_made_again_whole(scene: Scene) -> None:
    scene.table("companies", "id text, name text", [("a", "A"), ("b", "B")])
    scene.define(COMPANIES)
    scene.sync()
    scene.sandbox.hubspot.clear()
    scene.table("companies", "id text, name text", [("a", "A"), ("b", "Bee")])
    run = scene.sync()
    assert run["exit"] == 0
    assert [record["properties"]["name"] for record in scene.records("companies")] == ["Bee"]


def test_full_sends_every_valid_row_with_all_fields(scene: Scene) -> None:
    scene.people(ADA, BO)
    scene.define(guard={"max_changed": "10%"})
    scene.sync()
    run = scene.sync(full=True)
    assert (run["exit"], run["delivered"]["updated"]) == (0, 2)
    assert scene.sync()["requests"] == 0


def test_full_clears_nulls_of_known_rows(scene: Scene) -> None:
    scene.people(ADA)
    scene.define()
    scene.sync()
    scene.people(("ada@x.example", None, 1))
    scene.define(mapping={"email": "email", "workspaces_total": "workspaces"})
    scene.sync()
    scene.define()
    scene.sync(full=True)
    assert not scene.contacts("firstname")["ada@x.example"]


def test_limit_sends_the_first_rows_in_key_order_and_leaves_the_rest_pending(scene: Scene) -> None:
    scene.people(*[(f"u{at:02}@x.example", "U", at) for at in range(20)][::-1])
    scene.define(mode="mirror")
    run = scene.sync(limit=3)
    assert (run["exit"], run["status"], run["pending"]) == (0, "succeeded", 17)
    assert set(scene.contacts()) == {f"u{at:02}@x.example" for at in range(3)}
    planned = scene.sync(limit=5, dry_run=True)
    assert planned["pending"] == 17
    assert scene.sync()["delivered"]["created"] + 3 >= 3
    assert len(scene.contacts()) == 20


def test_numeric_keys_are_ordered_as_numbers(scene: Scene) -> None:
    scene.table("companies", "id bigint, name text", [(at, f"C{at}") for at in (10, 9, 100, 2)])
    scene.define(COMPANIES)
    scene.sync(limit=2)
    assert {record["properties"]["name"] for record in scene.records("companies")} == {"C2", "C9"}


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("decimal(38,0)", ["1", "99999999999999999999999999999999999999"]),
        ("hugeint", ["-99999999999999999999999999999999999999", "5"]),
        ("uuid", ["00000000-0000-0000-0000-000000000001", "ffffffff-ffff-ffff-ffff-ffffffffffff"]),
        ("date", ["2026-01-01", "2026-02-01"]),
        ("timestamp", ["2026-01-01 00:00:00.000001", "2026-01-01 00:00:00.000002"]),
        ("timestamptz", ["2026-01-01 00:00:00.000001+05", "2026-01-01 00:00:00.000002+05"]),
        ("boolean", ["true", "false"]),
        ("double", ["0.1", "0.30000000000000004"]),
        ("decimal(10,4)", ["1.5000", "2.0000"]),
    ],
)
def test_keys_of_every_type_are_explained_forgotten_and_stay_unchanged(
    scene: Scene, kind: str, keys: list[str]
) -> None:
    scene.table("companies", f"id {kind}, name text", [(key, f"C{at}") for at, key in enumerate(keys)])
    scene.define(COMPANIES, mapping={"app_company_id": "name", "name": "name"})
    assert scene.sync()["exit"] == 0
    assert scene.sync()["rows"]["unchanged"] == 2
    scene.table("companies", f"id {kind}, name text", [(key, f"C{at}" * 70000) for at, key in enumerate(keys)])
    assert scene.sync()["exit"] == 3
    for row in scene.rejected():
        from reverse_etl import Project  # noqa: PLC0415

        found = Project.load(scene.folder).explain(
            "people", str(row["key"]).lower() if kind == "boolean" else str(row["key"])
        )
        assert found.to_json()["state"] == "invalid", row


def test_composite_keys_with_any_text_in_them_stay_apart(scene: Scene) -> None:
    rows = [
        ("a", 1, "one"),
        ("a", 2, "two"),
        ("a, 1", 1, "three"),
        ('q"', 1, "four"),
        ("", 1, "five"),
        ("[]", 1, "six"),
    ]
    scene.table("companies", "a text, b int, name text", rows)
    scene.define(COMPANIES, key=["a", "b"], mapping={"app_company_id": "name", "name": "name"}, mode="mirror")
    assert scene.sync()["delivered"]["created"] + 0 == 6
    assert scene.sync()["rows"]["unchanged"] == 6
    sample = scene.sync(full=True, dry_run=True)["plan"]["sample"]
    assert ["a", 1] in [row["key"] for row in sample]
    scene.table("companies", "a text, b int, name text", rows[1:])
    assert scene.sync()["rows"]["removed"] == 1


def test_half_a_composite_key_being_null_makes_the_row_invalid(scene: Scene) -> None:
    scene.table("companies", "a text, b int, name text", [("a", None, "one"), ("a", 2, "two")])
    scene.define(COMPANIES, key=["a", "b"], mapping={"app_company_id": "name", "name": "name"})
    assert scene.sync()["rows"]["invalid"] == 1


VALUES: list[tuple[str, str, str, str]] = [
    (
        "decimal(38,10)",
        "'1234567890123456789012345678.1234567890'",
        "workspaces_total",
        "1234567890123456789012345678.123456789",
    ),
    (
        "decimal(38,0)",
        "'99999999999999999999999999999999999999'",
        "workspaces_total",
        "99999999999999999999999999999999999999",
    ),
    (
        "hugeint",
        "'-99999999999999999999999999999999999999'",
        "workspaces_total",
        "-99999999999999999999999999999999999999",
    ),
    ("ubigint", "18446744073709551615", "workspaces_total", "18446744073709551615"),
    ("bigint", "9007199254740993", "workspaces_total", "9007199254740993"),
    ("float", "0.1", "workspaces_total", "0.1"),
    ("double", "1e21", "workspaces_total", "1000000000000000000000"),
    ("double", "-0.0", "workspaces_total", "0"),
    ("double", "1e-7", "workspaces_total", "0.0000001"),
    ("timestamp", "'2026-01-31 10:20:30.123999'", "last_active_at", "2026-01-31T10:20:30.123Z"),
    ("timestamptz", "'2026-01-31 10:20:30.5+05'", "last_active_at", "2026-01-31T05:20:30.500Z"),
    ("timestamp_ns", "'2026-01-31 10:20:30.123456789'", "last_active_at", "2026-01-31T10:20:30.123Z"),
    ("timestamp_s", "'1969-12-31 23:59:59'", "last_active_at", "1969-12-31T23:59:59.000Z"),
    ("date", "'2026-01-31'", "first_workspace_at", "2026-01-31"),
    ("date", "'2026-01-31'", "last_active_at", "2026-01-31T00:00:00.000Z"),
    ("timestamptz", "'2026-01-31 23:30:00-05'", "first_workspace_at", "2026-02-01"),
    ("text[]", "['CHAMPION', 'BLOCKER', 'CHAMPION']", "hs_buying_role", "BLOCKER;CHAMPION"),
    ("text[]", "[]", "hs_buying_role", ""),
    ("boolean", "true", "firstname", "true"),
    ("uuid", "'00000000-0000-0000-0000-00000000000A'", "firstname", "00000000-0000-0000-0000-00000000000a"),
    ("time", "'10:20:30.5'", "firstname", "10:20:30.5"),
    ("struct(a int, b text)", "{'a': 1, 'b': 'x'}", "firstname", '{"a":1,"b":"x"}'),
    ("enum('x', 'y')", "'y'", "firstname", "y"),
    ("json", "'{\"a\": [1]}'", "firstname", '{"a": [1]}'),
]


@pytest.mark.parametrize(("kind", "value", "field", "wire"), VALUES)
def test_P41_P43_a_value_arrives_exactly_and_is_unchanged_next_time(
    scene: Scene, kind: str, value: str, field: str, wire: str
) -> None:
    scene.warehouse(
        f"create table people (email text, v {kind})", f"insert into people values ('a@x.example', {value})"
    )
    scene.define(mapping={"email": "email", field: "v"})
    run = scene.sync()
    assert run["exit"] == 0, scene.rejected()
    assert (scene.contacts(field)["a@x.example"] or "") == wire
    assert scene.sync()["requests"] == 0


def test_naive_times_use_the_declared_zone(scene: Scene) -> None:
    scene.people(("a@x.example", "2026-01-31 10:00:00"), columns="email text, v timestamp")
    scene.define(mapping={"email": "email", "last_active_at": "v"}, timezone="Europe/Berlin")
    scene.sync()
    assert scene.contacts("last_active_at") == {"a@x.example": "2026-01-31T09:00:00.000Z"}


def test_P45_an_idle_run_sends_nothing_under_another_zone_locale_or_hash_seed(scene: Scene) -> None:
    scene.people(("a@x.example", "2026-01-31 10:00:00", 0.1), columns="email text, v timestamptz, w float")
    scene.define(mapping={"email": "email", "last_active_at": "v", "workspaces_total": "w"})
    assert scene.process("sync").returncode == 0
    code, document = scene.json_of_process(
        "sync", TZ="Pacific/Auckland", LC_ALL="C", PYTHONHASHSEED="7", LANG="de_DE.UTF-8"
    )
    assert (code, document["runs"][0]["requests"]) == (0, 0)


def test_leads_go_to_salesforce_by_external_id_and_only_changes_after(scene: Scene) -> None:
    columns = "id text, name text, company text, email text"
    scene.table("leads", columns, [("1", "Ada", "X", None), ("2", "Bo", "Y", "bo@y.example")])
    scene.define(LEADS)
    assert scene.sync()["delivered"]["created"] == 2
    assert scene.sync()["requests"] == 0
    scene.table("leads", columns, [("1", "Ada", "X", "ada@x.example"), ("2", "Bo", "Y", None)])
    run = scene.sync()
    assert (run["exit"], run["delivered"]["updated"]) == (0, 2)
    found = {lead["External_Id__c"]: lead.get("Email") for lead in scene.sandbox.salesforce.records("Lead")}
    assert found == {"1": "ada@x.example", "2": None}
