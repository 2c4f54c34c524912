"""Saving one record, in the order the platform checks it: columns, kind, required, length, lookups, unique values."""

from __future__ import annotations

from typing import Any

from reverse_etl.sandbox.salesforce import values as checks
from reverse_etl.sandbox.salesforce.duplicates import defend
from reverse_etl.sandbox.salesforce.errors import RowError, Unparsable, no_column
from reverse_etl.sandbox.salesforce.fields import Field
from reverse_etl.sandbox.salesforce.org import DuplicateRule, Org, SObject, read_id

SECURITY = (
    "Please check the security settings of this field and verify that it is read/write for your profile or "
    "permission set."
)

Row = dict[str, Any]  # by field name
Parents = dict[str, tuple[SObject, Field, Any]]  # by the reference field's name: object, its key field, key


class ParsedRow:
    """A row whose columns exist and whose values are of their fields' kinds; nothing else is known of it yet."""

    __slots__ = ("parents", "unparsable", "values")

    def __init__(self, values: Row, parents: Parents, unparsable: Unparsable | None = None) -> None:
        self.values = values
        self.parents = parents
        self.unparsable = unparsable


def parse_row(org: Org, sobject: SObject, row: dict[str, Any]) -> ParsedRow:
    """Raises the whole request's refusal for an unknown column or a value of another kind."""
    values: Row = {}
    parents: Parents = {}
    for name, value in row.items():
        if name in ("attributes", "id", "Id"):
            continue
        field = sobject.field(name)
        if field is not None:
            try:
                values[field.name] = checks.parse(field, value)
            except Unparsable as unparsable:
                raise unparsable.refusal() from None
            continue
        relation = sobject.by_relation.get(name.lower())
        if relation is None or not isinstance(value, dict):
            raise no_column(name, sobject.name)
        parent = _parent(org, sobject, relation, value)
        if parent is not None:
            parents[relation.name] = parent
    return ParsedRow(values, parents)


def attribute(row: dict[str, Any], name: str) -> Any:
    """What a record's `attributes` say under that name."""
    attributes = row.get("attributes")
    return attributes.get(name) if isinstance(attributes, dict) else None


def _parent(org: Org, sobject: SObject, relation: Field, value: dict[str, Any]) -> tuple[SObject, Field, Any] | None:
    """What a nested `"Account": {"External_Id__c": "a-9"}` points at."""
    target = org.objects.get(str(attribute(value, "type") or relation.reference_to[-1]))
    if target is None:
        raise no_column(f"{relation.relationship}", sobject.name)
    for name, key in value.items():
        if name == "attributes":
            continue
        field = target.field(name)
        if field is None or not (field.id_lookup or field.name == "Id"):
            raise no_column(name, target.name)
        return target, field, key
    return None


