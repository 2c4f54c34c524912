"""What a source and a destination must be able to do; the conformance suites in `testing` prove it.

A source is synchronous, as database drivers are; a destination is asynchronous, as the network is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol, runtime_checkable

import pyarrow as pa
from pydantic import BaseModel

from reverse_etl.clock import SYSTEM, Clock
from reverse_etl.model import Batch, Field, Limits, ObjectSchema, Operation, Parent, Query
from reverse_etl.verdicts import Outcomes, Refusal

OTHERS = "(others)"  # beside a record that was found: no field has such a name
FROZEN = "(frozen)"  # beside a record that takes no more writes
LINK_WAITING = "link_waiting"  # code of a link whose parent isn't at the destination yet
LINK_IN_DOUBT = "link_in_doubt"  # code of a link that was perhaps made
RECORD_GONE = "missing_record"  # code of a link that can't be, as its own record is no longer there


class Source(Protocol):
    """A warehouse: `Connector(config)`, its settings in reverse_etl.yml with every path already absolute.

    Opening one contacts nothing; every call opens what it needs and closes it again.
    """

    def __init__(self, config: Any) -> None: ...

    def describe(self, query: Query) -> pa.Schema:
        """Columns and Arrow types of the result; reads no rows. Raises SourceError with the warehouse's own words."""
        ...

    def read(self, query: Query) -> AbstractContextManager[Iterator[pa.RecordBatch]]:
        """The whole result as a stream on a connection of its own, in one consistent view.

        The stream raises SourceError when it ends with another number of rows than an independent count gave: "read
        nothing" and "could not read" must differ. Leaving the context releases the connection and any file lock.
        """
        ...

    def names(self, query_sql: str) -> frozenset[str]:
        """The parameters that a query names as `:name`, outside of strings, comments and casts; contacts nothing."""
        ...

    def clock(self) -> datetime:
        """The warehouse's own time, with an offset."""
        ...

    def quote(self, identifier: str) -> str:
        """An identifier as this warehouse's SQL wants it quoted."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Load:
    """Rows for a table of a warehouse: text, whole numbers, times in UTC.

    They come in series, each numbered upwards: of a series (a value of the column `series`) what the table has is left
    out, which is all up to the greatest `number` there. Without a `number` a series is one row.
    """

    table: str
    rows: pa.Table
    series: str
    number: str | None = None


@runtime_checkable
class Loadable(Protocol):
    """A source that can be written to, where its user may. Reading is another connection's, and stays read-only."""

    def load(self, schema: str, loads: Sequence[Load], *, rehearse: bool = False) -> None:
        """Add the rows to their tables, in one transaction where the warehouse has such. Repeating it adds nothing.

        Schema, tables and columns that aren't there are made. `rehearse` makes sure that it could be done, and does
        nothing. Raises SourceError.
        """
        ...


@dataclass
class Traffic:
    """Calls made so far: every HTTP request counts, tokens and metadata included; `throttled` are the 429s."""

    requests: int = 0
    throttled: int = 0


class Memory(Protocol):
    """What a destination may remember between runs, durable and per account (tokens) or per run (job ids)."""

    def get(self, name: str) -> str | None: ...

    def put(self, name: str, value: str | None) -> None:
        """Stored before this returns; None forgets."""
        ...


@dataclass(frozen=True)
class Heard:
    """What is known of a limiter in other processes too: its window as told, the pause asked for, others' places."""

    requests: int | None = None
    per_seconds: float | None = None
    not_before: float = -math.inf  # by this machine's steady clock
    elsewhere: int = 0


class Places(Protocol):
    """A limiter's places, counted for all processes that use the account. Never waits; any thread may call it.

    Whoever takes a place gives it back after the answer; until a window later it counts as held.
    """

    @property
    def heard(self) -> Heard: ...

    def take(self, requests: int, per_seconds: float, share: Callable[[int], int]) -> bool:
        """Whether there is a place now. `share` makes the allowance of the requests told, by default `requests`."""
        ...

    def give_back(self) -> None: ...

    def note(self, strangers: int) -> None:
        """Calls of others, which have just been found out."""
        ...

    def tell(self, requests: int | None, per_seconds: float | None) -> None:
        """What an answer told of the window."""
        ...

    def pause(self, seconds: float) -> None:
        """No process starts a call before then."""
        ...


def _alone(limiter: str) -> Places | None:
    return None


