"""Salesforce's front door: which path means what, who may call it, and how its answers look."""

from __future__ import annotations

import re
from email.utils import formatdate
from typing import Any

from reverse_etl.sandbox.clock import Clock
from reverse_etl.sandbox.journal import Ledger
from reverse_etl.sandbox.messages import Request, Response, empty, json_response
from reverse_etl.sandbox.salesforce import describe, leads, soap
from reverse_etl.sandbox.salesforce.auth import Sessions, concurrent_limit, daily_limit
from reverse_etl.sandbox.salesforce.bulk import Ingest
from reverse_etl.sandbox.salesforce.bulk_query import QueryJobs
from reverse_etl.sandbox.salesforce.collections import JSON, Collections, json_body, saver_for
from reverse_etl.sandbox.salesforce.composite import composite, graphs
from reverse_etl.sandbox.salesforce.errors import OAuthRefusal, Refusal, RowError, expired_session, not_found
from reverse_etl.sandbox.salesforce.fields import Field
from reverse_etl.sandbox.salesforce.org import Org, SObject, read_id
from reverse_etl.sandbox.salesforce.query import Queries
from reverse_etl.sandbox.salesforce.records import by_id, external_field, keyed, record
from reverse_etl.sandbox.salesforce.saving import Saver, parse_row
from reverse_etl.sandbox.salesforce.tree import tree

VERSION = re.compile(r"v(\d+)\.0")
MOST_TARGET = 16_384


