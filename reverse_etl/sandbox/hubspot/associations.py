"""Links between records: default and labelled types, by batch and by pair, in both directions at once.

https://developers.hubspot.com/docs/api-reference/legacy/crm/associations/associate-records/guide (November 2026)
"""

from __future__ import annotations

from typing import Any

from reverse_etl.sandbox.hubspot.bodies import count, document, inputs, json, mapping, mappings
from reverse_etl.sandbox.hubspot.errors import Body, Refusal, not_found
from reverse_etl.sandbox.hubspot.portal import Link, ObjectType, Portal
from reverse_etl.sandbox.messages import Request, Response, empty, json_response

MOST_CREATE = 2_000
MOST_READ = 1_000
PAGE = 500

DEFAULTS = {
    ("0-1", "0-2"): 279,
    ("0-2", "0-1"): 280,
    ("0-1", "0-3"): 4,
    ("0-3", "0-1"): 3,
    ("0-3", "0-2"): 341,
    ("0-2", "0-3"): 342,
    ("0-1", "0-5"): 15,
    ("0-5", "0-1"): 16,
    ("0-2", "0-5"): 340,
    ("0-5", "0-2"): 339,
    ("0-3", "0-5"): 27,
    ("0-5", "0-3"): 28,
    ("0-1", "0-1"): 449,
    ("0-2", "0-2"): 450,
    ("0-3", "0-3"): 451,
    ("0-5", "0-5"): 452,
    ("0-3", "0-8"): 19,
    ("0-8", "0-3"): 20,
}
PRIMARY = {
    ("0-1", "0-2"): 1,
    ("0-2", "0-1"): 2,
    ("0-3", "0-2"): 5,
    ("0-2", "0-3"): 6,
    ("0-2", "0-5"): 25,
    ("0-5", "0-2"): 26,
}
FIRST_OWN_TYPE = 1001