@dataclass(frozen=True)
class Opening:
    """What a destination is opened with beside its settings.

    `name` is the connection's name, for messages; `options` are what the sync sets of the keys in the connector's
    `options`; `places` gives those of a limiter by its name, where other processes use the account too.
    """

    name: str
    memory: Memory
    clock: Clock = SYSTEM
    options: Mapping[str, bool | str] = field(default_factory=dict)
    places: Callable[[str], Places | None] = _alone


class Destination(Protocol):
    """A system that people work in. One instance serves one run: `Connector(config, opening)`.

    It may not sleep, retry, log values, read the environment or know of snapshots: `http` and `deliver` do that. Work
    that the destination does in its own time is waited for by the opening's clock.
    """

    Config: ClassVar[type[BaseModel]]  # the connection's settings in reverse_etl.yml, `type` included
    modes: ClassVar[frozenset[str]]  # of upsert, update, insert, mirror, append
    removal: ClassVar[str]  # archive or delete: what Operation.REMOVE does here

    def __init__(self, config: Any, opening: Opening) -> None: ...

    def limits(self, object: str, operation: Operation, rows: int) -> Limits:
        """How so many rows of an object go out; a run asks once an operation, when it knows what it sends."""
        ...

    @property
    def traffic(self) -> Traffic: ...

    @property
    def requests_per_second(self) -> float:
        """The rate known so far, for estimates."""
        ...

    async def account(self) -> str:
        """The account these credentials open (portal id, org id): state made for one never serves another."""
        ...

    async def describe(self, object: str) -> ObjectSchema:
        """The object's fields. Raises DestinationError(code="destination_object") when there is no such object."""
        ...

    async def write(self, batch: Batch) -> Outcomes:
        """One call, one verdict a row. A row's refusal is a value; exceptions are about the request as a whole."""
        ...

    async def aclose(self) -> None: ...


@runtime_checkable
class Lookup(Protocol):
    """A destination whose records can be read back."""

    async def find(
        self, object: str, match: str, values: Sequence[str], fields: Sequence[str]
    ) -> dict[str, dict[str, object]]:
        """Records by match value (as sent), each with "id" and the fields asked for; absent ones are left out.

        Where a value finds several records, `OTHERS` names the ids of those that are not given. Where fields are asked
        for, `FROZEN` says of a record that takes no more writes why, and what becomes of them.
        """
        ...


@runtime_checkable
class Related(Protocol):
    """A destination whose records point at one another."""

    async def describe_link(self, object: str, name: str, parent: Parent) -> Field:
        """The field `name` that links a record of `object` to its parent, found by the parent's match value.

        Raises DestinationError(code="destination_config") when there can be no such link.
        """
        ...


@runtime_checkable
class Linker(Related, Protocol):
    """A destination that keeps links apart from records: they are written when the record stands."""

    async def link(self, batch: Batch, record_ids: Sequence[str]) -> dict[int, Refusal]:
        """Make each row's link what the row says, from what `batch.linked` says it is. Repeating it is harmless.

        `batch` has one field, which has a parent; NULL is no link. Returns, by position, why a link is not as its row
        wants it: where the parent isn't there it is `LINK_WAITING`, and the old link stays; where the record itself
        is gone, `RECORD_GONE`. Exceptions are about the request as a whole; one that leaves open whether links were
        made has in `answered` their rows as removed: of these the old link surely is off.
        """
        ...


@runtime_checkable
class Resumable(Protocol):
    """A destination that remembers work under way, for the next run to take up where this one broke off."""

    async def recorded(self, batch: Batch) -> None:
        """What `write` said of these rows is stored: nothing of it needs to be remembered any more."""
        ...


@dataclass(frozen=True)
class NewField:
    """A field that would be made, in the destination's own words: its type, how people fill it in, where they find it.

    `impossible` is why the destination can have no field of this name, None when it can.
    """

    name: str
    label: str
    type: str
    control: str
    group: str
    unique: bool = False
    impossible: str | None = None


@runtime_checkable
class FieldMaker(Protocol):
    """A destination in which fields can be made. Nobody calls `make_fields` before a person saw the drafts."""

    async def draft_fields(self, object: str, fields: Sequence[Field]) -> list[NewField]:
        """How these fields would be made, in their order; makes nothing. One that `identifies` is to be unique."""
        ...

    async def make_fields(self, object: str, fields: Sequence[NewField]) -> dict[str, Refusal]:
        """Makes them. The refused ones by name, with the destination's reasons; all others are there now."""
        ...
