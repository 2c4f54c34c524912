"""Bulk API 2.0: ingest jobs and query jobs, their states, files and rules.

https://developer.salesforce.com/docs/atlas.en-us.api_asynch.meta/api_asynch/bulk_api_2_0.htm (November 2026)
"""

from __future__ import annotations

from collections import deque
from typing import Any

from reverse_etl.sandbox.messages import Request, Response, empty, json_response
from reverse_etl.sandbox.salesforce import bulk_rows
from reverse_etl.sandbox.salesforce.bulk_jobs import BATCHES_A_DAY, FINISHED, Job, Work
from reverse_etl.sandbox.salesforce.collections import JSON, json_body
from reverse_etl.sandbox.salesforce.errors import Refusal, not_found
from reverse_etl.sandbox.salesforce.org import Org, make_id

CSV = "text/csv; charset=UTF-8"
OPERATIONS = ("insert", "update", "upsert", "delete", "hardDelete")
MOST_MULTIPART = 100_000
FAULTS = ("lock", "refuse", "fail_job", "vanish", "stuck")


class Ingest:
    """`polls`: how many times a job is seen InProgress though its work is done."""

    def __init__(self, org: Org, polls: int) -> None:
        self._org = org
        self._jobs: dict[str, Job] = {}
        self._work: deque[tuple[Job, Work]] = deque()
        self._made = 0
        self.polls = polls
        self.batches = 0

    def step(self) -> bool:
        """Carries out a chunk of the job at work; False when there is none."""
        if not self._work:
            return False
        job, work = self._work[0]
        if job.state == "Aborted":
            work.leave()
            job.data, job.done = None, True
            self._work.popleft()
            return True
        if job.state == "UploadComplete":
            job.state = "InProgress"
        if not work.step():
            self.batches += job.batches
            self._work.popleft()
        return True

    def answer(self, request: Request, rest: list[str]) -> Response:
        match request.method, rest:
            case "POST", []:
                return self._create(request)
            case "GET", []:
                records = [job.document(brief=True) for job in self._jobs.values()]
                return json_response(200, {"done": True, "records": records, "nextRecordsUrl": None}, content_type=JSON)
            case method, [job_id, *tail] if job_id in self._jobs:
                return self._job(method, request, self._jobs[job_id], tail)
        raise not_found()

    def _job(self, method: str, request: Request, job: Job, tail: list[str]) -> Response:
        match method, [part.lower() for part in tail]:
            case "PUT", ["batches"]:
                return self._upload(request, job)
            case "PATCH", []:
                return self._change(request, job)
            case "GET", []:
                self._poll(job)
                return json_response(200, job.document(), content_type=JSON)
            case "DELETE", []:
                if job.state in ("Open", "InProgress"):
                    message = "Error encountered when deleting the job because the job is not terminated"
                    raise Refusal(400, "API_ERROR", message)
                del self._jobs[job.id]
                return empty()
            case "GET", ["successfulresults" | "failedresults" | "unprocessedrecords" as name]:
                return self._results(job, name)
        raise not_found()

    def _create(self, request: Request) -> Response:
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            return self._create_multipart(request)
        job = self._made_from(request, json_body(request))
        return json_response(200, job.document(brief=True), content_type=JSON)

    def _create_multipart(self, request: Request) -> Response:
        parts = request.parts()
        if "job" not in parts or "content" not in parts:
            raise Refusal(400, "INVALIDJOB", "a multipart job needs the parts job and content")
        if len(parts["content"]) > MOST_MULTIPART:
            raise Refusal(400, "INVALIDJOB", f"the content is longer than {MOST_MULTIPART} characters")
        described = Request("POST", request.target, {}, parts["job"], notes=dict(request.notes))
        job = self._made_from(described, json_body(described))
        job.data = parts["content"].strip(b"\r\n") + b"\n"
        self._close(request, job)
        return json_response(200, job.document(brief=True), content_type=JSON)

    def _made_from(self, request: Request, body: dict[str, Any]) -> Job:
        if body.get("operation") not in OPERATIONS:
            raise Refusal(400, "INVALIDJOB", f"operation must be one of {', '.join(OPERATIONS)}")
        try:
            sobject = self._org.object(str(body.get("object")))
        except Refusal:
            raise Refusal(400, "INVALIDENTITY", f"{body.get('object')} is not supported by the Bulk API") from None
        key = self._key(body, sobject.name)
        delimiter, ending = str(body.get("columnDelimiter") or "COMMA"), str(body.get("lineEnding") or "LF")
        if delimiter not in bulk_rows.DELIMITERS or ending not in ("LF", "CRLF"):
            raise Refusal(400, "INVALIDJOB", f"{delimiter} or {ending} isn't supported")
        if self.batches >= BATCHES_A_DAY:
            raise Refusal(400, "LIMIT_EXCEEDED", "Maximum number of batches for 24 hours exceeded")
        self._made += 1
        job_id = make_id("750", self._made)
        job = Job(
            job_id,
            sobject.name,
            body["operation"],
            key,
            delimiter,
            ending,
            request.notes["version"],
            self._org.now(),
        )
        self._jobs[job_id] = job
        return job

    def _key(self, body: dict[str, Any], name: str) -> str | None:
        if body["operation"] != "upsert":
            return None
        key = body.get("externalIdFieldName")
        field = self._org.object(name).field(str(key)) if key else None
        if field is None or not (field.id_lookup or field.name == "Id"):
            raise Refusal(
                400, "INVALIDJOB", f"InvalidJob : Field name provided, {key} is not an External ID for {name}"
            )
        return field.name

    def _upload(self, request: Request, job: Job) -> Response:
        if job.state != "Open":
            raise Refusal(400, "INVALIDJOBSTATE", f"Uploading data to a job in state {job.state} not allowed")
        if job.data is not None:
            raise Refusal(
                400, "INVALIDJOB", f"Found multiple contents for job: <{job.id}>, please 'Close' / 'Abort' it"
            )
        if not request.headers.get("content-type", "").startswith("text/csv"):
            raise Refusal(415, "UNSUPPORTED_MEDIA_TYPE", "The content type must be text/csv")
        job.data = request.body
        return empty(201)

    def _change(self, request: Request, job: Job) -> Response:
        wanted = str(json_body(request).get("state"))
        if wanted == "UploadComplete" and job.state == "Open":
            self._close(request, job)
        elif wanted == "Aborted" and job.state not in FINISHED:
            job.state = "Aborted"
            if all(queued is not job for queued, _ in self._work):
                job.done = True
        else:
            verb = {"UploadComplete": "Closing", "Aborted": "Aborting"}.get(wanted, "Changing")
            state = "Completed" if job.state == "JobComplete" else job.state
            raise Refusal(400, "INVALIDJOBSTATE", f"{verb} already {state} Job not allowed")
        return json_response(200, job.document(brief=True), content_type=JSON)

    def _close(self, request: Request, job: Job) -> None:
        job.state = "UploadComplete"
        job.faults = [fault for kind in FAULTS for fault in request.notes.get(kind, [])]
        self._work.append((job, Work(self._org, job, BATCHES_A_DAY - self.batches)))

    def _poll(self, job: Job) -> None:
        """A job whose work is done shows it only after some polls; one that is stuck never does."""
        if not job.done or job.state not in ("UploadComplete", "InProgress"):
            return
        if any(fault.kind == "stuck" for fault in job.faults):
            return
        job.polls += 1
        if job.polls > self.polls:
            job.state = "JobComplete"

    def _results(self, job: Job, name: str) -> Response:
        if job.state not in FINISHED:
            raise Refusal(400, "INVALIDJOBSTATE", f"Results of a job in state {job.state} are not available")
        extra = {"successfulresults": ["sf__Id", "sf__Created"], "failedresults": ["sf__Id", "sf__Error"]}.get(name, [])
        lines = {
            "successfulresults": job.successful,
            "failedresults": job.failed,
            "unprocessedrecords": job.unprocessed,
        }[name]
        mark = bulk_rows.DELIMITERS[job.delimiter]
        ending = "\r\n" if job.ending == "CRLF" else "\n"
        head = mark.join([f'"{column}"' for column in extra] + job.header) + ending
        return Response(200, (head + "".join(lines)).encode(), CSV, rows=len(lines))

    def dump(self) -> dict[str, Any]:
        return {"jobs": [job.dump() for job in self._jobs.values()], "made": self._made, "batches": self.batches}

    def load(self, document: dict[str, Any]) -> None:
        """Takes the jobs up again; one that was at work goes on where it stopped."""
        self._jobs = {job.id: job for job in map(Job.load, document["jobs"])}
        self._made, self.batches = document["made"], document["batches"]
        at_work = [job for job in self._jobs.values() if job.state in ("UploadComplete", "InProgress") and not job.done]
        self._work = deque((job, Work(self._org, job, BATCHES_A_DAY - self.batches)) for job in at_work)

    def clear(self) -> None:
        self._jobs.clear()
        self._work.clear()
        self.batches = 0
