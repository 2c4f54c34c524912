"""Links between records, kept apart from them: made when both stand, waited for, taken off, made again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from reverse_etl.config.sync import FieldMapping, RemovedSet
from reverse_etl.errors import InDoubt, Unavailable
from reverse_etl.model import Operation, Parent
from reverse_etl.testing import MemoryAccount, MemoryParents
from tests.house import FIELDS, House, sync

COLUMNS = "id INTEGER, email VARCHAR, plan VARCHAR, company VARCHAR, deal VARCHAR"
MAPPING = {
    "email": "email",
    "plan": "plan",
    "company": FieldMapping(column="company", parent=Parent("domain", "companies")),
}
DEAL = {"deal": FieldMapping(column="deal", parent=Parent("code", "deals"))}


def house(root: Path, *rows: Sequence[object], two: bool = False, **changes: Any) -> House:
    mapping = {**MAPPING, **(DEAL if two else {})}
    parents = MemoryParents(companies=("domain",), deals=("code",))
    built = House(root, sync(**{"mapping": mapping, **changes}), crm=MemoryAccount(*FIELDS, parents=parents))
    built.crm.parents.add("companies", domain="acme.io")
    built.crm.parents.add("companies", domain="globex.io")
    people(built, *rows)
    return built


def people(there: House, *rows: Sequence[object]) -> None:
    there.people(*([*row, None, None][:5] for row in rows), columns=COLUMNS)


def links(there: House, field: str = "company") -> dict[str, list[str]]:
    """Each contact's parents, by e-mail: domains or codes."""
    parents = {**there.crm.parents.records["companies"], **there.crm.parents.records["deals"]}
    return {
        record["email"]: sorted(next(iter(parents[id].values())) for id in there.crm.parents.of(record_id, field))
        for record_id, record in there.crm.records.items()
    }


def asked(there: House) -> list[dict[str, tuple[Any, Any]]]:
    return [call.changes for call in there.crm.parents.calls]


A, B = "a@x.io", "b@x.io"


# --- made -----------------------------------------------------------------------------------------------------------


def test_a_link_is_made_once_its_record_stands_and_an_idle_run_makes_no_call(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "acme.io"), (2, B, "free", None))
    report = there.go()
    assert (report.delivered.created, report.rejected, report.exit_code) == (2, 0, 0)
    assert links(there) == {A: ["acme.io"], B: []}
    assert [row for call in there.crm.writes for row in call.rows] == [
        {"email": A, "plan": "free"},
        {"email": B, "plan": "free"},
    ]
    assert asked(there) == [{"1": (None, "acme.io")}]
    there.idle()
    assert there.explain("1").state == "unchanged"


def test_rows_without_a_link_cost_no_call_for_links(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", None))
    there.go()
    people(there, (1, A, "team", None))
    there.go()
    assert there.crm.parents.calls == []


def test_a_change_of_another_field_leaves_the_link_alone(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "acme.io"))
    there.go()
    people(there, (1, A, "team", "acme.io"))
    there.go()
    assert len(asked(there)) == 1


# --- waiting --------------------------------------------------------------------------------------------------------


def test_a_missing_parent_leaves_the_link_waiting_and_the_record_acknowledged(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "umbrella.io"), (2, B, "free", "acme.io"))
    report = there.go()
    assert (report.delivered.created, report.rejected, report.status, report.exit_code) == (1, 1, "partial", 3)
    assert links(there) == {A: [], B: ["acme.io"]}
    row = there.refused()["1"]
    assert (row.code, row.field, row.attempts) == ("link_waiting", "company", 1)
    assert row.message == "company: there is no such record yet: umbrella.io"
    assert row.values == {"email": A, "plan": "free", "company": "umbrella.io"}
    known = there.known()["1"]
    assert (known["f_email"], known["f_plan"], known["f_company"], known["record_id"]) == (A, "free", None, "r1")
    told = there.explain("1")
    assert (told.state, told.acknowledged and told.acknowledged["record_id"]) == ("rejected", "r1")
    assert told.reason.startswith("link_waiting: company: there is no such record yet: umbrella.io")


