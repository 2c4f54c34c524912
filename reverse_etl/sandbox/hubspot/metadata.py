"""What describes the account rather than its records: details, properties, owners, pipelines."""

from __future__ import annotations

import re
from typing import Any

from reverse_etl.sandbox.clock import iso
from reverse_etl.sandbox.hubspot.bodies import document, inputs, mappings
from reverse_etl.sandbox.hubspot.errors import Body, Refusal, not_found
from reverse_etl.sandbox.hubspot.limits import Limits
from reverse_etl.sandbox.hubspot.portal import (
    DEAL_STAGES,
    OWNERS,
    PORTAL_ID,
    TICKET_STAGES,
    ObjectType,
    Portal,
)
from reverse_etl.sandbox.hubspot.properties import MADE_AT, UPDATED_AT, Property
from reverse_etl.sandbox.messages import Request, Response, empty, json_response

NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")
TYPES = {"string", "number", "bool", "enumeration", "date", "datetime", "phone_number"}


class Metadata:
    def __init__(self, portal: Portal, limits: Limits) -> None:
        self._portal = portal
        self._limits = limits

    def account(self, request: Request, rest: list[str]) -> Response:
        if request.method == "GET" and rest == ["details"]:
            return json_response(
                200,
                {
                    "portalId": PORTAL_ID,
                    "accountType": "STANDARD",
                    "timeZone": "UTC",
                    "companyCurrency": "USD",
                    "additionalCurrencies": [],
                    "utcOffset": "+00:00",
                    "utcOffsetMilliseconds": 0,
                    "uiDomain": "app.hubspot.com",
                    "dataHostingLocation": "na1",
                },
            )
        if request.method == "GET" and rest == ["api-usage", "daily", "private-apps"]:
            return json_response(200, {"results": [self._usage()]})
        raise not_found()

    def _usage(self) -> Body:
        now = self._portal.clock.now()
        return {
            "name": "private-apps-api-calls-daily",
            "usageLimit": self._limits.daily,
            "currentUsage": self._limits.used_today,
            "collectedAt": iso(now),
            "fetchStatus": "SUCCESS",
            "resetsAt": iso((now // 86_400 + 1) * 86_400),
        }

    def properties(self, request: Request, rest: list[str]) -> Response:
        if not rest:
            raise not_found()
        kind = self._portal.type(rest[0])
        match request.method, rest[1:]:
            case "GET", []:
                archived = request.query.get("archived") == "true"
                shown = [prop.document() for prop in kind.properties.values() if prop.archived is archived]
                return json_response(200, {"results": shown})
            case "POST", []:
                return json_response(201, self._create(kind, document(request)))
            case "POST", ["batch", "create"]:
                return self._batch_create(kind, request)
            case "POST", ["batch", "read"]:
                return self._batch_read(kind, request)
            case "GET", ["groups"]:
                groups = dict.fromkeys(prop.group for prop in kind.properties.values())
                return json_response(200, {"results": [_group(name) for name in groups]})
            case "GET", [name]:
                return json_response(200, self._property(kind, name).document())
            case "DELETE", [name]:
                kind.archive_property(self._property(kind, name).name)
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

    def _batch_create(self, kind: ObjectType, request: Request) -> Response:
        results, errors = [], []
        for row in inputs(request):
            try:
                results.append(self._create(kind, row))
            except Refusal as refusal:
                errors.append(refusal.body | {"context": {"name": [str(row.get("name"))]}})
        answer = _batch(self._portal, results)
        if errors:
            answer |= {"numErrors": len(errors), "errors": errors}
        return json_response(207 if errors else 201, answer)

    def _batch_read(self, kind: ObjectType, request: Request) -> Response:
        names = [str(row.get("name")) for row in inputs(request)]
        return json_response(
            200, _batch(self._portal, [kind.properties[name].document() for name in names if name in kind.properties])
        )

    def owners(self, request: Request, rest: list[str]) -> Response:
        shown = [_owner(owner) for owner in OWNERS]
        if request.method != "GET":
            raise not_found()
        if rest:
            chosen = [owner for owner in shown if owner["id"] == rest[0]]
            if not chosen:
                raise not_found()
            return json_response(200, chosen[0])
        email = request.query.get("email")
        return json_response(200, {"results": [owner for owner in shown if email in (None, owner["email"])]})

    def pipelines(self, request: Request, rest: list[str]) -> Response:
        if request.method != "GET" or not rest:
            raise not_found()
        kind = self._portal.type(rest[0]).name
        if kind == "deals":
            stages = [
                _stage(order, key, label, {"isClosed": str(chance in (0.0, 1.0)).lower(), "probability": str(chance)})
                for order, (key, (label, chance)) in enumerate(DEAL_STAGES.items())
            ]
            return json_response(200, {"results": [_pipeline("default", "Sales Pipeline", stages)]})
        if kind == "tickets":
            stages = [
                _stage(order, key, label, {"isClosed": str(label == "Closed").lower()})
                for order, (key, label) in enumerate(TICKET_STAGES.items())
            ]
            return json_response(200, {"results": [_pipeline("0", "Support Pipeline", stages)]})
        return json_response(200, {"results": []})


def _options(body: Body) -> list[dict[str, Any]]:
    options = mappings(body.get("options"))
    if any("value" not in option or "label" not in option for option in options):
        raise Refusal(400, "Every option needs a label and a value", "VALIDATION_ERROR")
    return options


def _batch(portal: Portal, results: list[Body]) -> Body:
    now = portal.clock.iso()
    return {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now}


def _owner(owner: dict[str, Any]) -> Body:
    dates = {"createdAt": MADE_AT, "updatedAt": UPDATED_AT}
    return {**owner, "type": "PERSON", "archived": False, "teams": [], **dates}


def _group(name: str) -> Body:
    return {"name": name, "label": name.capitalize(), "displayOrder": -1, "archived": False}


def _stage(order: int, key: str, label: str, metadata: dict[str, str]) -> Body:
    dates = {"createdAt": MADE_AT, "updatedAt": UPDATED_AT, "archived": False}
    return {"id": key, "label": label, "displayOrder": order, "metadata": metadata, **dates}


def _pipeline(key: str, label: str, stages: list[Body]) -> Body:
    dates = {"createdAt": MADE_AT, "updatedAt": UPDATED_AT, "archived": False}
    return {"id": key, "label": label, "displayOrder": 0, "stages": stages, **dates}
