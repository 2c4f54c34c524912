"""The records that links lead to, found by a property's value; unlike a match, it need not be unique.

A unique property finds its record at once. Any other one is searched for: search sees records some seconds after they
were written, takes bodies of 3,000 characters and answers 10,000 hits at most
(https://developers.hubspot.com/docs/api-reference/latest/crm/search-the-crm, read 2026-11). Who isn't found yet is
waited for; no record is ever made because search did not see one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

import anyio
import orjson

from reverse_etl.destinations.hubspot.calls import fold
from reverse_etl.destinations.hubspot.errors import listed
from reverse_etl.destinations.hubspot.reads import Records
from reverse_etl.destinations.hubspot.schema import RECORD_ID
from reverse_etl.model import Field, FieldType
from reverse_etl.protocols import LINK_WAITING
from reverse_etl.verdicts import Refusal

MOST_CHARACTERS = 2_600  # of the values in one search; what is around them takes the rest
MOST_VALUES = 100
PAGE = 200
MOST_HITS = 10_000
NAMED = 5  # records of an ambiguous value


@dataclass
class Parents:
    """The records of one object by one property. What was found, or wasn't, is known for the rest of the run."""

    object: str
    records: Records
    match: Field
    known: dict[str, tuple[str, ...]] = field(default_factory=dict)
    alone: anyio.Lock = field(default_factory=anyio.Lock)

    async def look_up(self, values: Iterable[str]) -> None:
        """Get to know the records of these values; one call after another, as the next may find all of them known."""
        if self.match.name == RECORD_ID:
            return
        async with self.alone:
            new = [value for value in dict.fromkeys(values) if value not in self.known]
            if not new:
                return
            ids = await (self._found(new) if self.match.identifies else self._searched(new))
            self.known.update({value: tuple(ids.get(value, ())) for value in new})

    def ids(self, value: str) -> tuple[str, ...]:
        """The records with this value, which was looked up."""
        if self.match.name == RECORD_ID:
            return (value,) if value.isdecimal() else ()
        return self.known.get(value, ())

    def one(self, value: str) -> str | Refusal:
        """The id of the record with this value, or why there is no saying."""
        ids = self.ids(value)
        if len(ids) == 1:
            return ids[0]
        if not ids and self.match.name == RECORD_ID:
            return Refusal(LINK_WAITING, f"{value!r} is no id of a record of HubSpot's")
        if not ids:
            return Refusal(LINK_WAITING, f"HubSpot has none of {self.object} with {self.match.name} {value!r} yet")
        shown = ", ".join(ids[:NAMED]) + (f" and {len(ids) - NAMED} more" if len(ids) > NAMED else "")
        reason = (
            f"{self.match.name} {value!r} finds several {self.object}: {shown}; merge them, or match a unique property"
        )
        return Refusal("ambiguous_match", reason)

    def forget(self, id: str) -> None:
        """This record is gone: ask again next time."""
        self.known = {value: ids for value, ids in self.known.items() if id not in ids}

    async def _found(self, values: Sequence[str]) -> dict[str, list[str]]:
        found = await self.records.find(self.match.name, values, [])
        return {value: [str(record["id"])] for value, record in found.items()}

    async def _searched(self, values: Sequence[str]) -> dict[str, list[str]]:
        found: defaultdict[str, list[str]] = defaultdict(list)
        for some in _bites([*dict.fromkeys(map(self._asked, values))]):
            async for id, value in self._hits(some):
                if id not in found[self._compared(value)]:
                    found[self._compared(value)].append(id)
        return {value: found[key] for value in values if (key := self._compared(value)) in found}

    async def _hits(self, values: Sequence[str]) -> AsyncIterator[tuple[str, str]]:
        """Id and value of every record with one of these values."""
        name, path, after = self.match.name, self.records.paths.search(self.records.type), "0"
        body: dict[str, Any] = {
            "filterGroups": [{"filters": [{"propertyName": name, "operator": "IN", "values": values}]}],
            "properties": [name],
            "sorts": [RECORD_ID],
            "limit": PAGE,
        }
        while after and int(after) < MOST_HITS:
            answer = await self.records.http.send("POST", path, json={**body, "after": after}, idempotent=True)
            for result in listed(answer):
                value = (result.get("properties") or {}).get(name)
                if value is not None:
                    yield str(result.get("id")), str(value)
            after = _next(answer.json())

    def _asked(self, value: str) -> str:
        """Search wants text in small letters; options go as they are."""
        return fold(value) if self.match.type is FieldType.TEXT else value

    def _compared(self, value: str) -> str:
        if self.match.type is FieldType.NUMBER:
            try:
                return format(Decimal(value).normalize(), "f")
            except InvalidOperation:
                return value
        return self._asked(value)


def _next(body: Any) -> str:
    after = ((body.get("paging") or {}).get("next") or {}).get("after")
    return str(after) if after and str(after).isdecimal() else ""


def _bites(values: Sequence[str]) -> Iterator[list[str]]:
    """The values in as few searches as their length allows; one that is too long for any finds nothing."""
    bite: list[str] = []
    size = 0
    for value in values:
        length = len(orjson.dumps(value)) + 1
        if length > MOST_CHARACTERS:
            continue
        if bite and (size + length > MOST_CHARACTERS or len(bite) == MOST_VALUES):
            yield bite
            bite, size = [], 0
        bite.append(value)
        size += length
    if bite:
        yield bite
