"""Whole runs: statuses, exit codes, the list of refused rows, and a dry run that tells what the real one does."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from reverse_etl.errors import (
    AuthError,
    DailyLimit,
    DestinationError,
    Interrupted,
    PluginError,
    SourceError,
    Throttled,
    Unavailable,
)
from reverse_etl.job import Unwatched
from reverse_etl.model import Field, FieldType, Operation
from reverse_etl.report import RunReport, RunStatus
from reverse_etl.run import run
from reverse_etl.stop import Stop
from reverse_etl.testing import MemoryAccount, MemoryDestination
from tests.house import FIELDS, House, mapping, sync


def gold(record: Any) -> bool:
    return bool(record.get("plan") == "gold")


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# --- how a run ends -------------------------------------------------------------------------------------------------


def test_a_run_where_all_is_well_succeeds(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"))
    report = house.run()
    assert (report.status, report.exit_code, report.error, report.pending) == (RunStatus.SUCCEEDED, 0, None, 0)
    assert report.requests == 3  # the account, the fields, one write


@pytest.mark.parametrize("dry_run", [False, True])
def test_calls_are_counted_of_a_run_that_fails_before_it_has_a_plan(tmp_path: Path, dry_run: bool) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"))
    house.crm.go_down(Unavailable("down"))
    report = house.run(dry_run=dry_run)
    assert (report.status, report.requests) == ("failed", 1)


def test_an_approval_that_nothing_needs_is_named(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"))
    assert house.go(approve="plan-x").notes == ["approval plan-x was not needed: no guard holds this plan"]


@pytest.mark.parametrize(
    ("error", "status", "exit_code", "code"),
    [
        (AuthError("revoked", hint="renew the token"), "failed", 1, "destination_credential"),
        (Throttled("too many"), "failed", 1, "destination_throttled"),
        (Unavailable("down"), "failed", 1, "destination_unavailable"),
        (DailyLimit("used up"), "partial", 3, "daily_limit"),
    ],
)
def test_what_stops_a_run_stands_in_its_report_and_the_next_goes_on(
    tmp_path: Path, error: DestinationError, status: str, exit_code: int, code: str
) -> None:
    house = House(tmp_path, sync(cursor="n"), crm=MemoryAccount(*FIELDS, batch_size=1, in_flight=1))
    columns = "id INTEGER, email VARCHAR, plan VARCHAR, n INTEGER"
    house.people(*((n, f"p{n}@x.io", "free", n) for n in range(1, 5)), columns=columns)
    house.crm.fail(error, call=3)
    report = house.run()
    assert (report.status, report.exit_code, report.delivered.created, report.pending) == (status, exit_code, 2, 2)
    assert report.error is not None
    assert (report.error.code, report.error.hint) == (code, error.hint)
    assert report.cursor_to is None
    report = house.go()
    assert (report.delivered.created, report.cursor_to) == (2, "4")
    assert len(house.crm.sent()) == 5  # only what was in flight went out twice


def test_a_connector_that_breaks_its_protocol_fails_the_run_by_name(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"))
    house.crm.answer_with_too_many()
    report = house.run()
    assert report.error is not None
    assert (report.status, report.exit_code, report.error.code) == ("failed", 1, PluginError.code)
    assert "MemoryDestination gave 2 verdicts for 1 rows" in report.error.message


def test_a_bug_is_a_failed_run_that_names_it(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"))

    def broken(record: object) -> bool:
        raise ZeroDivisionError("a bug of the test's own")

    house.crm.refuse(broken)
    report = house.run()
    assert report.error is not None
    assert (report.status, report.exit_code, report.error.code) == ("failed", 1, "bug")
    assert "ZeroDivisionError" in report.error.message


def test_a_sync_that_is_held_is_skipped(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"))
    with closing(house.ledger()) as holder, holder.hold("run-of-somebody", house.clock.now()):
        report = house.run()
    assert report.error is not None
    assert (report.status, report.exit_code) == ("skipped", 5)
    assert "run-of-somebody" in report.error.message
    assert house.go().rows.added == 1


def test_a_run_that_is_asked_to_stop_records_what_was_answered(tmp_path: Path) -> None:
    house = House(tmp_path, crm=MemoryAccount(*FIELDS, batch_size=1, in_flight=1))
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    stop = Stop()

    def signal(record: object) -> bool:
        stop.ask(Interrupted("interrupted by SIGTERM", exit_code=143))
        return False

    house.crm.refuse(signal)
    report = house.run(stop=stop)
    assert (report.status, report.exit_code) == ("interrupted", 143)
    assert (report.delivered.created, report.pending) == (1, 1)
    house.crm.obey()
    assert house.go().delivered.created == 1


def test_whoever_watches_is_told_that_a_run_is_stopping(tmp_path: Path) -> None:
    stages: list[str] = []

    class Watching(Unwatched):
        def stage(self, sync: str, stage: str) -> None:
            stages.append(stage)
            if stage == "sending":
                stop.ask(Interrupted("interrupted by SIGTERM"))

    house, stop = House(tmp_path), Stop()
    house.people((1, "a@x.io", "free"))
    assert house.run(stop=stop, observer=Watching()).status == "interrupted"
    assert stages[-2:] == ["sending", "stopping ..."]


def test_a_stop_while_reading_sends_nothing(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"))
    stop = Stop()
    stop.ask(Interrupted("interrupted by SIGINT"))
    report = house.run(stop=stop)
    assert (report.status, report.exit_code) == ("interrupted", 130)
    assert house.crm.writes == []


def test_cancelling_a_run_closes_its_books(tmp_path: Path) -> None:
    house = House(tmp_path, crm=MemoryAccount(*FIELDS, batch_size=1, in_flight=1))
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))

    async def cancelled() -> None:
        with anyio.CancelScope() as scope:

            def cancel(record: object) -> bool:
                scope.cancel()
                return False

            house.crm.refuse(cancel)
            await run(house.job())

    anyio.run(cancelled)
    house.crm.obey()
    house.go()
    assert len(house.crm.records) == 2


def test_state_of_another_account_stops_the_run_before_its_first_write(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"))
    house.go()
    house.crm = MemoryAccount(*FIELDS, name="account-2")
    house.people((1, "a@x.io", "pro"))
    report = house.run()
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (6, "state_other_target")
    assert house.crm.writes == []


def test_the_report_on_record_is_the_report_that_was_given(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "gold"), (None, "c@x.io", "x"))
    house.crm.refuse(gold)
    report = house.run()
    assert (report.status, report.exit_code, report.rejected) == ("partial", 3, 1)
    with closing(house.ledger()) as ledger:
        ledger.state()
        (stored,) = ledger.access.store().runs.recent("people")
    assert RunReport.from_json(stored).to_json() == report.to_json()


# --- configuration that only the other sides know -------------------------------------------------------------------


def test_a_missing_column_stops_the_run_with_its_place_and_sends_nothing(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io"), columns="id INTEGER, email VARCHAR")
    report = house.run()
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (2, "config")
    assert "no column 'plan'" in report.error.message
    assert house.crm.described == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ((FIELDS[0],), "contacts has no field `plan`"),
        (
            (FIELDS[0], Field("plan", FieldType.TEXT, read_only="calculated")),
            "contacts.plan can't be written: calculated",
        ),
        ((Field("email", FieldType.TEXT), FIELDS[1]), "contacts.email is not unique"),
        ((*FIELDS, Field("owner", FieldType.TEXT, required_on_create=True)), "contacts.owner is required"),
        ((FIELDS[0], Field("plan", FieldType.DATE)), None),
    ],
)
def test_a_mapping_that_does_not_fit_the_object_is_refused_before_any_write(
    tmp_path: Path, fields: tuple[Field, ...], words: str | None
) -> None:
    house = House(tmp_path, crm=MemoryAccount(*fields))
    house.people((1, "a@x.io", "2026-06-01"))
    report = house.run()
    if words is None:
        assert report.error is None  # a text may hold a date
        return
    assert report.error is not None
    assert report.exit_code == 2
    assert words in report.error.message
    assert house.crm.writes == []


def test_a_number_never_becomes_a_date(tmp_path: Path) -> None:
    house = House(tmp_path, crm=MemoryAccount(FIELDS[0], Field("plan", FieldType.DATE)))
    house.people((1, "a@x.io", 5), columns="id INTEGER, email VARCHAR, plan INTEGER")
    assert house.run().exit_code == 2


# --- refused rows ---------------------------------------------------------------------------------------------------


def test_a_refused_row_is_kept_with_the_destinations_own_words(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.crm.refuse(gold, code="SOLD_OUT", message="no gold today")
    house.people((1, "a@x.io", "gold"), (2, "b@x.io", "free"))
    house.go()
    (row,) = house.refused().values()
    told = row.to_json()
    assert {name: told[name] for name in ("key", "code", "message", "request_id", "attempts", "values")} == {
        "key": 1,
        "code": "SOLD_OUT",
        "message": "no gold today",
        "request_id": "request-1",
        "attempts": 1,
        "values": {"email": "a@x.io", "plan": "gold"},
    }
    assert list(house.crm.by("email")) == ["b@x.io"]


def test_a_refused_row_is_offered_with_the_next_run_and_then_after_growing_pauses(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.crm.refuse(gold)
    house.people((1, "a@x.io", "gold"))
    attempts = []
    for _ in range(9):
        house.run()
        attempts.append(house.refused()["1"].attempts)
    assert attempts == [1, 2, 2, 2, 2, 2, 3, 3, 3]  # a minute apart: at once, after five minutes, after ten
    assert (house.run().rejected, house.run().exit_code) == (1, 3)


def test_a_refused_row_is_offered_at_once_when_its_values_change(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.crm.refuse(gold)
    house.people((1, "a@x.io", "gold"))
    house.run()
    house.run()
    house.people((1, "b@x.io", "gold"))
    house.run()
    assert house.refused()["1"].attempts == 3
    house.people((1, "b@x.io", "free"))
    report = house.run()
    assert (report.delivered.created, report.rejected, report.status) == (1, 0, "succeeded")


def test_rows_of_a_first_run_that_are_read_twice_over_go_out_once(tmp_path: Path) -> None:
    crm = MemoryAccount(Field("email", FieldType.TEXT, identifies=True), Field("plan", FieldType.TEXT))
    house = House(tmp_path, sync(key=("email",), cursor="seen_at"), crm=crm)
    house.crm.refuse(gold)
    seen = house.clock.now()
    house.people(
        ("a@x.io", "gold", seen), ("b@x.io", "gold", seen), columns="email VARCHAR, plan VARCHAR, seen_at TIMESTAMPTZ"
    )
    assert house.run().rejected == 2  # nothing is known yet: the next run reads them by the cursor and by their keys
    house.crm.obey()
    report = house.run()
    assert (report.rows.added, report.rows.retried, report.delivered.created, report.delivered.updated) == (2, 0, 2, 0)


def test_retry_offers_only_refused_rows_due_or_not(tmp_path: Path) -> None:
    house = House(tmp_path, sync(mode="mirror", on_removed="delete"))
    house.crm.refuse(gold)
    house.people((1, "a@x.io", "gold"), (2, "b@x.io", "free"))
    house.run()
    house.run()
    house.crm.obey()
    house.people((1, "a@x.io", "gold"), (2, "b@x.io", "pro"), (3, "c@x.io", "free"))
    report = house.go(refused_only=True)
    assert (report.rows.read, report.rows.retried, report.delivered.created, report.rows.removed) == (0, 1, 1, 0)
    assert house.refused() == {}
    assert set(house.crm.by("email")) == {"a@x.io", "b@x.io"}


def test_refused_rows_travel_in_batches_of_their_own(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.crm.refuse(gold)
    house.people((1, "a@x.io", "gold"))
    house.run()
    house.people((1, "a@x.io", "gold"), (2, "b@x.io", "free"), (3, "c@x.io", "free"))
    house.run()
    assert [sorted(call.keys) for call in house.crm.writes[1:]] == [["2", "3"], ["1"]]


def test_a_refused_row_that_changes_back_is_done(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"))
    house.go()
    house.crm.refuse(gold)
    house.people((1, "a@x.io", "gold"))
    house.run()
    house.people((1, "a@x.io", "free"))
    report = house.run()
    assert (report.rejected, report.status, report.requests) == (0, "succeeded", 0)


# --- a dry run ------------------------------------------------------------------------------------------------------


def test_a_dry_run_counts_what_the_real_one_does_and_leaves_no_trace(tmp_path: Path) -> None:
    house = House(tmp_path, sync(mode="mirror", on_removed="delete", mapping=mapping(email="email", plan="plan")))
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"), (3, "c@x.io", "free"), (4, "d@x.io", "x"))
    first = house.run(dry_run=True)
    assert files(tmp_path) == {}
    house.go()
    house.crm.refuse(gold)
    house.people((1, "a@x.io", "pro"), (2, "b@x.io", "free"), (5, "e@x.io", "new"), (None, "f@x.io", "x"), (6, "", "x"))
    before = files(tmp_path)
    dry = house.run(dry_run=True)
    kept = {name: body for name, body in files(tmp_path).items() if not name.endswith(("-shm", "-wal"))}
    assert kept == {name: body for name, body in before.items() if name in kept}
    writes = len(house.crm.writes)
    real = house.run()
    assert dataclasses.asdict(dry.rows) == dataclasses.asdict(real.rows)
    assert (dry.rows.added, dry.rows.changed, dry.rows.removed, dry.rows.unchanged, dry.rows.invalid) == (1, 1, 2, 1, 2)
    assert dry.pending == 4
    assert dry.plan is not None
    assert dry.plan.requests == len(house.crm.writes) - writes
    assert (dry.status, dry.exit_code, dry.delivered.created) == ("partial", 3, 0)
    assert first.rows.added == 4


def test_a_dry_run_shows_old_and_new_and_why_rows_are_invalid(tmp_path: Path) -> None:
    house = House(tmp_path, sync(mode="mirror", on_removed="delete"))
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    house.go()
    house.people((1, "a@x.io", "pro"), (3, "c@x.io", None), (4, "", "x"), (None, "n@x.io", "x"))
    dry = house.run(dry_run=True)
    assert dry.plan is not None
    document = dry.to_json()["plan"]
    assert isinstance(document, dict)
    assert document["sample"] == [
        {"key": 3, "change": "added", "fields": {"email": [None, "c@x.io"]}},
        {"key": 1, "change": "changed", "fields": {"plan": ["free", "pro"]}},
        {"key": 2, "change": "removed", "fields": {"email": ["b@x.io", None], "plan": ["free", None]}},
    ]
    problems = document["problems"]
    assert isinstance(problems, list)
    assert [(problem["code"], problem["column"], problem["count"], list(problem["keys"])) for problem in problems] == [
        ("invalid_null_key", None, 1, [None]),
        ("invalid_null_match", "email", 1, [4]),
    ]


def test_a_dry_run_works_beside_a_run(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"))
    house.go()
    with closing(house.ledger()) as holder, holder.hold("run-of-somebody", house.clock.now()):
        assert house.go(dry_run=True).rows.unchanged == 1


# --- what a row's story says ----------------------------------------------------------------------------------------


def test_explain_tells_every_state_of_a_row(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.crm.refuse(gold)
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "gold"), (3, "c@x.io", "x"), (3, "d@x.io", "x"))
    house.run()
    house.people(
        (1, "a@x.io", "free"), (2, "b@x.io", "gold"), (3, "c@x.io", "x"), (3, "d@x.io", "x"), (4, "e@x.io", "x")
    )
    told = {key: house.explain(key) for key in ("1", "2", "3", "4", "5")}
    assert {key: story.state for key, story in told.items()} == {
        "1": "unchanged",
        "2": "rejected",
        "3": "invalid",
        "4": "pending",
        "5": "absent",
    }
    document = told["1"].to_json()
    assert (document["key"], document["payload"]) == (1, {"email": "a@x.io", "plan": "free"})
    acknowledged = document["acknowledged"]
    assert isinstance(acknowledged, dict)
    assert (acknowledged["record_id"], acknowledged["run_id"]) == ("r1", "run-001")
    assert "REFUSED" in told["2"].reason
    assert "invalid_repeated_key" in told["3"].reason


# --- recording ------------------------------------------------------------------------------------------------------


def test_answers_that_wait_share_a_transaction_and_none_is_lost(tmp_path: Path) -> None:
    house = House(tmp_path, crm=MemoryAccount(*FIELDS, batch_size=1, in_flight=8))
    house.people(*((number, f"p{number}@x.io", "free") for number in range(60)))
    report = house.go()
    assert (report.delivered.created, len(house.known())) == (60, 60)
    assert {row["record_id"] for row in house.known().values()} == set(house.crm.records)


def test_a_destination_is_closed_whatever_happens(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.people((1, "a@x.io", "free"))
    opened: list[MemoryDestination] = []

    def destination() -> MemoryDestination:
        opened.append(MemoryDestination(account=house.crm))
        return opened[-1]

    house.crm.fail(AuthError("revoked"), call=1)
    house.run(destination=destination)
    house.run(destination=destination)
    assert [each.closed for each in opened] == [True, True]


def test_a_row_whose_removal_is_refused_stays_known_and_is_tried_again(tmp_path: Path) -> None:
    house = House(tmp_path, sync(mode="mirror", on_removed="delete"))
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    house.go()
    house.crm.refuse(lambda record: record == {})
    house.people((1, "a@x.io", "free"))
    report = house.run()
    assert (report.rows.removed, report.rejected, report.status) == (1, 1, "partial")
    house.crm.obey()
    house.clock.advance(timedelta(days=1))
    report = house.run()
    assert (report.delivered.removed, report.rejected, report.status) == (1, 0, "succeeded")
    assert house.crm.writes[-1].operation is Operation.REMOVE


def test_a_source_that_fails_leaves_the_report_of_a_failed_run(tmp_path: Path) -> None:
    house = House(tmp_path)

    def no_source() -> Any:
        raise SourceError("there is no driver", code="source_driver", hint="install it")

    report = house.run(source=no_source)
    assert report.error is not None
    assert (report.status, report.error.code, report.finished_at is not None) == ("failed", "source_driver", True)
