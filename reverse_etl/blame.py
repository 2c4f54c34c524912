"""What went wrong in a run, as its report says it."""

from __future__ import annotations

import duckdb

from reverse_etl.errors import ConfigError, DailyLimit, GuardTripped, Interrupted, ReverseEtlError, SyncBusy
from reverse_etl.redaction import SECRETS
from reverse_etl.report import RunError, RunReport, RunStatus
from reverse_etl.stop import Stop


def first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What broke a group of tasks: the others were only cancelled, or told the same."""
    cause = group.exceptions[0]
    return first(cause) if isinstance(cause, BaseExceptionGroup) else cause


def blame(report: RunReport, failure: ReverseEtlError) -> None:
    """What went wrong, as the report says it."""
    message, hint, said = (SECRETS.clean(text) if text else text for text in _texts(failure))
    report.error = RunError(failure.code, message or "", hint, said)
    report.exit_code = failure.exit_code
    report.status = RunStatus.FAILED
    if isinstance(failure, ConfigError):
        report.problems = failure.problems
    elif isinstance(failure, GuardTripped):
        report.status, report.plan_id = RunStatus.GUARDED, failure.plan_id
    elif isinstance(failure, SyncBusy):
        report.status = RunStatus.SKIPPED
    elif isinstance(failure, Interrupted):
        report.status = RunStatus.INTERRUPTED
    elif isinstance(failure, DailyLimit):
        report.status, report.exit_code = RunStatus.PARTIAL, 3


def _texts(failure: ReverseEtlError) -> tuple[str | None, ...]:
    return failure.message, failure.hint, failure.said


def local(failure: duckdb.Error | OSError, stop: Stop) -> ReverseEtlError:
    """An error of the local database: interrupted, the disk is full, or a definition asks for the impossible."""
    if isinstance(stop.reason, ReverseEtlError) and isinstance(failure, duckdb.InterruptException):
        return stop.reason
    words = str(failure).strip().splitlines()[0]
    if isinstance(failure, OSError | duckdb.IOException | duckdb.OutOfMemoryException):
        hint = "make room where .reverse_etl/spool lies and run again; nothing was sent that could not be recorded"
        return ReverseEtlError(f"the rows could not be spooled: {words}", code="disk", hint=hint)
    if isinstance(failure, duckdb.ConversionException):
        hint = "see whether every `default` and `value` fits the column beside it"
        return ReverseEtlError(f"the rows could not be compared: {words}", code="compare", hint=hint, said=words)
    return bug(failure)


def bug(failure: Exception) -> ReverseEtlError:
    words = f"a bug in reverse-etl stopped the run ({type(failure).__name__})"  # its text may hold people's data
    return ReverseEtlError(words, code="bug", hint="run again with --log-level debug, and report it")
