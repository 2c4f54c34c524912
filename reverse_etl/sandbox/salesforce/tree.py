"""sObject trees: records with the children below them, made in one call, all of them or none.

https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_composite_sobject_tree.htm
(November 2026)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reverse_etl.sandbox.messages import Request, Response, json_response
from reverse_etl.sandbox.salesforce.collections import JSON, json_body, saver_for
from reverse_etl.sandbox.salesforce.errors import Refusal, RowError, no_column
from reverse_etl.sandbox.salesforce.fields import Field
from reverse_etl.sandbox.salesforce.org import Org, SObject
from reverse_etl.sandbox.salesforce.saving import attribute, parse_row

MOST = 200
MOST_LEVELS = 5
MOST_TYPES = 5

Row = dict[str, Any]
Branch = tuple[SObject, Field, list[Row]]


def tree(org: Org, name: str, request: Request) -> Response:
    rows = json_body(request).get("records")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Refusal(400, "JSON_PARSER_ERROR", "records is missing")
    sobject = org.object(name)
    _check(org, sobject, rows)
    planting = _Planting(org, request)
    org.begin()
    try:
        for row in rows:
            planting.plant(sobject, row, {})
    except Refusal:
        org.end(keep=False)
        raise
    made, failed = planting.made, planting.failed
    org.end(keep=not failed)
    answer = {"hasErrors": bool(failed), "results": failed or made}
    return json_response(400 if failed else 201, answer, content_type=JSON, rows=len(made) + len(failed))


class _Planting:
    def __init__(self, org: Org, request: Request) -> None:
        self._org = org
        self._request = request
        self.made: list[Row] = []
        self.failed: list[Row] = []

    def plant(self, sobject: SObject, row: Row, above: dict[str, str]) -> None:
        """Makes a record, then those below it; what stands below a failure is not tried."""
        reference = attribute(row, "referenceId")
        branches = list(_branches(self._org, sobject, row))
        flat = {name: value for name, value in row.items() if not _is_branch(value)}
        saver = saver_for(self._org, sobject, self._request)
        try:
            made = saver.create(parse_row(self._org, sobject, {**flat, **above}))
        except RowError as error:
            self.failed.append({"referenceId": reference, "errors": error.result()["errors"]})
            return
        self._org.ledger.add("salesforce", sobject.name, saver.writes)
        self.made.append({"referenceId": reference, "id": made})
        for child, parent, below in branches:
            for entry in below:
                self.plant(child, entry, {parent.name: made})


def _branches(org: Org, sobject: SObject, row: Row) -> Iterator[Branch]:
    """The children of a record by what describe calls their relationship."""
    for name, value in row.items():
        if not _is_branch(value):
            continue
        found = next(
            (
                (child, parent)
                for child in org.objects.values()
                for parent in child.fields.values()
                if sobject.name in parent.reference_to and child.plural.lower() == name.lower() and parent.createable
            ),
            None,
        )
        if found is None:
            raise no_column(name, sobject.name)
        yield *found, [entry for entry in value["records"] if isinstance(entry, dict)]


def _is_branch(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("records"), list)


def _check(org: Org, sobject: SObject, rows: list[Row]) -> None:
    seen: list[tuple[str, SObject]] = []
    level = [(sobject, row) for row in rows]
    depth = 0
    while level:
        depth += 1
        seen += [(str(attribute(row, "referenceId") or ""), kind) for kind, row in level]
        level = [
            (child, entry) for kind, row in level for child, _, below in _branches(org, kind, row) for entry in below
        ]
    references = [reference for reference, _ in seen]
    if not all(references) or len(set(references)) < len(references):
        raise Refusal(400, "INVALID_INPUT", "every record needs a referenceId of its own")
    if len(seen) > MOST or depth > MOST_LEVELS or len({kind.name for _, kind in seen}) > MOST_TYPES:
        raise Refusal(
            400, "INVALID_INPUT", f"a tree has at most {MOST} records, {MOST_TYPES} types, {MOST_LEVELS} levels"
        )