class Saver:
    """The changes of one request or chunk; `undo` takes all of them back.

    `rule`: the duplicate rule that binds them, if one does.
    """

    def __init__(self, org: Org, sobject: SObject, rule: DuplicateRule | None = None) -> None:
        self._org = org
        self._sobject = sobject
        self._rule = rule
        org.remember(self.undo)
        self._now = org.now()
        self._undo: list[tuple[str, dict[str, Any] | None]] = []
        self.writes: list[tuple[str, str, Any]] = []

    def create(self, row: ParsedRow) -> str:
        sobject = self._sobject
        self._writable(row, creating=True)
        given = {*row.parents, *(name for name, value in row.values.items() if value is not None)}
        missing = [field.name for field in sobject.fields.values() if field.required and field.name not in given]
        if missing:
            raise RowError("REQUIRED_FIELD_MISSING", f"Required fields are missing: [{', '.join(missing)}]", missing)
        values = self._checked(row, None)
        for field in sobject.fields.values():
            if field.default is not None and field.type != "boolean":
                values.setdefault(field.name, field.default)
        record_id = sobject.new_id()
        sent = dict(values)
        stored = {name: value for name, value in values.items() if value is not None and value is not False}
        stored |= {"CreatedDate": self._now, "LastModifiedDate": self._now}
        sobject.table.put(record_id, stored, None)
        self._undo.append((record_id, None))
        self.writes.append(("create", record_id, sent))
        return record_id

    def update(self, record_id: str, row: ParsedRow) -> str:
        sobject = self._sobject
        before = sobject.table.get(record_id)
        assert before is not None  # noqa: S101  # callers look the record up first
        if before.get("IsConverted"):
            raise RowError("CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead")
        self._writable(row, creating=False)
        emptied = [
            name
            for name, value in row.values.items()
            if value is None and not sobject.fields[name].nillable and sobject.fields[name].type != "boolean"
        ]
        if emptied:
            raise RowError("REQUIRED_FIELD_MISSING", f"Required fields are missing: [{', '.join(emptied)}]", emptied)
        sent = self._checked(row, record_id)
        after = {**before, **sent, "LastModifiedDate": self._now}
        stored = {name: value for name, value in after.items() if value is not None and value is not False}
        sobject.table.put(record_id, stored, before)
        self._undo.append((record_id, before))
        self.writes.append(("update", record_id, sent))
        return record_id

    def delete(self, record_id: str) -> None:
        before = self._sobject.table.get(record_id)
        self._sobject.table.remove(record_id)
        self._undo.append((record_id, before))
        self.writes.append(("delete", record_id, None))

    def undo(self) -> None:
        table = self._sobject.table
        for record_id, before in reversed(self._undo):
            if before is None:
                table.remove(record_id, keep=False)
            else:
                table.put(record_id, before, table.get(record_id))
        self._undo.clear()
        self.writes.clear()

    def _writable(self, row: ParsedRow, *, creating: bool) -> None:
        fields = self._sobject.fields
        locked = [
            name
            for name in [*row.values, *row.parents]
            if not (fields[name].createable if creating else fields[name].updateable)
        ]
        if locked:
            raise RowError(
                "INVALID_FIELD_FOR_INSERT_UPDATE",
                f"Unable to create/update fields: {', '.join(locked)}. {SECURITY}",
                locked,
            )

    def _checked(self, row: ParsedRow, record_id: str | None) -> dict[str, Any]:
        """The values by field name, lookups resolved; raises what is wrong with them."""
        sobject = self._sobject
        if row.unparsable is not None:
            raise row.unparsable.row_error()
        values: dict[str, Any] = {}
        for name, value in row.values.items():
            field = sobject.fields[name]
            if value is None and field.type == "boolean":
                raise RowError(
                    "INVALID_TYPE_ON_FIELD_IN_RECORD", f"{field.label}: value not of required type: null", [name]
                )
            if value is not None:
                checks.check(field, value)
            values[name] = self._reference(field, value) if field.type == "reference" and value else value
        for name, (target, key, value) in row.parents.items():
            values[name] = self._lookup(target, key, value)
        self._defend(values, record_id)
        if self._rule is not None:
            defend(sobject, self._rule, values, record_id)
        return values

    def _reference(self, field: Field, value: str) -> str:
        whole = read_id(value)
        targets = [self._org.objects[name] for name in field.reference_to if name in self._org.objects]
        target = next((kind for kind in targets if whole and whole.startswith(kind.prefix)), None)
        if whole is None or target is None:
            raise RowError("MALFORMED_ID", f"{field.label}: id value of incorrect type: {value}", [field.name])
        if whole not in target.table:
            raise RowError("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
        return whole

    def _lookup(self, target: SObject, key: Field, value: Any) -> str:
        found = [str(value)] if key.name == "Id" else target.table.find(key.name, value) if value else []
        if len(found) == 1 and found[0] in target.table:
            return found[0]
        if len(found) > 1:
            raise RowError(
                "DUPLICATE_EXTERNAL_ID",
                f"{key.name}: more than one record found for external id field: [{', '.join(found)}]",
            )
        shown = f"{value} not found for field {key.name} in entity {target.name}" if value else "not found"
        raise RowError("INVALID_FIELD", f"Foreign key external ID: {shown}")

    def _defend(self, values: dict[str, Any], record_id: str | None) -> None:
        for name, value in values.items():
            if value is None or not self._sobject.fields[name].unique:
                continue
            owner = next((other for other in self._sobject.table.find(name, value) if other != record_id), None)
            if owner is not None:
                raise RowError(
                    "DUPLICATE_VALUE",
                    f"duplicate value found: {name} duplicates value on record with id: {owner[:15]}",
                )
