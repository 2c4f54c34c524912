"""What a run tells, as data: the same for the command line, the log and whoever uses the library."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import islice, zip_longest
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from reverse_etl import clock
from reverse_etl.model import JSON, Problem

ELSEWHERE = "(in words that may hold values of rows; `reverse-etl show` tells them)"

GRAVEST = (2, 6, 130, 143, 1, 4, 3, 5)  # of several exit codes the first of these is given


class RunStatus(StrEnum):
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    GUARDED = "guarded"
    INTERRUPTED = "interrupted"
    SKIPPED = "skipped"
    RUNNING = "running"  # or killed while it ran: nobody could say so


@dataclass
class RowCounts:
    """read = unchanged + added + changed + invalid; `retried` counts rows offered again without having been read."""

    read: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    invalid: int = 0
    retried: int = 0


@dataclass
class DeliveredCounts:
    created: int = 0
    updated: int = 0
    removed: int = 0
    skipped: int = 0
    kept_fields: int = 0


@dataclass(frozen=True)
class RunError:
    """What ended a run. `said` are others' words within the message, which may repeat values of rows."""

    code: str
    message: str
    hint: str | None = None
    said: str | None = field(default=None, compare=False)  # not stored: of a stored error the whole message

    @property
    def discreet(self) -> str:
        """The message as logs and alerts may hold it."""
        return self.message.replace(self.said, ELSEWHERE) if self.said else self.message

    def to_json(self) -> dict[str, JSON]:
        return {"code": self.code, "message": self.message, "hint": self.hint}


@dataclass(frozen=True)
class RowProblem:
    """Rows that a plan would refuse, grouped by reason: how many, and up to five of their keys."""

    code: str
    column: str | None
    message: str
    count: int
    keys: tuple[JSON, ...]


@dataclass(frozen=True)
class RowSample:
    """One row that a plan would send, with old and new value of each field."""

    key: JSON
    change: str  # added | changed | removed
    fields: Mapping[str, tuple[JSON, JSON]]


@dataclass(frozen=True)
class LiveSample:
    """One row that would be sent, beside its record: the fields that differ, each as (in the CRM, new).

    `kept` are fields that differ and would be left as they are there; `reason` says why a row would be refused.
    """

    key: JSON
    state: str  # one of LiveSummary.STATES
    fields: Mapping[str, tuple[JSON, JSON]]
    kept: Mapping[str, tuple[JSON, JSON]] = field(default_factory=dict)
    reason: str | None = None

    def to_json(self) -> dict[str, JSON]:
        document: dict[str, JSON] = {"key": self.key, "state": self.state, "fields": _pairs(self.fields)}
        if self.kept:
            document["kept"] = _pairs(self.kept)
        return document if self.reason is None else {**document, "reason": self.reason}


@dataclass(frozen=True)
class LiveSummary:
    """What a live look found. `read` counts records that were read back, `states` the rows that would be sent:

    create: there is no record. update: a field that would be sent differs there. equal: none does. kept: a record is
    there, and this sync leaves it, or all that differs, as it is. missing: none is there, and this sync never creates
    one. ambiguous: the row fits several records. frozen: its record takes no more writes.

    `kept_fields` counts, by field, the values that would be left as they are.

    `looked_at` known rows were compared with what was last acknowledged: `drift` counts, by field, the values that
    have changed in the CRM since. `gone`: further rows whose record is no longer there.
    """

    STATES: ClassVar[tuple[str, ...]] = ("create", "update", "equal", "kept", "missing", "ambiguous", "frozen")

    read: int = 0
    states: Mapping[str, int] = field(default_factory=dict)
    drift: Mapping[str, int] = field(default_factory=dict)
    looked_at: int = 0
    gone: int = 0
    kept_fields: Mapping[str, int] = field(default_factory=dict)
    sample: tuple[LiveSample, ...] = ()

    def to_json(self) -> dict[str, JSON]:
        return {
            "read": self.read,
            **{state: self.states.get(state, 0) for state in self.STATES},
            "drift": sum(self.drift.values()),
            "drift_fields": dict(self.drift),
            "drift_looked_at": self.looked_at,
            "gone": self.gone,
            "kept_fields": dict(self.kept_fields),
            "sample": [row.to_json() for row in self.sample],
        }


class LiveTally:
    """Rows to send, counted by what would become of them; of each state only a few are kept."""

    SAMPLES: ClassVar[int] = 20

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()
        self.kept: Counter[str] = Counter()
        self.samples: defaultdict[str, list[LiveSample]] = defaultdict(list)

    def note(self, row: LiveSample) -> None:
        self.states[row.state] += 1
        self.kept.update([*row.kept])
        if len(self.samples[row.state]) < self.SAMPLES:
            self.samples[row.state].append(row)

    def add(self, later: LiveTally) -> None:
        """The rows that come after these."""
        self.states.update(later.states)
        self.kept.update(later.kept)
        for state, rows in later.samples.items():
            self.samples[state] += rows[: self.SAMPLES - len(self.samples[state])]

    def sample(self) -> tuple[LiveSample, ...]:
        """Of each state the same number, as far as it goes."""
        rounds = zip_longest(*self.samples.values())
        chosen = islice((row for turn in rounds for row in turn if row is not None), self.SAMPLES)
        return tuple(sorted(chosen, key=lambda row: LiveSummary.STATES.index(row.state)))


