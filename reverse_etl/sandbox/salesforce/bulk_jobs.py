"""What a bulk ingest job does with its rows: chunks of 200, a verdict a row, result files in no particular order."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import Any

from reverse_etl.sandbox.faults import Fault
from reverse_etl.sandbox.salesforce import bulk_rows
from reverse_etl.sandbox.salesforce.bulk_rows import Column, JobFailure
from reverse_etl.sandbox.salesforce.collections import delete, ordered_error, update
from reverse_etl.sandbox.salesforce.errors import RowError
from reverse_etl.sandbox.salesforce.org import USER_ID, Org, SObject
from reverse_etl.sandbox.salesforce.records import keyed
from reverse_etl.sandbox.salesforce.saving import ParsedRow, Saver

CHUNK = 200
BATCH = 10_000
BATCHES_A_DAY = 15_000
FINISHED = ("JobComplete", "Failed", "Aborted")


@dataclass
class Job:
    id: str
    object: str
    operation: str
    key: str | None
    delimiter: str
    ending: str
    version: str
    made: str
    state: str = "Open"
    error: str | None = None
    data: bytes | None = None
    header: list[str] = field(default_factory=list)
    successful: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    unprocessed: list[str] = field(default_factory=list)
    polls: int = 0
    batches: int = 0
    carried: int = 0
    done: bool = False
    faults: list[Fault] = field(default_factory=list)

    def dump(self) -> dict[str, Any]:
        """What a data file keeps of it: all but the faults that were ordered on it."""
        kept = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "faults"}
        return kept | {"data": None if self.data is None else base64.b64encode(self.data).decode()}

    @classmethod
    def load(cls, document: dict[str, Any]) -> Job:
        data = document["data"]
        return cls(**{**document, "data": None if data is None else base64.b64decode(data)})

    def document(self, *, brief: bool = False) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "id": self.id,
            "operation": self.operation,
            "object": self.object,
            "createdById": USER_ID,
            "createdDate": self.made,
            "systemModstamp": self.made,
            "state": self.state,
            "concurrencyMode": "Parallel",
            "contentType": "CSV",
            "apiVersion": float(self.version[1:]),
            "lineEnding": self.ending,
            "columnDelimiter": self.delimiter,
        }
        if self.key is not None:
            shown["externalIdFieldName"] = self.key
        if self.state == "Open":
            shown["contentUrl"] = f"services/data/{self.version}/jobs/ingest/{self.id}/batches"
        if not brief:
            shown |= {
                "jobType": "V2Ingest",
                "numberRecordsProcessed": len(self.successful) + len(self.failed),
                "numberRecordsFailed": len(self.failed),
                "retries": 0,
                "totalProcessingTime": 100,
                "apiActiveProcessingTime": 80,
                "apexProcessingTime": 0,
            }
            if self.error is not None:
                shown["errorMessage"] = self.error
        return shown


class Work:
    """Carries one job out, a chunk at a time, so that the server goes on answering in between."""

    def __init__(self, org: Org, job: Job, batches_left: int) -> None:
        self._org = org
        self._job = job
        self._sobject = org.object(job.object)
        self._batches_left = batches_left
        self._columns: list[Column] = []
        self._chunks = self._start()

    def step(self) -> bool:
        """Does a chunk; False when the job is at its end."""
        try:
            chunk = next(self._chunks, None)
            if chunk is not None:
                self._carry_out(chunk)
                return True
        except JobFailure as failure:
            self._fail(str(failure))
            return False
        self._end("JobComplete")
        return False

    def _start(self) -> Iterator[list[list[str]]]:
        job = self._job
        bulk_rows.check_line_ends(job.data or b"", job.ending)
        found = bulk_rows.rows(job.data or b"", job.delimiter)
        job.header = next(found, [])
        if job.header:
            self._columns = bulk_rows.columns(self._org, self._sobject, job.header)
        if job.operation in ("delete", "hardDelete") and job.header not in ([], ["Id"]):
            raise JobFailure("InvalidBatch : The 'delete' batch must contain only ids")
        chunk: list[list[str]] = []
        for row in islice(found, job.carried, None):  # a job taken up again goes on where it stopped
            if len(row) != len(job.header):
                raise JobFailure(f"InvalidBatch : row has {len(row)} columns, the header {len(job.header)}")
            chunk.append(row)
            if len(chunk) == CHUNK:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def _carry_out(self, chunk: list[list[str]]) -> None:
        job = self._job
        for fault in job.faults:
            if fault.kind == "fail_job" and job.carried >= fault.rows:
                raise JobFailure(fault.message or "InvalidBatch : ordered to fail")
        if job.carried % BATCH == 0:
            job.batches += 1
        job.carried += len(chunk)
        if job.batches > self._batches_left:
            return  # rows beyond the day's allowance of batches are in none of the result files
        struck = self._struck(len(chunk))
        parsed = [bulk_rows.parse(self._columns, row) for row in chunk]
        counts = self._key_counts(parsed)
        saver = Saver(self._org, self._sobject, self._org.duplicate_rules.get(self._sobject.name))
        for position, (row, (values, record_id)) in enumerate(zip(chunk, parsed, strict=True)):
            try:
                if position in struck:
                    raise struck[position]
                bulk_rows.check_cells(row)
                saved, created = self._save(values, record_id, counts, saver)
                cells = [saved, "true" if created else "false", *bulk_rows.written(self._columns, row)]
                if not any(fault.kind == "vanish" and position < fault.rows for fault in job.faults):
                    job.successful.append(self._line(cells))
            except RowError as error:
                known = record_id or ""
                cells = [known, error.cell(), *bulk_rows.written(self._columns, row)]
                job.failed.append(self._line(cells))
        self._org.ledger.add("salesforce", self._sobject.name, saver.writes)

    def _save(self, row: ParsedRow, record_id: str | None, counts: Counter[str], saver: Saver) -> tuple[str, bool]:
        match self._job.operation:
            case "insert":
                return saver.create(row), True
            case "update":
                return update(self._sobject, self._given(record_id), row, saver), False
            case "delete" | "hardDelete":
                return delete(self._sobject, self._given(record_id), saver), False
        if self._job.key == "Id":
            if record_id is None:
                return saver.create(row), True
            return update(self._sobject, record_id, row, saver), False
        key = self._sobject.field(self._job.key or "")
        assert key is not None  # noqa: S101  # checked when the job was made
        value = row.values.get(key.name)
        if value is not None and counts[SObject.fold(key)(value)] > 1:
            raise RowError("DUPLICATE_VALUE", f"Duplicate external id specified: {value}", [key.name])
        return keyed(self._sobject, key, value, row, saver)

    def _given(self, record_id: str | None) -> str:
        if not record_id:
            raise RowError("MISSING_ARGUMENT", "Id not specified in an update call", ["Id"])
        return record_id

    def _key_counts(self, parsed: list[tuple[ParsedRow, str | None]]) -> Counter[str]:
        key = self._sobject.field(self._job.key or "")
        if key is None or key.name == "Id":
            return Counter()
        fold = SObject.fold(key)
        values = [row.values.get(key.name) for row, _ in parsed]
        return Counter(fold(value) for value in values if value is not None)

    def _struck(self, count: int) -> dict[int, RowError]:
        struck: dict[int, RowError] = {}
        for fault in self._job.faults:
            if fault.kind in ("lock", "refuse"):
                for position in self._org.random.sample(range(count), fault.count(count)):
                    struck[position] = ordered_error(fault)
        return struck

    def _fail(self, message: str) -> None:
        """Ends as Failed: what no chunk has reached stays unprocessed, what was saved stays saved."""
        self._job.error = message
        self.leave()
        self._end("Failed")

    def leave(self) -> None:
        """Gives up on the rows that no chunk has reached."""
        self._job.unprocessed += [self._line(row) for row in self._raw()[self._job.carried :]]

    def _raw(self) -> list[list[str]]:
        try:
            return list(bulk_rows.rows(self._job.data or b"", self._job.delimiter))[1:]
        except JobFailure:
            return []

    def _end(self, state: str) -> None:
        job = self._job
        self._org.random.shuffle(job.successful)
        self._org.random.shuffle(job.failed)
        job.data, job.done = None, True
        if state == "Failed":
            job.state = state

    def _line(self, cells: list[str]) -> str:
        return bulk_rows.line(cells, self._job.delimiter, self._job.ending)