def test_the_next_run_retries_only_the_link_and_no_record(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "umbrella.io"))
    there.go()
    there.crm.parents.add("companies", domain="umbrella.io")
    before = len(there.crm.writes)
    report = there.go()
    assert (len(there.crm.writes), report.delivered.updated, report.rejected, report.exit_code) == (before, 1, 0, 0)
    assert links(there) == {A: ["umbrella.io"]}
    assert there.codes() == {}
    there.idle()


def test_a_link_that_keeps_waiting_is_tried_less_and_less_often(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "umbrella.io"))
    for _ in range(5):
        report = there.go()
    assert (len(there.crm.parents.calls), len(there.crm.writes), report.rejected) == (2, 1, 1)
    assert there.refused()["1"].attempts == 2
    there.crm.parents.add("companies", domain="umbrella.io")
    assert there.go(refused_only=True).delivered.updated == 1
    assert links(there) == {A: ["umbrella.io"]}


def test_a_change_of_the_record_meanwhile_goes_out_and_the_link_waits_on(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "umbrella.io"))
    there.go()
    people(there, (1, A, "team", "umbrella.io"))
    there.go()
    assert there.crm.by("email")[A]["plan"] == "team"
    assert there.codes() == {"1": "link_waiting"}
    there.crm.parents.add("companies", domain="umbrella.io")
    there.go(refused_only=True)
    assert (links(there), there.codes()) == ({A: ["umbrella.io"]}, {})


def test_a_row_that_no_longer_wants_the_link_it_waited_for_is_done(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "umbrella.io"))
    there.go()
    people(there, (1, A, "free", None))
    report = there.go()
    assert (report.rejected, there.codes(), links(there)) == (0, {}, {A: []})
    there.idle()


def test_several_parents_are_named(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "acme.io"))
    there.crm.parents.add("companies", domain="acme.io")
    there.go()
    row = there.refused()["1"]
    assert (row.code, row.message) == ("ambiguous_match", "company: acme.io finds several records: p1, p3")


def test_a_row_that_waits_behind_a_cursor_is_read_again(tmp_path: Path) -> None:
    there = house(tmp_path, cursor="id")
    people(there, (1, A, "free", "umbrella.io"), (2, B, "free", None))
    there.go()
    there.crm.parents.add("companies", domain="umbrella.io")
    people(there, (1, A, "free", "umbrella.io"), (2, B, "free", None), (3, "c@x.io", "free", None))
    report = there.go()
    assert (report.rows.retried, report.rejected) == (1, 0)
    assert links(there)[A] == ["umbrella.io"]


# --- changed, taken off ---------------------------------------------------------------------------------------------


def test_a_changed_link_is_taken_off_and_made_anew(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "acme.io"))
    there.go()
    people(there, (1, A, "free", "globex.io"))
    report = there.go()
    assert (links(there), report.delivered.updated, len(there.crm.writes)) == ({A: ["globex.io"]}, 1, 1)
    assert asked(there)[-1] == {"1": ("acme.io", "globex.io")}
    there.idle()


def test_a_link_that_turned_null_is_taken_off(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "acme.io"))
    there.go()
    people(there, (1, A, "free", None))
    there.go()
    assert links(there) == {A: []}
    there.idle()


def test_with_nulls_ignored_a_null_leaves_the_link(tmp_path: Path) -> None:
    keeping = {
        **MAPPING,
        "company": FieldMapping(column="company", nulls="ignore", parent=Parent("domain", "companies")),
    }
    there = house(tmp_path, (1, A, "free", "acme.io"), mapping=keeping)
    there.go()
    people(there, (1, A, "team", None))
    there.go()
    assert links(there) == {A: ["acme.io"]}


