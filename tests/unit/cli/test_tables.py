"""What is known about runs, rows and fields, as text and as JSON."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from reverse_etl.cli import documents, tables
from reverse_etl.cli.render import Commands
from reverse_etl.model import Field, FieldType, ObjectSchema
from reverse_etl.report import DeliveredCounts, RowCounts, RunReport, RunStatus
from reverse_etl.standing import RefusedRow
from tests.unit.cli.text_of import lines

AT = datetime(2026, 7, 1, 9, 0, tzinfo=UTC)
COMMANDS = Commands()


def refused(**facts: Any) -> RefusedRow:
    row = RefusedRow(
        "rejected",
        "INVALID_EMAIL",
        "no such address",
        AT,
        AT,
        "ada",
        "ada",
        attempts=2,
        next_at=AT + timedelta(hours=1),
    )
    return replace(row, **facts)


def test_runs_are_a_table() -> None:
    run = RunReport(
        "people",
        "r1",
        AT,
        RunStatus.PARTIAL,
        finished_at=AT + timedelta(seconds=2),
        rows=RowCounts(read=1500),
        delivered=DeliveredCounts(created=2, updated=3, removed=1),
        rejected=4,
        requests=5,
    )
    assert lines(tables.runs([run])) == [
        "run | sync | started | took | result | read | sent | rejected | calls",
        "r1 | people | 2026-07-01 09:00:00Z | 2.0 s | partial | 1,500 | 6 | 4 | 5",
    ]
    assert lines(tables.runs([])) == ["no runs yet"]


def test_rejected_rows_are_listed_with_why_and_what_to_type_next() -> None:
    nulls = refused(key=None, key_text=None, code="invalid_null_key", message="the key is NULL", count=12, attempts=0)
    shown = lines(tables.rejected("people", [nulls, refused(next_at=None)], COMMANDS))
    assert shown[:3] == [
        "key | code | message | attempts | next attempt",
        "NULL (12 rows) | invalid_null_key | the key is NULL | 0 | 2026-07-01 10:00:00Z",
        "ada | INVALID_EMAIL | no such address | 2 | at once when fixed",
    ]
    assert shown[-2:] == [
        "to offer all of them now:  reverse-etl rejected people --retry",
        "to look at one:            reverse-etl explain people ada",
    ]


def test_each_code_is_told_once_with_how_many_rows_and_what_to_do() -> None:
    rows = [refused(key_text=key, key=key) for key in "ab"] + [refused(code="ODD"), refused(code="FULL")]
    shown = lines(tables.rejected("people", rows, COMMANDS, {"INVALID_EMAIL": "correct it", "FULL": "free some"}))
    at = shown.index(" | code | what to do")
    assert shown[at + 1 : at + 3] == ["2 rows | INVALID_EMAIL | correct it", "1 row | FULL | free some"]
    assert not any("ODD" in told for told in shown[at:])


def test_a_row_that_need_not_wait_goes_out_with_the_next_run() -> None:
    assert lines(tables.rejected("people", [refused(next_at=AT)], COMMANDS))[1].endswith(" | 2 | by the next run")


def test_a_composite_key_is_printed_so_that_explain_takes_it() -> None:
    shown = lines(tables.rejected("people", [refused(key=["a", 1])], COMMANDS))
    assert shown[-1].endswith("""reverse-etl explain people '["a", 1]'""")


def test_rejected_json_has_exactly_the_documented_keys() -> None:
    assert documents.rejected([refused(values={"email": "ada@"}, request_id="q-1")]) == {
        "rows": [
            {
                "key": "ada",
                "code": "INVALID_EMAIL",
                "message": "no such address",
                "request_id": "q-1",
                "attempts": 2,
                "first_at": "2026-07-01T09:00:00.000Z",
                "last_at": "2026-07-01T09:00:00.000Z",
                "next_at": "2026-07-01T10:00:00.000Z",
                "values": {"email": "ada@"},
                "kind": "rejected",
                "field": None,
                "count": 1,
            }
        ]
    }


def test_fields_that_identify_come_first_and_notes_say_what_matters() -> None:
    schema = ObjectSchema(
        "contacts",
        {
            "age": Field("age", FieldType.NUMBER, "Age", read_only="calculated"),
            "email": Field("email", FieldType.TEXT, "Email", identifies=True, max_length=80, required_on_create=True),
            "plan": Field(
                "plan",
                FieldType.CHOICE,
                "Plan",
                options=("a", "b", "c", "d", "e", "f"),
                labels=(("A", "a"), ("Best", "b")),
            ),
        },
    )
    assert lines(tables.fields(schema)) == [
        "field | type | label | notes",
        "email | text | Email | identifies; required for new records; up to 80 characters",
        "age | number | Age | read-only: calculated",
        "plan | choice | Plan | one of: a, b (Best), c, d, e, … (6)",
        "3 fields of contacts",
    ]
    document = documents.fields(schema)
    assert document["object"] == "contacts"
    assert [field["name"] for field in document["fields"]] == ["age", "email", "plan"]  # type: ignore[attr-defined]
    assert document["fields"][2]["labels"] == {"a": "A", "b": "Best"}  # type: ignore[index]


def test_of_rows_held_in_doubt_it_says_that_they_wait_for_a_person_and_nothing_else() -> None:
    held = refused(kind="in_doubt", code="in_doubt_held", next_at=None)
    shown = lines(tables.rejected("people", [held], Commands()))
    assert "A row that is held in doubt is never sent again by itself, whatever its values." in shown
    assert "to say that one is there:  reverse-etl rejected people --arrived ada" in shown
    assert not [line for line in shown if line.startswith("A row is offered again")]
    both = lines(tables.rejected("people", [held, refused()], Commands()))
    assert [line for line in both if line.startswith("A row is offered again")]
