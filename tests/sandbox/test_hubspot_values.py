"""Values on their way to HubSpot: options by label, several choices, stages, addresses; what is refused, and told."""

from __future__ import annotations

from typing import Any

import pytest

from reverse_etl.sandbox.hubspot.properties import Property
from tests.sandbox.scene import COMPANIES, Scene

LABELS = {"Free": "free", "Pro": "pro"}


def define(scene: Scene, **mapping: Any) -> None:
    scene.define(mapping={"email": "email", **mapping})


def table(scene: Scene, columns: str, *rows: tuple[Any, ...]) -> None:
    scene.people(*rows, columns=f"email text, {columns}")


def codes(scene: Scene) -> dict[str, str]:
    return {row["key"]: row["code"] for row in scene.rejected()}


def problems(scene: Scene, sync: str = "people") -> list[str]:
    code, found = scene.json("check", sync, "--connect")
    assert code == (2 if found["problems"] else 0)
    return [problem["message"] for problem in found["problems"]]


# --- options ----------------------------------------------------------------------------------------------------------


def test_an_option_goes_out_by_its_value_whether_the_row_has_value_or_label(scene: Scene) -> None:
    define(scene, hs_lead_status="status")
    table(scene, "status text", ("a@x.io", "Open Deal"), ("b@x.io", "OPEN_DEAL"), ("c@x.io", "open deal"))
    run = scene.sync()
    assert scene.contacts("hs_lead_status") == {"a@x.io": "OPEN_DEAL", "b@x.io": "OPEN_DEAL"}
    assert (run["rows"]["invalid"], codes(scene)) == (1, {"c@x.io": "invalid_option"})
    before = scene.calls()
    assert scene.sync()["rows"]["unchanged"] == 2
    assert len(scene.writes()) == 1 and scene.calls() > before


def test_several_choices_come_as_a_list_or_as_text_and_leave_in_the_options_order(scene: Scene) -> None:
    define(scene, hs_buying_role="roles")
    table(scene, "roles text[]", ("a@x.io", ["END_USER", "Blocker", "END_USER"]), ("b@x.io", []), ("c@x.io", ["x;y"]))
    scene.sync()
    assert scene.contacts("hs_buying_role") == {"a@x.io": "BLOCKER;END_USER", "b@x.io": None}
    assert codes(scene) == {"c@x.io": "invalid_option"}
    table(scene, "roles text[]", ("a@x.io", ["END_USER", "Blocker"]), ("b@x.io", []))
    written = len(scene.writes())
    assert (scene.sync()["rows"]["unchanged"], len(scene.writes())) == (2, written)
    table(scene, "roles text", ("a@x.io", "Champion;BLOCKER"), ("b@x.io", "nobody"))
    scene.sync()
    assert scene.contacts("hs_buying_role")["a@x.io"] == "CHAMPION;BLOCKER"
    assert codes(scene) == {"b@x.io": "invalid_option"}


def test_an_option_that_was_added_since_is_taken_by_the_next_run(scene: Scene) -> None:
    define(scene, plan="plan")
    table(scene, "plan text", ("a@x.io", "gold"))
    assert scene.sync()["rows"]["invalid"] == 1
    options = scene.sandbox.hubspot.portal.type("contacts").properties["plan"].options
    options["gold"] = "Gold"
    scene.sandbox.hubspot.portal.type("contacts").choices.pop("plan", None)
    assert scene.sync()["delivered"]["created"] == 1
    assert (scene.contacts("plan"), scene.rejected()) == ({"a@x.io": "gold"}, [])


def test_a_live_look_compares_values_whatever_the_row_spells(scene: Scene) -> None:
    define(scene, hs_lead_status="status", hs_buying_role="roles")
    table(scene, "status text, roles text", ("a@x.io", "Open Deal", "END_USER;Blocker"))
    stored = {"hs_lead_status": "OPEN_DEAL", "hs_buying_role": "BLOCKER;END_USER"}
    scene.sandbox.hubspot.add("contacts", {"email": "a@x.io", **stored})
    run = scene.sync(dry_run=True, live=True)
    assert run["plan"]["live"]["equal"] == 1


