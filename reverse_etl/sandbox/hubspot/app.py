"""HubSpot's front door: which path means what, who may call it, and how its answers look."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

from reverse_etl.sandbox.clock import Clock, iso
from reverse_etl.sandbox.hubspot.associations import Associations
from reverse_etl.sandbox.hubspot.definitions import Definitions
from reverse_etl.sandbox.hubspot.errors import Refusal, expired, not_found
from reverse_etl.sandbox.hubspot.events import Events
from reverse_etl.sandbox.hubspot.imports import Imports
from reverse_etl.sandbox.hubspot.limits import Bucket, Limits, daily, secondly, ten_secondly
from reverse_etl.sandbox.hubspot.lists import Lists
from reverse_etl.sandbox.hubspot.metadata import Metadata
from reverse_etl.sandbox.hubspot.oauth import OAuth
from reverse_etl.sandbox.hubspot.portal import ObjectType, Portal, record
from reverse_etl.sandbox.hubspot.properties import Property
from reverse_etl.sandbox.hubspot.reads import Reads
from reverse_etl.sandbox.hubspot.saving import Saver
from reverse_etl.sandbox.hubspot.schemas import Schemas
from reverse_etl.sandbox.hubspot.search import Search
from reverse_etl.sandbox.hubspot.writes import Rules, Writes
from reverse_etl.sandbox.journal import Ledger
from reverse_etl.sandbox.messages import Request, Response, empty, json_response

VERSION = re.compile(r"v[1-4]|20\d\d-(03|09)")
ROOTS = frozenset({"crm", "crm-object-schemas", "account-info", "events", "oauth"})
THROTTLES = {"ten_secondly": ten_secondly, "secondly": secondly, "daily": daily}


def split(segments: list[str]) -> tuple[str, str, list[str]]:
    """A path as (area, version, rest): `/crm/v3/objects/x` and `/crm/objects/2026-09/x` are one area."""
    for place in (1, 2):
        if len(segments) > place and VERSION.fullmatch(segments[place]):
            version, before, after = segments[place], segments[:place], segments[place + 1 :]
            if before == ["crm"] and after:
                before, after = ["crm", after[0]], after[1:]
            return "/".join(before), version, after
    raise not_found()


class HubSpot:
    """The emulated account. Tests read and fill it directly; requests come through `admit` and `answer`."""

    name = "hubspot"

    def __init__(
        self,
        clock: Clock,
        ledger: Ledger,
        *,
        seed: int,
        rate: int | None,
        daily_requests: int,
        search_lag: float,
        rules: Rules,
    ) -> None:
        self.rules = rules
        self.limits = Limits(clock, rate, daily_requests)
        self.portal = Portal(clock, ledger, seed)
        self._associations = Associations(self.portal)
        self._writes = Writes(self.portal, rules, self._associations)
        self._reads = Reads(self.portal, self._associations)
        self.search = Search(self.portal, search_lag)
        self._metadata = Metadata(self.portal, self.limits)
        self._definitions = Definitions(self.portal)
        self._schemas = Schemas(self.portal)
        self.lists = Lists(self.portal)
        self.events = Events(self.portal)
        self.imports = Imports(self.portal)
        self.oauth = OAuth(self.limits)
        self._areas: dict[str, Callable[[Request, list[str]], Response]] = {
            "crm/properties": self._definitions.properties,
            "crm/property-validations": self._definitions.validations,
            "crm/imports": self.imports.answer,
            "crm/limits": self._metadata.usage,
            "crm/owners": self._metadata.owners,
            "crm/pipelines": self._metadata.pipelines,
            "account-info": self._metadata.account,
            "crm/lists": self.lists.answer,
            "crm/schemas": self._schemas.answer,
            "crm-object-schemas": lambda request, rest: self._schemas.answer(request, rest[1:]),
            "events": self.events.answer,
            "events/custom": self.events.answer,
            "events/event-occurrences": lambda request, rest: self.events.occurrences(request),
            "oauth": self.oauth.answer,
        }

    def serves(self, request: Request) -> bool:
        return request.segments[:1] != [] and request.segments[0] in ROOTS

    def admit(self, request: Request) -> Response | None:
        """Counts the request and checks its token; the refusal, if it gets one."""
        try:
            area, _, rest = split(request.segments)
            if area == "oauth":
                return None
            if area.startswith("events") and rest[:1] == ["send"]:
                self.limits.identify(request)  # outside both buckets
                return None
            request.notes["bucket"] = _bucket(area, rest)
            self.limits.admit(request, self._scopes(request, area, rest), request.notes["bucket"])
        except Refusal as refusal:
            return _refused(refusal)
        return None

    def answer(self, request: Request) -> Response:
        try:
            return self._route(request)
        except Refusal as refusal:
            return _refused(refusal)

    def finish(self, request: Request, response: Response) -> None:
        """Adds the headers that every answer carries."""
        response.headers |= self.limits.headers(request, request.notes.get("bucket", "ordinary"))
        response.headers.setdefault("X-HubSpot-Correlation-Id", str(uuid.uuid4()))

    def throttle(self, policy: str | None) -> Response:
        return _refused(THROTTLES[policy or "ten_secondly"]())

    def locked(self) -> Response:
        return _refused(Refusal(423, "The resource is locked. Try again in two seconds."))

    def expire(self, request: Request) -> Response:
        """Ends the token's life with this very request."""
        self.limits.expire(request.bearer() or "")
        return _refused(expired(1, iso(self.portal.clock.now() - 1)))

    def _route(self, request: Request) -> Response:
        area, version, rest = split(request.segments)
        request.notes["version"] = version
        if area == "crm/objects" and rest:
            return self._objects(request, version, self.portal.type(rest[0]), rest[1:])
        if area == "crm/associations":
            return self._associations.answer(request, version, rest)
        answer = self._areas.get(area)
        if answer is None:
            raise not_found()
        return answer(request, rest)

    def _objects(self, request: Request, version: str, kind: ObjectType, rest: list[str]) -> Response:
        match request.method, rest:
            case "POST", ["batch", "upsert"]:
                return self._writes.batch_upsert(kind, request, version)
            case "POST", ["batch", "update"]:
                return self._writes.batch_update(kind, request, version)
            case "POST", ["batch", "create"]:
                return self._writes.batch_create(kind, request, version)
            case "POST", ["batch", "read"]:
                return self._reads.batch_read(kind, request)
            case "POST", ["batch", "archive"]:
                return self._writes.batch_archive(kind, request)
            case "POST", ["search"]:
                return self.search.answer(kind, request)
            case "POST", ["merge"]:
                return self._writes.merge(kind, request)
            case "POST", ["gdpr-delete"]:
                return self._writes.gdpr_delete(kind, request)
            case _:
                return self._one(request, kind, rest, version)

    def _one(self, request: Request, kind: ObjectType, rest: list[str], version: str) -> Response:
        match request.method, rest:
            case "POST", []:
                return self._writes.create(kind, request)
            case "GET", []:
                return self._reads.page(kind, request)
            case "GET", [record_id]:
                return self._reads.get(kind, record_id, request)
            case "PATCH", [record_id]:
                return self._writes.update(kind, record_id, request)
            case _, [record_id, "associations", *tail] if tail:
                return self._associations.pair(request, kind, record_id, tail, version)
            case "DELETE", [record_id]:
                self._writes.archive(kind, [record_id])
                return empty()
        raise not_found() if len(rest) != 1 else Refusal(405, "method not allowed")

    def _scopes(self, request: Request, area: str, rest: list[str]) -> list[str]:
        """The granular scopes that a call needs. Associations need those of both their sides."""
        reads = request.method == "GET" or rest[-1:] in (["read"], ["search"])
        action = "read" if reads else "write"
        match area:
            case "crm/objects" if rest:
                others = rest[3:5] if rest[2:3] == ["associations"] else []
                return self._named([rest[0], *others], "objects", action)
            case "crm/associations":
                return self._named(rest[:2], "objects", action)
            case "crm/properties" if rest:
                return self._named(rest[:1], "objects" if reads else "schemas", action)
            case "crm/owners":
                return ["crm.objects.owners.read"]
            case "crm/lists":
                return ["crm.lists.read"] if reads else ["crm.lists.read", "crm.lists.write"]
        return []

    def _named(self, sides: list[str], room: str, action: str) -> list[str]:
        """Scopes by their names: tickets have one for all, custom objects share theirs."""
        names: list[str] = []
        for kind in filter(None, map(self.portal.known, sides)):
            owner = "custom" if kind.type_id.startswith("2-") else kind.name
            names.append("tickets" if owner == "tickets" else f"crm.{room}.{owner}.{action}")
        return list(dict.fromkeys(names))

    def objects(self) -> list[str]:
        return list(self.portal.types)

    def records(self, kind: str, *, archived: bool = False) -> list[dict[str, Any]]:
        """Every record of an object as a read answers it, with all its values."""
        chosen = self.portal.type(kind)
        source = chosen.table.removed_items() if archived else chosen.table.items()
        return [record(chosen, record_id, values) for record_id, values in source]

    def count(self, kind: str) -> int:
        return len(self.portal.type(kind).table)

    def some(self, kind: str, start: int, stop: int) -> list[dict[str, Any]]:
        """Records by their place in the order they were made."""
        chosen = self.portal.type(kind)
        return [record(chosen, record_id, values) for record_id, values in chosen.table.items(start, stop)]

    def search_text(self, kind: str, wanted: str) -> list[dict[str, Any]]:
        """Records that a person may mean by an id or the value of a unique property."""
        chosen = self.portal.type(kind)
        found = [chosen.resolve(wanted), *[chosen.find(name, wanted) for name in sorted(chosen.unique)]]
        ids = dict.fromkeys(record_id for record_id in found if record_id is not None)
        return [shown for record_id in ids if (shown := self.record(kind, record_id)) is not None]

    def record(self, kind: str, record_id: str) -> dict[str, Any] | None:
        """One live record, also by an id that was merged into it."""
        chosen = self.portal.type(kind)
        found = chosen.resolve(record_id)
        values = None if found is None else chosen.table.get(found)
        return None if found is None or values is None else record(chosen, found, values)

    def find(self, kind: str, name: str, value: str) -> dict[str, Any] | None:
        """The record with that value of a unique property."""
        found = self.portal.type(kind).find(name, value)
        return None if found is None else self.record(kind, found)

    def add(self, kind: str, values: dict[str, str]) -> str:
        """Makes a record without a request, and gives its id."""
        saver = Saver(self.portal, self.portal.type(kind))
        record_id: str = saver.create(values)["id"]
        return record_id

    def change(self, kind: str, record_id: str, values: dict[str, str]) -> None:
        """Changes a record without a request, as a person at the CRM would."""
        Saver(self.portal, self.portal.type(kind)).update(record_id, values)

    def add_field(self, kind: str, prop: Property) -> None:
        self.portal.type(kind).add_property(prop)

    def dump(self) -> dict[str, Any]:
        return {
            "schemas": self._schemas.dump(),
            "objects": self.portal.dump(),
            "labels": self._associations.dump(),
            "lists": self.lists.dump(),
            "events": self.events.dump(),
        }

    def load(self, document: dict[str, Any]) -> None:
        for schema in document["schemas"]:
            self._schemas.create(schema, schema["objectTypeId"])
        self.portal.load(document["objects"])
        self._associations.load(document["labels"])
        self.lists.load(document["lists"])
        self.events.load(document["events"])

    def clear(self) -> None:
        self.portal.clear()
        self.lists.clear()
        self.events.clear()
        self.imports.clear()
        self.limits.reset()


def _refused(refusal: Refusal) -> Response:
    correlation = str(uuid.uuid4())
    response = json_response(refusal.status, refusal.body | {"correlationId": correlation})
    response.headers = {"X-HubSpot-Correlation-Id": correlation, **refusal.headers}
    return response


def _bucket(area: str, rest: list[str]) -> Bucket:
    if area == "crm/associations" or (area == "crm/objects" and rest[2:3] == ["associations"]):
        return "associations"
    return "search" if area == "crm/objects" and rest[-1:] == ["search"] else "ordinary"
