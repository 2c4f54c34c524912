"""What a result means to an orchestrator."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from reverse_etl.orchestrators.conclusion import Conclusion, conclusion, told
from reverse_etl.report import RowCounts, RunError, RunReport, RunStatus, SyncResult


def report(status: RunStatus = RunStatus.SUCCEEDED, error: RunError | None = None) -> RunReport:
    return RunReport(
        sync="people", run_id="r1", started_at=datetime(2026, 11, 1, tzinfo=UTC), status=status, error=error
    )


@pytest.mark.parametrize(
    ("code", "means"),
    [
        (0, Conclusion.DONE),
        (1, Conclusion.TRY_AGAIN),
        (2, Conclusion.GIVE_UP),
        (3, Conclusion.OPEN_ROWS),
        (4, Conclusion.GIVE_UP),
        (5, Conclusion.BUSY),
        (6, Conclusion.GIVE_UP),
        (130, Conclusion.TRY_AGAIN),
        (143, Conclusion.TRY_AGAIN),
    ],
)
def test_every_exit_code_has_one_meaning(code: int, means: Conclusion) -> None:
    assert conclusion(SyncResult([report()], code)) is means


def test_a_refused_credential_is_not_worth_trying_again() -> None:
    error = RunError("destination_credential", "HubSpot refused the token", "make a new one")
    assert conclusion(SyncResult([report(RunStatus.FAILED, error)], 1)) is Conclusion.GIVE_UP


def test_a_line_tells_what_went_wrong_and_what_to_do() -> None:
    error = RunError("source_connection", "the warehouse is away", "start it")
    assert told(SyncResult([report(RunStatus.FAILED, error)], 1)) == (
        "people (r1): failed; 0 rows read, 0 delivered. source_connection: the warehouse is away (start it)"
    )


def test_a_line_counts_the_rows_that_did_not_arrive_by_where_they_stand() -> None:
    partial = report(RunStatus.PARTIAL)
    partial.rows, partial.rejected = RowCounts(read=5, added=4, invalid=1), 2
    assert told(SyncResult([partial], 3)) == (
        "people (r1): partial; 5 rows read, 0 delivered, 1 invalid, 2 rejected (`reverse-etl rejected people` says why)"
    )
