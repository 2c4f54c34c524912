"""An object as one sync sees it: the destination's field list, with the sync's links, and what its mapping allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from reverse_etl.config.sync import SyncConfig
from reverse_etl.errors import ConfigError, DestinationError
from reverse_etl.model import Field, FieldType, ObjectSchema, Parent, Problem
from reverse_etl.protocols import Destination, Related


async def describe(destination: Destination, sync: SyncConfig) -> ObjectSchema:
    """Raises ConfigError for links that can't be, with their places in the mapping."""
    schema, problems = await described(destination, sync)
    if problems:
        raise ConfigError(problems, hint="correct the mapping; nothing was written")
    return schema


async def described(destination: Destination, sync: SyncConfig) -> tuple[ObjectSchema, list[Problem]]:
    """The same, beside what is wrong with links: for who wants to know of all problems at once."""
    schema = await destination.describe(sync.object)
    fields, problems = dict(schema.fields), list[Problem]()
    for name, entry in sync.mapping.items():
        if entry.parent is not None:
            try:
                fields[name] = await _link(destination, sync, name, entry.parent)
            except DestinationError as failure:
                if failure.code != "destination_config":
                    raise
                said = f"{failure.message} ({failure.hint})" if failure.hint else failure.message
                problems.append(sync.problem("mapping", name, message=said, of_key=True))
                fields[name] = Field(name, FieldType.REFERENCE, parent=entry.parent)
        elif name in fields:
            fields[name] = replace(fields[name], backward=entry.allow_backward, written=entry.write)
    problems += _set_twice(sync, fields)
    return replace(schema, fields=fields), problems


def _set_twice(sync: SyncConfig, fields: Mapping[str, Field]) -> Iterator[Problem]:
    """A lookup that the mapping sets under two names: as a link, and by the parent's own id or as another link."""
    known: dict[str, str] = {}
    for name in sync.mapping:
        field = fields.get(name)
        if field is not None:
            first = known.setdefault(field.sets or name, name)
            if first != name:
                message = f"`{first}` and `{name}` set the same field of {sync.object}: map one of them"
                yield sync.problem("mapping", name, message=message, of_key=True)


async def _link(destination: Destination, sync: SyncConfig, name: str, parent: Parent) -> Field:
    if not isinstance(destination, Related):
        raise DestinationError(
            f"`{sync.destination}` has no links between records",
            code="destination_config",
            hint="take the field out of the mapping",
        )
    return await destination.describe_link(sync.object, name, parent)
