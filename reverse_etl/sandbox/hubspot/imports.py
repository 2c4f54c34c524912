"""Imports: a file of rows, taken at once and worked through in its own time; a bad line is told by its number.

https://developers.hubspot.com/docs/api-reference/latest/crm/imports/guide (November 2026)
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import orjson

from reverse_etl.sandbox.hubspot.bodies import count, mapping, mappings
from reverse_etl.sandbox.hubspot.errors import Body, InvalidValues, Refusal, RowError, not_found
from reverse_etl.sandbox.hubspot.portal import ObjectType, Portal
from reverse_etl.sandbox.hubspot.saving import Saver
from reverse_etl.sandbox.messages import Request, Response, json_response

STATES = ("STARTED", "PROCESSING", "DONE")
ERROR_TYPES = {
    "INVALID_EMAIL": "INVALID_EMAIL",
    "INVALID_OPTION": "INVALID_ENUMERATION_OPTION",
    "INVALID_INTEGER": "COULD_NOT_PARSE_NUMBER",
    "INVALID_LONG": "COULD_NOT_PARSE_DATE",
    "INVALID_DATE": "COULD_NOT_PARSE_DATE",
}


@dataclass
class Column:
    name: str
    property: str
    column_type: str


@dataclass
class Import:
    id: str
    name: str
    kind: ObjectType
    operation: str
    columns: list[Column]
    rows: list[list[str]]
    made: str
    request: Body
    state: str = "STARTED"
    counters: Counter[str] = field(default_factory=Counter)
    errors: list[Body] = field(default_factory=list)

    def document(self) -> Body:
        return {
            "id": self.id,
            "state": self.state,
            "importName": self.name,
            "importSource": "API",
            "importRequestJson": self.request,
            "mappedObjectTypeIds": [self.kind.type_id],
            "optOutImport": False,
            "metadata": {"objectLists": [], "counters": dict(self.counters), "fileIds": [self.id]},
            "createdAt": self.made,
            "updatedAt": self.made,
        }


class Imports:
    """Each look at an import moves it on: STARTED, PROCESSING, DONE. Its rows are saved on the way to DONE."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._imports: dict[str, Import] = {}

    def answer(self, request: Request, rest: list[str]) -> Response:
        match request.method, rest:
            case "POST", []:
                return json_response(200, self._create(request).document())
            case "GET", []:
                return json_response(200, {"results": [entry.document() for entry in self._imports.values()]})
            case method, [import_id, *tail] if import_id in self._imports:
                return self._one(method, request, self._imports[import_id], tail)
        raise not_found()

    def clear(self) -> None:
        self._imports.clear()

    def _one(self, method: str, request: Request, chosen: Import, tail: list[str]) -> Response:
        match method, tail:
            case "GET", []:
                shown = chosen.document()
                self._advance(chosen)
                return json_response(200, shown)
            case "GET", ["errors"]:
                start, limit = count(request.query.get("after"), 0), count(request.query.get("limit"), 100)
                answer: Body = {"results": chosen.errors[start : start + limit]}
                if start + limit < len(chosen.errors):
                    answer["paging"] = {"next": {"after": str(start + limit)}}
                return json_response(200, answer)
            case "POST", ["cancel"]:
                if chosen.state in STATES[:2]:
                    chosen.state = "CANCELED"
                now = self._portal.clock.iso()
                return json_response(200, {"status": "COMPLETE", "startedAt": now, "completedAt": now})
        raise not_found()

    def _create(self, request: Request) -> Import:
        parts = request.parts()
        asked = _parsed(parts.get("importRequest", b""))
        files = mappings(asked.get("files"))
        if not files or "files" not in parts:
            raise Refusal(400, "An import needs importRequest and files", "VALIDATION_ERROR")
        page = mapping(files[0].get("fileImportPage"))
        mapped = mappings(page.get("columnMappings"))
        kind = self._portal.type(str(mapped[0].get("columnObjectTypeId")) if mapped else "")
        columns = [_column(kind, entry) for entry in mapped]
        rows = list(csv.reader(io.StringIO(parts["files"].decode("utf-8", "replace"), newline="")))
        operation = str(mapping(asked.get("importOperations")).get(kind.type_id) or "UPSERT")
        import_id, name = str(1 + len(self._imports)), str(asked.get("name") or "")
        if page.get("hasHeader", True):
            rows = rows[1:]
        made = Import(import_id, name, kind, operation, columns, rows, self._portal.clock.iso(), asked)
        self._imports[import_id] = made
        return made

    def _advance(self, chosen: Import) -> None:
        if chosen.state == "PROCESSING":
            self._work(chosen)
        if chosen.state in STATES[:2]:
            chosen.state = STATES[STATES.index(chosen.state) + 1]

    def _work(self, chosen: Import) -> None:
        saver = Saver(self._portal, chosen.kind)
        header = int(mapping(mappings(chosen.request.get("files"))[0].get("fileImportPage")).get("hasHeader", True))
        for line, row in enumerate(chosen.rows, start=1 + header):
            chosen.counters["TOTAL_ROWS"] += 1
            try:
                if len(row) != len(chosen.columns):
                    raise RowError("INCORRECT_NUMBER_OF_COLUMNS", f"{len(row)} columns, {len(chosen.columns)} mapped")
                chosen.counters[self._save(chosen, row, saver)] += 1
            except RowError as error:
                chosen.counters["ERRORS"] += 1
                chosen.errors += self._told(chosen, line, row, error)
        self._portal.ledger.add("hubspot", chosen.kind.name, saver.writes)

    def _save(self, chosen: Import, row: list[str], saver: Saver) -> str:
        """Saves a line and says which counter it moves. An empty cell leaves its property alone."""
        kind, found = chosen.kind, None
        values: dict[str, Any] = {}
        for column, cell in zip(chosen.columns, row, strict=True):
            if column.column_type == "HUBSPOT_OBJECT_ID":
                found = kind.resolve(cell)
            elif cell:
                values[column.property] = cell
            if column.column_type == "HUBSPOT_ALTERNATE_ID" and cell:
                found = found or kind.find(column.property, cell)
        if found is not None and chosen.operation != "CREATE":
            saver.update(found, values)
            return "UPDATED_OBJECTS"
        if chosen.operation == "UPDATE":
            raise RowError("OBJECT_NOT_FOUND", f"No {kind.singular} was found for this row")
        saver.create(values)
        return "CREATED_OBJECTS"

    def _told(self, chosen: Import, line: int, row: list[str], error: RowError) -> list[Body]:
        """A line's errors, one for each bad value."""
        names = [column.property for column in chosen.columns]
        base: Body = {
            "createdAt": int(self._portal.clock.now() * 1000),
            "objectType": chosen.kind.singular,
            "objectTypeId": chosen.kind.type_id,
            "sourceData": {
                "lineNumber": line,
                "rowData": row,
                "fileId": int(chosen.id),
                "pageName": None,
                "containsEncryptedProperties": False,
            },
        }
        told: list[Body] = [{"errorType": error.category, "errorMessage": error.message}]
        if isinstance(error, InvalidValues):
            told = [
                {
                    "errorType": ERROR_TYPES.get(problem["error"], "UNKNOWN_ERROR"),
                    "errorMessage": problem["message"],
                    "invalidValue": problem["propertyValue"],
                    "knownColumnNumber": names.index(problem["name"]),
                }
                for problem in error.problems
            ]
        first = len(chosen.errors) + 1
        return [base | entry | {"id": str(number)} for number, entry in enumerate(told, start=first)]


def _parsed(text: bytes) -> Body:
    try:
        return mapping(orjson.loads(text))
    except orjson.JSONDecodeError:
        raise Refusal(400, "Invalid input JSON: importRequest is not an object", "VALIDATION_ERROR") from None


def _column(kind: ObjectType, entry: Body) -> Column:
    name, column_type = str(entry.get("propertyName") or ""), str(entry.get("columnType") or "STANDARD")
    if name not in kind.properties and column_type != "HUBSPOT_OBJECT_ID":
        raise Refusal(400, f'Property "{name}" does not exist', "VALIDATION_ERROR")
    if column_type == "HUBSPOT_ALTERNATE_ID" and name not in kind.unique:
        raise Refusal(400, f'Property "{name}" is not unique', "VALIDATION_ERROR")
    return Column(str(entry.get("columnName") or ""), name, column_type)
