"""What every source does: count the rows it reads against what was promised, keep secrets out of errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol
from urllib.parse import quote, quote_plus

import pyarrow as pa
from pydantic import SecretStr
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from reverse_etl.errors import SourceError


class Connection(Protocol):
    """A source's settings in reverse_etl.yml, paths already absolute."""

    @property
    def name(self) -> str: ...

    @property
    def url(self) -> SecretStr: ...

    @property
    def external_access(self) -> bool: ...


def parsed_url(config: Connection) -> URL:
    """The source's address. A file's name is taken as written: SQLAlchemy 2.1 would read a % in it as an escape."""
    text = config.url.get_secret_value()
    try:
        url = make_url(text)
        file = text.partition(":///")[2].partition("?")[0]
        return url.set(database=file) if file and url.get_backend_name() in ("duckdb", "sqlite") else url
    except (ArgumentError, ValueError):
        raise SourceError(
            f"the url of the source {config.name!r} can't be read",
            code="source_url",
            hint="write it as dialect://user:password@host/database, special characters percent-encoded",
        ) from None  # its words may repeat the password


def whole(batches: Iterable[pa.RecordBatch], expected: int) -> Iterator[pa.RecordBatch]:
    """The same batches, empty ones left out; raises SourceError when they end with another number of rows.

    A driver's stream can end early without an error, for instance when another statement runs on its connection
    (seen with duckdb-engine 0.17.0 over duckdb 1.4 and 1.5). Taken for the truth, that would delete every row after it.
    """
    seen = 0
    for batch in batches:
        if batch.num_rows:
            seen += batch.num_rows
            yield batch
    if seen != expected:
        raise SourceError(
            f"the result ended after {seen} rows, but a count in the same snapshot gave {expected}",
            code="source_truncated",
            hint="run again; a query that gives other rows each time it is asked (random(), sampling) can't be synced",
        )


def words(failure: BaseException, url: URL) -> str:
    """The warehouse's own words, without the statement SQLAlchemy adds and without the password."""
    said = str(failure.orig if isinstance(failure, DBAPIError) and failure.orig is not None else failure).strip()
    secrets = [str(url.password)] if url.password else []
    secrets += [value for name, value in url.normalized_query.items() for value in value if "token" in name.lower()]
    for secret in secrets:
        for spelling in {secret, quote(secret, safe=""), quote_plus(secret)}:
            said = said.replace(spelling, "***")
    return said.expandtabs(4)
