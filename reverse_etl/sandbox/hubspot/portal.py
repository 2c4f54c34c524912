"""One HubSpot account: its object types, their records and what identifies them."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from dataclasses import asdict, astuple, dataclass, field
from typing import Any

from reverse_etl.sandbox.clock import Clock
from reverse_etl.sandbox.hubspot import catalog
from reverse_etl.sandbox.hubspot.errors import Refusal
from reverse_etl.sandbox.hubspot.properties import MADE_AT, Property, parse
from reverse_etl.sandbox.hubspot.rules import Rule
from reverse_etl.sandbox.journal import Ledger
from reverse_etl.sandbox.table import Table

PORTAL_ID = 12345678
FIRST_ID = 101

DEAL_STAGES = {
    "appointmentscheduled": ("Appointment Scheduled", 0.2),
    "qualifiedtobuy": ("Qualified To Buy", 0.4),
    "presentationscheduled": ("Presentation Scheduled", 0.6),
    "decisionmakerboughtin": ("Decision Maker Bought-In", 0.8),
    "contractsent": ("Contract Sent", 0.9),
    "closedwon": ("Closed Won", 1.0),
    "closedlost": ("Closed Lost", 0.0),
}
TICKET_STAGES = {"1": "New", "2": "Waiting on contact", "3": "Waiting on us", "4": "Closed"}
OWNERS = [
    {"id": "41001", "email": "sam.sales@example.com", "firstName": "Sam", "lastName": "Sales", "userId": 9001},
    {"id": "41002", "email": "rita.rep@example.com", "firstName": "Rita", "lastName": "Rep", "userId": 9002},
]


Link = tuple[str, int]  # an association's category and type id


def fold_email(value: Any) -> str:
    return str(value).strip().lower()


@dataclass
class ObjectType:
    """An object type: `singular` is its name in the platform's messages.

    `needed`: one of these a new record must have; `all_needed`: each of these; `required_by_admin`: these too, from
    version 2026-09 on. `rules`: by property and kind of rule. `groups`: labels of groups that were made.
    """

    name: str
    type_id: str
    singular: str
    needed: tuple[str, ...]
    all_needed: tuple[str, ...]
    properties: dict[str, Property]
    table: Table = field(init=False)
    merged: dict[str, str] = field(default_factory=dict)
    secondary: dict[str, str] = field(default_factory=dict)
    archived_at: dict[str, str] = field(default_factory=dict)
    links: dict[str, dict[str, set[Link]]] = field(default_factory=dict)
    required_by_admin: list[str] = field(default_factory=list)
    rules: dict[str, dict[str, Rule]] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    next_id: int = FIRST_ID

    def __post_init__(self) -> None:
        indexes = {prop.name: str for prop in self.properties.values() if prop.unique}
        folds: dict[str, Any] = dict(indexes)
        if self.name == "contacts":
            folds["email"] = fold_email
        self.table = Table(folds)
        self.unique = set(folds) - {"hs_unique_creation_key"}
        self._sort_properties()

    @property
    def modified(self) -> str:
        return "lastmodifieddate" if self.name == "contacts" else "hs_lastmodifieddate"

    def add_property(self, prop: Property) -> None:
        self.properties[prop.name] = prop
        self._sort_properties()
        if prop.unique and prop.name not in self.unique:
            self.unique.add(prop.name)
            self.table.add_index(prop.name, str)

    def archive_property(self, name: str) -> None:
        self.properties[name].archived = True
        self._sort_properties()

    def _sort_properties(self) -> None:
        """Tells apart the properties whose values need no more than a look, as nearly all of them do."""
        free = [prop for prop in self.properties.values() if not (prop.read_only or prop.calculated or prop.archived)]
        self.plain = frozenset(prop.name for prop in free if prop.type == "string" and prop.name != "email")
        self.numbers = frozenset(prop.name for prop in free if prop.type == "number")
        self.choices = {
            prop.name: frozenset(prop.options)
            for prop in free
            if prop.type == "enumeration" and prop.external is None and prop.field_type != "checkbox"
        }

    def resolve(self, record_id: str) -> str | None:
        """The live record that this id reaches, through merges; None when there is none."""
        record_id = self.merged.get(record_id, record_id)
        return record_id if record_id in self.table else None

    def find(self, name: str, value: str) -> str | None:
        """The record with that value of a unique property; a contact's secondary addresses lead to it too."""
        found = self.table.find(name, value)
        if found:
            return found[0]
        if name == "email" and self.name == "contacts":
            return self.secondary.get(fold_email(value))
        return None