class Salesforce:
    """The emulated org. Tests read and fill it directly; requests come through `admit` and `answer`."""

    name = "salesforce"

    def __init__(
        self, clock: Clock, ledger: Ledger, *, seed: int, daily_requests: int, origin: str, bulk_polls: int
    ) -> None:
        self.origin = origin
        self.sessions = Sessions(clock, daily_requests)
        self.org = Org(clock, ledger, seed)
        self._collections = Collections(self.org)
        self._queries = Queries(self.org)
        self.bulk = Ingest(self.org, bulk_polls)
        self._query_jobs = QueryJobs(self.org, self._queries, bulk_polls)

    def serves(self, request: Request) -> bool:
        return request.segments[:1] in (["services"], ["id"])

    def admit(self, request: Request) -> Response | None:
        """Checks the session and counts the request; the refusal, if it gets one."""
        segments = request.segments
        if len(request.target) > MOST_TARGET:
            return _refused(Refusal(414, "URI_TOO_LONG", "URI too long"))
        if segments[:2] == ["services", "oauth2"] and segments[2:] != ["userinfo"]:
            return None
        if segments == ["services", "data"] or segments[:3] == ["services", "Soap", "u"]:
            return None
        if (
            segments[:1] == ["id"] and "oauth_token" in request.query
        ):  # clients may name their token there, and there only
            request.headers.setdefault("authorization", f"Bearer {request.query['oauth_token']}")
        try:
            self.sessions.admit(request)
        except Refusal as refusal:
            return _refused(refusal)
        return None

    def answer(self, request: Request) -> Response:
        try:
            return self._route(request)
        except Refusal as refusal:
            return _refused(refusal)
        except OAuthRefusal as refusal:
            return json_response(400, refusal.body, content_type=JSON)

    def finish(self, request: Request, response: Response) -> None:
        """Adds the header that every answer of a versioned path carries."""
        if request.path.startswith("/services/data/v"):
            response.headers["Sforce-Limit-Info"] = f"api-usage={self.sessions.used}/{self.sessions.daily}"

    def throttle(self, policy: str | None) -> Response:
        return _refused(concurrent_limit() if policy == "concurrent" else daily_limit())

    def expire(self, request: Request) -> Response:
        self.sessions.expire(request.bearer() or "")
        return _refused(expired_session())

    def _route(self, request: Request) -> Response:
        match request.segments:
            case ["services", "oauth2", *rest]:
                return self._oauth(request, rest)
            case ["id", _, _]:
                return json_response(200, describe.identity(self.origin), content_type=JSON)
            case ["services", "Soap", "u", version, *_]:
                return soap.answer(request, version, self.sessions, self.origin)
            case ["services", "data"]:
                return json_response(200, describe.versions(), content_type=JSON)
            case ["services", "data", version, *rest]:
                return self._versioned(request, version, rest)
        raise not_found()

    def _oauth(self, request: Request, rest: list[str]) -> Response:
        match request.method, rest:
            case "POST", ["token"]:
                return json_response(200, self.sessions.login(request, self.origin), content_type=JSON)
            case _, ["revoke"]:
                self.sessions.expire(request.form().get("token") or request.query.get("token", ""))
                return empty(200)
            case "POST", ["introspect"]:
                active = self.sessions.until.get(request.form().get("token", ""), 0.0) > self.org.clock.now()
                return json_response(200, {"active": active}, content_type=JSON)
            case _, ["userinfo"]:
                return json_response(200, describe.userinfo(self.origin), content_type=JSON)
        raise not_found()

    def _versioned(self, request: Request, version: str, rest: list[str]) -> Response:
        number = VERSION.fullmatch(version)
        if number is None or int(number[1]) > describe.NEWEST:
            raise not_found()
        if int(number[1]) < describe.OLDEST:
            raise Refusal(410, "UNSUPPORTED_API_VERSION", "The requested API version is retired")
        request.notes["version"] = version
        if request.method == "POST" and "_HttpMethod" in request.query:
            request.method = request.query["_HttpMethod"]
        match rest:
            case [] | ["limits"] | ["sobjects"]:
                return json_response(200, self._description(version, rest), content_type=JSON)
            case ["sobjects", *tail]:
                return self._sobjects(request, version, tail)
            case ["composite", *tail]:
                return self._composite(request, tail)
            case ["jobs", ("ingest" | "query") as kind, *tail]:
                return self.bulk.answer(request, tail) if kind == "ingest" else self._query_jobs.answer(request, tail)
            case [("query" | "queryAll") as word, *tail] if request.method == "GET":
                return self._query(request, tail, deleted=word == "queryAll")
        raise not_found()

    def _description(self, version: str, rest: list[str]) -> dict[str, Any]:
        if rest == ["limits"]:
            return describe.limits(self.sessions, self.bulk.batches)
        if rest == ["sobjects"]:
            briefs = [describe.brief(kind, version) for kind in self.org.objects.values()]
            return {"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": briefs}
        return dict(describe.resources(version, self.origin))

    def _query(self, request: Request, tail: list[str], *, deleted: bool) -> Response:
        return self._queries.more(request, tail[0]) if tail else self._queries.answer(request, deleted=deleted)

    def _composite(self, request: Request, tail: list[str]) -> Response:
        if request.method == "POST" and not tail:
            return composite(request, self.org, self.answer)  # subrequests are answered like any other, and not counted
        if request.method == "POST" and tail == ["graph"]:
            return graphs(request, self.org, self.answer)
        if request.method == "POST" and tail[:1] == ["tree"] and len(tail) == 2:
            return tree(self.org, tail[1], request)
        if tail[:1] != ["sobjects"]:
            raise not_found()
        match request.method, tail[1:]:
            case "PATCH", [name, key]:
                return self._collections.upsert(name, key, request)
            case "POST", []:
                return self._collections.insert(request)
            case "PATCH", []:
                return self._collections.update(request)
            case "DELETE", []:
                return self._collections.delete(request)
            case (("POST" | "GET"), [name]):
                return self._collections.retrieve(name, request)
        raise Refusal(405, "METHOD_NOT_ALLOWED", f"HTTP Method '{request.method}' not allowed.")

    def _sobjects(self, request: Request, version: str, tail: list[str]) -> Response:
        sobject = self.org.object(tail[0])
        match request.method, tail[1:]:
            case "GET", []:
                answer = {"objectDescribe": describe.brief(sobject, version), "recentItems": []}
                return json_response(200, answer, content_type=JSON)
            case "GET", ["describe"]:
                return self._describe(request, sobject, version)
            case "POST", []:
                return self._create(request, sobject, version)
            case _, [given]:
                return self._by_id(request, sobject, given)
            case _, [key, value]:
                return self._by_key(request, sobject, external_field(sobject, key), value)
        raise not_found()

    def _describe(self, request: Request, sobject: SObject, version: str) -> Response:
        response = json_response(200, describe.describe(self.org, sobject, version), content_type=JSON)
        tag = f'"{len(sobject.fields):x}-{len(response.body):x}"'
        known = request.headers.get("if-modified-since")
        if request.headers.get("if-none-match") == tag or (known and not sobject.changed_since(known)):
            return Response(304, b"", None)
        response.headers |= {"ETag": tag, "Last-Modified": formatdate(sobject.changed, usegmt=True)}
        return response

    def _create(self, request: Request, sobject: SObject, version: str) -> Response:
        row = parse_row(self.org, sobject, self._fields(request))
        record_id = self._save(request, sobject, lambda saver: saver.create(row))
        response = json_response(201, {"id": record_id, "success": True, "errors": []}, content_type=JSON, rows=1)
        response.headers["Location"] = f"/services/data/{version}/sobjects/{sobject.name}/{record_id}"
        return response

    def _by_id(self, request: Request, sobject: SObject, given: str) -> Response:
        record_id = by_id(sobject, given)
        match request.method:
            case "GET":
                return self._shown(request, sobject, record_id)
            case "PATCH":
                row = parse_row(self.org, sobject, self._fields(request))
                self._save(request, sobject, lambda saver: saver.update(record_id, row))
                return empty()
            case "DELETE":
                self._save(request, sobject, lambda saver: saver.delete(record_id))
                return empty()
        raise Refusal(405, "METHOD_NOT_ALLOWED", f"HTTP Method '{request.method}' not allowed.")

    def _by_key(self, request: Request, sobject: SObject, key: Field, value: str) -> Response:
        found = sobject.table.find(key.name, value)
        if len(found) > 1:
            version = request.notes["version"]
            urls = [f"/services/data/{version}/sobjects/{sobject.name}/{other}" for other in found]
            return json_response(300, urls, content_type=JSON)
        if request.method == "PATCH":
            return self._upsert(request, sobject, key, value)
        if not found:
            raise not_found()
        if request.method == "DELETE":
            self._save(request, sobject, lambda saver: saver.delete(found[0]))
            return empty()
        return self._shown(request, sobject, found[0])

    def _upsert(self, request: Request, sobject: SObject, key: Field, value: str) -> Response:
        body = self._fields(request)
        if key.name in body:
            raise Refusal(400, "INVALID_FIELD", f"The {key.name} field should not be specified in the sobject data.")
        row = parse_row(self.org, sobject, {**body, key.name: value})
        only = request.query.get("updateOnly") == "true"
        saved: dict[str, Any] = {}

        def save(saver: Saver) -> None:
            saved["id"], saved["created"] = keyed(sobject, key, row.values[key.name], row, saver, update_only=only)

        self._save(request, sobject, save)
        answer = {"id": saved["id"], "success": True, "errors": [], "created": saved["created"]}
        return json_response(201 if saved["created"] else 200, answer, content_type=JSON, rows=1)

    def _shown(self, request: Request, sobject: SObject, record_id: str) -> Response:
        names = request.query.get("fields", "").split(",") if request.query.get("fields") else None
        return json_response(
            200, record(sobject, record_id, names, request.notes["version"]), content_type=JSON, rows=1
        )

    def _fields(self, request: Request) -> dict[str, Any]:
        body = json_body(request)
        if "Id" in body or "id" in body:
            raise Refusal(400, "INVALID_FIELD", "The Id field should not be specified in the sobject data.")
        return body

    def _save(self, request: Request, sobject: SObject, save: Any) -> Any:
        saver = saver_for(self.org, sobject, request)
        try:
            result = save(saver)
        except RowError as error:
            raise error.refusal() from None
        self.org.ledger.add("salesforce", sobject.name, saver.writes)
        return result

    def objects(self) -> list[str]:
        return list(self.org.objects)

    def records(self, kind: str, *, deleted: bool = False) -> list[dict[str, Any]]:
        """Every record of an object: `Id` and the values it has."""
        table = self.org.object(kind).table
        source = table.removed_items() if deleted else table.items()
        return [{"Id": record_id, **values} for record_id, values in source]

    def count(self, kind: str) -> int:
        return len(self.org.object(kind).table)

    def some(self, kind: str, start: int, stop: int) -> list[dict[str, Any]]:
        """Records by their place in the order they were made."""
        return [{"Id": record_id, **values} for record_id, values in self.org.object(kind).table.items(start, stop)]

    def search_text(self, kind: str, wanted: str) -> list[dict[str, Any]]:
        """Records that a person may mean by an id or the value of an identifying field."""
        sobject = self.org.object(kind)
        whole = read_id(wanted)
        found = [whole] if whole else []
        for field in sobject.fields.values():
            if field.id_lookup and field.name != "Id":
                found += sobject.table.find(field.name, wanted)
        return [shown for record_id in dict.fromkeys(found) if (shown := self.record(kind, record_id)) is not None]

    def record(self, kind: str, record_id: str) -> dict[str, Any] | None:
        values = self.org.object(kind).table.get(record_id)
        return None if values is None else {"Id": record_id, **values}

    def find(self, kind: str, name: str, value: Any) -> dict[str, Any] | None:
        """The first record with that value of an external id field."""
        found = self.org.object(kind).table.find(name, value)
        return self.record(kind, found[0]) if found else None

    def add(self, kind: str, values: dict[str, Any]) -> str:
        """Makes a record without a request, and gives its id."""
        sobject = self.org.object(kind)
        return Saver(self.org, sobject).create(parse_row(self.org, sobject, values))

    def change(self, kind: str, record_id: str, values: dict[str, Any]) -> None:
        """Changes a record without a request, as a person at the CRM would."""
        sobject = self.org.object(kind)
        Saver(self.org, sobject).update(record_id, parse_row(self.org, sobject, values))

    def delete(self, kind: str, record_id: str) -> None:
        """Puts a record into the recycle bin, as a person at the CRM would."""
        self.org.object(kind).table.remove(record_id)

    def undelete(self, kind: str, record_id: str) -> None:
        """Takes a record out of the recycle bin, as it was."""
        table = self.org.object(kind).table
        values = table.removed(record_id)
        if values is None:
            raise KeyError(record_id)
        table.put(record_id, values, None)

    def convert_lead(self, lead_id: str) -> dict[str, str]:
        """Converts a lead without a request, as a person at the CRM would; the ids of what it became."""
        return leads.convert(self.org, lead_id)

    def add_object(self, name: str) -> None:
        """Makes a custom object, as an admin would."""
        self.org.add_custom_object(name)

    def add_field(self, kind: str, field: Field) -> None:
        self.org.object(kind).add_field(field)

    def dump(self) -> dict[str, Any]:
        return {"objects": self.org.dump(), "jobs": self.bulk.dump(), "queries": self._query_jobs.dump()}

    def load(self, document: dict[str, Any]) -> None:
        self.org.load(document["objects"])
        self.bulk.load(document["jobs"])
        self._query_jobs.load(document["queries"])

    def clear(self) -> None:
        self.org.clear()
        self.bulk.clear()
        self._query_jobs.clear()
        self.sessions.reset()


def _refused(refusal: Refusal) -> Response:
    return json_response(refusal.status, refusal.body, content_type=JSON)
