"""Mode append: each new row is an event, sent once, never changed and never taken back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reverse_etl.checks import check_fields
from reverse_etl.errors import InDoubt
from reverse_etl.model import Field, FieldType, ObjectSchema, Operation
from reverse_etl.testing import MemoryDestination
from tests.house import FIELDS, House, mapping, sync
from tests.project_folder import PROJECT, Crm, ProjectFolder

COLUMNS = "id INTEGER, email VARCHAR, plan VARCHAR"
ONE, TWO, THREE = (1, "a@x.io", "free"), (2, "a@x.io", "pro"), (3, "b@x.io", None)


def house(root: Path, **changes: Any) -> House:
    return House(root, sync(**{"mode": "append", "match": "", **changes}))


def events(house: House) -> dict[str, dict[str, Any]]:
    return {key: event for (_, key), event in house.crm.events.items()}


# --- what goes out ---------------------------------------------------------------------------------------------------


def test_each_new_row_is_sent_once_and_counts_as_created(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.people(ONE, TWO, THREE)
    report = at.go()
    assert (report.rows.added, report.delivered.created, report.exit_code) == (3, 3, 0)
    assert [operation for operation, _, _ in at.crm.sent()] == [Operation.APPEND] * 3
    assert events(at)["3"] == {"email": "b@x.io"}
    assert not at.crm.records
    at.idle()


def test_many_rows_may_be_about_one_record(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.people(ONE, TWO)
    assert (at.go().rows.invalid, len(events(at))) == (0, 2)


def test_a_changed_row_is_unchanged_and_a_removed_one_nothing(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.people(ONE, TWO)
    at.go()
    at.people((1, "new@x.io", "pro"), THREE)
    report = at.go()
    assert (report.rows.unchanged, report.rows.added, report.rows.changed, report.rows.removed) == (1, 1, 0, 0)
    assert events(at)["1"] == {"email": "a@x.io", "plan": "free"}
    at.people((1, None, None))
    at.idle()
    assert at.explain("1").state == "unchanged"


def test_neither_nulls_nor_compare_make_a_known_event_differ(tmp_path: Path) -> None:
    at = house(
        tmp_path,
        mapping=mapping(email="email", plan={"column": "plan", "compare": False, "nulls": "ignore"}),
    )
    at.people(ONE)
    at.go()
    at.people((1, "a@x.io", None))
    at.idle()


def test_a_removed_row_that_comes_back_is_the_same_event(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.people(ONE, TWO)
    at.go()
    at.people(ONE)
    at.idle()
    at.people(ONE, TWO)
    at.idle()


def test_a_baseline_sends_no_event_of_the_past(tmp_path: Path) -> None:
    at = house(tmp_path, first_run="baseline")
    at.people(ONE, TWO)
    assert (at.go().rows.unchanged, events(at)) == (2, {})
    at.people(ONE, TWO, THREE)
    assert at.go().delivered.created == 1
    assert list(events(at)) == ["3"]


def test_a_full_send_sends_every_event_anew_and_the_destination_keeps_the_first(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.people(ONE)
    at.go()
    at.people((1, "new@x.io", "pro"), TWO)
    report = at.go(full=True)
    assert (report.rows.changed, report.rows.added, report.delivered.created) == (1, 1, 2)
    assert [key for _, key, _ in at.crm.sent()] == ["1", "1", "2"]
    assert events(at)["1"] == {"email": "a@x.io", "plan": "free"}
    at.idle()


def test_an_event_whose_answer_was_lost_is_sent_again_with_the_next_run(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.people(ONE)
    at.crm.fail(InDoubt("cut off"), call=1, applied=True)
    report = at.run()
    assert (report.status, report.in_doubt) == ("failed", 1)
    report = at.go()
    assert (report.delivered.created, report.in_doubt, len(events(at))) == (1, 0, 1)
    at.idle()


def test_a_refused_event_is_offered_again_with_its_newest_values(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.crm.refuse(lambda row: row.get("plan") == "gold")
    at.people(ONE, (2, "b@x.io", "gold"))
    assert at.go().exit_code == 3
    at.people(ONE, (2, "b@x.io", "pro"))
    assert at.go().delivered.created == 1
    assert events(at)["2"] == {"email": "b@x.io", "plan": "pro"}
    at.idle()


def test_a_batch_refused_whole_loses_only_the_guilty_event(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.crm.refuse_batches(lambda row: row.get("plan") == "gold")
    at.people(ONE, (2, "b@x.io", "gold"), THREE)
    assert at.go().delivered.created == 2
    assert at.codes() == {"2": "BAD_BATCH"}


def test_a_live_look_at_events_is_refused(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.people(ONE)
    report = at.run(dry_run=True, live=True)
    assert report.error is not None
    assert (report.error.code, "people appends" in report.error.message) == ("destination_config", True)


# --- what an object may say ------------------------------------------------------------------------------------------


EVENT = ObjectSchema(
    "opened",
    {name: Field(name, FieldType.TEXT) for name in ("email", "utk", "plan")},
    modes=frozenset({"append"}),
    needs_one_of=("email", "utk"),
)
LIST = ObjectSchema("VIPs", {"email": FIELDS[0]}, modes=frozenset({"upsert", "mirror"}), looks_up=False)


def told(schema: ObjectSchema, **changes: Any) -> list[str]:
    return [problem.message for problem in check_fields(sync(**changes), schema)]


def test_an_object_without_this_mode_names_those_that_it_has() -> None:
    (problem,) = check_fields(sync(), EVENT)
    assert problem.message == "opened has no mode `upsert`; it has append"
    assert problem.nearest == "append"
    assert told(LIST, mode="append", match="", mapping={"email": "email"}) == [
        "VIPs has no mode `append`; it has mirror, upsert"
    ]
    assert told(LIST, mode="mirror", mapping={"email": "email"}) == []


def test_an_event_that_leads_to_nobody_is_refused() -> None:
    assert told(EVENT, mode="append", match="", mapping={"plan": "plan"}) == [
        "nothing says whose opened a row is: map one of email, utk"
    ]
    assert told(EVENT, mode="append", match="", mapping={"utk": "plan"}) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"fallbacks": ("email",)},
        {"protects_match": True},
        {"mapping": mapping(email={"column": "email", "write": "on_create"})},
    ],
)
def test_an_object_that_cannot_be_looked_at_takes_one_match_and_no_condition(changes: dict[str, Any]) -> None:
    (said,) = told(LIST, **{"mapping": {"email": "email"}, **changes})
    assert said.startswith("VIPs finds its rows by one field")


class Events(MemoryDestination):
    """An account whose contacts are events of somebody's."""

    async def describe(self, object: str) -> ObjectSchema:
        return replace(await super().describe(object), modes=frozenset({"append"}), needs_one_of=("email", "utk"))


