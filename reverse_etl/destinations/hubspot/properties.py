"""New properties: what one for a field would look like, and the calls that make them.

Each is made by a call of its own, so that every refusal surely is about the property it stands beside. `hasUniqueValue`
can only be set when a property is made (https://developers.hubspot.com/docs/api-reference/latest/crm/properties/guide,
read 2026-11).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from reverse_etl.destinations.hubspot.errors import Refused, listed, refusal
from reverse_etl.destinations.hubspot.paths import Paths
from reverse_etl.destinations.hubspot.schema import STANDARD, field_of
from reverse_etl.http import Http
from reverse_etl.model import Field, FieldType
from reverse_etl.protocols import NewField
from reverse_etl.verdicts import Refusal

NAME = re.compile(r"[a-z][a-z0-9_]*")
MOST_NAME_CHARACTERS = 100

# Where people look for a property first; an account may have renamed or removed such a group.
_GROUPS = {
    "contacts": "contactinformation",
    "companies": "companyinformation",
    "deals": "dealinformation",
    "tickets": "ticketinformation",
    "products": "productinformation",
}
_BY_TYPE_ID = {STANDARD[name]: group for name, group in _GROUPS.items()}

# HubSpot's `type` and `fieldType`; what isn't listed travels as text.
_SHAPES = {
    FieldType.NUMBER: ("number", "number"),
    FieldType.BOOLEAN: ("bool", "booleancheckbox"),
    FieldType.DATE: ("date", "date"),
    FieldType.DATETIME: ("datetime", "date"),
}
_TEXT = ("string", "text")
_YES_AND_NO = (
    {"label": "Yes", "value": "true", "displayOrder": 0, "hidden": False},
    {"label": "No", "value": "false", "displayOrder": 1, "hidden": False},
)


async def draft(http: Http, paths: Paths, type: str, fields: Sequence[Field]) -> list[NewField]:
    """These fields as properties; writes nothing."""
    answer = await http.send("GET", paths.properties(type), params={"archived": "false"}, idempotent=True)
    group = _group(type, listed(answer))
    return [_draft(field, group) for field in fields]


async def make(http: Http, paths: Paths, type: str, fields: Sequence[NewField]) -> dict[str, Refusal]:
    """Makes the properties one by one; the refused ones by name."""
    refused: dict[str, Refusal] = {}
    for field in fields:
        try:
            await http.send("POST", paths.properties(type), json=_body(field), idempotent=False)
        except Refused as failure:
            refused[field.name] = refusal(failure.body, request=failure.request_id)
    return refused


def _draft(field: Field, group: str) -> NewField:
    type, control = _SHAPES.get(field.type, _TEXT)
    return NewField(
        name=field.name,
        label=field.name.replace("_", " ").strip().capitalize(),
        type=type,
        control=control,
        group=group,
        unique=field.identifies,
        impossible=_impossible(field.name),
    )


def _impossible(name: str) -> str | None:
    if NAME.fullmatch(name) and len(name) <= MOST_NAME_CHARACTERS:
        return None
    return (
        "HubSpot's names are small letters a-z, digits and `_`, begin with a letter and have at most "
        f"{MOST_NAME_CHARACTERS} characters"
    )


def _group(type: str, properties: Sequence[Mapping[str, Any]]) -> str:
    """The group that new properties go to: the object's main one, else where most of the writable ones are."""
    groups = Counter(
        str(each["groupName"])
        for each in properties
        if each.get("name") and each.get("groupName") and field_of(each, type).read_only is None
    )
    main = _GROUPS.get(type) or _BY_TYPE_ID.get(type)
    if main is not None and (main in groups or not groups):
        return main
    return groups.most_common(1)[0][0] if groups else f"{type}_information"


def _body(field: NewField) -> dict[str, Any]:
    return {
        "name": field.name,
        "label": field.label,
        "groupName": field.group,
        "type": field.type,
        "fieldType": field.control,
        "hasUniqueValue": field.unique,
        "options": list(_YES_AND_NO) if field.control == "booleancheckbox" else [],
    }
