"""`check --connect`: what only the warehouse and the destination can tell. Writes nothing anywhere."""

from __future__ import annotations

from collections.abc import Callable

from anyio import to_thread

from reverse_etl.checks import check_fields
from reverse_etl.config.sync import SyncConfig
from reverse_etl.describe import described
from reverse_etl.errors import ConfigError, DestinationError, ReverseEtlError, SourceError
from reverse_etl.mapping import Shape, shape_of
from reverse_etl.model import Problem
from reverse_etl.protocols import Destination, Source
from reverse_etl.read import Reader


async def inspect(
    sync: SyncConfig, source: Callable[[], Source], destination: Callable[[], Destination]
) -> list[Problem]:
    """Everything wrong with one sync at once: the query's columns, the credentials, the destination's fields."""
    problems: list[Problem] = []
    shape = None
    try:
        shape = await to_thread.run_sync(asked_shape, sync, source)
    except ConfigError as failure:
        problems += failure.problems
    except SourceError as failure:
        problems.append(sync.problem("source", message=_words(failure)))
    opened = destination()
    try:
        await opened.account()
        schema, found = await described(opened, sync)
        problems += [*found, *check_fields(sync, schema, shape)]
    except ConfigError as failure:
        problems += failure.problems
    except DestinationError as failure:
        at = "object" if failure.code == "destination_object" else "destination"
        problems.append(sync.problem(at, message=_words(failure)))
    finally:
        await opened.aclose()
    return problems


def asked_shape(sync: SyncConfig, open: Callable[[], Source]) -> Shape:
    """The columns that the warehouse says the query has; reads no rows."""
    source = open()
    try:
        asked = Reader(sync, source).question(None, complete=True)
        return shape_of(sync, source.describe(asked.query))
    finally:
        source.close()


def _words(failure: ReverseEtlError) -> str:
    """Message and hint in one line; a pointer of carets under a line of SQL is worth nothing there."""
    lines = [line.strip() for line in failure.message.splitlines()]
    hint = f" ({failure.hint})" if failure.hint else ""
    return " ".join(line for line in lines if line.strip("^")) + hint
