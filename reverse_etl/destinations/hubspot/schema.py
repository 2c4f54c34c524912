"""HubSpot's property list as fields, and the names by which an object can be asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from reverse_etl.destinations.hubspot.errors import NotFound, Refused, listed
from reverse_etl.destinations.hubspot.paths import Paths
from reverse_etl.errors import AuthError, DestinationError
from reverse_etl.http import Http
from reverse_etl.model import Field, FieldType, ObjectSchema

MOST_CHARACTERS = 65_536
RECORD_ID = "hs_object_id"
LIFECYCLE = "lifecyclestage"  # a value further back is taken and changes nothing, unless the field was cleared before
CONTACTS = frozenset({"contacts", "0-1"})
MODES = frozenset({"upsert", "update", "insert", "mirror"})
PIPELINES = (("pipeline", "dealstage"), ("hs_pipeline", "hs_pipeline_stage"))
STANDARD = {
    "contacts": "0-1",
    "companies": "0-2",
    "deals": "0-3",
    "tickets": "0-5",
    "products": "0-7",
    "line_items": "0-8",
    "tasks": "0-27",
    "notes": "0-46",
    "meetings": "0-47",
    "calls": "0-48",
    "emails": "0-49",
    "users": "0-115",
    "leads": "0-136",
}
_TYPE_ID = re.compile(r"\d+-\d+")

# What a record of this type can't be created without.
_REQUIRED: dict[str, frozenset[str]] = {
    "deals": frozenset({"dealname", "dealstage"}),
    "tickets": frozenset({"subject", "hs_pipeline_stage"}),
}

_TYPES = {
    "string": FieldType.TEXT,
    "phone_number": FieldType.TEXT,
    "number": FieldType.NUMBER,
    "bool": FieldType.BOOLEAN,
    "date": FieldType.DATE,
    "datetime": FieldType.DATETIME,
}
CHOICE = frozenset({FieldType.CHOICE, FieldType.CHOICES})
_CHOICES = {"checkbox": FieldType.CHOICES, "booleancheckbox": FieldType.BOOLEAN}
_UNWRITABLE = frozenset({"json", "object_coordinates"})


async def resolve(http: Http, paths: Paths, object: str) -> str:
    """The name HubSpot's addresses take. Custom objects are asked for by name, label or fully qualified name."""
    if object in STANDARD or _TYPE_ID.fullmatch(object):
        return object
    for schema in await _custom(http, paths):
        if object.casefold() in {name.casefold() for name in _names(schema)}:
            return str(schema["objectTypeId"])
    name = object.casefold()  # HubSpot answers to `contact` and `Contacts`, too; what we know goes by the plural
    plurals = (name, f"{name}s", f"{name.removesuffix('y')}ies")
    # a standard object that came after this list, or none: the property list will tell
    return next((plural for plural in plurals if plural in STANDARD), object)


def is_certain(type: str) -> bool:
    """Whether `resolve` knew the name, or only gave it back."""
    return type in STANDARD or _TYPE_ID.fullmatch(type) is not None


async def describe(http: Http, paths: Paths, object: str, type: str, others: Iterable[str] = ()) -> ObjectSchema:
    """The object's fields by the property list; `others` may have been meant by a name that isn't there.

    Raises DestinationError(code="destination_object").
    """
    try:
        answer = await http.send("GET", paths.properties(type), params={"archived": "false"}, idempotent=True)
    except (NotFound, Refused) as refused:
        raise await _unknown(http, paths, object, refused, others) from refused
    properties = [each for each in listed(answer) if each.get("name")]
    fields = {field.name: field for field in (field_of(each, type) for each in properties)}
    fields = await _with_stages(http, paths, type, fields)
    return ObjectSchema(object, fields, id_field=RECORD_ID, modes=MODES, extensible=True)


