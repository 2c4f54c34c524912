"""sObject Collections: up to 200 records a call, a result for each, in the order of the request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from reverse_etl.sandbox.faults import Fault
from reverse_etl.sandbox.messages import MalformedBody, Request, Response, json_response
from reverse_etl.sandbox.salesforce.duplicates import saves_duplicates
from reverse_etl.sandbox.salesforce.errors import Refusal, RowError
from reverse_etl.sandbox.salesforce.org import Org, SObject, read_id
from reverse_etl.sandbox.salesforce.records import external_field, keyed, record
from reverse_etl.sandbox.salesforce.saving import ParsedRow, Saver, attribute, parse_row

MOST = 200
MOST_READ = 2000
JSON = "application/json;charset=UTF-8"
ROLLED_BACK = "Record rolled back because not all records were valid and the request was using AllOrNone header"

Result = dict[str, Any]


def json_body(request: Request) -> dict[str, Any]:
    """The body as a JSON object; raises the 400 for anything else."""
    try:
        body = request.json()
    except MalformedBody as error:
        raise Refusal(400, "JSON_PARSER_ERROR", f"{error}") from None
    if not isinstance(body, dict):
        raise Refusal(400, "JSON_PARSER_ERROR", "Unexpected value: the body must be an object")
    return body


class Collections:
    def __init__(self, org: Org) -> None:
        self._org = org

    def upsert(self, name: str, key_name: str, request: Request) -> Response:
        sobject = self._org.object(name)
        key = external_field(sobject, key_name)
        rows, all_or_none = self._rows(request)
        for row in rows:
            if row["attributes"]["type"].lower() != sobject.name.lower():
                raise Refusal(400, "INVALID_TYPE", f"sObject type '{row['attributes']['type']}' is not supported.")
            if "id" in row or "Id" in row:
                raise Refusal(400, "INVALID_FIELD", "only external ids, not record ids, are allowed in an upsert")
        parsed = [parse_row(self._org, sobject, row) for row in rows]
        fold = sobject.fold(key)
        keys = [parsed_row.values.get(key.name) for parsed_row in parsed]
        counts = Counter(fold(value) for value in keys if value is not None)

        def save(position: int, saver: Saver) -> Result:
            value = keys[position]
            if value is not None and counts[fold(value)] > 1:
                raise RowError("DUPLICATE_VALUE", f"Duplicate external id specified: {value}", [key.name])
            record_id, created = keyed(sobject, key, value, parsed[position], saver)
            return {"id": record_id, "success": True, "errors": [], "created": created}

        return self._run([sobject] * len(rows), request, save, all_or_none=all_or_none)

    def insert(self, request: Request) -> Response:
        rows, all_or_none = self._rows(request)
        kinds = [self._kind(row) for row in rows]
        parsed = [parse_row(self._org, kind, row) for kind, row in zip(kinds, rows, strict=True)]

        def save(position: int, saver: Saver) -> Result:
            return {"id": saver.create(parsed[position]), "success": True, "errors": []}

        return self._run(kinds, request, save, all_or_none=all_or_none)

    def update(self, request: Request) -> Response:
        rows, all_or_none = self._rows(request)
        kinds = [self._kind(row) for row in rows]
        parsed = [parse_row(self._org, kind, row) for kind, row in zip(kinds, rows, strict=True)]
        ids = [row.get("id", row.get("Id")) for row in rows]
        counts = Counter(str(record_id)[:15] for record_id in ids if record_id)

        def save(position: int, saver: Saver) -> Result:
            given = ids[position]
            if not given:
                raise RowError("MISSING_ARGUMENT", "Id not specified in an update call", ["Id"])
            if counts[str(given)[:15]] > 1:
                raise RowError("DUPLICATE_VALUE", f"Duplicate id specified: {given}", ["Id"])
            return {"id": update(kinds[position], str(given), parsed[position], saver), "success": True, "errors": []}

        return self._run(kinds, request, save, all_or_none=all_or_none)

    def delete(self, request: Request) -> Response:
        ids = [part.strip() for part in request.query.get("ids", "").split(",") if part.strip()]
        if len(ids) > MOST:
            raise _too_many()
        kinds = [self._org.of_id(record_id) or self._org.object("Account") for record_id in ids]

        def save(position: int, saver: Saver) -> Result:
            return {"id": delete(kinds[position], ids[position], saver), "success": True, "errors": []}

        return self._run(kinds, request, save, all_or_none=request.query.get("allOrNone") == "true")

    def retrieve(self, name: str, request: Request) -> Response:
        sobject = self._org.object(name)
        if request.method == "GET":
            ids, names = request.query.get("ids", "").split(","), request.query.get("fields", "").split(",")
        else:
            body = json_body(request)
            ids, names = _texts(body.get("ids")), _texts(body.get("fields"))
        if len(ids) > MOST_READ:
            raise _too_many(MOST_READ)
        version = request.notes["version"]
        return json_response(
            200,
            [record(sobject, read_id(str(given)), names, version) for given in ids],
            content_type=JSON,
            rows=len(ids),
        )

    def _rows(self, request: Request) -> tuple[list[dict[str, Any]], bool]:
        body = json_body(request)
        rows = body.get("records")
        if not isinstance(rows, list):
            raise Refusal(400, "JSON_PARSER_ERROR", "Unexpected parameter encountered during deserialization")
        if len(rows) > MOST:
            raise _too_many()
        for row in rows:
            if not isinstance(row, dict) or not isinstance(attribute(row, "type"), str):
                raise Refusal(400, "INVALID_INPUT", "Include a type attribute for each record")
        return rows, body.get("allOrNone") is True

    def _kind(self, row: dict[str, Any]) -> SObject:
        try:
            return self._org.object(row["attributes"]["type"])
        except Refusal:
            message = f"sObject type '{row['attributes']['type']}' is not supported."
            raise Refusal(400, "INVALID_TYPE", message) from None

    def _run(
        self,
        kinds: list[SObject],
        request: Request,
        save: Callable[[int, Saver], Result],
        *,
        all_or_none: bool,
    ) -> Response:
        savers = {kind.name: saver_for(self._org, kind, request) for kind in kinds}
        struck = struck_rows(self._org, request, len(kinds))
        results: list[Result] = []
        for position, kind in enumerate(kinds):
            try:
                if position in struck:
                    raise struck[position]
                results.append(save(position, savers[kind.name]))
            except RowError as error:
                results.append(error.result())
        if all_or_none and not all(result["success"] for result in results):
            for saver in savers.values():
                saver.undo()
            results = [_rolled_back(result) if result["success"] else result for result in results]
        for name, saver in savers.items():
            self._org.ledger.add("salesforce", name, saver.writes)
        return json_response(200, results, content_type=JSON, rows=len(results))


def saver_for(org: Org, sobject: SObject, request: Request) -> Saver:
    """A saver under the object's duplicate rule, unless the request may pass it."""
    rule = org.duplicate_rules.get(sobject.name)
    passes = rule is not None and rule.alert and saves_duplicates(request)
    return Saver(org, sobject, None if passes else rule)


