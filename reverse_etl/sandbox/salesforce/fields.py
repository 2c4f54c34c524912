"""Field definitions, as describe shows them and as values are checked against them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

TYPE = re.compile(r"(\w+)(?:\((\d+)(?:,(\d+))?\))?")
TEXT_TYPES = frozenset(
    {"string", "textarea", "phone", "url", "email", "picklist", "multipicklist", "combobox", "encryptedstring"}
)
NUMBER_TYPES = frozenset(["double", "currency", "percent"])
SOAP_TYPES = {
    "boolean": "xsd:boolean",
    "int": "xsd:int",
    "double": "xsd:double",
    "currency": "xsd:double",
    "percent": "xsd:double",
    "date": "xsd:date",
    "datetime": "xsd:dateTime",
    "time": "xsd:time",
    "id": "tns:ID",
    "reference": "tns:ID",
    "address": "urn:address",
}


@dataclass(slots=True)
class Field:
    name: str
    label: str
    type: str
    length: int = 0
    precision: int = 0
    scale: int = 0
    digits: int = 0
    createable: bool = True
    updateable: bool = True
    nillable: bool = True
    default: Any = None
    defaulted: bool = False
    id_lookup: bool = False
    external_id: bool = False
    unique: bool = False
    case_sensitive: bool = False
    calculated: bool = False
    restricted: bool = False
    picklist: list[str] = field(default_factory=list)
    reference_to: list[str] = field(default_factory=list)
    relationship: str | None = None

    @property
    def custom(self) -> bool:
        return self.name.endswith("__c")

    @property
    def is_text(self) -> bool:
        return self.type in TEXT_TYPES

    @property
    def required(self) -> bool:
        return not self.nillable and self.createable and not self.defaulted

    def document(self) -> dict[str, Any]:
        """As an element of describe's `fields`."""
        return self._main() | {
            "aggregatable": self.type not in ("textarea", "address"),
            "autoNumber": False,
            "byteLength": self.length * 3,
            "calculatedFormula": None,
            "cascadeDelete": False,
            "compoundFieldName": None,
            "controllerName": None,
            "defaultValueFormula": None,
            "dependentPicklist": False,
            "deprecatedAndHidden": False,
            "displayLocationInDecimal": self.type == "double" and self.scale == 15,
            "encrypted": False,
            "extraTypeInfo": None,
            "filterable": self.length < 4000 and self.type != "address",
            "filteredLookupInfo": None,
            "groupable": self.length < 4000 and self.type not in NUMBER_TYPES,
            "highScaleNumber": False,
            "htmlFormatted": False,
            "inlineHelpText": None,
            "mask": None,
            "maskType": None,
            "nameField": self.name == "Name",
            "permissionable": self.nillable and self.createable,
            "queryByDistance": False,
            "referenceTargetField": None,
            "relationshipOrder": None,
            "restrictedDelete": False,
            "searchPrefilterable": self.type == "reference",
            "sortable": self.length < 4000 and self.type != "address",
            "writeRequiresMasterRead": False,
        }

    def _main(self) -> dict[str, Any]:
        polymorphic = len(self.reference_to) > 1
        return {
            "name": self.name,
            "label": self.label,
            "type": self.type,
            "soapType": SOAP_TYPES.get(self.type, "xsd:string"),
            "length": self.length,
            "precision": self.precision,
            "scale": self.scale,
            "digits": self.digits,
            "createable": self.createable,
            "updateable": self.updateable,
            "nillable": self.nillable,
            "defaultedOnCreate": self.defaulted,
            "defaultValue": False if self.type == "boolean" and self.defaulted else None,
            "calculated": self.calculated,
            "custom": self.custom,
            "externalId": self.external_id,
            "idLookup": self.id_lookup,
            "unique": self.unique,
            "caseSensitive": self.case_sensitive,
            "restrictedPicklist": self.restricted,
            "picklistValues": [
                {
                    "active": True,
                    "defaultValue": value == self.default,
                    "label": value,
                    "validFor": None,
                    "value": value,
                }
                for value in self.picklist
            ],
            "referenceTo": self.reference_to,
            "relationshipName": self.relationship,
            "namePointing": polymorphic,
            "polymorphicForeignKey": polymorphic,
        }


def parse(lines: str) -> Iterator[Field]:
    """The fields of a catalog text; its module says how a line is made."""
    for line in lines.splitlines():
        if line.strip():
            name, label, kind, *flags = (part.strip() for part in line.split("|"))
            yield make(name, label, kind, flags[0] if flags else "")


def make(name: str, label: str, kind: str, flags: str) -> Field:
    """A field from the parts of a catalog line; raises ValueError for a type that can't be read."""
    shape = TYPE.fullmatch(kind)
    if shape is None:
        raise ValueError(f"field {name}: {kind!r} is not a type")
    made = Field(name, label, shape[1])
    first, second = int(shape[2] or 0), int(shape[3] or 0)
    if made.type in NUMBER_TYPES:
        made.precision, made.scale = first or 18, second
    elif made.type == "int":
        made.digits = first or 9
    else:
        made.length = first
    for flag in (part.strip() for part in flags.split(";")):
        _set(made, *flag.split("=", 1))
    return made


SWITCHES: dict[str, dict[str, Any]] = {
    "": {},
    "ro": {"createable": False, "updateable": False},
    "c": {"updateable": False},
    "req": {"nillable": False},
    "lookup": {"id_lookup": True},
    "ext": {"external_id": True, "id_lookup": True},
    "unique": {"unique": True},
    "case": {"case_sensitive": True},
    "calc": {"calculated": True},
    "restricted": {"restricted": True},
}


def _set(made: Field, flag: str, value: str = "") -> None:
    if flag == "def":
        made.defaulted = True
        made.default = False if made.type == "boolean" else value or None
    elif flag == "pick":
        made.picklist = value.split(",")
    elif flag == "ref":
        targets, _, relationship = value.rstrip(")").partition("(")
        made.reference_to, made.relationship = targets.split(","), relationship
    elif flag in SWITCHES:
        for name, setting in SWITCHES[flag].items():
            setattr(made, name, setting)
    else:
        raise ValueError(f"field {made.name}: unknown flag {flag!r}")
