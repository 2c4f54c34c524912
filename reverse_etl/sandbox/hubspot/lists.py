"""Lists of records and who is in them. Memberships are written by record id, and only in lists that aren't dynamic."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from reverse_etl.sandbox.hubspot.bodies import count, document, json, texts
from reverse_etl.sandbox.hubspot.errors import Body, Refusal, not_found
from reverse_etl.sandbox.hubspot.portal import Portal
from reverse_etl.sandbox.messages import Request, Response, empty, json_response

PAGE = 250
FIRST_LIST = 15


@dataclass
class RecordList:
    id: str
    name: str
    type_id: str
    processing: str
    made: str
    members: dict[str, str] = field(default_factory=dict)

    def document(self) -> Body:
        return {
            "listId": self.id,
            "name": self.name,
            "objectTypeId": self.type_id,
            "processingType": self.processing,
            "processingStatus": "COMPLETE",
            "listVersion": 1,
            "size": len(self.members),
            "createdAt": self.made,
            "updatedAt": self.made,
            "filtersUpdatedAt": self.made,
            "createdById": "1",
            "updatedById": "1",
        }


class Lists:
    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._lists: dict[str, RecordList] = {}
        self._deleted: dict[str, RecordList] = {}
        self._next = FIRST_LIST

    def answer(self, request: Request, rest: list[str]) -> Response:
        match request.method, rest:
            case "POST", []:
                return self._create(document(request))
            case "POST", ["search"]:
                return self._search(document(request))
            case "GET", []:
                wanted = request.query_list("listIds")
                found = [self._lists[key] for key in wanted if key in self._lists]
                return json_response(200, {"lists": [entry.document() for entry in found]})
            case "GET", ["records", type_id, record_id, "memberships"]:
                return self._of_record(type_id, record_id)
            case "PUT", [list_id, "restore"] if list_id in self._deleted:
                self._lists[list_id] = self._deleted.pop(list_id)
                return empty()
            case "GET", ["object-type-id", type_id, "name", name]:
                found = [
                    entry for entry in self._lists.values() if entry.type_id == type_id and _same(entry.name, name)
                ]
                if not found:
                    raise not_found()
                return json_response(200, {"list": found[0].document()})
            case method, [list_id, *tail] if list_id in self._lists:
                return self._one(method, request, self._lists[list_id], tail)
        raise not_found()

    def members(self, list_id: str) -> list[str]:
        return list(self._lists[list_id].members)

    def clear(self) -> None:
        self._lists.clear()
        self._deleted.clear()
        self._next = FIRST_LIST

    def dump(self) -> list[Body]:
        return [asdict(entry) for entry in self._lists.values()]

    def load(self, document: list[Body]) -> None:
        self._lists = {entry["id"]: RecordList(**entry) for entry in document}
        self._next = max([FIRST_LIST, *[int(key) + 1 for key in self._lists]])

    def _one(self, method: str, request: Request, chosen: RecordList, tail: list[str]) -> Response:
        match method, tail:
            case "GET", []:
                return json_response(200, {"list": chosen.document()})
            case "DELETE", []:
                self._deleted[chosen.id] = self._lists.pop(chosen.id)
                return empty()
            case "PUT", ["update-list-name"]:
                self._rename(chosen, request.query.get("listName", ""))
                return json_response(200, {"updatedList": chosen.document()})
            case "GET", ["memberships"]:
                return self._page(request, chosen)
            case "PUT", ["memberships", "add"]:
                return self._write(chosen, self._ids(request), [])
            case "PUT", ["memberships", "remove"]:
                return self._write(chosen, [], self._ids(request))
            case "PUT", ["memberships", "add-and-remove"]:
                body = document(request)
                return self._write(chosen, texts(body.get("recordIdsToAdd")), texts(body.get("recordIdsToRemove")))
            case "DELETE", ["memberships"]:
                chosen.members.clear()
                return empty()
        raise not_found()

    def _create(self, body: Body) -> Response:
        name, type_id = str(body.get("name") or ""), str(body.get("objectTypeId") or "")
        processing = str(body.get("processingType"))
        if not name or not type_id or processing not in ("MANUAL", "SNAPSHOT", "DYNAMIC"):
            raise Refusal(400, "name, objectTypeId and processingType are required", "VALIDATION_ERROR")
        type_id = self._portal.type(type_id).type_id
        self._defend(name, type_id)
        made = RecordList(str(self._next), name, type_id, processing, self._portal.clock.iso())
        self._next += 1
        self._lists[made.id] = made
        return json_response(200, {"list": made.document()})

    def _rename(self, chosen: RecordList, name: str) -> None:
        if not name:
            raise Refusal(400, "listName is required", "VALIDATION_ERROR")
        if not _same(chosen.name, name):
            self._defend(name, chosen.type_id)
        chosen.name = name

    def _defend(self, name: str, type_id: str) -> None:
        if any(entry.type_id == type_id and _same(entry.name, name) for entry in self._lists.values()):
            raise Refusal(400, f"A list named {name} already exists", "VALIDATION_ERROR")

    def _of_record(self, type_id: str, record_id: str) -> Response:
        """The lists that a record is in."""
        kind = self._portal.type(type_id)
        found = kind.resolve(record_id)
        results = [
            {
                "listId": entry.id,
                "listVersion": 1,
                "firstAddedTimestamp": entry.members[found],
                "lastAddedTimestamp": entry.members[found],
                "isPublicList": False,
            }
            for entry in self._lists.values()
            if entry.type_id == kind.type_id and found is not None and found in entry.members
        ]
        return json_response(200, {"results": results, "total": len(results)})

    def _search(self, body: Body) -> Response:
        wanted = str(body.get("query") or "").lower()
        ids, kinds = texts(body.get("listIds")), texts(body.get("processingTypes"))
        hits = [
            entry
            for entry in self._lists.values()
            if wanted in entry.name.lower()
            and (not ids or entry.id in ids)
            and (not kinds or entry.processing in kinds)
        ]
        start, size = count(body.get("offset"), 0), min(500, count(body.get("count"), 20))
        page = hits[start : start + size]
        answer = {
            "lists": [entry.document() for entry in page],
            "total": len(hits),
            "offset": start + len(page),
            "hasMore": start + len(page) < len(hits),
        }
        return json_response(200, answer)

    def _ids(self, request: Request) -> list[str]:
        return texts(json(request))

    def _write(self, chosen: RecordList, adding: list[str], removing: list[str]) -> Response:
        """Ids that are in the list already, or weren't, appear nowhere in the answer."""
        if chosen.processing == "DYNAMIC":
            raise Refusal(400, "Memberships of a dynamic list can't be changed", "VALIDATION_ERROR")
        kind, now = self._portal.type(chosen.type_id), self._portal.clock.iso()
        added, removed, missing = [], [], []
        for given in adding:
            record_id = kind.resolve(given)
            if record_id is None:
                missing.append(given)
            elif record_id not in chosen.members:
                chosen.members[record_id] = now
                added.append(record_id)
        for given in removing:
            if kind.resolve(given) is None:
                missing.append(given)
            elif chosen.members.pop(given, None) is not None:
                removed.append(given)
        writes = [("join", record_id, {"list": chosen.id}) for record_id in added]
        writes += [("leave", record_id, {"list": chosen.id}) for record_id in removed]
        self._portal.ledger.add("hubspot", "lists", writes)
        answer = {"recordsIdsAdded": added, "recordIdsRemoved": removed, "recordIdsMissing": missing}
        return json_response(200, answer, rows=len(adding) + len(removing))

    def _page(self, request: Request, chosen: RecordList) -> Response:
        limit = min(PAGE, count(request.query.get("limit"), PAGE))
        start = count(request.query.get("after"), 0)
        members = list(chosen.members.items())
        page = [{"recordId": key, "membershipTimestamp": at} for key, at in members[start : start + limit]]
        answer: Body = {"results": page, "total": len(members)}
        if start + limit < len(members):
            answer["paging"] = {"next": {"after": str(start + limit)}}
        return json_response(200, answer, rows=len(page))


def _same(one: str, other: str) -> bool:
    return one.lower() == other.lower()