# --- deals ------------------------------------------------------------------------------------------------------------

DEALS = {
    "source": "warehouse",
    "query": "select * from deals",
    "key": "id",
    "destination": "hubspot",
    "object": "deals",
    "match": "app_deal_id",
    "mapping": {"app_deal_id": "id", "dealname": "name", "pipeline": "line", "dealstage": "stage"},
}


def test_a_deals_stage_is_checked_beside_its_pipeline_before_any_call(scene: Scene) -> None:
    mine = Property("app_deal_id", "App deal ID", "string", "text", "dealinformation", unique=True, custom=True)
    scene.sandbox.hubspot.portal.type("deals").add_property(mine)
    scene.define(DEALS, "deals")
    rows = [
        ("1", "A", "Sales Pipeline", "Closed Won"),
        ("2", "B", "default", "closedwon"),
        ("3", "C", "default", "won"),
    ]
    scene.table("deals", "id text, name text, line text, stage text", rows)
    run = scene.sync("deals")
    assert (run["delivered"]["created"], run["rows"]["invalid"]) == (2, 1)
    stages = {
        record["properties"]["app_deal_id"]: record["properties"]["dealstage"] for record in scene.records("deals")
    }
    assert stages == {"1": "closedwon", "2": "closedwon"}
    [row] = scene.rejected("deals")
    assert (row["key"], row["code"]) == ("3", "invalid_option")


# --- the lifecycle stage ----------------------------------------------------------------------------------------------


def staged(scene: Scene, stage: str, **more: Any) -> dict[str, Any]:
    define(scene, lifecyclestage={"column": "stage", **more})
    table(scene, "stage text", ("a@x.io", stage), ("b@x.io", "customer"))
    return scene.sync()


def test_a_stage_that_hubspot_does_not_move_back_is_noted_with_the_remedy(scene: Scene) -> None:
    staged(scene, "customer")
    run = staged(scene, "Lead")
    assert scene.contacts("lifecyclestage") == {"a@x.io": "customer", "b@x.io": "customer"}
    assert (run["exit"], run["delivered"]["updated"]) == (0, 1)
    [note] = run["notes"]
    assert note == (
        "lifecyclestage was not moved back to an earlier value by HubSpot: "
        "set `allow_backward: true` in its mapping: a@x.io"
    )
    assert staged(scene, "Lead")["requests"] == 0


def test_a_stage_is_moved_back_where_the_mapping_allows_it(scene: Scene) -> None:
    staged(scene, "customer", allow_backward=True)
    before = len(scene.writes())
    run = staged(scene, "Lead", allow_backward=True)
    assert scene.contacts("lifecyclestage") == {"a@x.io": "lead", "b@x.io": "customer"}
    assert [entry.path.rpartition("/")[2] for entry in scene.writes()[before:]] == ["read", "update", "update"]
    assert (run["exit"], run["delivered"]["updated"], run.get("notes")) == (0, 1, None)
    assert staged(scene, "Lead", allow_backward=True)["requests"] == 0


def test_a_contact_of_somebody_elses_is_moved_back_too_when_a_row_first_meets_it(scene: Scene) -> None:
    scene.sandbox.hubspot.add("contacts", {"email": "a@x.io", "lifecyclestage": "opportunity"})
    staged(scene, "subscriber", allow_backward=True)
    assert scene.contacts("lifecyclestage") == {"a@x.io": "subscriber", "b@x.io": "customer"}


