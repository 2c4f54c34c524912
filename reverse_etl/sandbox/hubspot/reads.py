"""Reading records: batch read, one record, lists of them. These see a write at once; search does not."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from reverse_etl.sandbox.hubspot.bodies import count, document, inputs, texts
from reverse_etl.sandbox.hubspot.errors import Body, Refusal, missing_rows, not_found
from reverse_etl.sandbox.hubspot.portal import ObjectType, Portal, record
from reverse_etl.sandbox.hubspot.writes import check_unique
from reverse_etl.sandbox.messages import Request, Response, json_response

MOST_PAGE = 100


class Reads:
    def __init__(self, portal: Portal) -> None:
        self._portal = portal

    def batch_read(self, kind: ObjectType, request: Request) -> Response:
        started = self._portal.clock.iso()
        rows = inputs(request)
        body = document(request)
        name, names = body.get("idProperty"), texts(body.get("properties"))
        if name and name != "hs_object_id":
            check_unique(kind, str(name))
        archived = request.query.get("archived") == "true"
        results: dict[str, Body] = {}
        missing: list[str] = []
        for row in rows:
            key = str(row.get("id", ""))
            found = self._found(kind, key, name, archived=archived)
            if found is None:
                missing.append(key)
            else:
                results[found[0]] = record(kind, found[0], found[1], names)
        shuffled = list(results.values())
        self._portal.random.shuffle(shuffled)
        answer: Body = {
            "status": "COMPLETE",
            "results": shuffled,
            "startedAt": started,
            "completedAt": self._portal.clock.iso(),
        }
        if missing:
            answer |= {"numErrors": 1, "errors": [missing_rows(kind.singular, missing)]}
        return json_response(207 if missing else 200, answer, rows=len(rows))

    def get(self, kind: ObjectType, given: str, request: Request) -> Response:
        name = request.query.get("idProperty")
        if name and name != "hs_object_id":
            check_unique(kind, name)
        elif not given.isdigit():
            raise Refusal(
                404, "Object not found.  objectId are usually numeric.", "OBJECT_NOT_FOUND", context={"id": [given]}
            )
        found = self._found(kind, given, name, archived=request.query.get("archived") == "true")
        if found is None:
            raise not_found()
        return json_response(200, record(kind, found[0], found[1], _names(request)), rows=1)

    def list(self, kind: ObjectType, request: Request) -> Response:
        """A page of records in the order of their ids; `after` is the id that the page starts from."""
        limit = min(count(request.query.get("limit"), 10), MOST_PAGE)
        after, archived = count(request.query.get("after"), 0), request.query.get("archived") == "true"
        ids = kind.table.ids(removed=archived)
        start = bisect_left(ids, after)
        page = [str(number) for number in ids[start : start + limit]]
        read = kind.table.removed if archived else kind.table.get
        results = [record(kind, record_id, read(record_id) or {}, _names(request)) for record_id in page]
        answer: Body = {"results": results}
        if start + limit < len(ids):
            following = str(ids[start + limit])
            answer["paging"] = {"next": {"after": following, "link": f"{request.path}?limit={limit}&after={following}"}}
        return json_response(200, answer, rows=len(results))

    def _found(
        self, kind: ObjectType, key: str, name: str | None, *, archived: bool
    ) -> tuple[str, dict[str, Any]] | None:
        if archived:
            values = kind.table.removed(key)
            return None if values is None else (key, values)
        by_id = not name or name == "hs_object_id"
        record_id = kind.resolve(key) if by_id or name is None else kind.find(name, key)
        values = None if record_id is None else kind.table.get(record_id)
        return None if record_id is None or values is None else (record_id, values)


def _names(request: Request) -> list[str] | None:
    asked = request.query.get("properties")
    return [name for name in asked.split(",") if name] if asked else None
