"""Jobs of Bulk API 2.0: made, filled, closed, waited for, read, and found again when an answer was lost.

An ingest job takes one upload. It is `Open` until it is closed and processes nothing before; then it is
`UploadComplete`, `InProgress` and in the end `JobComplete`, `Failed` or `Aborted`, and what it has saved by then stays
saved. A query job begins closed, and hands its result out in parts. (Bulk API 2.0 guide, "Bulk API 2.0 Ingest" and
"Bulk API 2.0 Query", v62.0, read in 2026.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO, Any

from reverse_etl.answer import Answer
from reverse_etl.clock import Clock
from reverse_etl.destinations.salesforce import errors
from reverse_etl.destinations.salesforce.rest import Rest
from reverse_etl.errors import BatchRefused, DestinationError, InDoubt
from reverse_etl.stop import unless_asked

OPEN, UPLOADED, COMPLETE, FAILED, ABORTED = "Open", "UploadComplete", "JobComplete", "Failed", "Aborted"
ENDED = frozenset({COMPLETE, FAILED, ABORTED})

INGEST, QUERY = "jobs/ingest", "jobs/query"
FILE_SECONDS = 1800.0  # that a file may take up or down, however steadily it moves
PART = 50_000  # records of a query job's result, at once
LAST = "null"  # what stands in the place of a further part's locator
# Between looks at a job, in seconds; the last one is repeated. Salesforce recommends nothing.
PAUSES = (0.2, 1.0, 2.0, 3.0, 5.0, 8.0, 10.0)
LATER_SECONDS, LATER_PAUSE = 300.0, 30.0
CLOCKS_APART = timedelta(seconds=60)  # by which theirs and ours may differ
STILL_RUNNING = "destination_bulk_running"
# Failures of a whole job that its next try would share, by a part of their words.
_HOPELESS = (
    "field name not found",
    "unable to find relationship",
    "foreign key references",
    "duplicate column",
    "lineending",
    "failed to parse",
    "must contain only ids",
)


@dataclass(frozen=True)
class Job:
    """What Salesforce says of a job."""

    id: str
    state: str
    error: str = ""

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class Jobs:
    """The jobs of one org, of one kind. `patience` is how long one is waited for, in seconds."""

    def __init__(self, rest: Rest, connection: str, clock: Clock, patience: float, kind: str = INGEST) -> None:
        self._kind = kind
        self._rest = rest
        self._connection = connection
        self._clock = clock
        self._patience = patience

    async def create(self, object: str, operation: str, key: str | None) -> str:
        """A new open job's id. Raises InDoubt when there may be one whose id was not told."""
        asked = {"object": object, "operation": operation, "contentType": "CSV", "lineEnding": "LF"}
        if key is not None:
            asked["externalIdFieldName"] = key
        answer = await self._call("POST", self._kind, json=asked, idempotent=False)
        return self._job(answer.json()).id

    async def upload(self, job_id: str, file: IO[bytes]) -> bool:
        """Whether the whole file is there for sure; a job takes no second one."""
        try:
            await self._call(
                "PUT",
                f"{self._kind}/{job_id}/batches",
                content=file,
                headers={"content-type": "text/csv"},
                idempotent=False,
                deadline=FILE_SECONDS,
            )
        except InDoubt:
            return False
        return True

    async def close(self, job_id: str) -> None:
        """Have Salesforce begin; when it may have heard so already, look."""
        await self._change(job_id, UPLOADED)

    async def abort(self, job_id: str) -> None:
        await self._change(job_id, ABORTED)

    async def look(self, job_id: str) -> Job | None:
        """The job as it is, None when it is gone."""
        try:
            return self._job((await self._call("GET", f"{self._kind}/{job_id}")).json())
        except DestinationError as refused:
            if refused.status == 404:
                return None
            raise

    async def end(self, job_id: str) -> Job | None:
        """The job at its end, however long it takes; None when it is gone. Raises when patience ends before."""
        began = self._clock.monotonic()
        for pause in self._pauses(began):
            job = await self.look(job_id)
            if job is None or job.ended:
                return job
            if self._clock.monotonic() - began > self._patience:
                break
            with unless_asked():
                await self._clock.sleep(pause)
        raise DestinationError(
            f"destination {self._connection!r}: job {job_id} has not ended yet",
            hint="run the sync again later: it goes on with this job. See Setup, Bulk Data Load Jobs",
            code=STILL_RUNNING,
        )

    async def download(self, job_id: str, which: str, into: IO[bytes]) -> None:
        """One of a job's result files."""
        await self._read(f"{self._kind}/{job_id}/{which}", into)

    async def ask(self, statement: str) -> str:
        """The id of a new job that runs a query. Made twice it does no harm."""
        answer = await self._call("POST", self._kind, json={"operation": "query", "query": statement})
        return self._job(answer.json()).id

    async def part(self, job_id: str, locator: str | None, into: IO[bytes]) -> tuple[str | None, int]:
        """A part of a query's result: the next one's locator, None after the last, and the number of its records."""
        params = {"maxRecords": str(PART), **({"locator": locator} if locator else {})}
        answer = await self._read(f"{self._kind}/{job_id}/results", into, params=params)
        following, records = (answer.headers.get(name, "") for name in ("sforce-locator", "sforce-numberofrecords"))
        if not following or following == locator or not records.isdecimal():
            raise InDoubt(
                f"destination {self._connection!r}: a part of a query's result doesn't tell what follows it",
                code="destination_unreadable",
                request_id=answer.request_id,
            )
        return None if following == LAST else following, int(records)

    async def _read(self, path: str, into: IO[bytes], **details: Any) -> Answer:
        headers = {"accept": "text/csv"}
        answer: Answer = await self._call("GET", path, into=into, headers=headers, deadline=FILE_SECONDS, **details)
        return answer

    async def lost(self, object: str, operation: str, key: str | None, since: datetime, until: datetime) -> list[str]:
        """Open jobs of this kind that the connected user made in a span of our time, and that hold no word of ours."""
        user = await self._rest.user()
        found: list[str] = []
        async for told in self._rest.listed(f"{self._kind}?jobType=V2Ingest"):
            made = _moment(told.get("createdDate"))
            if (
                told.get("state") == OPEN
                and (told.get("object"), told.get("operation")) == (object, operation)
                and told.get("externalIdFieldName") == key
                and str(told.get("createdById"))[:15] == user[:15]
                and made is not None
                and since - CLOCKS_APART <= made <= until + CLOCKS_APART
            ):
                found.append(str(told["id"]))
        return found

    async def _change(self, job_id: str, state: str) -> None:
        try:
            await self._call("PATCH", f"{self._kind}/{job_id}", json={"state": state})
        except DestinationError:
            job = await self.look(job_id)
            if job is None or job.state == OPEN or (state == ABORTED and not job.ended):
                raise

    def _pauses(self, began: float) -> Iterator[float]:
        yield from PAUSES
        while True:
            yield LATER_PAUSE if self._clock.monotonic() - began > LATER_SECONDS else PAUSES[-1]

    async def _call(self, method: str, path: str, **details: Any) -> Any:
        """A refusal concerns the job: no smaller part of its rows would fare better."""
        try:
            return await self._rest.call(method, path, **details)
        except BatchRefused as refused:
            raise DestinationError(
                f"destination {self._connection!r}: Salesforce refused a bulk job: {refused.code}: {refused.message}",
                hint="set `bulk_from: never` to write without bulk jobs",
                code=errors.JOB_REFUSED,
                status=refused.status,
                request_id=refused.request_id,
            ) from refused

    def _job(self, told: Any) -> Job:
        if not isinstance(told, Mapping) or not told.get("id") or not told.get("state"):
            raise InDoubt(
                f"destination {self._connection!r}: a job was described with something that is not a job",
                code="destination_unreadable",
            )
        return Job(str(told["id"]), str(told["state"]), str(told.get("errorMessage") or ""))


def failure(connection: str, job: Job | None) -> DestinationError | None:
    """Why a job ended before its time; None for one that didn't, or is gone."""
    if job is None or job.state == COMPLETE:
        return None
    if job.state == ABORTED:
        return DestinationError(
            f"destination {connection!r}: job {job.id} was aborted in Salesforce",
            hint="ask whoever did it (Setup, Bulk Data Load Jobs); the rows wait for the next run",
            code="destination_bulk_aborted",
        )
    hopeless = any(part in job.error.lower() for part in _HOPELESS)
    return DestinationError(
        f"destination {connection!r}: job {job.id} failed: {job.error or 'without a reason'}",
        hint="a field is gone, or the connected user may not see it: run `reverse-etl check --connect`"
        if hopeless
        else "see Setup, Bulk Data Load Jobs; the rows wait for the next run",
        code=errors.CONFIG if hopeless else errors.JOB_REFUSED,
    )


def _moment(text: object) -> datetime | None:
    """A time as Salesforce writes it, with or without a colon in the offset."""
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
