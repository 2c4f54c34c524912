"""The write path for few rows: calls of sObject Collections, up to 200 records each.

Rows that are more than one call takes go in several, a few at once, those of one parent together.

A row that met a lock, or a limit of a trigger that others of its call used up, is offered again within the run: a few
times, those of one parent together, in smaller and smaller calls, one call at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio

from reverse_etl import values
from reverse_etl.clock import Clock
from reverse_etl.destinations.salesforce import collections, errors
from reverse_etl.destinations.salesforce.finding import Finder
from reverse_etl.destinations.salesforce.links import Link
from reverse_etl.destinations.salesforce.rest import Rest, a_few_at_once
from reverse_etl.errors import BatchRefused, DestinationError, InDoubt
from reverse_etl.model import Batch, Operation
from reverse_etl.retries import TIMEOUT
from reverse_etl.stop import unless_asked
from reverse_etl.verdicts import Outcomes, Refusal

# Rows a call when rows that met a lock are offered again, and the longest pause before it, in seconds.
AGAIN = ((200, 1.0), (50, 4.0), (10, 10.0), (1, 20.0), (1, 30.0))
# Records are saved although a duplicate rule would only warn a person of them. Jobs know no such thing.
PAST_DUPLICATE_RULES = {"sforce-duplicate-rule-header": "allowSave=true"}
# Doubts about a whole request that a smaller one may be spared.
_TOO_MUCH = frozenset({TIMEOUT, errors.BATCH_FAILED})


class Calls:
    """Writes rows by calls of one org. `headers` go with every call that saves."""

    def __init__(self, rest: Rest, finder: Finder, connection: str, clock: Clock, headers: Mapping[str, str]) -> None:
        self._rest = rest
        self._finder = finder
        self._connection = connection
        self._clock = clock
        self._headers = headers
        self._alone = anyio.Lock()

    async def write(self, batch: Batch, links: Mapping[str, Link], outcomes: Outcomes) -> None:
        """One call for up to 200 rows, and further ones for those that met a lock."""
        await self._once(batch, links, outcomes)
        await self.write_locked(batch, links, outcomes)

    async def write_locked(self, batch: Batch, links: Mapping[str, Link], outcomes: Outcomes) -> None:
        """Offer rows again that were refused for a lock."""
        for size, pause in AGAIN:
            locked = [at for at, refusal in outcomes.refusals.items() if errors.passes(refusal)]
            if not locked:
                return
            async with self._alone:
                with unless_asked():
                    await self._clock.sleep(0.5 * pause + self._clock.jitter(pause))
                places = _by_parent(batch, locked)
                for start in range(0, len(places), size):
                    await self._again(batch, links, places[start : start + size], outcomes)

    async def write_all(
        self, batch: Batch, links: Mapping[str, Link], places: Sequence[int], outcomes: Outcomes
    ) -> None:
        """As many calls as the rows at these places take, a few at once; one that is refused as a whole is halved."""
        places, most = _by_parent(batch, places), collections.MOST_RECORDS
        parts = (places[start : start + most] for start in range(0, len(places), most))
        await a_few_at_once(lambda part: self._halving(batch, links, part, outcomes), parts)

    async def update(self, batch: Batch, ids: Sequence[str], outcomes: Outcomes) -> None:
        """One call that updates these very records, without links."""
        answer = await self._save("PATCH", "composite/sobjects", collections.updates(batch, ids, {}))
        collections.read_results(answer, batch, range(len(batch)), ids, outcomes)

    async def look_up(self, batch: Batch, known: Mapping[int, str], outcomes: Outcomes) -> dict[int, str]:
        """Record ids of the rows that none is known of; a row without exactly one record is settled here."""
        sought = enumerate(batch.match_values(values.as_text))
        wanted = {place: str(value or "") for place, value in sought if place not in known}
        if batch.match == "Id" or not wanted:
            return wanted
        field = next(field for field in batch.fields if field.name == batch.match)
        found = await self._finder.matching(batch.object, field, wanted.values())
        ids: dict[int, str] = {}
        for place, value in wanted.items():
            match found.get(value, []):
                case []:
                    outcomes.missing(place)
                case [record]:
                    ids[place] = str(record["Id"])
                case records:
                    outcomes.rejected(place, _ambiguous(batch.match, records))
        return ids

    async def _again(self, batch: Batch, links: Mapping[str, Link], places: Sequence[int], outcomes: Outcomes) -> None:
        part = Outcomes(len(places))
        await self._once(batch.take(places), links, part)
        for place in places:
            del outcomes.refusals[place]
        outcomes.take_over(places, part)

    async def _halving(
        self, batch: Batch, links: Mapping[str, Link], places: Sequence[int], outcomes: Outcomes
    ) -> None:
        part = Outcomes(len(places))
        try:
            await self.write(batch.take(places), links, part)
        except BatchRefused as refusal:
            if len(places) == 1:
                outcomes.rejected(places[0], Refusal(refusal.code, refusal.message, refusal.request_id))
                return
            middle = len(places) // 2
            await self._halving(batch, links, places[:middle], outcomes)
            await self._halving(batch, links, places[middle:], outcomes)
            return
        except DestinationError as failure:
            if failure.answered is not None:
                outcomes.take_over(places, failure.answered)
                failure.answered = None  # it spoke of these rows only
            raise
        outcomes.take_over(places, part)

    async def _once(self, batch: Batch, links: Mapping[str, Link], outcomes: Outcomes) -> None:
        try:
            stops = await self._call(batch, links, outcomes)
        except InDoubt as doubt:
            raise self._smaller(batch, doubt) from doubt
        if stops:
            stop = errors.stopping(self._connection, *stops[0])
            stop.answered = outcomes
            raise stop

    async def _call(
        self, batch: Batch, links: Mapping[str, Link], outcomes: Outcomes
    ) -> list[tuple[errors.Rule, Refusal]]:
        everyone = range(len(batch))
        match batch.operation:
            case Operation.UPSERT:
                path = f"composite/sobjects/{batch.object}/{batch.match}"
                answer = await self._save("PATCH", path, collections.upserts(batch, links))
                return collections.read_results(answer, batch, everyone, None, outcomes)
            case Operation.CREATE:
                body = collections.creations(batch, links)
                answer = await self._save("POST", "composite/sobjects", body, idempotent=False)
                return collections.read_results(answer, batch, everyone, None, outcomes)
            case Operation.UPDATE:
                return await self._update(batch, links, outcomes)
            case Operation.REMOVE:
                return await self._remove(batch, outcomes)
            case Operation.APPEND:
                raise AssertionError("append is not among the modes")

    async def _update(
        self, batch: Batch, links: Mapping[str, Link], outcomes: Outcomes
    ) -> list[tuple[errors.Rule, Refusal]]:
        ids = remembered(batch)
        ids = dict(sorted((ids | await self.look_up(batch, ids, outcomes)).items()))
        if not ids:
            return []
        body = collections.updates(batch.take(list(ids)), list(ids.values()), links)
        answer = await self._save("PATCH", "composite/sobjects", body)
        return collections.read_results(answer, batch, list(ids), list(ids.values()), outcomes)

    async def _remove(self, batch: Batch, outcomes: Outcomes) -> list[tuple[errors.Rule, Refusal]]:
        ids = remembered(batch)
        for place in range(len(batch)):
            if place not in ids:
                outcomes.missing(place)
        if not ids:
            return []
        params = {"ids": ",".join(ids.values()), "allOrNone": "false"}
        answer = await self._rest.call("DELETE", "composite/sobjects", params=params)
        return collections.read_results(answer, batch, list(ids), list(ids.values()), outcomes)

    async def _save(self, method: str, path: str, body: Any, *, idempotent: bool = True) -> Any:
        many = len(body["records"]) > 1
        return await self._rest.call(
            method, path, json=body, headers=self._headers, idempotent=idempotent, splittable=many
        )

    def _smaller(self, batch: Batch, doubt: InDoubt) -> DestinationError:
        """A request that was too much as a whole counts as refused, and so is halved, where repeating is harmless."""
        if doubt.code not in _TOO_MUCH or batch.operation is Operation.CREATE:
            return doubt
        if len(batch) == 1 and doubt.code != errors.BATCH_FAILED:
            return doubt
        return BatchRefused(
            doubt.message, hint=doubt.hint, code=doubt.code, status=doubt.status, request_id=doubt.request_id
        )


def remembered(batch: Batch) -> dict[int, str]:
    """The record ids that we know, by place."""
    return {place: known for place, known in enumerate(batch.record_ids.to_pylist()) if known}


def _by_parent(batch: Batch, places: Sequence[int]) -> list[int]:
    """The places so that rows of one parent stand together."""
    linked = [field.name for field in batch.fields if field.parent is not None]
    if not linked:
        return sorted(places)
    parents = batch.rows.column(linked[0]).to_pylist()
    return sorted(places, key=lambda place: (str(parents[place]), place))


def _ambiguous(match: str, records: Sequence[dict[str, Any]]) -> Refusal:
    ids = ", ".join(str(record["Id"]) for record in records)
    return Refusal("ambiguous_match", f"{match} finds several records: {ids}")
