"""Describe: an object's fields in our words.

Fields that the connected user may not see are absent from describe, as if they did not exist. (REST API guide,
"sObject Describe"; SOAP API guide, "DescribeSObjectResult", v62.0, read in 2026.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any
from urllib.parse import quote

from reverse_etl.destinations.salesforce.errors import OBJECT
from reverse_etl.destinations.salesforce.rest import Rest
from reverse_etl.errors import DestinationError, InDoubt
from reverse_etl.model import Field, FieldType, ObjectSchema, Operation

IDENTIFIER = re.compile(r"[A-Za-z]\w*", re.ASCII)

TYPES: Mapping[str, FieldType] = {
    "string": FieldType.TEXT,
    "textarea": FieldType.TEXT,
    "phone": FieldType.TEXT,
    "url": FieldType.TEXT,
    "email": FieldType.TEXT,
    "combobox": FieldType.TEXT,
    "encryptedstring": FieldType.TEXT,
    "picklist": FieldType.CHOICE,
    "multipicklist": FieldType.CHOICES,
    "boolean": FieldType.BOOLEAN,
    "int": FieldType.INTEGER,
    "long": FieldType.INTEGER,
    "double": FieldType.NUMBER,
    "currency": FieldType.NUMBER,
    "percent": FieldType.NUMBER,
    "date": FieldType.DATE,
    "datetime": FieldType.DATETIME,
    "time": FieldType.TIME,
    "reference": FieldType.REFERENCE,
    "id": FieldType.REFERENCE,
}
_NOT_WRITABLE = {
    "address": "made of other fields: map its parts, such as BillingStreet",
    "location": "made of other fields: map its latitude and longitude",
    "base64": "a file, which is not supported",
}
_COUNTED = frozenset({FieldType.TEXT, FieldType.CHOICE})


@dataclass(frozen=True)
class Relation:
    """A lookup field, the name of the relationship it makes, and the objects it may lead to."""

    reference: str
    relationship: str
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Description:
    """An object's schema, and what the connected user may do with its records.

    `relations` stand under the lookup's name and the relationship's, both in lower case; `lookups` are the fields by
    which a link may find a record of this object.
    """

    schema: ObjectSchema
    allowed: frozenset[Operation]
    relations: Mapping[str, Relation] = field(default_factory=dict)
    lookups: frozenset[str] = frozenset()


async def describe(rest: Rest, name: str, object: str) -> Description:
    """The object behind a name in any case; DestinationError(code="destination_object") gives the nearest name."""
    if IDENTIFIER.fullmatch(object) is None:
        raise await _unknown(rest, name, object)
    try:
        answer = await rest.call("GET", f"sobjects/{quote(object, safe='')}/describe")
    except DestinationError as refused:
        if refused.status != 404:
            raise
        raise await _unknown(rest, name, object) from refused
    try:
        return _description(answer.json())
    except (KeyError, TypeError, AttributeError) as unreadable:
        raise InDoubt(
            f"destination {name!r}: {object} was described with something that is not a description",
            code="destination_unreadable",
            request_id=answer.request_id,
        ) from unreadable


def _description(told: Mapping[str, Any]) -> Description:
    fields = [field_of(each) for each in told["fields"]]
    rights = {
        Operation.UPSERT: told.get("createable", True) and told.get("updateable", True),
        Operation.CREATE: told.get("createable", True),
        Operation.UPDATE: told.get("updateable", True),
        Operation.REMOVE: told.get("deletable", True),
    }
    relations = [*_relations(told["fields"])]
    return Description(
        ObjectSchema(told["name"], {field.name: field for field in fields}, id_field="Id"),
        frozenset(operation for operation, right in rights.items() if right),
        {name.lower(): each for each in relations for name in (each.reference, each.relationship)},
        frozenset(each["name"] for each in told["fields"] if each.get("externalId") or each.get("idLookup")),
    )


def _relations(fields: Iterable[Mapping[str, Any]]) -> Iterator[Relation]:
    for told in fields:
        if told["type"] == "reference" and told.get("relationshipName") and told.get("referenceTo"):
            yield Relation(told["name"], told["relationshipName"], tuple(told["referenceTo"]))


def field_of(told: Mapping[str, Any]) -> Field:
    """One field of a describe answer."""
    kind = TYPES.get(told["type"], FieldType.OTHER)
    options = [choice["value"] for choice in told.get("picklistValues") or () if choice.get("active")]
    unique = bool(told.get("unique"))
    nillable = bool(told.get("nillable"))
    read_only = _read_only(told)
    digits, scale = _bounds(told)
    return Field(
        name=told["name"],
        type=kind,
        label=told.get("label") or "",
        identifies=(unique and bool(told.get("externalId"))) or told["type"] == "id",
        folds_case=unique and kind is FieldType.TEXT and not told.get("caseSensitive"),
        read_only=read_only,
        create_only=read_only is None and not told.get("updateable"),
        required_on_create=not nillable and bool(told.get("createable")) and not told.get("defaultedOnCreate"),
        clearable=nillable,
        options=tuple(options) if told.get("restrictedPicklist") else None,
        max_length=told.get("length") or None if kind in _COUNTED else None,
        digits=digits,
        scale=scale,
    )


def _bounds(told: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Digits in all, and after the point."""
    if told["type"] == "int":
        return told.get("digits") or None, 0
    if TYPES.get(told["type"]) is FieldType.NUMBER:
        return told.get("precision") or None, told.get("scale")
    return None, None


def _read_only(told: Mapping[str, Any]) -> str | None:
    """Why a sync can't write the field, None when it can."""
    if told.get("calculated"):
        return "a formula or roll-up, which Salesforce computes"
    if told.get("autoNumber"):
        return "a number that Salesforce assigns"
    if told["type"] in _NOT_WRITABLE:
        return _NOT_WRITABLE[told["type"]]
    creatable, updatable = bool(told.get("createable")), bool(told.get("updateable"))
    if not creatable and not updatable:
        return "set by Salesforce itself, or closed to the connected user by field-level security"
    return None if creatable else "can be set only once a record exists"


async def _unknown(rest: Rest, name: str, object: str) -> DestinationError:
    told = (await rest.call("GET", "sobjects")).json()
    listed = told.get("sobjects") if isinstance(told, dict) else None
    names = {str(each["name"]).lower(): str(each["name"]) for each in listed or () if "name" in each}
    nearest = get_close_matches(object.lower(), names, n=1)
    return DestinationError(
        f"destination {name!r}: there is no object {object!r}, or the connected user may not see it"
        + (f"; did you mean {names[nearest[0]]!r}?" if nearest else ""),
        hint="use the API name (Setup, Object Manager); custom objects end in __c",
        code=OBJECT,
    )