def test_a_link_stays_while_the_new_parent_is_awaited_and_goes_back_without_a_call(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "acme.io"))
    there.go()
    people(there, (1, A, "free", "umbrella.io"))
    there.go()
    assert (links(there), there.known()["1"]["f_company"]) == ({A: ["acme.io"]}, "acme.io")
    people(there, (1, A, "free", "acme.io"))
    there.go()
    assert (links(there), there.codes()) == ({A: ["acme.io"]}, {})
    there.idle()


def test_on_removed_set_can_take_a_link_off(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "acme.io"), on_removed=RemovedSet(set={"company": None}))
    there.go()
    people(there, (2, B, "free", None))
    report = there.go(approve=None)
    assert (report.delivered.removed, links(there)[A]) == (1, [])
    assert [call.keys for call in there.crm.writes] == [["1"], ["2"]]


# --- records that went ----------------------------------------------------------------------------------------------


def test_a_record_that_was_deleted_is_made_anew_and_linked_again(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "acme.io"))
    there.go()
    there.crm.records.clear()
    people(there, (1, A, "team", "acme.io"))
    report = there.go()
    assert (report.delivered.created, links(there)) == (1, {A: ["acme.io"]})
    there.idle()


def test_a_deleted_record_of_which_only_the_link_changes_is_noticed(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "acme.io"), (2, B, "free", "acme.io"))
    there.go()
    del there.crm.records["r1"]
    people(there, (1, A, "free", "globex.io"), (2, B, "free", "globex.io"))
    report = there.go()
    assert links(there) == {A: ["globex.io"], B: ["globex.io"]}
    assert (report.delivered.created, report.delivered.updated) == (1, 1)
    assert there.crm.by("email")[A] == {"email": A, "plan": "free"}
    there.idle()


def test_a_record_made_anew_whose_parent_went_too_waits_for_it(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "acme.io"))
    there.go()
    there.crm.records.clear()
    there.crm.parents.records["companies"].clear()
    people(there, (1, A, "team", "acme.io"))
    there.go()
    assert there.codes() == {"1": "link_waiting"}
    there.crm.parents.add("companies", domain="acme.io")
    there.go()
    assert (links(there), there.codes()) == ({A: ["acme.io"]}, {})
    there.idle()


def test_where_nothing_is_ever_created_a_deleted_record_is_a_rejected_row(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "acme.io"), mode="update")
    there.crm.add(email=A)
    there.go()
    there.crm.records.clear()
    people(there, (1, A, "free", "globex.io"))
    there.go()
    assert (there.codes(), there.crm.records) == ({"1": "missing_record"}, {})


def test_an_inserted_record_gets_its_link_later_and_nothing_else(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "umbrella.io"), (2, B, "free", "acme.io"), mode="insert")
    there.crm.add(email=B)
    report = there.go()
    assert (report.delivered.skipped, report.rejected, links(there)) == (1, 1, {A: [], B: []})
    there.crm.parents.add("companies", domain="umbrella.io")
    people(there, (1, A, "team", "umbrella.io"), (2, B, "team", "globex.io"))
    there.go()
    assert (links(there), there.codes(), len(there.crm.writes)) == ({A: ["umbrella.io"], B: []}, {}, 1)
    assert there.crm.by("email")[A]["plan"] == "free"
    there.idle()


# --- what breaks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("applied", [False, True])
def test_a_failure_in_the_middle_of_linking_acknowledges_the_record_and_retries_the_link(
    tmp_path: Path, applied: bool
) -> None:
    there = house(tmp_path, (1, A, "free", "acme.io"))
    there.crm.parents.fail(InDoubt("cut off"), applied=applied)
    report = there.run()
    assert (report.status, report.delivered.created, report.rejected) == ("failed", 0, 1)
    assert there.codes() == {"1": "link_in_doubt" if applied else "link_waiting"}
    assert "company: the record is written" in there.refused()["1"].message
    assert there.known()["1"]["record_id"] == "r1"
    report = there.go()
    assert (len(there.crm.writes), links(there), report.rejected) == (1, {A: ["acme.io"]}, 0)
    there.idle()


