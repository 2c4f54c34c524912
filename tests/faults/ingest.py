"""Bulk API 2.0 of the fake org: jobs that are made, filled, closed, worked off, and told of in three files."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tests.faults.scripted import Call, Reply

if TYPE_CHECKING:
    from tests.faults.org import Org

CLEARED = "#N/A"
OPEN, CLOSED, WORKING, COMPLETE, FAILED, ABORTED = (
    "Open",
    "UploadComplete",
    "InProgress",
    "JobComplete",
    "Failed",
    "Aborted",
)
ENDED = (COMPLETE, FAILED, ABORTED)
Cells = dict[str, str]


@dataclass(frozen=True)
class Course:
    """How a job goes. `hides`: this share of its rows stands in no file, carried out (`hidden_applied`) or not."""

    seconds: float = 0.3
    stuck: bool = False
    after: int | None = None  # rows, then it ends
    ends: str = COMPLETE
    error: str = ""
    hides: float = 0.0
    hidden_applied: bool = True


@dataclass
class Job:
    """One job, and what came of its rows."""

    id: str
    number: int
    operation: str
    key: str | None
    made: datetime
    course: Course
    state: str = OPEN
    raw: bytes | None = None
    closed: float = 0.0
    error: str = ""
    header: Sequence[str] = ()
    saved: list[tuple[Cells, dict[str, Any]]] = field(default_factory=list)
    refused: list[tuple[Cells, dict[str, Any]]] = field(default_factory=list)
    unprocessed: list[Cells] = field(default_factory=list)


class Ingest:
    """The jobs of an org. `course` decides how each one goes; `refuses_jobs` is the code that none is made for."""

    def __init__(self, org: Org) -> None:
        self._org = org
        self.jobs: dict[str, Job] = {}
        self.heal()

    def heal(self) -> None:
        self.course: Callable[[Job], Course] = lambda _job: Course()
        self.refuses_jobs: str | None = None

    def carry_out(self, call: Call, apply: bool) -> Reply:
        for job in self.jobs.values():
            self._work(job)
        if call.verb == "create":
            return self._create(json.loads(call.body), apply)
        if call.verb == "list":
            return Reply(200, {"done": True, "records": [self._told(job) for job in self.jobs.values()]})
        known = self.jobs.get(call.path.partition("/jobs/ingest/")[2].partition("/")[0])
        if known is None:
            return _fault(404, "NOT_FOUND", "The requested resource does not exist")
        if call.verb == "upload":
            return self._upload(known, call.body, apply)
        if call.verb in ("close", "abort"):
            return self._change(known, CLOSED if call.verb == "close" else ABORTED, apply)
        if call.verb == "poll":
            return Reply(200, self._told(known))
        return self._results(known, call.verb)

    def abort(self, job: Job) -> None:
        """Somebody in the org ends it: what it holds is saved up to there, the rest unprocessed."""
        self._carry(job, job.course.after or 0)
        job.state = ABORTED

    # --- a job's life -------------------------------------------------------------------------------------------------

    def _create(self, asked: dict[str, str], apply: bool) -> Reply:
        if self.refuses_jobs is not None:
            return _fault(400, self.refuses_jobs, "no more jobs")
        number = len(self.jobs) + 1
        key = asked.get("externalIdFieldName")
        job = Job(f"750{number:012d}AAA", number, asked["operation"], key, datetime.now(UTC), Course())
        job.course = self.course(job)
        if apply:
            self.jobs[job.id] = job
        return Reply(200, self._told(job))

    def _upload(self, job: Job, raw: bytes, apply: bool) -> Reply:
        if job.state != OPEN or job.raw is not None:
            return _fault(400, "INVALIDJOBSTATE", "Found multiple contents for job")
        if apply:
            job.raw = raw
        return Reply(201)

    def _change(self, job: Job, state: str, apply: bool) -> Reply:
        if job.state != OPEN and not (state == ABORTED and job.state in (CLOSED, WORKING)):
            return _fault(400, "INVALIDJOBSTATE", f"{state} is not possible in {job.state}")
        if apply:
            job.state, job.closed = state, time.monotonic()
        return Reply(200, self._told(job))

    def _work(self, job: Job) -> None:
        """It has gone on by itself meanwhile."""
        if job.state not in (CLOSED, WORKING):
            return
        job.state = WORKING
        if not job.course.stuck and time.monotonic() >= job.closed + job.course.seconds:
            self._carry(job, job.course.after)
            job.state, job.error = job.course.ends, job.course.error

    def _carry(self, job: Job, most: int | None) -> None:
        """Its rows up to `most`, those of no file left out; the rest stays unprocessed."""
        rows = list(csv.DictReader(io.StringIO((job.raw or b"").decode())))
        job.header = tuple(rows[0]) if rows else ()
        done = len(rows) if most is None else most
        job.unprocessed = rows[done:]
        for row in rows[:done]:
            hidden = self._org.random.random() < job.course.hides
            answer = self._row(job, row, apply=not hidden or job.course.hidden_applied)
            if not hidden:
                (job.saved if answer["success"] else job.refused).append((row, answer))

    def _row(self, job: Job, row: Cells, *, apply: bool) -> dict[str, Any]:
        if job.operation in ("delete", "hardDelete"):
            return self._org.delete("archive", job.number, row["Id"], apply)
        cells = {name: None if cell == CLEARED else cell for name, cell in row.items() if cell != ""}
        return self._org.save("job", job.number, job.key or "Id", cells, apply)

    # --- what it says -------------------------------------------------------------------------------------------------

    def _told(self, job: Job) -> dict[str, Any]:
        from tests.faults.org import OBJECT, USER  # noqa: PLC0415

        told = {"id": job.id, "object": OBJECT, "operation": job.operation, "state": job.state, "createdById": USER}
        told["createdDate"] = job.made.strftime("%Y-%m-%dT%H:%M:%S.000+0000")
        told |= {"externalIdFieldName": job.key} if job.key else {}
        done = {"numberRecordsProcessed": len(job.saved) + len(job.refused), "numberRecordsFailed": len(job.refused)}
        return told | done | ({"errorMessage": job.error} if job.error else {})

    def _results(self, job: Job, which: str) -> Reply:
        """In an order of no meaning, every value quoted, numbers written anew."""
        if job.state not in ENDED:
            return _fault(400, "INVALIDJOBSTATE", "results are not there yet")
        if which == "saved":
            head = ("sf__Id", "sf__Created")
            rows = [(told["id"], str(told.get("created", False)).lower(), row) for row, told in job.saved]
        elif which == "refused":
            head = ("sf__Id", "sf__Error")
            rows = [("", _error(told["errors"][0]), row) for row, told in job.refused]
        else:
            return Reply(200, self._sheet(job, (), [((), row) for row in job.unprocessed]))
        return Reply(200, self._sheet(job, head, [((one, two), row) for one, two, row in rows]))

    def _sheet(self, job: Job, head: Sequence[str], rows: list[tuple[Sequence[str], Cells]]) -> bytes:
        self._org.random.shuffle(rows)
        into = io.StringIO()
        writer = csv.writer(into, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow([*head, *job.header])
        for beside, row in rows:
            writer.writerow([*beside, *(_anew(name, row[name]) for name in job.header)])
        return into.getvalue().encode()


def _anew(name: str, cell: str) -> str:
    """A number as a double prints itself: 912260031 comes back as 9.12260031E8."""
    if name not in ("seats__c", "number__c") or cell in ("", CLEARED):
        return cell
    number = float(cell)
    if abs(number) < 1e7:
        return repr(number)
    mantissa, _, exponent = f"{number:.16e}".partition("e")
    digits = mantissa.rstrip("0")
    return f"{digits}{'0' if digits.endswith('.') else ''}E{int(exponent)}"


def _error(told: dict[str, Any]) -> str:
    return f"{told['statusCode']}:{told['message']}:--"


def _fault(status: int, code: str, words: str) -> Reply:
    return Reply(status, [{"message": words, "errorCode": code}])
