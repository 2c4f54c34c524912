"""Links to other records: a row names its parent by one of the parent's own fields, and Salesforce looks it up.

A lookup field such as `AccountId` has a relationship, `Account`; of a custom one, `Parent__c`, it is `Parent__r`.
(REST API guide, "Insert or Update (Upsert) a Record Using an External ID"; Bulk API 2.0 guide, "Relationship Fields in
a Header Row"; v62.0, read in 2026.)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from reverse_etl.destinations.salesforce import errors
from reverse_etl.destinations.salesforce.schema import Description, Relation
from reverse_etl.errors import DestinationError
from reverse_etl.model import Field, Parent

Describe = Callable[[str], Awaitable[Description]]


@dataclass(frozen=True)
class Link:
    """A link as it is written. `type` is the parent's object where the lookup leads to several."""

    reference: str
    relationship: str
    key: str
    type: str | None = None

    @property
    def column(self) -> str:
        """The header of a CSV column with the parent's value."""
        path = f"{self.relationship}.{self.key}"
        return f"{self.type}:{path}" if self.type else path

    def put(self, record: dict[str, object], value: object) -> None:
        """Point a JSON record to its parent, or to none."""
        if value is None or value == "":
            record[self.reference] = None
            return
        parent: dict[str, object] = {"attributes": {"type": self.type}} if self.type else {}
        record[self.relationship] = {**parent, self.key: value}


async def describe(describe: Describe, connection: str, object: str, name: str, parent: Parent) -> tuple[Link, Field]:
    """The link behind a mapped name, which is a lookup's relationship or the lookup itself, and the field it makes."""
    child = await describe(object)
    relation = child.relations.get(name.lower())
    if relation is None:
        raise _refused(connection, f"{child.schema.name} has no relationship {name!r}", _nearest(name, child.relations))
    target = _target(connection, child, relation, parent)
    key = _key(connection, await describe(target), target, parent.match)
    reference = child.schema.fields[relation.reference]
    link = Link(relation.reference, relation.relationship, key.name, target if len(relation.targets) > 1 else None)
    made = Field(
        name=name,
        type=key.type,
        label=reference.label,
        read_only=reference.read_only,
        create_only=reference.create_only,
        clearable=reference.clearable,
        max_length=key.max_length,
        parent=parent,
        sets=relation.reference,
    )
    return link, made


def _target(connection: str, child: Description, relation: Relation, parent: Parent) -> str:
    """The parent's object: the only one that the lookup leads to, or the one that the mapping names."""
    if parent.object is None:
        if len(relation.targets) == 1:
            return relation.targets[0]
        told = ", ".join(relation.targets)
        raise _refused(
            connection,
            f"{child.schema.name}.{relation.relationship} leads to {told}",
            "say which is meant: add `object:` to the link",
        )
    found = next((target for target in relation.targets if target.lower() == parent.object.lower()), None)
    if found is None:
        raise _refused(
            connection,
            f"{child.schema.name}.{relation.relationship} doesn't lead to {parent.object}",
            f"it leads to {', '.join(relation.targets)}",
        )
    return found


def _key(connection: str, described: Description, target: str, match: str) -> Field:
    """The parent's field that finds it."""
    key = next((field for field in described.schema.fields.values() if field.name.lower() == match.lower()), None)
    if key is None or key.name not in described.lookups:
        known = ", ".join(sorted(described.lookups)) or "none yet"
        raise _refused(
            connection,
            f"{target}.{match} can't find a parent: that takes a field with 'External ID' ticked",
            f"such fields of {target} are {known}",
        )
    return key


def _nearest(name: str, relations: Mapping[str, Relation]) -> str:
    names = sorted({relation.relationship for relation in relations.values()})
    near = get_close_matches(name, names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"its relationships are {', '.join(names)}" if names else "it has no lookup field that this user may see"


def _refused(connection: str, message: str, hint: str) -> DestinationError:
    return DestinationError(f"destination {connection!r}: {message}", hint=hint, code=errors.CONFIG)
