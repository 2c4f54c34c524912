"""One record at a time: by id, by external id, and how a record looks in an answer."""

from __future__ import annotations

from typing import Any

from reverse_etl.sandbox.salesforce.errors import Refusal, RowError, no_column, not_found
from reverse_etl.sandbox.salesforce.fields import Field
from reverse_etl.sandbox.salesforce.org import SObject, read_id
from reverse_etl.sandbox.salesforce.saving import ParsedRow, Saver


def external_field(sobject: SObject, name: str) -> Field:
    """The external id field of that name; the 404 when there is none."""
    field = sobject.field(name)
    if field is None or not field.external_id:
        message = f"Provided external ID field does not exist or is not accessible: {name}"
        raise Refusal(404, "NOT_FOUND", message)
    return field


def keyed(
    sobject: SObject, key: Field, value: Any, row: ParsedRow, saver: Saver, *, update_only: bool = False
) -> tuple[str, bool]:
    """Creates or updates the record with that key; its id, and whether it is new."""
    if value is None:
        raise RowError("MISSING_ARGUMENT", f"{key.name} not specified", [key.name])
    found = sobject.table.find(key.name, value)
    if len(found) > 1:
        listed = ", ".join(found)
        raise RowError(
            "DUPLICATE_EXTERNAL_ID", f"{key.name}: more than one record found for external id field: [{listed}]"
        )
    if found:
        return saver.update(found[0], row), False
    if update_only:
        raise not_found()
    return saver.create(row), True


def record(sobject: SObject, record_id: str | None, names: list[str] | None, version: str) -> dict[str, Any] | None:
    """A record as reads answer it, None when there is none. Without names, all its fields."""
    values = None if record_id is None else sobject.table.get(record_id)
    if record_id is None or values is None:
        return None
    fields = [_field(sobject, name) for name in names if name] if names else list(sobject.fields.values())
    return attributes(sobject, record_id, version) | {
        field.name: sobject.value(record_id, values, field) for field in fields
    }


def attributes(sobject: SObject, record_id: str, version: str) -> dict[str, Any]:
    url = f"/services/data/{version}/sobjects/{sobject.name}/{record_id}"
    return {"attributes": {"type": sobject.name, "url": url}}


def by_id(sobject: SObject, given: str) -> str:
    """The live record with that id; the error of the single-record calls when there is none."""
    record_id = read_id(given)
    if record_id is None:
        raise Refusal(400, "MALFORMED_ID", f"{sobject.label} ID: id value of incorrect type: {given}", ["Id"])
    if record_id in sobject.table:
        return record_id
    if sobject.table.removed(record_id) is not None:
        raise Refusal(404, "ENTITY_IS_DELETED", "entity is deleted", [])
    raise not_found()


def _field(sobject: SObject, name: str) -> Field:
    field = sobject.field(name.strip())
    if field is None:
        raise no_column(name, sobject.name)
    return field
