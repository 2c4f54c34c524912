"""Search: eventually consistent, filtered, sorted, paged. It sees records as they were some seconds ago."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reverse_etl.sandbox.clock import iso
from reverse_etl.sandbox.hubspot.bodies import count, document, mapping, mappings, texts
from reverse_etl.sandbox.hubspot.errors import Body, Refusal
from reverse_etl.sandbox.hubspot.portal import ObjectType, Portal, record
from reverse_etl.sandbox.messages import Request, Response, json_response

MOST_HITS = 10_000
MOST_PAGE = 200
MOST_BODY = 3_000

Values = dict[str, Any]


class Search:
    """`lag` is in seconds; 0 makes search see everything at once."""

    def __init__(self, portal: Portal, lag: float) -> None:
        self._portal = portal
        self.lag = lag

    def answer(self, kind: ObjectType, request: Request) -> Response:
        body = document(request)
        self._check(request, body)
        hits, gone = self._hits(kind, body)
        sorts = body.get("sorts")
        for sort in reversed(sorts if isinstance(sorts, list) else []):
            _sort(hits, sort if isinstance(sort, str) else mapping(sort), kind)
        limit = min(count(body.get("limit"), 10), MOST_PAGE)
        after = count(body.get("after"), 0)
        page = hits[after : after + limit]
        names = texts(body.get("properties")) or ["email", "firstname", "lastname", "name", "domain", "dealname"]
        answer: Body = {
            "total": len(hits) + gone,
            "results": [record(kind, record_id, values, names) for record_id, values in page],
        }
        if after + limit < len(hits):
            answer["paging"] = {"next": {"after": str(after + limit)}}
        return json_response(200, answer, rows=len(page))

    def _check(self, request: Request, body: Body) -> None:
        groups = mappings(body.get("filterGroups"))
        filters = [len(mappings(group.get("filters"))) for group in groups]
        if len(request.body) > MOST_BODY:
            raise Refusal(400, f"The request body is longer than {MOST_BODY} characters.", "VALIDATION_ERROR")
        if len(groups) > 5 or max(filters, default=0) > 6 or sum(filters) > 18:
            raise Refusal(400, "Too many filter groups or filters.", "VALIDATION_ERROR")
        after = count(body.get("after"), 0)
        if after >= MOST_HITS:
            raise Refusal(400, f"There was a problem with the request: after is {after}.", "VALIDATION_ERROR")

    def _hits(self, kind: ObjectType, body: Body) -> tuple[list[tuple[str, Values]], int]:
        """What the index finds, and how many archived records it still counts."""
        seen_until = self._portal.clock.now() - self.lag
        tests = [
            [_test(entry, kind) for entry in mappings(group.get("filters"))]
            for group in mappings(body.get("filterGroups"))
        ]

        def matches(values: Values) -> bool:
            return not tests or any(all(test(values) for test in group) for group in tests)

        hits = [
            (record_id, values)
            for record_id, values in kind.table.items()
            if self._indexed(values["createdate"], seen_until) and matches(values)
        ]
        gone = 0
        for record_id, at in kind.archived_at.items():
            if not self._indexed(at, seen_until):
                values = kind.table.removed(record_id)
                gone += values is not None and matches(values)
        return hits, gone

    def _indexed(self, at: str, seen_until: float) -> bool:
        return self.lag == 0 or at <= iso(seen_until)


def _sort(hits: list[tuple[str, Values]], sort: Any, kind: ObjectType) -> None:
    name, down = (
        (sort, False) if isinstance(sort, str) else (sort.get("propertyName"), sort.get("direction") == "DESCENDING")
    )
    if isinstance(sort, str) and sort.startswith("-"):
        name, down = sort[1:], True
    prop = kind.properties.get(str(name))
    hits.sort(key=lambda hit: _comparable(hit[1].get(str(name)), prop.type if prop else "string"), reverse=down)


def _comparable(value: Any, kind: str) -> tuple[bool, Any]:
    if value is None:
        return (False, "")
    if kind == "number":
        value = str(value)
        try:
            return (True, float(value))
        except ValueError:
            return (False, 0.0)
    return (True, str(value).lower() if kind == "string" else str(value))


def _test(entry: Body, kind: ObjectType) -> Callable[[Values], bool]:
    name, operator = str(entry.get("propertyName")), str(entry.get("operator"))
    prop = kind.properties.get(name)
    if prop is None or operator not in OPERATORS:
        raise Refusal(
            400,
            "There was a problem with the request.",
            "VALIDATION_ERROR",
            errors=[{"message": f"Property {name} or operator {operator} is not valid in a filter"}],
        )
    return OPERATORS[operator](name, prop.type, entry)


def _values(entry: Body, kind: str) -> list[tuple[bool, Any]]:
    given = [entry.get("value")] if entry.get("values") is None else texts(entry["values"])
    return [_comparable(value, kind) for value in given]


def _equal(name: str, kind: str, entry: Body) -> Callable[[Values], bool]:
    wanted = set(_values(entry, kind))
    return lambda values: _comparable(values.get(name), kind) in wanted


def _unequal(name: str, kind: str, entry: Body) -> Callable[[Values], bool]:
    wanted = set(_values(entry, kind))
    return lambda values: _comparable(values.get(name), kind) not in wanted


def _compare(test: Callable[[Any, Any], bool]) -> Callable[[str, str, Body], Callable[[Values], bool]]:
    def build(name: str, kind: str, entry: Body) -> Callable[[Values], bool]:
        bound = _comparable(entry.get("value"), kind)
        return lambda values: values.get(name) is not None and test(_comparable(values[name], kind), bound)

    return build


def _between(name: str, kind: str, entry: Body) -> Callable[[Values], bool]:
    low, high = _comparable(entry.get("value"), kind), _comparable(entry.get("highValue"), kind)
    return lambda values: values.get(name) is not None and low <= _comparable(values[name], kind) <= high


def _token(name: str, kind: str, entry: Body) -> Callable[[Values], bool]:
    wanted = str(entry.get("value")).lower().strip("*")
    return lambda values: wanted in str(values.get(name) or "").lower()


def _has(name: str, kind: str, entry: Body) -> Callable[[Values], bool]:
    return lambda values: values.get(name) is not None


def _not(
    build: Callable[[str, str, Body], Callable[[Values], bool]],
) -> Callable[[str, str, Body], Callable[[Values], bool]]:
    def negated(name: str, kind: str, entry: Body) -> Callable[[Values], bool]:
        test = build(name, kind, entry)
        return lambda values: not test(values)

    return negated


OPERATORS: dict[Any, Callable[[str, str, Body], Callable[[Values], bool]]] = {
    "EQ": _equal,
    "IN": _equal,
    "NEQ": _unequal,
    "NOT_IN": _unequal,
    "LT": _compare(lambda value, bound: bool(value < bound)),
    "LTE": _compare(lambda value, bound: bool(value <= bound)),
    "GT": _compare(lambda value, bound: bool(value > bound)),
    "GTE": _compare(lambda value, bound: bool(value >= bound)),
    "BETWEEN": _between,
    "HAS_PROPERTY": _has,
    "NOT_HAS_PROPERTY": _not(_has),
    "CONTAINS_TOKEN": _token,
    "NOT_CONTAINS_TOKEN": _not(_token),
}