class Associations:
    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._own: dict[tuple[str, str], dict[int, str]] = {}

    def answer(self, request: Request, version: str, rest: list[str]) -> Response:
        if len(rest) < 2:
            raise not_found()
        source, target = self._portal.type(rest[0]), self._portal.type(rest[1])
        match request.method, rest[2:]:
            case "POST", ["batch", "associate", "default"]:
                return self._default(request, source, target)
            case "POST", ["batch", "create"]:
                return self._create(request, version, source, target)
            case "POST", ["batch", "read"]:
                return self._read(request, source, target)
            case "POST", ["batch", "archive"]:
                return self._archive(request, version, source, target, labels_only=False)
            case "POST", ["batch", "labels", "archive"]:
                return self._archive(request, version, source, target, labels_only=True)
            case _, ["labels", *tail]:
                return self._label_call(request, source, target, tail)
        raise not_found()

    def pair(self, request: Request, source: ObjectType, record_id: str, rest: list[str], version: str) -> Response:
        """`.../{id}/associations/[default/]{to}/{toId}`, and the list of one record's links (v4 only)."""
        plain = rest[:1] == ["default"]
        target = self._portal.type(rest[int(plain)])
        match request.method, rest[1 + int(plain) :]:
            case "PUT", [other]:
                known = self._default_type(source, target)
                types = {known} if plain else {_type(entry) for entry in mappings(json(request))} or {known}
                if not self._known(source, record_id) or not self._known(target, other):
                    raise not_found()
                self._link(source, record_id, target, other, types)
                if plain:
                    back = self._default_type(target, source)
                    links = [_plain(record_id, other, known), _plain(other, record_id, back)]
                    return self._batch(links, [], 200, 1)
                made = _created(source, record_id, target, other, self._names(source, target, types))
                return json_response(200 if version == "2026-09" else 201, made)
            case "DELETE", [other]:
                self._unlink(source, record_id, target, other)
                return empty()
            case "GET", []:
                return json_response(200, {"results": self._shown(source, record_id, target)})
        raise not_found()

    def of_record(self, kind: ObjectType, record_id: str, others: list[str]) -> Body:
        """A record's links as `associations` of a read shows them, by the other object's name."""
        shown: Body = {}
        for name in others:
            target = self._portal.type(name)
            word = f"{kind.singular}_to_{target.singular}".lower()
            results = [{"id": entry["toObjectId"], "type": word} for entry in self._shown(kind, record_id, target)]
            if results:
                shown[target.name] = {"results": results}
        return shown

    def dump(self) -> list[Any]:
        return [[*pair, number, label] for pair, labels in self._own.items() for number, label in labels.items()]

    def load(self, document: list[Any]) -> None:
        self._own.clear()
        for source, target, number, label in document:
            self._own.setdefault((source, target), {})[number] = label

    def inline(self, kind: ObjectType, record_id: str, given: list[dict[str, Any]]) -> bool:
        """The `associations` of a create; False when one of them leads nowhere."""
        for entry in given:
            types = {_type(item) for item in mappings(entry.get("types"))}
            target = next((other for other in self._portal.types.values() if self._fits(kind, other, types)), None)
            other_id = str(mapping(entry.get("to")).get("id", ""))
            if target is None or not self._known(target, other_id):
                return False
            self._link(kind, record_id, target, other_id, types)
        return True

    def _default(self, request: Request, source: ObjectType, target: ObjectType) -> Response:
        results, errors = [], []
        types = {self._default_type(source, target)}
        for row in inputs(request, MOST_CREATE):
            first, second = _ends(row)
            missing = self._missing(source, first, target, second)
            if missing:
                errors.append(missing)
                continue
            self._link(source, first, target, second, types)
            results.append(_plain(first, second, self._default_type(source, target)))
        return self._batch(results, errors, 200, len(results))

    def _create(self, request: Request, version: str, source: ObjectType, target: ObjectType) -> Response:
        results, errors = [], []
        for row in inputs(request, MOST_CREATE):
            first, second = _ends(row)
            types = {_type(entry) for entry in mappings(row.get("types"))}
            if not self._fits(source, target, types):
                raise Refusal(
                    400,
                    f"One or more association types don't fit {source.type_id} to {target.type_id}",
                    "VALIDATION_ERROR",
                )
            missing = self._missing(source, first, target, second)
            if missing:
                errors.append(missing)
                continue
            self._unlink(source, first, target, second)
            self._link(source, first, target, second, types | {self._default_type(source, target)})
            results.append(_created(source, first, target, second, self._names(source, target, types)))
        return self._batch(results, errors, 200 if version == "2026-09" else 201, len(results))

    def _read(self, request: Request, source: ObjectType, target: ObjectType) -> Response:
        results, errors = [], []
        for row in inputs(request, MOST_READ):
            record_id = str(row.get("id", ""))
            shown = self._shown(source, record_id, target)
            if not shown:
                errors.append(_none_found(source, record_id))
                continue
            start = count(row.get("after"), 0)
            entry: Body = {"from": {"id": record_id}, "to": shown[start : start + PAGE]}
            if start + PAGE < len(shown):
                entry["paging"] = {"next": {"after": str(start + PAGE)}}
            results.append(entry)
        return self._batch(results, errors, 200, len(results))

    def _archive(
        self, request: Request, version: str, source: ObjectType, target: ObjectType, *, labels_only: bool
    ) -> Response:
        rows = inputs(request, MOST_CREATE)
        for row in rows:
            first = str(mapping(row.get("from")).get("id", ""))
            others = row.get("to")
            for other in mappings(others if isinstance(others, list) else [others]):
                second = str(other.get("id", ""))
                if labels_only:
                    self._drop_labels(
                        source, first, target, second, {_type(entry) for entry in mappings(row.get("types"))}
                    )
                else:
                    self._unlink(source, first, target, second)
        return empty() if version.startswith("v") else self._batch([], [], 200, len(rows))

    def _label_call(self, request: Request, source: ObjectType, target: ObjectType, rest: list[str]) -> Response:
        match request.method, rest:
            case "GET", []:
                return json_response(200, {"results": self._labels(source, target)})
            case "POST", []:
                return self._add_label(request, source, target)
            case "PUT", []:
                return self._rename_label(request, source, target)
            case "DELETE", [number] if number.isdecimal():
                self._own.get((source.type_id, target.type_id), {}).pop(int(number), None)
                return empty()
        raise not_found()

    def _add_label(self, request: Request, source: ObjectType, target: ObjectType) -> Response:
        label = str(document(request).get("label"))
        number = 1 + max((key for labels in self._own.values() for key in labels), default=FIRST_OWN_TYPE - 1)
        self._own.setdefault((source.type_id, target.type_id), {})[number] = label
        shown = [{"category": "USER_DEFINED", "typeId": number, "label": label}]
        if source is not target:
            self._own.setdefault((target.type_id, source.type_id), {})[number + 1] = label
            shown.append({"category": "USER_DEFINED", "typeId": number + 1, "label": label})
        return json_response(200, {"results": shown})

    def _rename_label(self, request: Request, source: ObjectType, target: ObjectType) -> Response:
        body = document(request)
        own, number = self._own.get((source.type_id, target.type_id), {}), count(body.get("associationTypeId"), 0)
        if number not in own:
            raise not_found()
        own[number] = str(body.get("label"))
        return empty()

    def _labels(self, source: ObjectType, target: ObjectType) -> list[Body]:
        pair = (source.type_id, target.type_id)
        category, type_id = self._default_type(source, target)
        shown: list[Body] = [{"category": category, "typeId": type_id, "label": None}]
        if pair in PRIMARY:
            shown.append({"category": "HUBSPOT_DEFINED", "typeId": PRIMARY[pair], "label": "Primary"})
        own = self._own.get(pair, {})
        return shown + [{"category": "USER_DEFINED", "typeId": key, "label": label} for key, label in own.items()]

    def _names(self, source: ObjectType, target: ObjectType, types: set[Link]) -> list[str]:
        labels = {entry["typeId"]: entry["label"] for entry in self._labels(source, target)}
        return [labels[number] for _, number in sorted(types) if labels.get(number)]

    def _default_type(self, source: ObjectType, target: ObjectType) -> Link:
        pair = (source.type_id, target.type_id)
        if pair in DEFAULTS:
            return ("HUBSPOT_DEFINED", DEFAULTS[pair])
        return ("USER_DEFINED", 1 + sum(ord(char) for char in f"{source.type_id}>{target.type_id}"))

    def _fits(self, source: ObjectType, target: ObjectType, types: set[Link]) -> bool:
        known = {(entry["category"], entry["typeId"]) for entry in self._labels(source, target)}
        return bool(types) and types <= known

    def _known(self, kind: ObjectType, record_id: str) -> bool:
        return kind.resolve(record_id) is not None

    def _missing(self, source: ObjectType, first: str, target: ObjectType, second: str) -> Body | None:
        for kind, record_id in ((source, first), (target, second)):
            if not self._known(kind, record_id):
                return {
                    "status": "error",
                    "category": "OBJECT_NOT_FOUND",
                    "message": f"{kind.singular} with id {record_id} doesn't exist",
                    "context": {"id": [record_id], "fromObjectId": [first], "toObjectId": [second]},
                }
        return None

    def _link(self, source: ObjectType, first: str, target: ObjectType, second: str, types: set[Link]) -> None:
        source.links.setdefault(first, {}).setdefault(f"{target.type_id}/{second}", set()).update(types)
        back = target.links.setdefault(second, {}).setdefault(f"{source.type_id}/{first}", set())
        back.add(self._default_type(target, source))
        writes = [("associate", first, {"to": f"{target.name}/{second}", "types": sorted(types)})]
        self._portal.ledger.add("hubspot", source.name, writes)

    def _unlink(self, source: ObjectType, first: str, target: ObjectType, second: str) -> None:
        if source.links.get(first, {}).pop(f"{target.type_id}/{second}", None) is not None:
            target.links.get(second, {}).pop(f"{source.type_id}/{first}", None)
            writes = [("dissociate", first, {"to": f"{target.name}/{second}"})]
            self._portal.ledger.add("hubspot", source.name, writes)

    def _drop_labels(self, source: ObjectType, first: str, target: ObjectType, second: str, types: set[Link]) -> None:
        held = source.links.get(first, {}).get(f"{target.type_id}/{second}")
        if held is not None:
            held -= types
            if not held or self._default_type(source, target) in types:
                self._unlink(source, first, target, second)

    def _shown(self, source: ObjectType, record_id: str, target: ObjectType) -> list[Body]:
        labels = {entry["typeId"]: entry["label"] for entry in self._labels(source, target)}
        shown = []
        for key, types in source.links.get(record_id, {}).items():
            type_id, _, other = key.partition("/")
            if type_id == target.type_id:
                kinds = [
                    {"category": category, "typeId": number, "label": labels.get(number)}
                    for category, number in sorted(types)
                ]
                shown.append({"toObjectId": other, "associationTypes": kinds})
        return shown

    def _batch(self, results: list[Body], errors: list[Body], status: int, rows: int) -> Response:
        now = self._portal.clock.iso()
        body: Body = {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now}
        if errors:
            body |= {"numErrors": len(errors), "errors": errors}
        return json_response(207 if errors else status, body, rows=rows + len(errors))


def _ends(row: Body) -> tuple[str, str]:
    return str(mapping(row.get("from")).get("id", "")), str(mapping(row.get("to")).get("id", ""))


def _type(entry: Body) -> Link:
    return str(entry.get("associationCategory")), count(entry.get("associationTypeId"), 0)


def _plain(first: str, second: str, link: Link) -> Body:
    spec = {"associationCategory": link[0], "associationTypeId": link[1]}
    return {"from": {"id": first}, "to": {"id": second}, "associationSpec": spec}


def _created(source: ObjectType, first: str, target: ObjectType, second: str, labels: list[str]) -> Body:
    return {
        "fromObjectTypeId": source.type_id,
        "fromObjectId": first,
        "toObjectTypeId": target.type_id,
        "toObjectId": second,
        "labels": labels,
    }


def _none_found(source: ObjectType, record_id: str) -> Body:
    return {
        "status": "error",
        "category": "OBJECT_NOT_FOUND",
        "subCategory": "crm.associations.NO_ASSOCIATIONS_FOUND",
        "message": f"No associations were found for {source.singular} {record_id}",
        "context": {"fromObjectId": [record_id]},
    }
