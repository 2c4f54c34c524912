"""Running a parsed statement over the records, and handing its result out in pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from reverse_etl.sandbox.messages import Request, Response, json_response
from reverse_etl.sandbox.salesforce.errors import Refusal, no_column
from reverse_etl.sandbox.salesforce.fields import NUMBER_TYPES, Field
from reverse_etl.sandbox.salesforce.org import Org, SObject, make_id, read_id
from reverse_etl.sandbox.salesforce.records import attributes
from reverse_etl.sandbox.salesforce.soql import Condition, Group, Literal, Order, Statement, malformed, parse

JSON = "application/json;charset=UTF-8"
PAGE = 2000
LEAST_PAGE = 200
BATCH_SIZE = re.compile(r"batchSize=(\d+)")

Values = dict[str, Any]
Test = Callable[[str, Values], bool]
Reader = Callable[[str, Values], Any]


class Queries:
    def __init__(self, org: Org) -> None:
        self._org = org
        self._cursors: dict[str, tuple[Statement, list[str], int]] = {}

    def answer(self, request: Request, *, deleted: bool) -> Response:
        """`GET /query?q=`: the first page."""
        statement = parse(request.query.get("q", ""))
        ids = self.find(statement, deleted=deleted)
        if statement.count:
            return json_response(200, {"totalSize": len(ids), "done": True, "records": []}, content_type=JSON)
        size = BATCH_SIZE.search(request.headers.get("sforce-query-options", ""))
        page = max(LEAST_PAGE, min(PAGE, int(size[1]))) if size else PAGE
        locator = make_id("01g", len(self._cursors) + 1)
        if len(ids) > page:
            self._cursors[locator] = (statement, ids, page)
        return self._page(request, locator, (statement, ids, page), 0)

    def more(self, request: Request, locator: str) -> Response:
        """`GET /query/LOCATOR-N`: a further page."""
        name, _, start = locator.partition("-")
        held = self._cursors.get(name)
        if held is None or not start.isdigit():
            raise Refusal(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
        return self._page(request, name, held, int(start))

    def find(self, statement: Statement, *, deleted: bool = False) -> list[str]:
        """Ids of the records that match, in order."""
        sobject = self._object(statement)
        self.readers(statement)
        test = self._test(sobject, statement.where, statement) if statement.where else None
        hits = [
            (record_id, values)
            for record_id, values in self._candidates(sobject, statement, deleted=deleted)
            if test is None or test(record_id, values)
        ]
        for order in reversed(statement.order):
            _sort(hits, order, self._reader(sobject, order.path))
        stop = None if statement.limit is None else statement.offset + statement.limit
        return [record_id for record_id, _ in hits[statement.offset : stop]]

    def readers(self, statement: Statement) -> list[tuple[str, Reader]]:
        """The selected paths with what reads each; raises for one that doesn't exist."""
        sobject = self._object(statement)
        return [(path, self._reader(sobject, path)) for path in statement.fields]

    def values(self, statement: Statement, record_id: str) -> Values:
        sobject = self._object(statement)
        return sobject.table.get(record_id) or sobject.table.removed(record_id) or {}

    def _page(self, request: Request, locator: str, result: tuple[Statement, list[str], int], start: int) -> Response:
        statement, ids, page = result
        version = request.notes["version"]
        sobject = self._object(statement)
        chosen = ids[start : start + page]
        records = [self._shown(sobject, statement, record_id, version) for record_id in chosen]
        answer: dict[str, Any] = {"totalSize": len(ids), "done": start + page >= len(ids), "records": records}
        if not answer["done"]:
            answer["nextRecordsUrl"] = f"/services/data/{version}/query/{locator}-{start + page}"
        return json_response(200, answer, content_type=JSON, rows=len(records))

    def _shown(self, sobject: SObject, statement: Statement, record_id: str, version: str) -> Values:
        values = self.values(statement, record_id)
        shown = attributes(sobject, record_id, version)
        for path in statement.fields:
            first, _, rest = path.partition(".")
            if not rest:
                field = sobject.field(path)
                assert field is not None  # noqa: S101  # the paths were checked before
                shown[field.name] = sobject.value(record_id, values, field)
                continue
            relation = sobject.by_relation[first.lower()]
            parent_id = sobject.value(record_id, values, relation)
            parent = self._org.of_id(parent_id) if parent_id else None
            if parent is None:
                shown[relation.relationship or first] = None
                continue
            field = parent.field(rest)
            held = shown.setdefault(relation.relationship or first, attributes(parent, parent_id, version))
            if field is not None and held is not None:
                held[field.name] = parent.value(parent_id, parent.table.get(parent_id) or {}, field)
        return shown

    def _object(self, statement: Statement) -> SObject:
        try:
            return self._org.object(statement.object)
        except Refusal:
            message = f"sObject type '{statement.object}' is not supported."
            raise Refusal(400, "INVALID_TYPE", message) from None

    def _candidates(self, sobject: SObject, statement: Statement, *, deleted: bool) -> Iterator[tuple[str, Values]]:
        """Records that may match: by an index where a condition allows it, else all."""
        parts = statement.where.parts if isinstance(statement.where, Group) else [statement.where]
        if isinstance(statement.where, Group) and statement.where.word != "AND":
            parts = []
        for part in parts:
            if isinstance(part, Condition) and part.operator in ("=", "IN") and not deleted:
                ids = _by_index(sobject, part)
                if ids is not None:
                    for record_id in dict.fromkeys(ids):
                        values = sobject.table.get(record_id)
                        if values is not None:
                            yield record_id, values
                    return
        yield from sobject.table.items()
        if deleted:
            for record_id, values in sobject.table.removed_items():
                yield record_id, {**values, "IsDeleted": True}

    def _reader(self, sobject: SObject, path: str) -> Reader:
        first, _, rest = path.partition(".")
        if not rest:
            field = sobject.field(path)
            if field is None or field.type == "address":
                raise no_column(path, sobject.name)
            return lambda record_id, values: sobject.value(record_id, values, field)
        relation = sobject.by_relation.get(first.lower())
        if relation is None:
            raise Refusal(400, "INVALID_FIELD", f"Didn't understand relationship '{first}' in field path.")
        target, target_field = self._parent_field(relation, rest)

        def read(record_id: str, values: Values) -> Any:
            parent_id = sobject.value(record_id, values, relation)
            parent = target.table.get(parent_id) if parent_id else None
            return None if parent is None else target.value(parent_id, parent, target_field)

        return read

    def _parent_field(self, relation: Field, rest: str) -> tuple[SObject, Field]:
        target = self._org.object(relation.reference_to[-1])
        field = target.field(rest)
        if field is None:
            raise no_column(rest, target.name)
        return target, field

    def _field(self, sobject: SObject, path: str) -> Field:
        first, _, rest = path.partition(".")
        if rest:
            return self._parent_field(sobject.by_relation[first.lower()], rest)[1]
        field = sobject.field(path)
        if field is None:
            raise no_column(path, sobject.name)
        return field

    def _test(self, sobject: SObject, where: Condition | Group, statement: Statement) -> Test:
        if isinstance(where, Group):
            tests = [self._test(sobject, part, statement) for part in where.parts]
            if where.word == "NOT":
                return lambda record_id, values: not tests[0](record_id, values)
            joined = all if where.word == "AND" else any
            return lambda record_id, values: joined(test(record_id, values) for test in tests)
        read = self._reader(sobject, where.path)
        field = self._field(sobject, where.path)
        _check_kinds(field, where, statement)
        wanted = [_literal(field, literal) for literal in where.values]
        compare = COMPARISONS[where.operator]
        return lambda record_id, values: compare(_comparable(field, read(record_id, values)), wanted)


