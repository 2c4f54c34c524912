"""Custom events: a 204 says that they were taken, not that they led to a contact; of one uuid only the first is kept.

They are worked through later: what a sender names must lead to a contact by then, not when it is sent.

https://developers.hubspot.com/docs/api-reference/legacy/events/send-event-data/guide (November 2026)
"""

from __future__ import annotations

from collections import deque
from typing import Any

from reverse_etl.sandbox.hubspot.bodies import count, document, inputs
from reverse_etl.sandbox.hubspot.errors import Body, Refusal, not_found
from reverse_etl.sandbox.hubspot.portal import PORTAL_ID, Portal
from reverse_etl.sandbox.messages import Request, Response, empty, json_response

MOST_BATCH = 500


class Events:
    """`lag`: seconds until an event that was taken is worked through and can be read back."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._definitions: dict[str, Body] = {}
        self._uuids: set[tuple[str, str]] = set()
        self._waiting: deque[tuple[float, list[Body]]] = deque()
        self._kept: list[Body] = []
        self.lag = 0.0

    @property
    def taken(self) -> list[Body]:
        """The events that led to a contact, in the order they were worked through."""
        self._catch_up()
        return self._kept

    def answer(self, request: Request, rest: list[str]) -> Response:
        match request.method, rest:
            case "POST", ["send"]:
                self._take([document(request)])
                return empty()
            case "POST", ["send", "batch"]:
                rows = inputs(request, MOST_BATCH)
                self._take(rows)
                response = empty()
                response.rows = len(rows)
                return response
            case "GET", ["event-definitions"]:
                return json_response(200, {"results": list(self._definitions.values())})
            case "POST", ["event-definitions"]:
                return json_response(201, self._define(document(request)))
            case "GET", ["events"]:
                return self.occurrences(request)
            case "GET", ["events", "event-types"]:
                return json_response(200, {"eventTypes": sorted({event["eventType"] for event in self.taken})})
        raise not_found()

    def occurrences(self, request: Request) -> Response:
        """What is known of one object's events, or of all."""
        query = request.query
        kind = query.get("eventType")
        hits = [
            event
            for event in self.taken
            if kind in (None, event["eventType"])
            and query.get("objectId") in (None, event["objectId"])
            and event["occurredAt"] >= query.get("occurredAfter", "")
        ]
        start, limit = count(query.get("after"), 0), count(query.get("limit"), 100)
        answer: Body = {"results": hits[start : start + limit]}
        if start + limit < len(hits):
            answer["paging"] = {"next": {"after": str(start + limit)}}
        return json_response(200, answer)

    def clear(self) -> None:
        self._waiting.clear()
        self._kept.clear()
        self._uuids.clear()
        self._definitions.clear()

    def dump(self) -> Body:
        waiting = [[at, rows] for at, rows in self._waiting]
        return {
            "definitions": self._definitions,
            "kept": self._kept,
            "waiting": waiting,
            "uuids": sorted(self._uuids),
        }

    def load(self, document: Body) -> None:
        self._definitions, self._kept = document["definitions"], document["kept"]
        self._waiting = deque((at, rows) for at, rows in document["waiting"])
        self._uuids = {(name, uuid) for name, uuid in document["uuids"]}

    def _define(self, body: Body) -> Body:
        name = str(body.get("name") or "")
        if not name:
            raise Refusal(400, "Some required fields were not set: [name]", "VALIDATION_ERROR")
        full_name = f"pe{PORTAL_ID}_{name}"
        properties = body.get("properties") or body.get("propertyDefinitions") or []
        made = {**body, "name": name, "fullyQualifiedName": full_name, "properties": properties}
        self._definitions[full_name] = made
        return made

    def _take(self, rows: list[Body]) -> None:
        if any(not row.get("eventName") for row in rows):
            raise Refusal(400, "Some required fields were not set: [eventName]", "VALIDATION_ERROR")
        now = self._portal.clock.iso()
        dated = [row if row.get("occurredAt") else {**row, "occurredAt": now} for row in rows]
        self._waiting.append((self._portal.clock.now() + self.lag, dated))
        self._catch_up()

    def _catch_up(self) -> None:
        """Works through what has waited long enough."""
        while self._waiting and self._waiting[0][0] <= self._portal.clock.now():
            self._work(self._waiting.popleft()[1])

    def _work(self, rows: list[Body]) -> None:
        contacts = self._portal.types["contacts"]
        writes: list[tuple[str, str, Any]] = []
        for row in rows:
            name, uuid = str(row["eventName"]), str(row.get("uuid") or "")
            given = str(row.get("objectId") or "")
            email = str(row.get("email") or "")
            record_id = contacts.resolve(given) if given else contacts.find("email", email) if email else None
            if record_id is None or (uuid and (name, uuid) in self._uuids):
                continue  # dropped in silence, as the real service drops what leads nowhere
            self._uuids.add((name, uuid))
            event = {
                "id": uuid or f"{len(self._kept) + 1}",
                "eventType": name,
                "objectType": "CONTACT",
                "objectId": record_id,
                "occurredAt": str(row["occurredAt"]),
                "properties": row.get("properties") or {},
            }
            self._kept.append(event)
            writes.append(("event", record_id, event))
        self._portal.ledger.add("hubspot", "events", writes)