def test_a_row_that_leads_to_nobody_is_invalid(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.people(ONE, (2, None, "pro"), (3, " ", "pro"))
    report = at.go(destination=lambda: Events(account=at.crm))
    assert (report.delivered.created, report.rows.invalid) == (1, 2)
    assert at.codes() == {"2": "invalid_null_match", "3": "invalid_null_match"}


def test_a_run_in_a_mode_that_the_object_lacks_writes_nothing(tmp_path: Path) -> None:
    at = House(tmp_path)
    at.people(ONE)
    report = at.run(destination=lambda: Events(account=at.crm))
    assert (report.exit_code, at.crm.writes) == (2, [])
    assert [problem.nearest for problem in report.problems] == ["append"]


# --- what a definition may say ---------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProjectFolder:
    monkeypatch.setattr(Crm, "modes", frozenset({"upsert", "append"}))
    return ProjectFolder(tmp_path)


def test_an_event_needs_no_match_and_removes_nothing(project: ProjectFolder) -> None:
    project.sync({"key": "key: [email, plan]"}, more="mode: append")
    found = project.only()
    assert (found.matches, found.on_removed) == ((), "ignore")


def test_a_project_may_archive_what_left_and_append_events(project: ProjectFolder) -> None:
    project.write("reverse_etl.yml", PROJECT + "defaults: {on_removed: archive}\n")
    project.sync(more="mode: append")
    assert project.only().on_removed == "ignore"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("match: email", "10:1: `mode: append` finds no record: leave it out"),
        ("match: {field: email, secondary: protect}", "10:1: `mode: append` finds no record: leave it out"),
        ("on_removed: archive", "10:1: `mode: append` takes nothing back: leave it out"),
        ("on_removed: {set: {plan: gone}}", "10:1: `mode: append` takes nothing back: leave it out"),
    ],
)
def test_what_an_event_cannot_do_is_refused(project: ProjectFolder, more: str, said: str) -> None:
    project.sync(more=f"mode: append\n{more}")
    (complaint,) = project.complaints()
    assert said in complaint


def test_a_condition_on_the_record_is_refused_for_an_event(project: ProjectFolder) -> None:
    project.sync({"  plan": "  plan: {column: plan, write: if_empty}"}, more="mode: append")
    (complaint,) = project.complaints()
    assert "8:24: `mode: append` finds no record: leave it out" in complaint