class Portal:
    def __init__(self, clock: Clock, ledger: Ledger, seed: int) -> None:
        self.clock = clock
        self.ledger = ledger
        self.random = random.Random(seed)  # noqa: S311  # replayable, guards no secret
        self.types: dict[str, ObjectType] = {}
        self._names: dict[str, ObjectType] = {}
        for name, type_id, singular, group, needed, lines in catalog.STANDARD:
            properties = {prop.name: prop for prop in parse(catalog.SYSTEM.format(group=group) + lines)}
            self.add_type(ObjectType(name, type_id, singular, needed, catalog.ALL_NEEDED.get(name, ()), properties))

    def add_type(self, kind: ObjectType, *aliases: str) -> None:
        self.types[kind.name] = kind
        for name in (kind.name, kind.type_id, kind.singular.lower(), *aliases):
            self._names[name] = kind

    def remove_type(self, kind: ObjectType) -> None:
        del self.types[kind.name]
        self._names = {name: other for name, other in self._names.items() if other is not kind}

    def known(self, name: str) -> ObjectType | None:
        return self._names.get(name)

    def type(self, name: str) -> ObjectType:
        kind = self._names.get(name)
        if kind is None:
            raise Refusal(400, f"Unable to infer object type from: {name}")
        return kind

    def external(self, source: str) -> Collection[str]:
        """The values that a property's external options allow."""
        if source == "OWNER":
            return [str(owner["id"]) for owner in OWNERS]
        if source == "STAGE":
            return [*DEAL_STAGES, *TICKET_STAGES]
        return ["default", "0"]

    def new_id(self, kind: ObjectType) -> str:
        """Ids grow, with gaps."""
        record_id = str(kind.next_id)
        kind.next_id += self.random.randint(1, 3)
        return record_id

    def dump(self) -> dict[str, Any]:
        return {
            kind.name: kind.table.dump()
            | {
                "merged": kind.merged,
                "secondary": kind.secondary,
                "archived_at": kind.archived_at,
                "links": {
                    first: {second: sorted(types) for second, types in others.items()}
                    for first, others in kind.links.items()
                },
                "properties": [asdict(prop) for prop in kind.properties.values() if prop.made_at != MADE_AT],
                "next_id": kind.next_id,
                "groups": kind.groups,
                "required_by_admin": kind.required_by_admin,
                "rules": [[name, *astuple(rule)] for name, rules in kind.rules.items() for rule in rules.values()],
            }
            for kind in self.types.values()
        }

    def load(self, document: dict[str, Any]) -> None:
        for name, held in document.items():
            kind = self.type(name)
            for prop in held["properties"]:
                kind.add_property(Property(**prop))
            kind.table.load(held)
            kind.links = {
                first: {second: {(category, number) for category, number in types} for second, types in others.items()}
                for first, others in held["links"].items()
            }
            kind.merged, kind.secondary = held["merged"], held["secondary"]
            kind.archived_at, kind.next_id = held["archived_at"], held["next_id"]
            kind.groups, kind.required_by_admin = held["groups"], held["required_by_admin"]
            for prop_name, rule_type, arguments in held["rules"]:
                kind.rules.setdefault(prop_name, {})[rule_type] = Rule(rule_type, arguments)

    def clear(self) -> None:
        for kind in self.types.values():
            kind.table.clear()
            kind.merged.clear()
            kind.secondary.clear()
            kind.archived_at.clear()
            kind.links.clear()
            kind.required_by_admin.clear()
            kind.rules.clear()
            kind.next_id = FIRST_ID


def record(
    kind: ObjectType, record_id: str, values: dict[str, str], names: Iterable[str] | None = None
) -> dict[str, Any]:
    """A record as reads answer it: unset requested properties as null, names that don't exist left out."""
    shown: dict[str, Any] = dict(values)
    if names is not None:
        wanted = [*names, "hs_object_id", "createdate", kind.modified]
        shown = {name: values.get(name) for name in wanted if name in kind.properties}
    archived_at = kind.archived_at.get(record_id)
    document = {
        "id": record_id,
        "properties": shown,
        "createdAt": values["createdate"],
        "updatedAt": values[kind.modified],
        "archived": archived_at is not None,
    }
    if archived_at is not None:
        document["archivedAt"] = archived_at
    return document
