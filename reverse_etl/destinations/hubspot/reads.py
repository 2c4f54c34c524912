"""Reading records back: to settle what an answer left open."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reverse_etl.destinations.hubspot.calls import fold
from reverse_etl.destinations.hubspot.errors import NotFound, body_of, listed
from reverse_etl.destinations.hubspot.paths import Paths
from reverse_etl.destinations.hubspot.schema import CONTACTS, RECORD_ID
from reverse_etl.http import Http

MOST_INPUTS = 100
OTHER_EMAILS = "hs_additional_emails"
# Records that an answer doesn't name, asked for singly: they may have been merged into others.
LOOKUPS = 20


@dataclass(frozen=True)
class Records:
    """The records of one object type."""

    http: Http
    paths: Paths
    type: str

    async def find(
        self, match: str, values: Sequence[str], fields: Sequence[str], *, merged: bool = True
    ) -> dict[str, dict[str, object]]:
        """Records by match value (as given): "id" and the fields asked for. A contact answers to any of its e-mails.

        `merged`: a record that was merged into another is found by its old id, too, with the "id" that it has now.
        """
        folds = match == "email" and self.type in CONTACTS
        wanted = list(dict.fromkeys([match, *fields, *([OTHER_EMAILS] if folds else [])]))
        found: dict[str, dict[str, object]] = {}
        distinct = list(dict.fromkeys(fold(value) if folds else value for value in values))
        for start in range(0, len(distinct), MOST_INPUTS):
            for result in await self._read(match, distinct[start : start + MOST_INPUTS], wanted):
                properties = result.get("properties") or {}
                record = {"id": str(result["id"]), **{name: properties.get(name) for name in fields}}
                found.update(dict.fromkeys(_keys(result, match, folds), record))
        if match == RECORD_ID and merged:
            found |= await self._merged([id for id in distinct if id not in found], found.keys() - set(distinct), found)
        asked = ((value, fold(value) if folds else value) for value in values)
        return {value: found[key] for value, key in asked if key in found}

    async def current_id(self, id: str, id_property: str | None) -> str | None:
        """The id of the one record that this key reaches now; a merged record is reached by its old ids too."""
        params = {"properties": RECORD_ID, **({"idProperty": id_property} if id_property else {})}
        try:
            answer = await self.http.send("GET", self.paths.record(self.type, id), params=params, idempotent=True)
        except NotFound:
            return None
        return str(body_of(answer).get("id"))

    async def _merged(
        self, ids: Sequence[str], strangers: Collection[str], found: Mapping[str, dict[str, object]]
    ) -> dict[str, dict[str, object]]:
        """What these ids lead to, of the `strangers` that the answers named beside what was asked for."""
        now = {id: await self.current_id(id, None) for id in (ids[:LOOKUPS] if strangers else ())}
        return {id: found[other] for id, other in now.items() if other is not None and other in strangers}

    async def _read(self, match: str, values: Sequence[str], properties: Sequence[str]) -> list[Mapping[str, Any]]:
        body: dict[str, Any] = {
            "properties": properties,
            "propertiesWithHistory": [],
            "inputs": [{"id": value} for value in values],
        }
        if match != RECORD_ID:
            body["idProperty"] = match
        answer = await self.http.send("POST", self.paths.batch(self.type, "read"), json=body, idempotent=True)
        return [result for result in listed(answer) if result.get("id")]


def _keys(result: Mapping[str, Any], match: str, folds: bool) -> list[str]:
    if match == RECORD_ID:
        return [str(result["id"])]
    properties = result.get("properties") or {}
    values = [properties.get(match) or ""]
    if folds:
        values = [fold(each) for each in [*values, *(properties.get(OTHER_EMAILS) or "").split(";")]]
    return [value for value in values if value]
