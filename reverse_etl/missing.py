"""`fields SYNC --create`: fields that a sync's mapping needs and its object lacks, drafted first, made when told to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from anyio import to_thread

from reverse_etl.config.problems import nearest
from reverse_etl.config.sync import SyncConfig
from reverse_etl.errors import ConfigError, DestinationError
from reverse_etl.inspect import asked_shape
from reverse_etl.mapping import PayloadColumn
from reverse_etl.model import Field, FieldType
from reverse_etl.protocols import Destination, FieldMaker, NewField, Source
from reverse_etl.verdicts import Refusal


@dataclass(frozen=True)
class MissingField:
    """A field that would be made. `nearest`: one that is there and has almost its name, perhaps the one meant."""

    new: NewField
    nearest: str | None


async def missing_fields(
    sync: SyncConfig, source: Callable[[], Source], destination: Callable[[], Destination]
) -> list[MissingField]:
    """What the object lacks, as it would be made. Makes nothing. Raises ConfigError for what can't be made there."""
    opened = destination()
    try:
        maker = _maker(sync, opened)
        shape = await to_thread.run_sync(asked_shape, sync, source)
        there = (await opened.describe(sync.object)).fields
        wanted = [_wanted(c, sync.matches) for c in shape.payload if c.field not in there and not c.links]
        drafts = await maker.draft_fields(sync.object, wanted) if wanted else []
    finally:
        await opened.aclose()
    _refuse_impossible(sync, drafts, [*there])
    return [MissingField(draft, nearest(draft.name, [*there])) for draft in drafts]


async def make_fields(
    sync: SyncConfig, destination: Callable[[], Destination], fields: Sequence[NewField]
) -> dict[str, Refusal]:
    """Makes the fields; those that the destination refused, by name, with its reasons."""
    opened = destination()
    try:
        return await _maker(sync, opened).make_fields(sync.object, fields)
    except DestinationError as failure:
        failure.hint = failure.hint or "what was made before this stays; the same command shows what is still missing"
        raise
    finally:
        await opened.aclose()


def _maker(sync: SyncConfig, opened: Destination) -> FieldMaker:
    if isinstance(opened, FieldMaker):
        return opened
    message = "making fields is not supported for this kind of destination: make them there by hand"
    raise ConfigError(
        [sync.problem("destination", message=message)],
        hint=f"`reverse-etl check {sync.name} --connect` lists the missing ones",
    )


def _wanted(column: PayloadColumn, matches: Sequence[str]) -> Field:
    return Field(column.field, _type_of(column.type), identifies=column.field in matches)


def _type_of(column: str) -> FieldType:
    if column in ("BIGINT", "DOUBLE") or column.startswith("DECIMAL"):
        return FieldType.NUMBER
    return {
        "BOOLEAN": FieldType.BOOLEAN,
        "DATE": FieldType.DATE,
        "TIMESTAMP WITH TIME ZONE": FieldType.DATETIME,
    }.get(column, FieldType.TEXT)


def _refuse_impossible(sync: SyncConfig, drafts: Sequence[NewField], there: Sequence[str]) -> None:
    problems = [
        sync.problem(
            "mapping",
            draft.name,
            message=f"no field of this name can be made: {draft.impossible}",
            nearest=nearest(draft.name, there),
            of_key=True,
        )
        for draft in drafts
        if draft.impossible is not None
    ]
    if problems:
        raise ConfigError(problems, hint="correct the mapping; nothing was made")