@pytest.mark.parametrize("first", ["acme.io", None])
@pytest.mark.parametrize("then", ["initech.io", "acme.io", None])
def test_a_link_that_was_perhaps_made_is_taken_off_when_its_row_changes(
    tmp_path: Path, first: str | None, then: str | None
) -> None:
    there = house(tmp_path, (1, A, "free", first))
    there.crm.parents.add("companies", domain="initech.io")
    there.go()
    people(there, (1, A, "free", "globex.io"))
    there.crm.parents.fail(InDoubt("cut off"), applied=True)
    there.run()
    assert links(there) == {A: ["globex.io"]}
    people(there, (1, A, "free", then))
    there.go()
    assert (links(there), there.codes()) == ({A: [then] if then else []}, {})
    there.idle()


def test_a_failure_while_a_link_changes_heals_even_if_the_row_changes_back(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "acme.io"))
    there.go()
    people(there, (1, A, "free", "globex.io"))
    there.crm.parents.refuse(lambda parent: parent["domain"] == "globex.io")
    there.go()
    assert (links(there), there.codes()) == ({A: []}, {"1": "TOO_MANY_LINKS"})
    people(there, (1, A, "free", "acme.io"))
    there.go()
    assert (links(there), there.codes()) == ({A: ["acme.io"]}, {})
    there.idle()


def test_a_record_refused_meanwhile_does_not_make_us_forget_the_link_it_is_owed(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "acme.io"))
    there.go()
    people(there, (1, A, "free", "globex.io"))
    there.crm.parents.refuse(lambda parent: parent["domain"] == "globex.io")
    there.go()
    there.crm.refuse(lambda record: record.get("plan") == "gold", code="SOLD_OUT")
    people(there, (1, A, "gold", "acme.io"))
    there.go()
    assert there.codes() == {"1": "SOLD_OUT"}
    people(there, (1, A, "free", "acme.io"))
    there.go()
    assert (links(there), there.codes()) == ({A: ["acme.io"]}, {})


def test_a_run_that_fails_before_its_links_owes_those_of_the_records_it_wrote(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "acme.io"), (2, B, "free", "acme.io"))
    there.crm.leave_out("2")
    there.crm.fail(Unavailable("down"), call=2)
    there.run()
    assert there.codes()["1"] == "link_waiting"
    there.crm.obey()
    there.go()
    assert (links(there), there.codes()) == ({A: ["acme.io"], B: ["acme.io"]}, {})
    there.idle()


def test_a_full_send_makes_sure_of_every_link(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "acme.io"))
    there.go()
    there.crm.parents.links.clear()
    there.go(full=True)
    assert links(there) == {A: ["acme.io"]}
    there.idle()


def test_after_a_full_send_a_link_whose_parent_went_is_owed(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "acme.io"))
    there.go()
    there.crm.parents.records["companies"].clear()
    there.crm.parents.links.clear()
    there.go(full=True)
    assert there.codes() == {"1": "link_waiting"}
    there.crm.parents.add("companies", domain="acme.io")
    there.go()
    assert (links(there), there.codes()) == ({A: ["acme.io"]}, {})
    there.idle()


ACME, GLOBEX, UMBRELLA = "acme.io", "globex.io", "umbrella.io"  # the last one comes late


