"""Reading records: batch read, one record, lists of them. These see a write at once; search does not."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from reverse_etl.sandbox.hubspot.associations import Associations
from reverse_etl.sandbox.hubspot.bodies import count, document, flag, inputs, texts
from reverse_etl.sandbox.hubspot.errors import Body, Refusal, missing_rows, not_found
from reverse_etl.sandbox.hubspot.portal import ObjectType, Portal, record
from reverse_etl.sandbox.hubspot.writes import check_unique
from reverse_etl.sandbox.messages import Request, Response, json_response

MOST_PAGE = 100


class Reads:
    def __init__(self, portal: Portal, associations: Associations) -> None:
        self._portal = portal
        self._associations = associations

    def batch_read(self, kind: ObjectType, request: Request) -> Response:
        started = self._portal.clock.iso()
        rows = inputs(request)
        body = document(request)
        name, names = body.get("idProperty"), texts(body.get("properties"))
        historic = texts(body.get("propertiesWithHistory"))
        if name and name != "hs_object_id":
            check_unique(kind, str(name))
        archived = flag(request, "archived")
        results: dict[str, Body] = {}
        missing: list[str] = []
        for row in rows:
            key = str(row.get("id", ""))
            found = self._found(kind, key, name, archived=archived)
            if found is None:
                missing.append(key)
            else:
                results[found[0]] = record(kind, found[0], found[1], names) | self._history(kind, *found, historic)
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
        found = self._found(kind, given, name, archived=flag(request, "archived"))
        if found is None:
            raise not_found()
        return json_response(200, self._shown(kind, *found, request), rows=1)

    def page(self, kind: ObjectType, request: Request) -> Response:
        """A page of records in the order of their ids; `after` is the id that the page starts from."""
        limit = min(count(request.query.get("limit"), 10), MOST_PAGE)
        after, archived = count(request.query.get("after"), 0), flag(request, "archived")
        ids = kind.table.ids(removed=archived)
        start = bisect_left(ids, after)
        chosen = [str(number) for number in ids[start : start + limit]]
        read = kind.table.removed if archived else kind.table.get
        results = [self._shown(kind, record_id, read(record_id) or {}, request) for record_id in chosen]
        answer: Body = {"results": results}
        if start + limit < len(ids):
            following = str(ids[start + limit])
            answer["paging"] = {"next": {"after": following, "link": f"{request.path}?limit={limit}&after={following}"}}
        return json_response(200, answer, rows=len(results))

    def _shown(self, kind: ObjectType, record_id: str, values: dict[str, Any], request: Request) -> Body:
        """A record with the links and the history that the query asks for."""
        shown = record(kind, record_id, values, request.query_list("properties") or None)
        shown |= self._history(kind, record_id, values, request.query_list("propertiesWithHistory"))
        others = request.query_list("associations")
        if others:
            shown["associations"] = self._associations.of_record(kind, record_id, others)
        return shown

    def _history(self, kind: ObjectType, record_id: str, values: dict[str, Any], names: list[str]) -> Body:
        """What those properties have held, the latest first, as far as the ledger goes back."""
        if not names:
            return {}
        held: dict[str, list[Body]] = {name: [] for name in names if name in kind.properties}
        for write in self._portal.ledger:
            if (write["platform"], write["object"], write["id"]) == ("hubspot", kind.name, record_id):
                for name in held.keys() & (write["values"] or {}).keys():
                    held[name].insert(0, _version(write["values"][name], write["at"]))
        for name, versions in held.items():
            if not versions and name in values:
                versions.append(_version(values[name], values["createdate"]))
        return {"propertiesWithHistory": held}

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


def _version(value: str, at: str) -> Body:
    return {"value": value, "timestamp": at, "sourceType": "INTEGRATION"}