def field_of(property: Mapping[str, Any], type: str) -> Field:
    """One property of HubSpot's as a field."""
    name = str(property["name"])
    kind = _type_of(property)
    read_only = _read_only(property)
    is_email = name == "email" and type in CONTACTS
    return Field(
        name=name,
        type=FieldType.REFERENCE if name == RECORD_ID else kind,
        label=str(property.get("label") or ""),
        identifies=read_only is None and (is_email or bool(property.get("hasUniqueValue"))),
        folds_case=is_email,
        read_only=read_only,
        required_on_create=name in _REQUIRED.get(type, ()),
        options=_options(property) if kind in CHOICE else None,
        max_length=MOST_CHARACTERS if kind is FieldType.TEXT else None,
        labels=_labels(property) if kind in CHOICE else (),
        one_way=name == LIFECYCLE,
        is_email=is_email,
    )


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like this one."""
    return next(iter(get_close_matches(name, [*known], n=1)), None)


def _type_of(property: Mapping[str, Any]) -> FieldType:
    if property.get("type") == "enumeration":
        return _CHOICES.get(str(property.get("fieldType")), FieldType.CHOICE)
    return _TYPES.get(str(property.get("type")), FieldType.OTHER)


def _read_only(property: Mapping[str, Any]) -> str | None:
    if property.get("name") == RECORD_ID:
        return "it is the record's id"
    if property.get("archived"):
        return "it is archived in HubSpot"
    if property.get("calculated"):
        return "HubSpot calculates it"
    if (property.get("modificationMetadata") or {}).get("readOnlyValue"):
        return "HubSpot sets it"
    if property.get("type") in _UNWRITABLE:
        return f"its type {property['type']} can't be written"
    return None


def _options(property: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The internal values, hidden ones too; None where HubSpot keeps them elsewhere (owners, pipelines)."""
    values = tuple(str(option["value"]) for option in _in_order(property.get("options")))
    return None if property.get("externalOptions") or not values else values


def _labels(property: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    if property.get("externalOptions"):
        return ()
    return tuple((str(option.get("label")), str(option["value"])) for option in _in_order(property.get("options")))


def _in_order(options: Any) -> list[Mapping[str, Any]]:
    """Options as people see them; a negative place is behind all others."""
    present = [option for option in options or [] if option.get("value") is not None]
    places = [option.get("displayOrder") or 0 for option in present]
    order = sorted(range(len(present)), key=lambda at: (places[at] < 0, places[at]))
    return [present[at] for at in order]


async def _with_stages(http: Http, paths: Paths, type: str, fields: dict[str, Field]) -> dict[str, Field]:
    """The fields, with an object's pipelines and their stages as options: HubSpot keeps them beside the properties."""
    names = next(((by, stage) for by, stage in PIPELINES if by in fields and stage in fields), None)
    if names is None or fields[names[1]].options is not None:
        return fields
    try:
        answer = await http.send("GET", paths.pipelines(type), idempotent=True)
    except (NotFound, Refused):
        return fields
    except AuthError as refused:
        if refused.status == 401:
            raise
        return fields  # a token may write deals without seeing their pipelines: HubSpot judges the stages then
    pipelines = [each for each in listed(answer) if each.get("id")]
    stages = [(str(line["id"]), stage) for line in pipelines for stage in line.get("stages") or [] if stage.get("id")]
    if not stages:
        return fields
    by, stage = names
    return fields | {
        by: _with_options(fields[by], pipelines),
        stage: replace(
            _with_options(fields[stage], [each for _, each in stages]),
            allowed_with=(by, tuple((line, str(each["id"])) for line, each in stages)),
        ),
    }


def _with_options(field: Field, options: Sequence[Mapping[str, Any]]) -> Field:
    return replace(
        field,
        options=tuple(dict.fromkeys(str(option["id"]) for option in options)),
        labels=tuple((str(option.get("label")), str(option["id"])) for option in options),
    )


async def _custom(http: Http, paths: Paths) -> list[Mapping[str, Any]]:
    """Schemas of the account's own objects; none where the plan or the token has no custom objects."""
    try:
        answer = await http.send("GET", paths.schemas(), idempotent=True)
    except AuthError as refused:
        if refused.status == 401:
            raise
        return []
    except (NotFound, Refused):
        return []
    return [schema for schema in listed(answer) if schema.get("objectTypeId")]


def _names(schema: Mapping[str, Any]) -> list[str]:
    labels = schema.get("labels") or {}
    told = (schema.get("name"), schema.get("fullyQualifiedName"), labels.get("singular"), labels.get("plural"))
    return [str(name) for name in told if name]


async def _unknown(
    http: Http, paths: Paths, object: str, refused: DestinationError, others: Iterable[str]
) -> DestinationError:
    known = [*STANDARD, *(str(schema.get("name")) for schema in await _custom(http, paths)), *others]
    near = nearest(object, known)
    return DestinationError(
        f"HubSpot has no object {object!r}",
        code="destination_object",
        hint=f"did you mean {near!r}?" if near else f"objects every account has: {', '.join(STANDARD)}",
        status=refused.status,
        request_id=refused.request_id,
    )