@pytest.mark.parametrize(
    "steps",
    [
        [((ACME, None, UMBRELLA), "after"), ((GLOBEX, ACME, None), "refused"), ((ACME, UMBRELLA, GLOBEX), "after")],
        [((GLOBEX, ACME, ACME), "refused"), ((UMBRELLA, GLOBEX, None), "before"), ((None, ACME, GLOBEX), "")],
    ],
)
def test_whatever_happens_on_the_way_two_clean_runs_make_every_link_right(tmp_path: Path, steps: Any) -> None:
    there = house(tmp_path)
    for nth, (wanted, happens) in enumerate(steps):
        people(there, *((at, f"p{at}@x.io", f"plan {nth}", domain) for at, domain in enumerate(wanted)))
        if happens in ("before", "after"):
            there.crm.parents.fail(InDoubt("cut off"), applied=happens == "after")
        elif happens == "refused":
            there.crm.parents.refuse(lambda parent: parent["domain"] == GLOBEX)
        there.run()
        there.crm.parents.obey()
    there.crm.parents.add("companies", domain=UMBRELLA)
    there.go()
    there.go(refused_only=True)
    assert links(there) == {f"p{at}@x.io": [domain] if domain else [] for at, domain in enumerate(wanted)}
    there.idle()


# --- several links, dry runs ----------------------------------------------------------------------------------------


def test_each_link_of_a_row_is_acknowledged_by_itself(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "acme.io", "D1"), two=True)
    there.go()
    row = there.refused()["1"]
    assert (row.field, row.message, links(there)) == ("deal", "deal: there is no such record yet: D1", {A: ["acme.io"]})
    people(there, (1, A, "free", "globex.io", "D1"))
    there.go()
    assert links(there) == {A: ["globex.io"]}
    there.crm.parents.add("deals", code="D1")
    people(there, (1, A, "free", "acme.io", "D1"))
    there.go()
    assert (links(there), links(there, "deal"), there.codes()) == ({A: ["acme.io"]}, {A: ["D1"]}, {})
    there.idle()


def test_both_links_that_wait_are_told(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "umbrella.io", "D1"), two=True)
    there.go()
    row = there.refused()["1"]
    assert row.message == "company: there is no such record yet: umbrella.io; deal: there is no such record yet: D1"


def test_a_dry_run_shows_the_old_and_the_new_parent_and_makes_no_call(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "acme.io"))
    there.go()
    people(there, (1, A, "free", "globex.io"))
    report = there.go(dry_run=True)
    assert report.plan is not None
    assert [row.fields for row in report.plan.sample] == [{"company": ("acme.io", "globex.io")}]
    assert len(there.crm.parents.calls) == 1


def test_a_live_look_shows_a_link_as_acknowledged_and_never_as_drift(tmp_path: Path) -> None:
    there = house(tmp_path, (1, A, "free", "acme.io"), (2, B, "free", "acme.io"), (3, "c@x.io", "free", None))
    there.go()
    people(there, (1, A, "free", "globex.io"), (2, B, "free", "acme.io"), (3, "c@x.io", "free", None))
    report = there.go(dry_run=True, live=True)
    assert report.plan is not None
    assert report.plan.live is not None
    assert report.plan.live.drift == {}
    assert [(sample.state, sample.fields) for sample in report.plan.live.sample] == [
        ("update", {"company": ("acme.io", "globex.io")})
    ]


def test_a_link_that_can_not_be_is_named_with_its_place_before_anything_is_written(tmp_path: Path) -> None:
    nowhere = {**MAPPING, "company": FieldMapping(column="company", parent=Parent("domain", "compnies"))}
    there = house(tmp_path, (1, A, "free", "acme.io"), mapping=nowhere)
    report = there.run()
    assert (report.exit_code, there.crm.writes) == (2, [])
    assert "there is no object 'compnies' to link to (there are: companies, deals)" in str(report.error)


def test_rows_of_many_batches_get_their_own_links(tmp_path: Path) -> None:
    there = house(tmp_path)
    there.crm.limits = type(there.crm.limits)(batch_size=7)
    rows = [(n, f"p{n}@x.io", "free", ("acme.io", "globex.io", None, "umbrella.io")[n % 4]) for n in range(40)]
    people(there, *rows)
    report = there.go()
    assert (report.delivered.created, report.rejected) == (30, 10)
    assert links(there) == {row[1]: [row[3]] if row[3] in ("acme.io", "globex.io") else [] for row in rows}
    assert {call.operation for call in there.crm.writes} == {Operation.UPSERT}
