"""The property API: definitions listed, made, changed and archived, their groups, and the rules their values obey.

https://developers.hubspot.com/docs/api-reference/latest/crm/properties/guide and
https://developers.hubspot.com/docs/api-reference/latest/crm/property-validations/guide (November 2026)
"""

from __future__ import annotations

import re
from typing import Any

from reverse_etl.sandbox.hubspot.bodies import document, flag, inputs, mappings, texts
from reverse_etl.sandbox.hubspot.errors import Body, Refusal, not_found
from reverse_etl.sandbox.hubspot.portal import ObjectType, Portal
from reverse_etl.sandbox.hubspot.properties import Property
from reverse_etl.sandbox.hubspot.rules import Rule
from reverse_etl.sandbox.messages import Request, Response, empty, json_response

NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")
TYPES = {"string", "number", "bool", "enumeration", "date", "datetime", "phone_number"}


class Definitions:
    def __init__(self, portal: Portal) -> None:
        self._portal = portal

    def properties(self, request: Request, rest: list[str]) -> Response:
        if not rest:
            raise not_found()
        kind = self._portal.type(rest[0])
        match request.method, rest[1:]:
            case "GET", []:
                archived = flag(request, "archived")
                shown = [prop.document() for prop in kind.properties.values() if prop.archived is archived]
                return json_response(200, {"results": shown})
            case "POST", []:
                return json_response(201, self._create(kind, document(request)))
            case "POST", ["batch", word]:
                return self._batch(kind, request, word)
            case method, ["groups", *tail]:
                return self._groups(method, kind, request, tail)
            case method, [name]:
                return self._one(method, kind, self._property(kind, name), request)
        raise not_found()

    def validations(self, request: Request, rest: list[str]) -> Response:
        """`.../{type}[/{property}[/rule-type/{ruleType}]]`: the rules that an admin has set for values."""
        kind = self._portal.type(rest[0] if rest else "")
        match request.method, rest[1:]:
            case "GET", []:
                shown = [
                    {"propertyName": name, "propertyValidationRules": [rule.document() for rule in rules.values()]}
                    for name, rules in kind.rules.items()
                ]
                return json_response(200, {"results": shown})
            case "GET", [name]:
                rules = kind.rules.get(self._property(kind, name).name, {})
                return json_response(200, {"results": [rule.document() for rule in rules.values()]})
            case "GET", [name, "rule-type", rule_type] if rule_type in kind.rules.get(name, {}):
                return json_response(200, kind.rules[name][rule_type].document())
            case "PUT", [name, "rule-type", rule_type]:
                body = document(request)
                rule = Rule(rule_type, texts(body.get("ruleArguments")))
                kind.rules.setdefault(self._property(kind, name).name, {})[rule_type] = rule
                return empty()
        raise not_found()

    def _one(self, method: str, kind: ObjectType, prop: Property, request: Request) -> Response:
        match method:
            case "GET":
                return json_response(200, prop.document())
            case "PATCH":
                return json_response(200, self._change(kind, prop, document(request)))
            case "DELETE":
                kind.archive_property(prop.name)
                return empty()
        raise not_found()

    def _property(self, kind: ObjectType, name: str) -> Property:
        prop = kind.properties.get(name)
        if prop is None:
            raise Refusal(404, f"Property {name} does not exist", "OBJECT_NOT_FOUND", context={"propertyName": [name]})
        return prop

    def _create(self, kind: ObjectType, body: Body) -> Body:
        missing = [key for key in ("name", "label", "groupName", "type", "fieldType") if not body.get(key)]
        if missing:
            raise Refusal(400, f"Some required fields were not set: [{', '.join(missing)}]", "VALIDATION_ERROR")
        name = str(body["name"])
        if not NAME.fullmatch(name) or str(body["type"]) not in TYPES:
            raise Refusal(400, f"Property {name} was not valid", "VALIDATION_ERROR")
        if name in kind.properties and not kind.properties[name].archived:
            raise Refusal(
                409,
                f"A property named '{name}' already exists.",
                "OBJECT_ALREADY_EXISTS",
                subCategory="Properties.PROPERTY_WITH_NAME_EXISTS",
            )
        prop = Property(
            name,
            str(body["label"]),
            str(body["type"]),
            str(body["fieldType"]),
            str(body["groupName"]),
            {str(option["value"]): str(option["label"]) for option in _options(body)},
            unique=bool(body.get("hasUniqueValue")),
            hidden=bool(body.get("hidden")),
            custom=True,
            description=str(body.get("description") or ""),
            made_at=self._portal.clock.iso(),
        )
        kind.add_property(prop)
        return prop.document()

    def _change(self, kind: ObjectType, prop: Property, body: Body) -> Body:
        """What a definition says of itself may change, for the account's own properties; never its uniqueness."""
        if not prop.custom:
            raise Refusal(400, f"Property {prop.name} is read only", "VALIDATION_ERROR")
        prop.label = str(body.get("label") or prop.label)
        prop.group = str(body.get("groupName") or prop.group)
        prop.description = str(body.get("description") or prop.description)
        prop.field_type = str(body.get("fieldType") or prop.field_type)
        if "options" in body:
            prop.options = {str(option["value"]): str(option["label"]) for option in _options(body)}
        kind.add_property(prop)
        return prop.document()

    def _batch(self, kind: ObjectType, request: Request, word: str) -> Response:
        rows = inputs(request)
        names = [str(row.get("name")) for row in rows]
        match word:
            case "create":
                return self._batch_create(kind, rows)
            case "read":
                known = [kind.properties[name].document() for name in names if name in kind.properties]
                return json_response(200, self._answer(known))
            case "archive":
                for name in names:
                    if name in kind.properties:
                        kind.archive_property(name)
                return empty()
        raise not_found()

    def _batch_create(self, kind: ObjectType, rows: list[Body]) -> Response:
        results, errors = [], []
        for row in rows:
            try:
                results.append(self._create(kind, row))
            except Refusal as refusal:
                errors.append(refusal.body | {"context": {"name": [str(row.get("name"))]}})
        answer = self._answer(results)
        if errors:
            answer |= {"numErrors": len(errors), "errors": errors}
        return json_response(207 if errors else 201, answer)

    def _answer(self, results: list[Body]) -> Body:
        now = self._portal.clock.iso()
        return {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now}

    def _groups(self, method: str, kind: ObjectType, request: Request, rest: list[str]) -> Response:
        groups = {prop.group: prop.group.capitalize() for prop in kind.properties.values()} | kind.groups
        match method, rest:
            case "GET", []:
                return json_response(200, {"results": [_group(name, label) for name, label in groups.items()]})
            case "GET", [name] if name in groups:
                return json_response(200, _group(name, groups[name]))
            case "POST", []:
                body = document(request)
                name, label = str(body.get("name") or ""), str(body.get("label") or "")
                if not name or not label:
                    raise Refusal(400, "Some required fields were not set: [name, label]", "VALIDATION_ERROR")
                if name in groups:
                    raise Refusal(409, f"A property group named '{name}' already exists.", "OBJECT_ALREADY_EXISTS")
                kind.groups[name] = label
                return json_response(201, _group(name, label))
        raise not_found()


def _options(body: Body) -> list[dict[str, Any]]:
    options = mappings(body.get("options"))
    if any("value" not in option or "label" not in option for option in options):
        raise Refusal(400, "Every option needs a label and a value", "VALIDATION_ERROR")
    return options


def _group(name: str, label: str) -> Body:
    return {"name": name, "label": label, "displayOrder": -1, "archived": False}