def _by_index(sobject: SObject, condition: Condition) -> list[str] | None:
    field = sobject.field(condition.path)
    if field is None or any(literal.kind != "text" for literal in condition.values):
        return None
    if field.name == "Id":
        return [found for literal in condition.values if (found := read_id(literal.value))]
    if not (field.id_lookup and field.is_text):
        return None
    return [record_id for literal in condition.values for record_id in sobject.table.find(field.name, literal.value)]


def _check_kinds(field: Field, condition: Condition, statement: Statement) -> None:
    """A number for a text field, or the reverse, is an error and not a miss."""
    needed = {"boolean": {"boolean"}, "date": {"date"}, "datetime": {"datetime", "date"}}.get(field.type)
    if needed is None:
        needed = {"number"} if field.type in NUMBER_TYPES | {"int"} else {"text"}
    for literal in condition.values:
        if literal.kind not in needed | {"null"}:
            quoted = " and should be enclosed in quotes" if needed == {"text"} else ""
            kind = "string" if needed == {"text"} else field.type
            refusal = malformed(
                statement.text,
                condition.place,
                f"value of filter criterion for field '{condition.path}' must be of type {kind}{quoted}",
            )
            refusal.body[0]["errorCode"] = "INVALID_FIELD"
            raise refusal


def _literal(field: Field, literal: Literal) -> Any:
    return _comparable(field, literal.value)


def _comparable(field: Field, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    if field.type == "datetime":
        moment = datetime.fromisoformat(text)
        return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).timestamp()
    if field.type in ("id", "reference"):
        return read_id(text) or text
    return text if field.case_sensitive else text.lower()


def _like(value: Any, wanted: list[Any]) -> bool:
    parts = ["." if char == "_" else ".*" if char == "%" else re.escape(char) for char in str(wanted[0])]
    return value is not None and re.fullmatch("".join(parts), str(value), re.DOTALL) is not None


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, list[Any]], bool]:
    return lambda value, wanted: value is not None and wanted[0] is not None and compare(value, wanted[0])


COMPARISONS: dict[str, Callable[[Any, list[Any]], bool]] = {
    "=": lambda value, wanted: bool(value == wanted[0]),
    "!=": lambda value, wanted: bool(value != wanted[0]),
    "IN": lambda value, wanted: value in wanted,
    "NOT IN": lambda value, wanted: value not in wanted,
    "LIKE": _like,
    "<": _ordered(lambda value, bound: bool(value < bound)),
    "<=": _ordered(lambda value, bound: bool(value <= bound)),
    ">": _ordered(lambda value, bound: bool(value > bound)),
    ">=": _ordered(lambda value, bound: bool(value >= bound)),
}


def _sort(hits: list[tuple[str, Values]], order: Order, read: Reader) -> None:
    def key(hit: tuple[str, Values]) -> Any:
        value = read(*hit)
        return value.lower() if isinstance(value, str) else value

    nulls = [hit for hit in hits if read(*hit) is None]
    rest = sorted((hit for hit in hits if read(*hit) is not None), key=key, reverse=order.descending)
    hits[:] = [*rest, *nulls] if order.nulls_last or order.descending else [*nulls, *rest]
