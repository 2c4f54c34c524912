"""Composite requests: up to 25 calls in one, each answered on its own, later ones may name earlier results.

With `allOrNone` the calls are carried out together or not at all; a graph is such a group of calls, and a request may
hold many. https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_composite.htm
(November 2026)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson

from reverse_etl.sandbox.messages import Request, Response, json_response
from reverse_etl.sandbox.salesforce.collections import JSON, json_body
from reverse_etl.sandbox.salesforce.errors import Refusal
from reverse_etl.sandbox.salesforce.org import Org

MOST = 25
MOST_HEAVY = 5  # queries and collections
MOST_GRAPHS = 75
MOST_NODES = 500
MOST_FAILED_GRAPHS = 14
HEAVY = re.compile(r"/services/data/v[\d.]+/(query|composite/sobjects)")
NESTED = re.compile(r"/services/data/v[\d.]+/composite(?!/sobjects)")
REFERENCE = re.compile(r"@\{(\w+)\.(\w+)\}")
ROLLED_BACK = "The transaction was rolled back since another operation in the same transaction failed."
NOT_BEGUN = "Processing was halted after too many graphs had failed."

Answer = Callable[[Request], Response]
Call = dict[str, Any]


def composite(request: Request, org: Org, answer: Answer) -> Response:
    body = json_body(request)
    calls = _calls(body)
    if len(calls) > MOST:
        raise Refusal(400, "INVALID_INPUT", f"The maximum number of subrequests is {MOST}")
    if sum(HEAVY.match(str(call.get("url"))) is not None for call in calls) > MOST_HEAVY:
        message = f"The maximum number of query and sObject Collections subrequests is {MOST_HEAVY}"
        raise Refusal(400, "INVALID_INPUT", message)
    answers, _ = _Group(request, org, answer).run(calls, together=body.get("allOrNone") is True)
    return json_response(200, {"compositeResponse": answers}, content_type=JSON, rows=len(answers))


def graphs(request: Request, org: Org, answer: Answer) -> Response:
    asked = json_body(request).get("graphs")
    if not isinstance(asked, list) or not asked or not all(isinstance(graph, dict) for graph in asked):
        raise Refusal(400, "JSON_PARSER_ERROR", "graphs is missing")
    groups = [_calls(graph) for graph in asked]
    if len(groups) > MOST_GRAPHS or sum(map(len, groups)) > MOST_NODES:
        raise Refusal(400, "INVALID_INPUT", f"at most {MOST_GRAPHS} graphs with {MOST_NODES} nodes in all")
    shown, failed = [], 0
    for graph, calls in zip(asked, groups, strict=True):
        if failed >= MOST_FAILED_GRAPHS:
            answers, good = [_halted(call, NOT_BEGUN) for call in calls], False
        else:
            answers, good = _Group(request, org, answer).run(calls, together=True)
        failed += not good
        response = {"compositeResponse": answers}
        shown.append({"graphId": graph.get("graphId"), "graphResponse": response, "isSuccessful": good})
    return json_response(200, {"graphs": shown}, content_type=JSON, rows=sum(map(len, groups)))


class _Group:
    """Calls that may name each other's results."""

    def __init__(self, request: Request, org: Org, answer: Answer) -> None:
        self._request = request
        self._org = org
        self._answer = answer
        self._results: dict[str, Any] = {}

    def run(self, calls: list[Call], *, together: bool) -> tuple[list[Call], bool]:
        """Each call's answer, and whether all succeeded. `together`: where one fails, none has happened."""
        if not together:
            answers = [self._one(call) for call in calls]
            return answers, not any(map(_failed, answers))
        self._org.begin()
        answers = []
        for call in calls:
            answers.append(self._one(call))
            if _failed(answers[-1]):
                self._org.end(keep=False)
                guilty = len(answers) - 1
                told = [_halted(other, ROLLED_BACK) for other in calls]
                return [*told[:guilty], answers[guilty], *told[guilty + 1 :]], False
        self._org.end(keep=True)
        return answers, True

    def _one(self, call: Call) -> Call:
        text = orjson.dumps(call).decode()
        unknown = next((found for found in REFERENCE.finditer(text) if self._named(found) is None), None)
        if unknown is not None:
            name, path = unknown.groups()
            return _halted(call, f"Invalid reference specified. No value for {name}.{path} found in {name}.")
        filled = orjson.loads(REFERENCE.sub(lambda found: str(self._named(found)), text))
        inner = Request(
            str(filled.get("method", "GET")).upper(),
            str(filled.get("url", "")),
            self._request.headers,
            orjson.dumps(filled.get("body")) if filled.get("body") is not None else b"",
        )
        response = self._answer(inner) if not NESTED.match(inner.path) else _nested()
        shown = orjson.loads(response.body) if response.body else None
        self._results[str(call.get("referenceId"))] = shown if isinstance(shown, dict) else {}
        return {
            "body": shown,
            "httpHeaders": {name: value for name, value in response.headers.items() if name == "Location"},
            "httpStatusCode": response.status,
            "referenceId": str(call.get("referenceId")),
        }

    def _named(self, found: re.Match[str]) -> Any:
        return self._results.get(found[1], {}).get(found[2])


def _calls(body: dict[str, Any]) -> list[Call]:
    calls = body.get("compositeRequest")
    if not isinstance(calls, list) or not calls or not all(isinstance(call, dict) for call in calls):
        raise Refusal(400, "JSON_PARSER_ERROR", "compositeRequest is missing")
    return calls


def _failed(answer: Call) -> bool:
    """Collections answer 200 whatever became of their rows."""
    rows = answer["body"] if isinstance(answer["body"], list) else []
    return answer["httpStatusCode"] >= 300 or any(isinstance(row, dict) and row.get("success") is False for row in rows)


def _nested() -> Response:
    refusal = Refusal(400, "INVALID_INPUT", "A composite request can't be a subrequest")
    return json_response(refusal.status, refusal.body, content_type=JSON)


def _halted(call: Call, message: str) -> Call:
    return {
        "body": [{"errorCode": "PROCESSING_HALTED", "message": message}],
        "httpHeaders": {},
        "httpStatusCode": 400,
        "referenceId": str(call.get("referenceId")),
    }
