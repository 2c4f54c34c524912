"""Run reports as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from reverse_etl.cli import render
from reverse_etl.model import Problem
from reverse_etl.report import (
    DeliveredCounts,
    LiveSample,
    LiveSummary,
    PlanSummary,
    RowCounts,
    RowProblem,
    RowSample,
    RunError,
    RunReport,
    RunStatus,
)
from tests.unit.cli.text_of import lines

START = datetime(2026, 7, 1, 9, 0, tzinfo=UTC)


def report(**facts: Any) -> RunReport:
    return RunReport("people", "r1", START, finished_at=START + timedelta(seconds=1.2), **facts)


def shown(run: RunReport, project: str | None = None) -> list[str]:
    return lines(render.run(run, render.Commands(project)))


def test_a_run_shows_what_was_read_sent_and_called() -> None:
    run = report(
        rows=RowCounts(read=4012, added=12, changed=30, unchanged=3970),
        delivered=DeliveredCounts(created=12, updated=30),
        requests=3,
        throttled=1,
        cursor_from="2026-06-30T00:00:00Z",
        cursor_to="2026-07-01T00:00:00Z",
    )
    assert shown(run) == [
        "people  ✓ succeeded in 1.2 s",
        "rows | 4,012 read · 12 added · 30 changed · 3,970 unchanged",
        "delivered | 12 created · 30 updated",
        "calls | 3, 1 of them told to wait",
        "cursor | 2026-06-30T00:00:00Z → 2026-07-01T00:00:00Z",
    ]


def test_notes_stand_below_the_figures() -> None:
    run = report(rows=RowCounts(read=5, changed=1), requests=1, notes=["went to the lead's contact: a", "other"])
    assert shown(run)[-2:] == ["note | went to the lead's contact: a", "note | other"]


def test_of_jobs_nobody_knows_how_long_they_take() -> None:
    plan = PlanSummary(requests=9, seconds_at_limit=1.1, jobs=True)
    run = report(dry_run=True, rows=RowCounts(read=5000, added=5000), pending=5000, plan=plan)
    told = "would send 5,000 rows by jobs, in about 9 calls; the destination decides how long they take"
    assert shown(run)[-1] == told


def test_a_run_with_nothing_new_says_that_it_made_no_call() -> None:
    assert shown(report(rows=RowCounts(read=5, unchanged=5))) == [
        "people  ✓ nothing new in 1.2 s",
        "rows | 5 read · 5 unchanged",
        "calls | none",
    ]


def test_P56_a_run_with_rejected_rows_never_looks_like_success_and_ends_with_what_to_type() -> None:
    run = report(
        status=RunStatus.PARTIAL, rows=RowCounts(read=2, added=1, invalid=1), rejected=2, in_doubt=1, requests=1
    )
    assert shown(run, project="my dir") == [
        "people  ● partly delivered in 1.2 s",
        "rows | 2 read · 1 added · 1 invalid",
        "rejected | 2 rows",
        "in doubt | 1 row: sent, and the outcome is not known",
        "calls | 1",
        "to see which rows and why:  reverse-etl rejected people --project 'my dir'",
    ]


def test_a_guarded_run_names_its_plan_and_the_command_that_lets_it_through() -> None:
    error = RunError("guard", "would remove 300 of 1,000 rows (30.0%)", "look at them with --dry-run")
    run = report(
        status=RunStatus.GUARDED, rows=RowCounts(read=700, removed=300, unchanged=700), error=error, plan_id="p7"
    )
    assert shown(run)[-5:] == [
        "calls | none",
        "guard: would remove 300 of 1,000 rows (30.0%)",
        "→ look at them with --dry-run",
        "to let exactly this plan through, once, within a day:",
        "reverse-etl sync people --approve p7",
    ]


def test_a_failed_run_keeps_the_lines_of_the_warehouse_s_own_words() -> None:
    error = RunError("source", "Binder Error: no column emial\nLINE 1: select emial", "mend the query")
    assert shown(report(status=RunStatus.FAILED, error=error))[-3:] == [
        "source: Binder Error: no column emial",
        "LINE 1: select emial",
        "→ mend the query",
    ]


def test_a_dry_run_shows_the_plan_old_to_new_and_what_would_be_refused() -> None:
    plan = PlanSummary(
        requests=2,
        seconds_at_limit=0.11,
        problems=(RowProblem("invalid_number", "score", "is NaN", 3, ("a", ["b", 1])),),
        sample=(
            RowSample("ada", "added", {"plan": (None, "pro")}),
            RowSample("bo", "changed", {"plan": ("pro", None)}),
            RowSample("cy", "removed", {}),
        ),
    )
    run = report(dry_run=True, rows=RowCounts(read=9, added=1, changed=1, removed=1), pending=150, plan=plan)
    assert shown(run) == [
        "people  dry run in 1.2 s, nothing was written",
        "rows | 9 read · 1 added · 1 changed · 1 removed",
        "would send 150 rows in 2 calls, about 0.1 s at the rate limit",
        "+ ada",
        "plan | pro",
        "~ bo",
        "plan | pro → (empty)",
        "- cy",
        "… and 147 more",
        "would be refused before any call",
        "rows | code | column | why | keys, for example",
        '3 | invalid_number | score | is NaN | a, ["b", 1]',
    ]


def test_a_dry_run_with_nothing_to_send_says_so() -> None:
    run = report(dry_run=True, rows=RowCounts(read=9, unchanged=9), plan=PlanSummary(0, 0.0))
    assert shown(run)[-1] == "would send nothing"


def test_few_rows_of_each_kind_of_change_stand_for_all() -> None:
    sample = tuple(RowSample(str(number), "added", {}) for number in range(20))
    said = shown(
        report(dry_run=True, rows=RowCounts(read=20, added=20), pending=20, plan=PlanSummary(1, 0.1, (), sample))
    )
    assert [line for line in said if line.startswith("+")] == ["+ 0", "+ 1", "+ 2"]


def test_an_interrupted_run_says_how_to_go_on() -> None:
    assert shown(report(status=RunStatus.INTERRUPTED))[-1].endswith("to go on:  reverse-etl sync people")


def test_every_status_has_its_words() -> None:
    for status in RunStatus:
        assert shown(report(status=status, rows=RowCounts(read=1, added=1)))


def test_several_runs_end_with_a_tally() -> None:
    runs = [report(), report(), report(status=RunStatus.FAILED)]
    assert lines(render.total(runs)) == ["", "3 syncs: 2 succeeded, 1 failed"]
    assert render.total(runs[:1]) == []


def test_where_there_is_nothing_to_run_it_is_said() -> None:
    assert lines(render.total([])) == ["there is nothing to run: no sync is enabled; a sync is a file syncs/NAME.yml"]


def test_problems_of_files_are_one_a_line_with_their_place() -> None:
    found = [
        Problem("syncs/a.yml", 3, 5, "upsrt", "unknown mode", "upsert"),
        Problem("syncs/b.yml", 0, 0, "", "is empty"),
    ]
    found.append(Problem("", 0, 0, "r9", "no run has this id"))
    assert lines(render.problems(found)) == [
        "syncs/a.yml:3:5: unknown mode (found: upsrt); did you mean 'upsert'?",
        "syncs/b.yml: is empty",
        "no run has this id (found: r9)",
        "3 problems",
    ]


def test_a_live_look_shows_rows_beside_their_records_in_place_of_what_was_last_sent() -> None:
    live = LiveSummary(
        read=1200,
        states={**dict.fromkeys(LiveSummary.STATES, 0), "create": 1, "update": 1, "equal": 1000, "ambiguous": 1},
        drift={"phone": 2},
        looked_at=1000,
        gone=1,
        sample=(
            LiveSample("a@x.io", "create", {"plan": (None, "pro")}),
            LiveSample("b@x.io", "update", {"plan": ("gold", "pro")}, {"note": ("mine", "ours")}),
            LiveSample("c@x.io", "equal", {}),
            LiveSample("d@x.io", "ambiguous", {}, reason="email finds record 1, user_id finds record 2"),
        ),
        kept_fields={"note": 1},
    )
    sample = (RowSample("b@x.io", "changed", {"plan": ("free", "pro")}),)
    run = report(dry_run=True, rows=RowCounts(read=1003, added=1003), pending=1003)
    run.plan = PlanSummary(requests=11, seconds_at_limit=0.6, sample=sample, live=live)
    assert shown(run) == [
        "people  dry run in 1.2 s, nothing was written",
        "rows | 1,003 read · 1,003 added",
        "would send 1,003 rows in 11 calls, about 0.6 s at the rate limit",
        "in the CRM now: 1 to create · 1 to update · 1,000 equal already · 1 that fit several records",
        "+ a@x.io",
        "plan | pro",
        "~ b@x.io",
        "plan | gold → pro",
        "note | mine, and stays so; the row has ours",
        "! d@x.io",
        "email finds record 1, user_id finds record 2",
        "kept: 1 value left as the CRM has them (note 1)",
        "drift: 2 values changed in the CRM since we wrote them (phone 2)",
        "gone: the records of 1 unchanged row are no longer there",
        "1,000 known rows looked at for drift",
    ]
