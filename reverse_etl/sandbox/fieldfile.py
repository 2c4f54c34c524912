"""`--fields FILE`: more fields than the built-in ones, as YAML or JSON.

    hubspot:
      contacts:
        - {name: crm_user_id, type: string, unique: true}
        - {name: tier, type: enumeration, options: [gold, silver]}
        - {name: tags, type: enumeration, field_type: checkbox, options: {a: Label of a, b: Label of b}}
        - {name: score, type: number, calculated: true}
    salesforce:
      Lead:
        - {name: Plan__c, type: picklist, options: [free, pro], restricted: true}
        - {name: Crm_Id__c, type: string, length: 40, external_id: true, unique: true}
        - {name: Amount__c, type: currency, precision: 16, scale: 2, required: true}
        - {name: Partner__c, type: reference, reference_to: [Account], relationship: Partner__r}
      Invoice__c:
        - {name: Number__c, type: string, length: 40, external_id: true, unique: true}

Every field needs a `name` and a `type`. Common: `label`, `options`, `unique`, `read_only`, `calculated`.
HubSpot types are string, number, bool, enumeration, date, datetime, with `field_type`, `group`, `hidden`.
Salesforce types are those of describe, with `length`, `precision`, `scale`, `digits`, `required`, `external_id`,
`case_sensitive`, `restricted`, `create_only`, `reference_to` and `relationship`; an object that isn't there is made
when its name ends in `__c`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from reverse_etl.sandbox.hubspot.app import HubSpot
from reverse_etl.sandbox.hubspot.properties import Property
from reverse_etl.sandbox.salesforce.app import Salesforce
from reverse_etl.sandbox.salesforce.fields import Field, make

COMMON_KEYS = frozenset({"name", "type", "label", "options", "unique", "read_only", "calculated"})
HUBSPOT_KEYS = COMMON_KEYS | {"field_type", "group", "hidden", "description"}
SALESFORCE_KEYS = (
    COMMON_KEYS
    | {"length", "precision", "scale", "digits", "required", "external_id", "case_sensitive", "restricted"}
    | {"reference_to", "relationship", "create_only"}
)
FIELD_TYPES = {"string": "text", "bool": "booleancheckbox", "enumeration": "select", "datetime": "date"}


def add_fields(path: Path, hubspot: HubSpot, salesforce: Salesforce) -> None:
    """Adds the file's fields; raises ValueError that names the file and what is wrong."""
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
        for platform, objects in _mapping(document, "the file").items():
            if platform not in ("hubspot", "salesforce"):
                raise ValueError(f"{platform!r} is neither hubspot nor salesforce")
            for kind, entries in _mapping(objects, platform).items():
                if platform == "salesforce" and kind.endswith("__c") and kind not in salesforce.objects():
                    salesforce.add_object(kind)
                for entry in entries or []:
                    if platform == "hubspot":
                        hubspot.add_field(_known(kind, hubspot.objects()), _property(entry))
                    else:
                        salesforce.add_field(_known(kind, salesforce.objects()), _field(entry))
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def _known(kind: str, kinds: list[str]) -> str:
    if kind not in kinds:
        raise ValueError(f"there is no object {kind!r}; there are {', '.join(kinds)}")
    return kind


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be a mapping")
    return dict(value)


def _checked(given: Any, keys: frozenset[str]) -> dict[str, Any]:
    entry = _mapping(given, "a field")
    unknown = sorted(set(entry) - keys)
    if unknown:
        raise ValueError(f"field {entry.get('name')}: unknown {', '.join(unknown)}; it takes {', '.join(sorted(keys))}")
    if not entry.get("name") or not entry.get("type"):
        raise ValueError(f"a field needs a name and a type: {entry}")
    return entry


def _options(entry: dict[str, Any]) -> dict[str, str]:
    options = entry.get("options") or []
    if isinstance(options, dict):
        return {str(value): str(label) for value, label in options.items()}
    return {str(value): str(value) for value in options}


def _property(entry: Any) -> Property:
    entry = _checked(entry, HUBSPOT_KEYS)
    kind = str(entry["type"])
    options = _options(entry) or ({"true": "True", "false": "False"} if kind == "bool" else {})
    return Property(
        str(entry["name"]),
        str(entry.get("label") or entry["name"]),
        kind,
        str(entry.get("field_type") or FIELD_TYPES.get(kind, kind)),
        str(entry.get("group") or "custom"),
        options,
        read_only=bool(entry.get("read_only")),
        calculated=bool(entry.get("calculated")),
        hidden=bool(entry.get("hidden")),
        unique=bool(entry.get("unique")),
        custom=True,
        description=str(entry.get("description") or ""),
    )


def _field(entry: Any) -> Field:
    entry = _checked(entry, SALESFORCE_KEYS)
    made = make(str(entry["name"]), str(entry.get("label") or entry["name"]), str(entry["type"]), "")
    made.length = int(entry.get("length") or (255 if made.is_text else made.length))
    made.precision = int(entry.get("precision") or made.precision)
    made.scale = int(entry.get("scale") or made.scale)
    made.digits = int(entry.get("digits") or made.digits)
    made.unique = bool(entry.get("unique"))
    made.external_id = made.id_lookup = bool(entry.get("external_id"))
    made.case_sensitive = bool(entry.get("case_sensitive"))
    made.restricted = bool(entry.get("restricted"))
    made.calculated = bool(entry.get("calculated"))
    made.createable = made.updateable = not (entry.get("read_only") or made.calculated)
    made.updateable &= not entry.get("create_only")
    made.nillable = not entry.get("required") and made.type != "boolean"
    made.defaulted = made.type == "boolean"
    made.picklist = list(_options(entry))
    made.reference_to = [str(name) for name in entry.get("reference_to") or []]
    made.relationship = entry.get("relationship")
    return made
