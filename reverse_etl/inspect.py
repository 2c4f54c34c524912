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
from reverse_etl.writeback import WarehouseLog

ABOUT_SQL = frozenset({"source_query", "source_type", "source_columns"})


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
        about_sql = failure.code in ABOUT_SQL
        at = sync.asks_by if about_sql else "source"
        problems.append(sync.problem(at, message=_words(failure), of_key=about_sql))
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


def inspect_log(log_to: WarehouseLog, file: str, line: int, column: int) -> list[Problem]:
    """Whether what runs do could be written back: the schema, and the right to write to it."""
    try:
        log_to.rehearse()
    except SourceError as failure:
        return [Problem(file, line, column, log_to.schema, _words(failure))]
    return []


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
