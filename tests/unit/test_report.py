"""The JSON of a run, exactly."""

from __future__ import annotations

from datetime import UTC, datetime

from reverse_etl.report import PlanSummary, RowProblem, RowSample, RunError, RunReport, RunStatus

START = datetime(2026, 7, 1, 9, 0, 0, 5000, tzinfo=UTC)


def test_a_report_is_exactly_the_documented_json() -> None:
    report = RunReport("people", "r1", START, finished_at=START, cursor_to="2026")
    assert report.to_json() == {
        "sync": "people",
        "run_id": "r1",
        "status": "succeeded",
        "dry_run": False,
        "rows": {"read": 0, "added": 0, "changed": 0, "removed": 0, "unchanged": 0, "invalid": 0, "retried": 0},
        "delivered": {"created": 0, "updated": 0, "removed": 0, "skipped": 0, "kept_fields": 0},
        "rejected": 0,
        "in_doubt": 0,
        "pending": 0,
        "requests": 0,
        "throttled": 0,
        "cursor": {"from": None, "to": "2026"},
        "started_at": "2026-07-01T09:00:00.005Z",
        "finished_at": "2026-07-01T09:00:00.005Z",
        "error": None,
    }


def test_a_dry_run_adds_its_plan() -> None:
    plan = PlanSummary(
        2,
        0.5,
        (RowProblem("invalid_number", None, "is NaN", 1, ("a",)),),
        (RowSample("k", "changed", {"f": (1, 2)}),),
    )
    assert RunReport("people", "r1", START, dry_run=True, plan=plan).to_json()["plan"] == {
        "requests": 2,
        "seconds_at_limit": 0.5,
        "problems": [{"code": "invalid_number", "column": None, "message": "is NaN", "count": 1, "keys": ("a",)}],
        "sample": [{"key": "k", "change": "changed", "fields": {"f": [1, 2]}}],
    }


def test_a_guarded_run_names_its_plan_id_and_the_error_has_three_parts() -> None:
    error = RunError("guard", "too many", None)
    document = RunReport("people", "r1", START, RunStatus.GUARDED, error=error, plan_id="p1").to_json()
    assert document["plan_id"] == "p1"
    assert document["error"] == {"code": "guard", "message": "too many", "hint": None}


def test_a_stored_report_comes_back_as_it_was() -> None:
    report = RunReport("people", "r1", START, RunStatus.FAILED, finished_at=START, error=RunError("source", "gone"))
    assert RunReport.from_json(report.to_json()) == report
