"""What a result means to an orchestrator: whether its task went well, and whether trying again can help."""

from __future__ import annotations

from enum import StrEnum

from reverse_etl.report import RunReport, RunStatus, SyncResult


class Conclusion(StrEnum):
    DONE = "done"
    OPEN_ROWS = "open rows"  # the runs ended, and rows stand rejected, invalid or in doubt: later runs offer them again
    BUSY = "busy"  # another process runs the sync just now
    TRY_AGAIN = "try again"  # warehouse, destination or network, or the run was interrupted
    GIVE_UP = "give up"  # a person must do something first: a definition, a guard, a state that can't be used


BY_EXIT_CODE = {
    0: Conclusion.DONE,
    1: Conclusion.TRY_AGAIN,
    3: Conclusion.OPEN_ROWS,
    5: Conclusion.BUSY,
    130: Conclusion.TRY_AGAIN,
    143: Conclusion.TRY_AGAIN,
}
FINAL_ERRORS = frozenset({"destination_credential", "destination_config", "destination_object"})


def conclusion(result: SyncResult) -> Conclusion:
    """By the exit code; a run that only a person can mend is not tried again, though its code is 1."""
    found = BY_EXIT_CODE.get(result.exit_code, Conclusion.GIVE_UP)
    errors = {report.error.code for report in result.runs if report.error is not None}
    return Conclusion.GIVE_UP if found is Conclusion.TRY_AGAIN and errors & FINAL_ERRORS else found


def told(result: SyncResult) -> str:
    """A line for each run, with what went wrong and what to do about it."""
    return "\n".join(line(report) for report in result.runs)


def line(report: RunReport) -> str:
    """One run in one line. It goes to a log: words that may hold values of rows are left out."""
    delivered = report.delivered
    arrived = delivered.created + delivered.updated + delivered.removed
    said = f"{report.sync} ({report.run_id}): {report.status.value}; {report.rows.read} rows read, {arrived} delivered"
    said += "".join(f", {count} {word}" for word, count in open_rows(report).items() if count)
    if report.status is RunStatus.PARTIAL:
        said += f" (`reverse-etl rejected {report.sync}` says why)"
    if report.error is None:
        return said
    hint = f" ({report.error.hint})" if report.error.hint else ""
    return f"{said}. {report.error.code}: {report.error.discreet}{hint}"


def open_rows(report: RunReport) -> dict[str, int]:
    """How many rows have not arrived, by where they stand."""
    return {
        "invalid": report.rows.invalid,
        "rejected": report.rejected,
        "in doubt": report.in_doubt,
        "pending": report.pending,
    }