@pytest.mark.parametrize(
    ("order", "ended"),
    [
        ({"kind": "refuse", "code": "VALIDATION_ERROR", "message": "not now"}, ("partial", 1, 0)),
        ({"kind": "omit", "times": None}, ("partial", 0, 1)),
        ({"kind": "status", "status": 403}, ("failed", 0, 0)),
        ({"kind": "cut", "applied": True}, ("succeeded", 0, 0)),
    ],
    ids=["refused", "not answered", "stopped", "lost"],
)
def test_P21_a_stage_that_was_cleared_and_not_set_is_owed_until_it_is(
    scene: Scene, order: dict[str, Any], ended: tuple[str, int, int]
) -> None:
    staged(scene, "customer", allow_backward=True)
    scene.sandbox.faults.add(path="batch/update", after=1, **order)
    run = staged(scene, "Lead", allow_backward=True)
    assert (run["status"], run["rejected"], run["in_doubt"]) == ended
    scene.sandbox.faults.clear()
    staged(scene, "Lead", allow_backward=True)
    assert scene.contacts("lifecyclestage") == {"a@x.io": "lead", "b@x.io": "customer"}
    assert scene.rejected() == []


def test_only_the_lifecycle_stage_may_be_told_to_move_back(scene: Scene) -> None:
    define(scene, plan={"column": "plan", "allow_backward": True})
    table(scene, "plan text", ("a@x.io", "pro"))
    assert problems(scene) == ["contacts.plan moves either way by itself: take `allow_backward` out"]


# --- addresses --------------------------------------------------------------------------------------------------------


def test_what_is_no_address_is_refused_before_any_call_and_the_rest_is_left_to_hubspot(scene: Scene) -> None:
    define(scene)
    bad = ["ada", "a@b@x.io", "a b@x.io", "a@x"]
    scene.people(*((each,) for each in [*bad, "a..b@x.io", " Zoe@X.io "]), columns="email text")
    run = scene.sync()
    assert (run["rows"]["invalid"], run["rejected"], run["delivered"]["created"]) == (4, 1, 1)
    assert codes(scene) == {**dict.fromkeys(bad, "invalid_email"), "a..b@x.io": "INVALID_EMAIL"}
    assert [*scene.contacts()] == ["zoe@x.io"]


def test_a_later_change_leaves_the_address_out_unless_it_changed_itself(scene: Scene) -> None:
    scene.define(key="id", mapping={"email": "email", "firstname": "name"})
    columns = "id bigint, email text, name text"
    scene.people((1, "a@x.io", "Ann"), columns=columns)
    scene.sync()
    [record] = scene.records("contacts")
    scene.sandbox.hubspot.change("contacts", record["id"], {"email": "own@x.io"})
    scene.people((1, "a@x.io", "Anna"), columns=columns)
    scene.sync()
    assert scene.contacts("firstname") == {"own@x.io": "Anna"}
    scene.people((1, "new@x.io", "Anna"), columns=columns)
    scene.sync()
    assert scene.contacts("firstname") == {"new@x.io": "Anna"}


# --- what may be mapped, and found by ---------------------------------------------------------------------------------


def test_a_match_that_is_not_unique_is_refused_with_the_way_to_a_unique_one(scene: Scene) -> None:
    scene.define(COMPANIES, "companies", match="domain", mapping={"domain": "id", "name": "name"})
    scene.table("companies", "id text, name text", [("x.io", "X")])
    [said] = problems(scene, "companies")
    assert "companies.domain is not unique" in said and "app_company_id" in said
    assert "`reverse-etl fields companies --create` makes it as a unique one" in said
    run = scene.sync("companies")
    assert (run["exit"], scene.writes()) == (2, [])


def test_a_property_that_is_missing_comes_with_the_command_that_makes_it(scene: Scene) -> None:
    define(scene, favourite_colour="colour")
    table(scene, "colour text", ("a@x.io", "red"))
    assert problems(scene) == [
        "contacts has no field `favourite_colour`; `reverse-etl fields people --create` makes it"
    ]
    assert "reverse-etl fields people --create" in scene.cli("sync").stdout


@pytest.mark.parametrize(
    ("name", "reason"),
    [("hs_email_domain", "HubSpot calculates it"), ("createdate", "HubSpot sets it"), ("hs_object_id", "record's id")],
)
def test_what_hubspot_writes_itself_cannot_be_mapped(scene: Scene, name: str, reason: str) -> None:
    define(scene, **{name: "v"})
    table(scene, "v text", ("a@x.io", "1"))
    [said] = problems(scene)
    assert said.startswith(f"contacts.{name} can't be written: ") and reason in said
