"""Salesforce as a destination: describe, write and find over one org's REST API."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel

from reverse_etl.destinations.salesforce import bulk, calls, collections, converted, errors, links, schema, sheet
from reverse_etl.destinations.salesforce.config import SalesforceConfig
from reverse_etl.destinations.salesforce.finding import Finder
from reverse_etl.destinations.salesforce.remedies import REMEDIES
from reverse_etl.destinations.salesforce.rest import IN_FLIGHT, Rest
from reverse_etl.errors import DestinationError, ReverseEtlError
from reverse_etl.model import Batch, Field, Limits, ObjectSchema, Operation, Parent
from reverse_etl.protocols import FROZEN, OTHERS, Opening, Traffic
from reverse_etl.verdicts import Outcomes, Verdict

# What a call with 200 records takes at a usual org, triggers and flows included; only estimates stand on it.
USUAL_SECONDS = 0.5
# Jobs run the rules that assign territories to accounts; only a call can switch them off. Those of leads and cases run
# in no job that doesn't name one. (REST API guide, "Assignment Rule Header"; Bulk API 2.0 guide, "Create a Job".)
_ASSIGNED = frozenset({"account"})
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
    options: ClassVar[frozenset[str]] = frozenset({"allow_duplicates", "hard", "on_converted"})
    remedies: ClassVar[Mapping[str, str]] = REMEDIES

    def __init__(self, config: SalesforceConfig, opening: Opening, *, transport: Any = None) -> None:
        self._name = opening.name
        self._rest = Rest(config, opening, transport)
        self._bulk_from = config.bulk_from
        self._asked_for_bulk = "bulk_from" in config.model_fields_set
        self._past_rules = bool(opening.options.get("allow_duplicates"))
        self._hard = bool(opening.options.get("hard"))
        self._finder = Finder(self._rest, opening.name, opening.clock)
        headers = calls.PAST_DUPLICATE_RULES if self._past_rules else {}
        self._calls = calls.Calls(self._rest, self._finder, opening.name, opening.clock, headers)
        self._converted = (
            converted.Converted(self._finder, self._calls, self._description)
            if opening.options.get("on_converted") == "contact"
            else None
        )
        self._bulk = bulk.Bulk(
            self._rest,
            self._finder,
            opening,
            self._write_few,
            self._write_locked,
            patience=config.bulk_patience,
            hard=self._hard,
        )
        self._described: dict[str, schema.Description] = {}
        self._links: dict[tuple[str, str], links.Link] = {}
        self._planned = self._stored = 0

    def limits(self, object: str, operation: Operation, rows: int) -> Limits:
        self._planned = rows
        if self._goes_in_bulk(object, operation, rows):
            return Limits(batch_size=bulk.ROWS, in_flight=bulk.IN_FLIGHT, path=bulk.PATH, calls=bulk.CALLS)
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
        return (await self._description(object)).schema

    async def _description(self, object: str) -> schema.Description:
        known = self._described.get(object.lower())
        if known is None:
            known = self._described[object.lower()] = await schema.describe(self._rest, self._name, object)
        return known

    async def describe_link(self, object: str, name: str, parent: Parent) -> Field:
        link, field = await links.describe(self._description, self._name, object, name, parent)
        self._links[object.lower(), name] = link
        return field

    async def write(self, batch: Batch) -> Outcomes:
        self._permit(batch)
        outcomes = Outcomes(len(batch))
        table = None
        if await self._bulk.left(batch.sync):
            table = await self._sheet(batch, outcomes)
            self._bulk.adopt(batch, table, outcomes)
        open = outcomes.count(Verdict.NO_ANSWER)
        if batch.path == bulk.PATH and (self._fills_a_job(open) or self._is_for_good(batch)):
            await self._bulk.write(batch, table or await self._sheet(batch, outcomes), outcomes)
        elif open == len(batch) <= collections.MOST_RECORDS:
            await self._calls.write(batch, self._links_of(batch), outcomes)
        else:
            await self._write_few(batch, outcomes.unanswered(), outcomes)
        if self._converted is not None:
            await self._converted.follow(batch, outcomes)
        return outcomes

    async def recorded(self, batch: Batch) -> None:
        self._stored += len(batch)
        self._bulk.recorded(batch)

    async def find(
        self, object: str, match: str, values: Sequence[str], fields: Sequence[str]
    ) -> dict[str, dict[str, object]]:
        schema = await self.describe(object)
        signs = converted.signs(schema) if fields else []
        found = await self._finder.matching(object, schema.fields[match], values, [*fields, *signs])
        return {value: self._found(records, fields) for value, records in found.items()}

    def _found(self, records: Sequence[dict[str, Any]], fields: Sequence[str]) -> dict[str, object]:
        """The record with the lowest id, the ids of the others, and whether it takes writes."""
        first, *others = records
        found: dict[str, object] = {"id": first["Id"], **{name: first.get(name) for name in fields}}
        if others:
            found[OTHERS] = [record["Id"] for record in others]
        if (why := converted.frozen(first, follows=self._converted is not None)) is not None:
            found[FROZEN] = why
        return found

    async def aclose(self) -> None:
        if self._stored >= self._planned:
            self._bulk.forget_left()
        self._finder.close()
        await self._rest.aclose()

    async def _write_few(self, batch: Batch, places: Sequence[int], outcomes: Outcomes) -> None:
        try:
            await self._calls.write_all(batch, self._links_of(batch), places, outcomes)
        except ReverseEtlError as failure:
            failure.answered = outcomes
            raise

    async def _write_locked(self, batch: Batch, outcomes: Outcomes) -> None:
        await self._calls.write_locked(batch, self._links_of(batch), outcomes)

    async def _sheet(self, batch: Batch, outcomes: Outcomes) -> sheet.Sheet:
        """The rows as a job would take them; those whose record isn't there are settled."""
        ids = None
        if batch.operation in (Operation.UPDATE, Operation.REMOVE):
            ids = batch.record_ids.to_pylist()
            if batch.record_ids.null_count and batch.operation is Operation.UPDATE:
                found = await self._calls.look_up(batch, calls.remembered(batch), outcomes)
                ids = [found.get(place, known) for place, known in enumerate(ids)]
            elif batch.record_ids.null_count:
                for place in [place for place, known in enumerate(ids) if not known]:
                    outcomes.missing(place)
        return sheet.sheet_of(batch, ids, self._links_of(batch))

    def _is_for_good(self, batch: Batch) -> bool:
        return self._hard and batch.operation is Operation.REMOVE

    def _links_of(self, batch: Batch) -> dict[str, links.Link]:
        known = {field.name: self._links.get((batch.object.lower(), field.name)) for field in batch.fields}
        return {name: link for name, link in known.items() if link is not None}

    def _goes_in_bulk(self, object: str, operation: Operation, rows: int) -> bool:
        """Which way the rows of a run go.

        Only a job deletes past the recycle bin, and only a call may pass a duplicate rule, or spare an account the
        rules that assign it: for those a job must be asked for, or calls be scarce.
        """
        if operation is Operation.REMOVE:
            return self._hard or self._fills_a_job(rows)
        if self._past_rules:
            return False
        spared = object.lower() in _ASSIGNED and not self._asked_for_bulk
        return self._calls_are_scarce(rows) if spared else self._fills_a_job(rows)

    def _fills_a_job(self, rows: int) -> bool:
        """From so many rows on a job takes fewer calls; with few calls left, from fewer rows."""
        if isinstance(self._bulk_from, str):
            return self._bulk_from == "always"
        return rows >= self._bulk_from or self._calls_are_scarce(rows)

    def _calls_are_scarce(self, rows: int) -> bool:
        needed, left = math.ceil(rows / collections.MOST_RECORDS), self._rest.calls_left
        return left is not None and left < 2 * needed and needed > bulk.CALLS

    def _permit(self, batch: Batch) -> None:
        """Raises what makes this batch pointless before a call is spent on it."""
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
