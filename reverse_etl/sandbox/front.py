"""What every request passes: who serves it, which faults strike it, and the log that remembers it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import orjson

from reverse_etl.sandbox.faults import Fault, Faults
from reverse_etl.sandbox.hubspot.app import HubSpot
from reverse_etl.sandbox.journal import RequestLog
from reverse_etl.sandbox.messages import HTML, Handler, Request, Response, json_response
from reverse_etl.sandbox.salesforce.app import Salesforce

LOG = logging.getLogger(__name__)

GATEWAY_PAGE = (
    "<html><head><title>{status}</title></head><body><center><h1>{status} Bad Gateway</h1></center></body></html>"
)


class Front:
    """The application behind the server. `lock` is held while a request changes the store."""

    def __init__(
        self, hubspot: HubSpot, salesforce: Salesforce, faults: Faults, log: RequestLog, own_pages: Handler
    ) -> None:
        self._vendors: tuple[HubSpot | Salesforce, ...] = (hubspot, salesforce)
        self._faults = faults
        self._log = log
        self._own_pages = own_pages
        self.lock = threading.RLock()

    def __call__(self, request: Request) -> Response:
        vendor = next((vendor for vendor in self._vendors if vendor.serves(request)), None)
        try:
            with self.lock:
                return self._own_pages(request) if vendor is None else self._serve(vendor, request)
        except Exception:  # the edge: a mistake of the sandbox's own must not look like a lost connection
            LOG.exception("the sandbox failed to answer %s %s", request.method, request.path)
            return json_response(500, {"message": "the sandbox itself failed; its log says how"})

    def _serve(self, vendor: HubSpot | Salesforce, request: Request) -> Response:
        struck: list[Fault] = []
        response = vendor.admit(request)
        if response is None:
            struck = self._faults.strike(request, vendor.name) if self._faults else []
            response = self._answer(vendor, request, struck)
        vendor.finish(request, response)
        for fault in struck:
            _spoil(fault, response)
        self._log.add(request, response, struck[0].kind if struck else None)
        return response

    def _answer(self, vendor: HubSpot | Salesforce, request: Request, struck: list[Fault]) -> Response:
        """The vendor's answer, or what a fault puts in its place."""
        for fault in struck:
            if fault.kind in ("refuse", "lock", "fail_job", "vanish", "stuck"):
                request.notes.setdefault(fault.kind, []).append(fault)
        instead = next((found for fault in struck if (found := _instead(vendor, request, fault)) is not None), None)
        if instead is not None:
            return instead
        response = vendor.answer(request)
        for fault in struck:
            if fault.applied and fault.kind in ("status", "html"):
                response = _ordered(fault)
            elif fault.kind in EDITS and response.status < 300:
                _edit(response, EDITS[fault.kind], fault)
        return response


def _instead(vendor: HubSpot | Salesforce, request: Request, fault: Fault) -> Response | None:
    """The answer of a fault that keeps the request from being carried out."""
    match fault.kind:
        case "status" | "html" if not fault.applied:
            return _ordered(fault)
        case "cut" if not fault.applied:
            return Response(502, b"", None, cut=True)
        case "throttle":
            response = vendor.throttle(fault.policy)
            if fault.retry_after is not None:
                response.headers["Retry-After"] = fault.retry_after
            return response
        case "expire":
            vendor_answer = vendor.expire(request)
            return vendor_answer
        case "lock" if isinstance(vendor, HubSpot):
            return vendor.locked()
        case "empty":
            nothing: Any = [] if isinstance(vendor, Salesforce) else {"status": "COMPLETE", "results": []}
            return json_response(200, nothing)
    return None


def _ordered(fault: Fault) -> Response:
    status = fault.status or 502
    if fault.kind == "html":
        response = Response(status, str(fault.body or GATEWAY_PAGE.format(status=status)).encode(), HTML)
    elif isinstance(fault.body, str):
        response = Response(status, fault.body.encode(), HTML)
    elif fault.body is None:
        response = Response(status, b"", None)
    else:
        response = json_response(status, fault.body)
    response.headers = dict(fault.headers)
    if fault.retry_after is not None:
        response.headers["Retry-After"] = fault.retry_after
    return response


def _spoil(fault: Fault, response: Response) -> None:
    """What a fault does to an answer on its way out."""
    if fault.kind == "slow":
        response.delay += fault.seconds
    elif fault.kind == "drip":
        response.drip = fault.seconds or 0.01
    elif fault.kind == "truncate":
        response.truncate = True
    elif fault.kind == "cut":
        response.cut = True


def _edit(response: Response, edit: Callable[[list[Any], Fault], list[Any]], fault: Fault) -> None:
    """Changes the list of records in a JSON answer; one without such a list stays as it is."""
    try:
        document = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        return
    if isinstance(document, list):
        document = edit(document, fault)
    elif isinstance(document, dict) and isinstance(document.get("results"), list):
        document["results"] = edit(document["results"], fault)
    response.body = orjson.dumps(document)


def _stranger(records: list[Any], fault: Fault) -> list[Any]:
    if not records:
        return records
    return [*records, {**records[0], "id": "999999999"}]


EDITS: dict[str, Callable[[list[Any], Fault], list[Any]]] = {
    "omit": lambda records, fault: records[fault.rows :],
    "reverse": lambda records, fault: records[::-1],
    "duplicate": lambda records, fault: [*records[:1], *records],
    "stranger": _stranger,
}