@dataclass(frozen=True)
class PlanSummary:
    """What a dry run shows beside the counts. `seconds_at_limit` is how long the calls take at the known rate limit.

    `live` only stands there when the CRM was looked at. `jobs`: rows go by jobs, which take the time that the
    destination gives them.
    """

    requests: int
    seconds_at_limit: float
    problems: tuple[RowProblem, ...] = ()
    sample: tuple[RowSample, ...] = ()
    live: LiveSummary | None = None
    jobs: bool = False

    def to_json(self) -> dict[str, JSON]:
        document: dict[str, JSON] = {
            "requests": self.requests,
            "seconds_at_limit": self.seconds_at_limit,
            "problems": [asdict(problem) for problem in self.problems],
            "sample": [{"key": row.key, "change": row.change, "fields": _pairs(row.fields)} for row in self.sample],
        }
        return document if self.live is None else {**document, "live": self.live.to_json()}


@dataclass
class RunReport:
    """One run, as `sync --json` prints it. Times are UTC; cursor values are text as the source writes them."""

    sync: str
    run_id: str
    started_at: datetime
    status: RunStatus = RunStatus.SUCCEEDED
    dry_run: bool = False
    finished_at: datetime | None = None
    rows: RowCounts = field(default_factory=RowCounts)
    delivered: DeliveredCounts = field(default_factory=DeliveredCounts)
    rejected: int = 0
    in_doubt: int = 0
    pending: int = 0
    requests: int = 0
    throttled: int = 0
    cursor_from: JSON = None
    cursor_to: JSON = None
    error: RunError | None = None
    plan_id: str | None = None
    plan: PlanSummary | None = None
    notes: list[str] = field(default_factory=list)  # what a person should know, though nothing went wrong
    problems: tuple[Problem, ...] = ()  # what ended it, where that was the definition's fault; not kept
    exit_code: int = 0

    def to_json(self) -> dict[str, JSON]:
        """The run as a JSON document; `plan` only stands in a dry run's, `plan_id` only where there is one."""
        document: dict[str, JSON] = {
            "sync": self.sync,
            "run_id": self.run_id,
            "status": self.status.value,
            "dry_run": self.dry_run,
            "rows": asdict(self.rows),
            "delivered": asdict(self.delivered),
            "rejected": self.rejected,
            "in_doubt": self.in_doubt,
            "pending": self.pending,
            "requests": self.requests,
            "throttled": self.throttled,
            "cursor": {"from": self.cursor_from, "to": self.cursor_to},
            "started_at": clock.text(self.started_at),
            "finished_at": None if self.finished_at is None else clock.text(self.finished_at),
            "error": None if self.error is None else self.error.to_json(),
        }
        if self.notes:
            document["notes"] = list(self.notes)
        if self.plan_id is not None:
            document["plan_id"] = self.plan_id
        if self.plan is not None:
            document["plan"] = self.plan.to_json()
        return document

    def lag_seconds(self, zone: str) -> float | None:
        """Age of the newest row when its run had acknowledged it. None for cursors that are no times."""
        try:
            newest = datetime.fromisoformat(str(self.cursor_to))
        except ValueError:
            return None
        if self.finished_at is None:
            return None
        newest = newest.replace(tzinfo=ZoneInfo(zone)) if newest.tzinfo is None else newest
        return (self.finished_at - newest).total_seconds()

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> RunReport:
        """What `to_json` wrote, without samples: those are never stored."""
        finished = document["finished_at"]
        error = document["error"]
        return cls(
            sync=document["sync"],
            run_id=document["run_id"],
            started_at=clock.parse(document["started_at"]),
            status=RunStatus(document["status"]),
            dry_run=document["dry_run"],
            finished_at=None if finished is None else clock.parse(finished),
            rows=RowCounts(**document["rows"]),
            delivered=DeliveredCounts(**document["delivered"]),
            rejected=document["rejected"],
            in_doubt=document["in_doubt"],
            pending=document["pending"],
            requests=document["requests"],
            throttled=document["throttled"],
            cursor_from=document["cursor"]["from"],
            cursor_to=document["cursor"]["to"],
            error=None if error is None else RunError(**{"said": error["message"], **error}),
            plan_id=document.get("plan_id"),
            notes=list(document.get("notes", [])),
        )


@dataclass(frozen=True)
class SyncResult:
    """Every run that was asked for, and the exit code that says the gravest thing about them."""

    runs: list[RunReport]
    exit_code: int

    def to_json(self) -> dict[str, JSON]:
        """The runs; `problems` instead of those that never began, as their definition doesn't fit what it names."""
        runs = [report.to_json() for report in self.runs if not report.problems]
        problems = [problem.to_json() for report in self.runs for problem in report.problems]
        return {"runs": [*runs], "problems": [*problems]} if problems else {"runs": [*runs]}


@dataclass(frozen=True)
class SyncStatus:
    """A sync as `status` shows it."""

    sync: str
    schedule: str | None
    last_run: RunReport | None
    known_rows: int
    rejected: int
    in_doubt: int
    cursor: str | None
    last_success: RunReport | None = None  # the last run that delivered what it could
    lag_seconds: float | None = None  # from the newest row to its acknowledgement, for cursors that are times

    def to_json(self) -> dict[str, JSON]:
        facts = {name: value for name, value in vars(self).items() if name != "last_success"}
        facts["last_run"] = None if self.last_run is None else self.last_run.to_json()
        ended = None if self.last_success is None else self.last_success.finished_at
        return facts | {"last_success_at": None if ended is None else clock.text(ended)}


def gravest(reports: Sequence[RunReport]) -> int:
    """The exit code for several runs: skipped ones only count when every run was skipped."""
    codes = {report.exit_code for report in reports}
    if codes != {5}:
        codes.discard(5)
    return next((code for code in GRAVEST if code in codes), 0)


def _pairs(fields: Mapping[str, tuple[JSON, JSON]]) -> dict[str, JSON]:
    return {name: [*pair] for name, pair in fields.items()}
