"""One Salesforce org: its objects, their records, and the ids that find them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as member
from email.utils import parsedate_to_datetime
from typing import Any

from reverse_etl.sandbox.clock import Clock, iso
from reverse_etl.sandbox.journal import Ledger
from reverse_etl.sandbox.salesforce import catalog
from reverse_etl.sandbox.salesforce.errors import Refusal
from reverse_etl.sandbox.salesforce.fields import Field, parse
from reverse_etl.sandbox.table import Table

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
CHECKS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


def full_id(short: str) -> str:
    """The 18 characters of a 15-character id: three that tell which letters are capitals."""
    suffix = ""
    for start in (0, 5, 10):
        bits = sum(1 << place for place, char in enumerate(short[start : start + 5]) if "A" <= char <= "Z")
        suffix += CHECKS[bits]
    return short + suffix


def make_id(prefix: str, number: int) -> str:
    digits = ""
    for _ in range(10):
        number, digit = divmod(number, 62)
        digits = DIGITS[digit] + digits
    return full_id(f"{prefix}Sb{digits}")


ORG_ID = make_id("00D", 1)
USER_ID = make_id("005", 1)


def read_id(text: str) -> str | None:
    """An id in its 18-character form, None when the text is none (or in the wrong case)."""
    if len(text) not in (15, 18) or not text.isascii() or not text.isalnum():
        return None
    whole = full_id(text[:15])
    return whole if len(text) == 15 or whole == text else None


@dataclass
class SObject:
    name: str
    label: str
    plural: str
    prefix: str
    fields: dict[str, Field]
    table: Table = member(init=False)
    next_number: int = 1
    changed: float = member(default_factory=time.time)  # when its fields did

    def __post_init__(self) -> None:
        self.by_name = {field.name.lower(): field for field in self.fields.values()}
        self.by_relation = {field.relationship.lower(): field for field in self.fields.values() if field.relationship}
        self.table = Table({field.name: self.fold(field) for field in self.fields.values() if _indexed(field)})

    @staticmethod
    def fold(field: Field) -> Any:
        """Unique fields that don't tell case apart match without it; so does e-mail."""
        return str if field.case_sensitive or not (field.unique or field.type == "email") else _casefold

    def field(self, name: str) -> Field | None:
        return self.fields.get(name) or self.by_name.get(name.lower())

    def add_field(self, field: Field) -> None:
        self.fields[field.name] = field
        self.by_name[field.name.lower()] = field
        self.changed = time.time()
        if field.relationship:
            self.by_relation[field.relationship.lower()] = field
        if _indexed(field):
            self.table.add_index(field.name, self.fold(field))

    def changed_since(self, moment: str) -> bool:
        """Whether its fields have changed since a date of an HTTP header, which knows no fractions of a second."""
        try:
            return int(self.changed) > parsedate_to_datetime(moment).timestamp()
        except ValueError:
            return True

    def new_id(self) -> str:
        record_id = make_id(self.prefix, self.next_number)
        self.next_number += 1
        return record_id

    def value(self, record_id: str, values: dict[str, Any], field: Field) -> Any:
        """A field's value as a read answers it, also those that aren't stored as such."""
        if field.name in values:
            return values[field.name]
        match field.name:
            case "Id":
                return record_id
            case "Name":
                return " ".join(part for part in (values.get("FirstName"), values.get("LastName")) if part) or None
            case "SystemModstamp":
                return values.get("LastModifiedDate")
            case "CreatedById" | "LastModifiedById" | "OwnerId":
                return USER_ID
        return False if field.type == "boolean" else None


def _made(name: str, label: str, plural: str, prefix: str, lines: str) -> SObject:
    fields = parse(catalog.SYSTEM.format(label=label) + lines)
    return SObject(name, label, plural, prefix, {field.name: field for field in fields})


@dataclass(frozen=True)
class DuplicateRule:
    """Two records with one value in `field` are duplicates. `alert`: the header's allowSave lets them pass."""

    field: str
    alert: bool = True


class Org:
    def __init__(self, clock: Clock, ledger: Ledger, seed: int) -> None:
        self.clock = clock
        self.ledger = ledger
        self.random = random.Random(seed)  # noqa: S311  # replayable, guards no secret
        self.objects: dict[str, SObject] = {}
        self._by_name: dict[str, SObject] = {}
        for name, label, plural, prefix, lines in catalog.STANDARD:
            self.add_object(_made(name, label, plural, prefix, lines))
        self.duplicate_rules: dict[str, DuplicateRule] = {}
        self._undo: list[Callable[[], None]] | None = None
        self._mark = ledger.mark()
        self._add_user()

    def begin(self) -> None:
        """From now until `end` all writes stand or fall together."""
        self._undo, self._mark = [], self.ledger.mark()

    def end(self, *, keep: bool) -> None:
        undo, self._undo = self._undo or [], None
        if not keep:
            for step in reversed(undo):
                step()
            self.ledger.cut(self._mark)

    def remember(self, undo: Callable[[], None]) -> None:
        """Has that called, should the writes under way fall together."""
        if self._undo is not None:
            self._undo.append(undo)

    def object(self, name: str) -> SObject:
        """By API name in any case; raises the 404 for one that doesn't exist."""
        sobject = self._by_name.get(name.lower())
        if sobject is None:
            raise Refusal(404, "NOT_FOUND", "The requested resource does not exist")
        return sobject

    def add_custom_object(self, name: str) -> None:
        """An object of an admin's, without fields of its own; its name ends in `__c`."""
        label = name.removesuffix("__c").replace("_", " ")
        custom = sum(known.endswith("__c") for known in self.objects)
        self.add_object(_made(name, label, f"{label}s", f"a{custom:02d}", catalog.CUSTOM))

    def add_object(self, sobject: SObject) -> None:
        self.objects[sobject.name] = sobject
        self._by_name[sobject.name.lower()] = sobject

    def of_id(self, record_id: str) -> SObject | None:
        return next((kind for kind in self.objects.values() if record_id.startswith(kind.prefix)), None)

    def now(self) -> str:
        return iso(self.clock.now())[:19] + ".000+0000"

    def dump(self) -> dict[str, Any]:
        return {
            sobject.name: sobject.table.dump() | {"next_number": sobject.next_number}
            for sobject in self.objects.values()
        }

    def load(self, document: dict[str, Any]) -> None:
        for name, held in document.items():
            sobject = self.objects[name]
            sobject.table.load(held)
            sobject.next_number = held["next_number"]

    def clear(self) -> None:
        for sobject in self.objects.values():
            sobject.table.clear()
            sobject.next_number = 1
        self.duplicate_rules.clear()
        self._add_user()

    def _add_user(self) -> None:
        user = self.objects["User"]
        now = self.now()
        values = {
            "Username": "integration@sandbox.example",
            "LastName": "User",
            "FirstName": "Integration",
            "Email": "integration@sandbox.example",
            "IsActive": True,
            "CreatedDate": now,
            "LastModifiedDate": now,
        }
        user.table.put(USER_ID, values, None)
        user.next_number = 2


def _indexed(field: Field) -> bool:
    return (field.external_id or field.unique or field.id_lookup) and field.name != "Id"


def _casefold(value: Any) -> str:
    return str(value).lower()
