"""Bulk query jobs: a statement run as a job, its result handed out as CSV in parts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from reverse_etl.sandbox.messages import Request, Response, empty, json_response
from reverse_etl.sandbox.salesforce import bulk_rows
from reverse_etl.sandbox.salesforce.bulk import CSV
from reverse_etl.sandbox.salesforce.bulk_jobs import FINISHED
from reverse_etl.sandbox.salesforce.collections import JSON, json_body
from reverse_etl.sandbox.salesforce.errors import Refusal, not_found
from reverse_etl.sandbox.salesforce.org import USER_ID, Org, make_id
from reverse_etl.sandbox.salesforce.query import Queries
from reverse_etl.sandbox.salesforce.soql import Statement, parse

PART = 50_000


@dataclass
class QueryJob:
    id: str
    operation: str
    query: str
    ids: list[str]
    delimiter: str
    ending: str
    version: str
    made: str
    state: str = "UploadComplete"
    polls: int = 0

    def __post_init__(self) -> None:
        self.statement: Statement = parse(self.query)

    def document(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "operation": self.operation,
            "object": self.statement.object,
            "createdById": USER_ID,
            "createdDate": self.made,
            "systemModstamp": self.made,
            "state": self.state,
            "concurrencyMode": "Parallel",
            "contentType": "CSV",
            "apiVersion": float(self.version[1:]),
            "jobType": "V2Query",
            "lineEnding": self.ending,
            "columnDelimiter": self.delimiter,
            "numberRecordsProcessed": len(self.ids) if self.state == "JobComplete" else 0,
            "retries": 0,
            "totalProcessingTime": 100,
            "isPkChunkingSupported": True,
        }


class QueryJobs:
    def __init__(self, org: Org, queries: Queries, polls: int) -> None:
        self._org = org
        self._queries = queries
        self._jobs: dict[str, QueryJob] = {}
        self._made = 0
        self._polls = polls

    def answer(self, request: Request, rest: list[str]) -> Response:
        match request.method, rest:
            case "POST", []:
                return self._create(request)
            case "GET", []:
                records = [job.document() for job in self._jobs.values()]
                return json_response(200, {"done": True, "records": records, "nextRecordsUrl": None}, content_type=JSON)
            case method, [job_id, *tail] if job_id in self._jobs:
                return self._job(method, request, self._jobs[job_id], tail)
        raise not_found()

    def _job(self, method: str, request: Request, job: QueryJob, tail: list[str]) -> Response:
        if request.notes["version"] != job.version:
            raise Refusal(409, "VERSION_MISMATCH", "The API version differs from the one that made the job")
        match method, tail:
            case "GET", []:
                self._poll(job)
                return json_response(200, job.document(), content_type=JSON)
            case "GET", ["results"]:
                return self._results(request, job)
            case "PATCH", []:
                if job.state in FINISHED:
                    raise Refusal(400, "INVALIDJOBSTATE", "Aborting already Completed Job not allowed")
                job.state = "Aborted"
                return json_response(200, job.document(), content_type=JSON)
            case "DELETE", []:
                del self._jobs[job.id]
                return empty()
        raise not_found()

    def _create(self, request: Request) -> Response:
        body = json_body(request)
        if body.get("operation") not in ("query", "queryAll"):
            raise Refusal(400, "INVALIDJOB", "operation must be query or queryAll")
        statement = parse(str(body.get("query", "")))
        if statement.count or statement.offset:
            raise Refusal(400, "API_ERROR", "Aggregates and OFFSET are not supported by bulk queries")
        ids = self._queries.find(statement, deleted=body["operation"] == "queryAll")
        delimiter, ending = str(body.get("columnDelimiter") or "COMMA"), str(body.get("lineEnding") or "LF")
        if delimiter not in bulk_rows.DELIMITERS or ending not in ("LF", "CRLF"):
            raise Refusal(400, "INVALIDJOB", f"{delimiter} or {ending} isn't supported")
        self._made += 1
        job = QueryJob(
            make_id("750", 500_000 + self._made),
            body["operation"],
            str(body["query"]),
            ids,
            delimiter,
            ending,
            request.notes["version"],
            self._org.now(),
        )
        self._jobs[job.id] = job
        return json_response(200, job.document(), content_type=JSON)

    def _poll(self, job: QueryJob) -> None:
        if job.state in ("UploadComplete", "InProgress"):
            job.polls += 1
            job.state = "JobComplete" if job.polls > self._polls else "InProgress"

    def _results(self, request: Request, job: QueryJob) -> Response:
        if job.state != "JobComplete":
            raise Refusal(400, "INVALIDJOBSTATE", f"Results of a job in state {job.state} are not available")
        locator = request.query.get("locator", "0")
        start = int(locator) if locator.isdigit() else 0
        asked = request.query.get("maxRecords", "")
        part = max(1, int(asked)) if asked.isdecimal() else PART
        chosen = job.ids[start : start + part]
        readers = self._queries.readers(job.statement)
        lines = [bulk_rows.line([path for path, _ in readers], job.delimiter, job.ending)]
        for record_id in chosen:
            values = self._queries.values(job.statement, record_id)
            cells = [_cell(read(record_id, values)) for _, read in readers]
            lines.append(bulk_rows.line(cells, job.delimiter, job.ending))
        response = Response(200, "".join(lines).encode(), CSV, rows=len(chosen))
        end = start + part
        response.headers["Sforce-Locator"] = str(end) if end < len(job.ids) else "null"
        response.headers["Sforce-NumberOfRecords"] = str(len(chosen))
        return response

    def dump(self) -> list[dict[str, Any]]:
        return [asdict(job) for job in self._jobs.values()]

    def load(self, document: list[dict[str, Any]]) -> None:
        self._jobs = {entry["id"]: QueryJob(**entry) for entry in document}
        self._made = len(self._jobs)

    def clear(self) -> None:
        self._jobs.clear()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return bulk_rows.double_text(value) if isinstance(value, float) or abs(value) >= 10_000_000 else str(value)
    return str(value)
