"""The sandbox's own paths: faults, log, ledger, reset, time, and the page for people. No platform has such paths.

GET  /__requests          the latest requests and counters over all of them; no token, only its short hash
GET  /__ledger            every applied write in order; `?platform=`, `?object=`, `?after=N` skip
GET  /__faults            the faults in force; POST adds one (see `faults`), DELETE removes all
POST /__reset             forgets everything
POST /__time              {"advance": seconds} moves the sandbox's clock ahead
POST /__convert           {"lead": id} converts a Salesforce lead, as a person would; answers the ids of what it became
POST /__rules             what an account's admin would set:
                          {"platform": "hubspot", "object", "required": [...]}: needed on create, from 2026-09 on
                          {"platform": "salesforce", "object", "duplicate_field", "alert": bool}: a duplicate rule
POST /__unsure            {"mixed_status", "update_traces", "echo_trace_ids", "strict"}: how HubSpot answers where that
                          isn't known for sure (see `hubspot.writes.Rules`); those not named stay
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from reverse_etl.sandbox.clock import Clock, iso
from reverse_etl.sandbox.faults import BadFault, Faults
from reverse_etl.sandbox.hubspot.app import HubSpot
from reverse_etl.sandbox.hubspot.errors import Refusal as HubSpotRefusal
from reverse_etl.sandbox.journal import Ledger, RequestLog
from reverse_etl.sandbox.messages import MalformedBody, Request, Response, empty, json_response
from reverse_etl.sandbox.page import Pages
from reverse_etl.sandbox.salesforce.app import Salesforce
from reverse_etl.sandbox.salesforce.errors import Refusal as SalesforceRefusal
from reverse_etl.sandbox.salesforce.errors import RowError
from reverse_etl.sandbox.salesforce.org import DuplicateRule


class Admin:
    def __init__(
        self,
        hubspot: HubSpot,
        salesforce: Salesforce,
        *,
        faults: Faults,
        requests: RequestLog,
        ledger: Ledger,
        clock: Clock,
        reset: Callable[[], None],
    ) -> None:
        self._faults = faults
        self._requests = requests
        self._ledger = ledger
        self._clock = clock
        self._reset = reset
        self._hubspot = hubspot
        self._salesforce = salesforce
        self._pages = Pages(hubspot, salesforce, requests)

    def __call__(self, request: Request) -> Response:
        if not _from_here(request):
            return json_response(403, {"message": "the sandbox's own pages are for this machine's own browser only"})
        match request.method, request.path:
            case "GET", "/__requests":
                return json_response(200, self._requests.document())
            case "GET", "/__ledger":
                return json_response(200, {"count": len(self._ledger), "writes": self._writes(request)})
            case "GET", "/__faults":
                return json_response(200, {"faults": [fault.document() for fault in self._faults]})
            case "POST", "/__faults":
                return self._add(request)
            case "DELETE", "/__faults":
                self._faults.clear()
                return empty()
            case "POST", "/__reset":
                self._reset()
                return empty()
            case "POST", ("/__time" | "/__convert" | "/__rules" | "/__unsure" as path):
                return self._order(path, request)
            case "GET", _:
                return self._pages(request)
        return json_response(404, {"message": f"the sandbox serves no {request.method} {request.path}"})

    def _add(self, request: Request) -> Response:
        try:
            order = request.json()
            if not isinstance(order, dict) or not isinstance(order.get("kind"), str):
                raise BadFault("a fault is an object with a kind")
            fault = self._faults.add(**order)
        except (BadFault, MalformedBody, TypeError) as error:
            return json_response(400, {"message": str(error)})
        return json_response(201, fault.document())

    def _order(self, path: str, request: Request) -> Response:
        carry_out, example = {
            "/__time": (self._move, '{"advance": seconds}'),
            "/__convert": (self._convert, '{"lead": id}'),
            "/__rules": (self._rule, '{"platform", "object", "required"} or {"platform", "object", "duplicate_field"}'),
            "/__unsure": (self._unsure, '{"mixed_status": 200 or 207, "update_traces", "echo_trace_ids", "strict"}'),
        }[path]
        try:
            return json_response(200, carry_out(request.json()))
        except (MalformedBody, KeyError, TypeError, ValueError):
            return json_response(400, {"message": f"send {example}"})
        except (RowError, HubSpotRefusal, SalesforceRefusal) as refused:
            return json_response(400, {"message": str(refused)})

    def _move(self, order: Any) -> dict[str, Any]:
        self._clock.advance(float(order["advance"]))
        return {"now": iso(self._clock.now())}

    def _convert(self, order: Any) -> dict[str, Any]:
        return dict(self._salesforce.convert_lead(str(order["lead"])))

    def _unsure(self, order: Any) -> dict[str, Any]:
        rules, wanted = self._hubspot.rules, dict(order)
        known = asdict(rules)
        if any(type(value) is not type(known[name]) for name, value in wanted.items()):
            raise ValueError("a value of another kind")
        for name, value in wanted.items():
            setattr(rules, name, value)
        return asdict(rules)

    def _rule(self, order: Any) -> dict[str, Any]:
        name = str(order["object"])
        if order["platform"] == "hubspot":
            kind = self._hubspot.portal.type(name)
            kind.required_by_admin[:] = [str(each) for each in order["required"]]
            return {"object": kind.name, "required": kind.required_by_admin}
        sobject = self._salesforce.org.object(name)
        rule = DuplicateRule(str(order["duplicate_field"]), alert=order.get("alert", True) is True)
        self._salesforce.org.duplicate_rules[sobject.name] = rule
        return {"object": sobject.name, "duplicate_field": rule.field, "alert": rule.alert}

    def _writes(self, request: Request) -> list[dict[str, Any]]:
        platform, kind = request.query.get("platform"), request.query.get("object")
        after = int(request.query.get("after") or 0)
        return [
            write
            for number, write in enumerate(self._ledger)
            if number >= after and platform in (None, write["platform"]) and kind in (None, write["object"])
        ]


def _from_here(request: Request) -> bool:
    """Whether the page asked for is ours: no other site may reach it, nor through a name that leads here."""
    host = request.headers.get("host", "")
    origin = request.headers.get("origin")
    return host.rpartition(":")[0] in ("127.0.0.1", "localhost") and origin in (None, f"http://{host}")
