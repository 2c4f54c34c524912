"""Custom object types: listed, made, and then served like the standard ones."""

from __future__ import annotations

from typing import Any

from reverse_etl.sandbox.hubspot import catalog
from reverse_etl.sandbox.hubspot.bodies import document, mappings, texts
from reverse_etl.sandbox.hubspot.errors import Body, Refusal, not_found
from reverse_etl.sandbox.hubspot.portal import PORTAL_ID, ObjectType, Portal
from reverse_etl.sandbox.hubspot.properties import Property, parse
from reverse_etl.sandbox.messages import Request, Response, empty, json_response

FIRST_TYPE = 3456


class Schemas:
    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._made: dict[str, Body] = {}
        self._latest = FIRST_TYPE - 1

    def answer(self, request: Request, rest: list[str]) -> Response:
        match request.method, rest:
            case "GET", []:
                return json_response(200, {"results": [self._shown(body) for body in self._made.values()]})
            case "GET", [name]:
                return json_response(200, self._shown(self._chosen(name)))
            case "POST", []:
                return json_response(201, self._shown(self.create(document(request))))
            case "PATCH", [name]:
                return json_response(200, self._shown(self._change(self._chosen(name), document(request))))
            case "DELETE", [name]:
                self._archive(self._chosen(name))
                return empty()
        raise not_found()

    def create(self, body: Body, type_id: str | None = None) -> Body:
        """Makes the type that a schema document describes; raises the 400 for one that is incomplete.

        It gets the next free type id unless it has one already, as in a data file.
        """
        name, labels = str(body.get("name") or ""), body.get("labels")
        properties = mappings(body.get("properties"))
        if not name or not labels or any("name" not in entry for entry in properties):
            raise Refusal(400, "Some required fields were not set: [name, labels, properties]", "VALIDATION_ERROR")
        if name in self._portal.types:
            raise Refusal(409, f"An object type named {name} already exists", "OBJECT_ALREADY_EXISTS")
        type_id = type_id or f"2-{self._latest + 1}"
        self._latest = max(self._latest, int(type_id.partition("-")[2]))
        group = f"{name}_information"
        system = catalog.SYSTEM.format(group=group) + catalog.CUSTOM_OBJECT.format(group=group)
        known = {prop.name: prop for prop in parse(system)}
        for entry in properties:
            prop = _property(entry, group)
            known[prop.name] = prop
        needed = tuple(texts(body.get("requiredProperties")))
        full_name = f"p{PORTAL_ID}_{name}"
        self._portal.add_type(ObjectType(name, type_id, name.upper(), (), needed, known), full_name)
        self._made[type_id] = {**body, "objectTypeId": type_id, "fullyQualifiedName": full_name}
        return self._made[type_id]

    def _chosen(self, name: str) -> Body:
        kind = self._portal.type(name)
        if kind.type_id not in self._made:
            raise not_found()
        return self._made[kind.type_id]

    def _change(self, schema: Body, body: Body) -> Body:
        for key in ("labels", "primaryDisplayProperty", "secondaryDisplayProperties", "searchableProperties"):
            if key in body:
                schema[key] = body[key]
        if "requiredProperties" in body:
            schema["requiredProperties"] = texts(body["requiredProperties"])
            self._portal.type(schema["objectTypeId"]).all_needed = tuple(schema["requiredProperties"])
        return schema

    def _archive(self, schema: Body) -> None:
        kind = self._portal.type(schema["objectTypeId"])
        if len(kind.table):
            message = f"Unable to delete object type {kind.name}: it still has {len(kind.table)} records"
            raise Refusal(400, message, "VALIDATION_ERROR")
        self._portal.remove_type(kind)
        del self._made[kind.type_id]

    def dump(self) -> list[Body]:
        return list(self._made.values())

    def _shown(self, body: Body) -> Body:
        kind = self._portal.type(body["objectTypeId"])
        now = self._portal.clock.iso()
        return {
            "id": body["objectTypeId"].partition("-")[2],
            "objectTypeId": body["objectTypeId"],
            "fullyQualifiedName": body["fullyQualifiedName"],
            "name": kind.name,
            "labels": body["labels"],
            "primaryDisplayProperty": body.get("primaryDisplayProperty"),
            "secondaryDisplayProperties": body.get("secondaryDisplayProperties") or [],
            "requiredProperties": list(kind.all_needed),
            "searchableProperties": body.get("searchableProperties") or [],
            "properties": [prop.document() for prop in kind.properties.values()],
            "associations": [],
            "archived": False,
            "createdAt": now,
            "updatedAt": now,
        }


def _property(entry: dict[str, Any], group: str) -> Property:
    return Property(
        str(entry["name"]),
        str(entry.get("label") or entry["name"]),
        str(entry.get("type") or "string"),
        str(entry.get("fieldType") or "text"),
        str(entry.get("groupName") or group),
        {str(option.get("value")): str(option.get("label")) for option in mappings(entry.get("options"))},
        unique=bool(entry.get("hasUniqueValue")),
        custom=True,
    )
