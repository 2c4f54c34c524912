"""Salesforce as a destination: describe, write and find over one org's REST API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel

from reverse_etl import values
from reverse_etl.destinations.salesforce import collections, errors, schema, soql
from reverse_etl.destinations.salesforce.config import SalesforceConfig
from reverse_etl.destinations.salesforce.rest import IN_FLIGHT, Rest
from reverse_etl.errors import BatchRefused, DestinationError, InDoubt
from reverse_etl.model import DELIVERED, Batch, Limits, ObjectSchema, Operation, Outcomes, Refusal
from reverse_etl.protocols import OTHERS, Opening, Traffic

# What a call with 200 records takes at a usual org, triggers and flows included; only estimates stand on it.
USUAL_SECONDS = 0.5
# Doubts about a whole request that a smaller one may be spared.
_TOO_MUCH = frozenset({"destination_timeout", errors.BATCH_FAILED})
_VERBS = {
    Operation.UPSERT: "create and edit",
    Operation.CREATE: "create",
    Operation.UPDATE: "edit",
    Operation.REMOVE: "delete",
}


class Salesforce:
    """Records of any object, found by an external id or by their record id; removal goes to the recycle bin."""

    Config: ClassVar[type[BaseModel]] = SalesforceConfig
    modes: ClassVar[frozenset[str]] = frozenset({"upsert", "update", "insert", "mirror"})
    removal: ClassVar[str] = "delete"

    def __init__(self, config: SalesforceConfig, opening: Opening, *, transport: Any = None) -> None:
        self._name = opening.name
        self._rest = Rest(config, opening, transport)
        self._described: dict[str, schema.Description] = {}
        self._stopped: DestinationError | None = None

    def limits(self, object: str, operation: Operation, rows: int) -> Limits:
        return Limits(batch_size=collections.MOST_RECORDS, in_flight=IN_FLIGHT)

    @property
    def traffic(self) -> Traffic:
        return self._rest.traffic

    @property
    def requests_per_second(self) -> float:
        return min(self._rest.requests_per_second, IN_FLIGHT / USUAL_SECONDS)

    async def account(self) -> str:
        return await self._rest.organization()

    async def describe(self, object: str) -> ObjectSchema:
        known = self._described.get(object.lower())
        if known is None:
            known = self._described[object.lower()] = await schema.describe(self._rest, self._name, object)
        return known.schema

    async def write(self, batch: Batch) -> Outcomes:
        self._permit(batch)
        outcomes = Outcomes(len(batch))
        try:
            stops = await self._write(batch, outcomes)
        except InDoubt as doubt:
            raise self._smaller(batch, doubt) from doubt
        if stops:
            self._stop(*stops[0], outcomes)
        return outcomes

    async def find(
        self, object: str, match: str, values: Sequence[str], fields: Sequence[str]
    ) -> dict[str, dict[str, object]]:
        field = (await self.describe(object)).fields[match]
        found = await soql.matching(self._rest, object, field, values, fields)
        return {value: _first(records, fields) for value, records in found.items()}

    async def aclose(self) -> None:
        await self._rest.aclose()

    async def _write(self, batch: Batch, outcomes: Outcomes) -> list[tuple[errors.Rule, Refusal]]:
        everyone = range(len(batch))
        match batch.operation:
            case Operation.UPSERT:
                path = f"composite/sobjects/{batch.object}/{batch.match}"
                answer = await self._rest.call("PATCH", path, json=collections.upserts(batch))
                return collections.read_results(answer, batch, everyone, None, outcomes)
            case Operation.CREATE:
                answer = await self._rest.call(
                    "POST", "composite/sobjects", json=collections.creations(batch), idempotent=False
                )
                return collections.read_results(answer, batch, everyone, None, outcomes)
            case Operation.UPDATE:
                return await self._update(batch, outcomes)
            case Operation.REMOVE:
                return await self._remove(batch, outcomes)
            case Operation.APPEND:
                raise AssertionError("append is not among the modes")

    async def _update(self, batch: Batch, outcomes: Outcomes) -> list[tuple[errors.Rule, Refusal]]:
        ids = _remembered(batch)
        ids = dict(sorted((ids | await self._look_up(batch, ids, outcomes)).items()))
        if not ids:
            return []
        body = collections.updates(batch.take(list(ids)), list(ids.values()))
        answer = await self._rest.call("PATCH", "composite/sobjects", json=body)
        return collections.read_results(answer, batch, list(ids), list(ids.values()), outcomes)

    async def _remove(self, batch: Batch, outcomes: Outcomes) -> list[tuple[errors.Rule, Refusal]]:
        ids = _remembered(batch)
        for position in range(len(batch)):
            if position not in ids:
                outcomes.missing(position)
        if not ids:
            return []
        params = {"ids": ",".join(ids.values()), "allOrNone": "false"}
        answer = await self._rest.call("DELETE", "composite/sobjects", params=params)
        return collections.read_results(answer, batch, list(ids), list(ids.values()), outcomes)

    async def _look_up(self, batch: Batch, known: Mapping[int, str], outcomes: Outcomes) -> dict[int, str]:
        """Record ids of the rows that none is known of; a row without exactly one record is settled here."""
        sought = enumerate(batch.match_values(values.as_text))
        wanted = {position: str(value or "") for position, value in sought if position not in known}
        if batch.match == "Id" or not wanted:
            return wanted
        field = next(field for field in batch.fields if field.name == batch.match)
        found = await soql.matching(self._rest, batch.object, field, wanted.values())
        ids: dict[int, str] = {}
        for position, value in wanted.items():
            match found.get(value, []):
                case []:
                    outcomes.missing(position)
                case [record]:
                    ids[position] = str(record["Id"])
                case records:
                    outcomes.rejected(position, _ambiguous(batch.match, records))
        return ids

    def _permit(self, batch: Batch) -> None:
        """Raises what makes this batch pointless before a call is spent on it."""
        if self._stopped is not None:
            raise self._stopped
        if batch.operation is Operation.UPSERT and batch.match == "Id":
            raise DestinationError(
                f"destination {self._name!r}: Id can find records but not create them",
                hint="set `mode: update`, or `match` to a field with 'External ID' ticked",
                code=errors.CONFIG,
            )
        known = self._described.get(batch.object.lower())
        if known is not None and batch.operation not in known.allowed:
            verbs = _VERBS[batch.operation]
            raise DestinationError(
                f"destination {self._name!r}: the connected user may not {verbs} {batch.object} records",
                hint="give its profile or a permission set that right on the object",
                code=errors.CONFIG,
            )

    def _stop(self, rule: errors.Rule, refusal: Refusal, outcomes: Outcomes) -> None:
        """Ends the run: at once when this answer delivered nothing, else with the next batch: nothing gets lost."""
        stop = errors.stopping(self._name, rule, refusal)
        if DELIVERED.isdisjoint(outcomes.verdicts):
            raise stop
        self._stopped = stop

    def _smaller(self, batch: Batch, doubt: InDoubt) -> DestinationError:
        """A request that was too much as a whole counts as refused, and so is halved, where repeating is harmless."""
        if doubt.code not in _TOO_MUCH or batch.operation is Operation.CREATE:
            return doubt
        if len(batch) == 1 and doubt.code != errors.BATCH_FAILED:
            return doubt
        return BatchRefused(
            doubt.message, hint=doubt.hint, code=doubt.code, status=doubt.status, request_id=doubt.request_id
        )


def _first(records: Sequence[dict[str, Any]], fields: Sequence[str]) -> dict[str, object]:
    """The record with the lowest id, and the ids of the others."""
    first, *others = records
    found: dict[str, object] = {"id": first["Id"], **{name: first.get(name) for name in fields}}
    return {**found, OTHERS: [record["Id"] for record in others]} if others else found


def _remembered(batch: Batch) -> dict[int, str]:
    return {position: known for position, known in enumerate(batch.record_ids.to_pylist()) if known}


def _ambiguous(match: str, records: Sequence[dict[str, Any]]) -> Refusal:
    ids = ", ".join(str(record["Id"]) for record in records)
    return Refusal("DUPLICATE_EXTERNAL_ID", f"{match}: more than one record found: [{ids}]")
