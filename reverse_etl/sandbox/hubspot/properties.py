"""Property definitions, as the property API shows them and as values are checked against them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

MADE_AT = "2019-08-06T02:41:09.377Z"
UPDATED_AT = "2026-01-05T10:00:00.000Z"


@dataclass(slots=True)
class Property:
    name: str
    label: str
    type: str
    field_type: str
    group: str
    options: dict[str, str] = field(default_factory=dict)
    read_only: bool = False
    calculated: bool = False
    hidden: bool = False
    unique: bool = False
    custom: bool = False
    external: str | None = None
    archived: bool = False
    description: str = ""
    made_at: str = MADE_AT

    def document(self) -> dict[str, Any]:
        """As `GET /crm/properties/...` answers it."""
        locked = self.read_only or self.calculated
        return {
            "name": self.name,
            "label": self.label,
            "type": self.type,
            "fieldType": self.field_type,
            "groupName": self.group,
            "description": self.description,
            "options": [
                {"label": label, "value": value, "displayOrder": order, "hidden": False, "description": None}
                for order, (value, label) in enumerate(self.options.items())
            ],
            "displayOrder": -1,
            "hidden": self.hidden,
            "archived": self.archived,
            "formField": not locked and not self.hidden,
            "hubspotDefined": not self.custom,
            "hasUniqueValue": self.unique,
            "calculated": self.calculated,
            "calculationFormula": None,
            "externalOptions": self.external is not None,
            "referencedObjectType": self.external if self.external in ("OWNER", "TEAM") else None,
            "dataSensitivity": "non_sensitive",
            "modificationMetadata": {
                "archivable": self.custom,
                "readOnlyDefinition": not self.custom,
                "readOnlyOptions": not self.custom,
                "readOnlyValue": locked,
            },
            "createdAt": self.made_at,
            "updatedAt": UPDATED_AT if self.made_at < UPDATED_AT else self.made_at,
            "createdUserId": "1",
            "updatedUserId": "1",
        }


def parse(lines: str) -> Iterator[Property]:
    """The properties of a catalog text; its module says how a line is made."""
    for line in lines.splitlines():
        if not line.strip():
            continue
        name, label, kind, field_type, group, flags, options = (part.strip() for part in line.split("|"))
        marks = [mark.strip() for mark in flags.split(",") if mark.strip()]
        yield Property(
            name,
            label,
            kind,
            field_type,
            group,
            dict(pair.split("=", 1) for pair in options.split(",") if pair),
            read_only="ro" in marks,
            calculated="calc" in marks,
            hidden="hidden" in marks,
            unique="unique" in marks,
            custom="custom" in marks,
            external=next((mark[4:] for mark in marks if mark.startswith("ext:")), None),
        )