def update(sobject: SObject, given: str, row: ParsedRow, saver: Saver) -> str:
    """Updates the record with that id, in its 15 or 18 characters."""
    return saver.update(_existing(sobject, given), row)


def delete(sobject: SObject, given: str, saver: Saver) -> str:
    record_id = _existing(sobject, given)
    saver.delete(record_id)
    return record_id


def _existing(sobject: SObject, given: str) -> str:
    record_id = read_id(given)
    if record_id is None:
        raise RowError("MALFORMED_ID", f"malformed id {given}")
    if record_id in sobject.table:
        return record_id
    if sobject.table.removed(record_id) is not None:
        raise RowError("ENTITY_IS_DELETED", "entity is deleted")
    raise RowError("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")


def struck_rows(org: Org, request: Request, count: int) -> dict[int, RowError]:
    """The rows that ordered faults refuse, by position."""
    struck: dict[int, RowError] = {}
    for fault in [*request.notes.get("refuse", []), *request.notes.get("lock", [])]:
        for position in org.random.sample(range(count), fault.count(count)):
            struck[position] = ordered_error(fault)
    return struck


def ordered_error(fault: Fault) -> RowError:
    """The error of a row that an ordered fault refuses."""
    if fault.kind == "lock":
        lock = "unable to obtain exclusive access to this record or 200 records: 001Sb0000000001"
        return RowError("UNABLE_TO_LOCK_ROW", fault.message or lock)
    return RowError(
        fault.code or "FIELD_CUSTOM_VALIDATION_EXCEPTION", fault.message or "refused by order", fault.fields
    )


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise Refusal(400, "JSON_PARSER_ERROR", "ids and fields must be lists")
    return [str(entry) for entry in value]


def _rolled_back(result: Result) -> Result:
    error = {"statusCode": "ALL_OR_NONE_OPERATION_ROLLED_BACK", "message": ROLLED_BACK, "fields": []}
    return {"id": result["id"], "success": False, "errors": [error]}


def _too_many(most: int = MOST) -> Refusal:
    return Refusal(
        400, "EXCEEDED_ID_LIMIT", f"record limit reached. cannot submit more than {most} records into this call"
    )
