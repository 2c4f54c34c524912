"""Composite requests: up to 25 calls in one, each answered on its own, later ones may name earlier results."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson

from reverse_etl.sandbox.messages import Request, Response, json_response
from reverse_etl.sandbox.salesforce.collections import JSON, json_body
from reverse_etl.sandbox.salesforce.errors import Refusal

MOST = 25
REFERENCE = re.compile(r"@\{(\w+)\.(\w+)\}")


def composite(request: Request, answer: Callable[[Request], Response]) -> Response:
    """Without roll-back: `allOrNone` is refused, as a sync never wants it."""
    body = json_body(request)
    calls = body.get("compositeRequest")
    if not isinstance(calls, list) or not calls or not all(isinstance(call, dict) for call in calls):
        raise Refusal(400, "JSON_PARSER_ERROR", "compositeRequest is missing")
    if len(calls) > MOST:
        raise Refusal(400, "INVALID_INPUT", f"The maximum number of subrequests is {MOST}")
    if body.get("allOrNone"):
        raise Refusal(
            400, "FUNCTIONALITY_NOT_ENABLED", "this sandbox answers composite requests without allOrNone only"
        )
    results: dict[str, Any] = {}
    answers = [_one(call, request, results, answer) for call in calls]
    return json_response(200, {"compositeResponse": answers}, content_type=JSON, rows=len(answers))


def _one(
    call: dict[str, Any], request: Request, results: dict[str, Any], answer: Callable[[Request], Response]
) -> dict[str, Any]:
    name = str(call.get("referenceId"))
    text = REFERENCE.sub(lambda found: str(results.get(found[1], {}).get(found[2], "")), orjson.dumps(call).decode())
    filled = orjson.loads(text)
    inner = Request(
        str(filled.get("method", "GET")).upper(),
        str(filled.get("url", "")),
        request.headers,
        orjson.dumps(filled.get("body")) if filled.get("body") is not None else b"",
    )
    response = answer(inner)
    shown = orjson.loads(response.body) if response.body else None
    results[name] = shown if isinstance(shown, dict) else {}
    return {
        "body": shown,
        "httpHeaders": {name: value for name, value in response.headers.items() if name == "Location"},
        "httpStatusCode": response.status,
        "referenceId": name,
    }
