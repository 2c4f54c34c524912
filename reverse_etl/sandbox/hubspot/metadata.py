"""What describes the account rather than its records: details, owners, pipelines, what it holds of what it may hold."""

from __future__ import annotations

from typing import Any

from reverse_etl.sandbox.clock import iso
from reverse_etl.sandbox.hubspot.errors import Body, not_found
from reverse_etl.sandbox.hubspot.limits import Limits
from reverse_etl.sandbox.hubspot.portal import DEAL_STAGES, OWNERS, PORTAL_ID, TICKET_STAGES, ObjectType, Portal
from reverse_etl.sandbox.hubspot.properties import MADE_AT, UPDATED_AT
from reverse_etl.sandbox.messages import Request, Response, json_response

MOST_CUSTOM_PROPERTIES = 1_000  # of an object type
MOST_RECORDS = 15_000_000
MOST_CUSTOM_TYPES = 10


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
        """`.../{type}[/{pipeline}[/stages[/{stage}]]]`."""
        if request.method != "GET" or not rest:
            raise not_found()
        found = _pipelines(self._portal.type(rest[0]).name)
        if rest[1:]:
            chosen = _chosen(found, rest[1])
            found, rest = chosen["stages"], rest[1:]
            if rest[1:2] != ["stages"]:
                return json_response(200, chosen)
            if rest[2:]:
                return json_response(200, _chosen(found, rest[2]))
        return json_response(200, {"results": found})

    def usage(self, request: Request, rest: list[str]) -> Response:
        """`/crm/limits/...`: how much of what an account may hold is used up."""
        if request.method != "GET":
            raise not_found()
        custom = [kind for kind in self._portal.types.values() if kind.type_id.startswith("2-")]
        match rest:
            case ["records"]:
                return json_response(200, self._records(custom))
            case ["custom-properties"]:
                entries = [self._custom_properties(kind) for kind in self._portal.types.values()]
                return json_response(200, {"byObjectType": entries, **_overall(entries, MOST_CUSTOM_PROPERTIES)})
            case ["custom-object-types"]:
                return json_response(200, _share(len(custom), MOST_CUSTOM_TYPES))
        raise not_found()

    def _records(self, custom: list[ObjectType]) -> Body:
        entries = [_named(kind) | {"usage": len(kind.table)} for kind in custom]
        standard = [kind for kind in self._portal.types.values() if kind not in custom]
        return {
            "hubspotDefinedObjectTypes": [_named(kind) | _share(len(kind.table), MOST_RECORDS) for kind in standard],
            "customObjectTypes": {"byObjectType": entries, **_overall(entries, MOST_RECORDS)},
        }

    def _custom_properties(self, kind: ObjectType) -> Body:
        made = sum(prop.custom and not prop.archived for prop in kind.properties.values())
        return _named(kind) | _share(made, MOST_CUSTOM_PROPERTIES)


def _pipelines(kind: str) -> list[Body]:
    if kind == "deals":
        stages = [
            _stage(order, key, label, {"isClosed": str(chance in (0.0, 1.0)).lower(), "probability": str(chance)})
            for order, (key, (label, chance)) in enumerate(DEAL_STAGES.items())
        ]
        return [_pipeline("default", "Sales Pipeline", stages)]
    if kind == "tickets":
        stages = [
            _stage(order, key, label, {"isClosed": str(label == "Closed").lower()})
            for order, (key, label) in enumerate(TICKET_STAGES.items())
        ]
        return [_pipeline("0", "Support Pipeline", stages)]
    return []


def _chosen(entries: list[Body], wanted: str) -> Body:
    found = next((entry for entry in entries if entry["id"] == wanted), None)
    if found is None:
        raise not_found()
    return found


def _owner(owner: dict[str, Any]) -> Body:
    dates = {"createdAt": MADE_AT, "updatedAt": UPDATED_AT}
    return {**owner, "type": "PERSON", "archived": False, "teams": [], **dates}


def _stage(order: int, key: str, label: str, metadata: dict[str, str]) -> Body:
    dates = {"createdAt": MADE_AT, "updatedAt": UPDATED_AT, "archived": False}
    return {"id": key, "label": label, "displayOrder": order, "metadata": metadata, **dates}


def _pipeline(key: str, label: str, stages: list[Body]) -> Body:
    dates = {"createdAt": MADE_AT, "updatedAt": UPDATED_AT, "archived": False}
    return {"id": key, "label": label, "displayOrder": 0, "stages": stages, **dates}


def _named(kind: ObjectType) -> Body:
    return {
        "objectTypeId": kind.type_id,
        "singularLabel": kind.singular.capitalize(),
        "pluralLabel": kind.name.capitalize(),
    }


def _share(used: int, most: int) -> Body:
    return {"limit": most, "usage": used, "percentage": round(100 * used / most, 2)}


def _overall(entries: list[Body], most: int) -> Body:
    share = _share(sum(entry["usage"] for entry in entries), most)
    return {f"overall{key.capitalize()}": value for key, value in share.items()}
