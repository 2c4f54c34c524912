"""An object as one sync sees it: the destination's field list, with the sync's links, and what its mapping allows."""

from __future__ import annotations

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
    return replace(schema, fields=fields), problems


async def _link(destination: Destination, sync: SyncConfig, name: str, parent: Parent) -> Field:
    if not isinstance(destination, Related):
        raise DestinationError(
            f"`{sync.destination}` has no links between records",
            code="destination_config",
            hint="take the field out of the mapping",
        )
    return await destination.describe_link(sync.object, name, parent)
