"""The destination itself: settings, limits, and the way to the modules that know the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from reverse_etl.destinations.hubspot.config import HubSpotConfig, OAuthApp
from reverse_etl.destinations.hubspot.paths import Paths
from reverse_etl.destinations.hubspot.remedies import REMEDIES
from reverse_etl.errors import DestinationError, InDoubt, ReverseEtlError
from reverse_etl.late import Late
from reverse_etl.model import Batch, Field, Limits, ObjectSchema, Operation, Parent
from reverse_etl.protocols import NewField, Opening, Traffic
from reverse_etl.verdicts import Outcomes, Refusal

if TYPE_CHECKING:
    from reverse_etl import http, pace, retries
    from reverse_etl.answer import Answer
    from reverse_etl.destinations.hubspot import (
        allowances,
        auth,
        errors,
        events,
        links,
        lists,
        properties,
        reads,
        schema,
        write,
    )
else:  # every run reads the settings, and most send nothing: the rest is imported when an account is opened
    http, pace, retries = (Late(f"reverse_etl.{name}") for name in ("http", "pace", "retries"))
    rooms = ("allowances", "auth", "errors", "events", "links", "lists", "properties", "reads", "schema", "write")
    allowances, auth, errors, events, links, lists, properties, reads, schema, write = (
        Late(f"reverse_etl.destinations.hubspot.{name}") for name in rooms
    )

IN_FLIGHT = 4


class HubSpot:
    """One account of HubSpot's, for one run. `transport` stands in for the network in tests."""

    Config: ClassVar[type[BaseModel]] = HubSpotConfig
    modes: ClassVar[frozenset[str]] = frozenset({"upsert", "update", "insert", "mirror", "append"})
    removal: ClassVar[str] = "archive"
    remedies: ClassVar[Mapping[str, str]] = REMEDIES

    def __init__(self, config: HubSpotConfig, opening: Opening, *, transport: Any = None) -> None:
        self._opening = opening
        self._paths = Paths(config.api_version)
        self._traffic = Traffic()
        self._types: dict[str, str] = {}
        self._schemas: dict[str, ObjectSchema] = {}
        self._oauth = config.oauth
        self._account = auth.fingerprint(config)
        self._allowances = pace.shared(self._account, lambda: allowances.Allowances(config, opening, self._account))
        open = partial(
            http.Http,
            base_url=config.base_url,
            pace=self._allowances.of,
            breaker=self._allowances.breaker,
            budget=retries.Budget(),
            traffic=self._traffic,
            clock=opening.clock,
            transport=transport,
        )
        self._tokens = open(classify=partial(auth.of_exchange, connection=opening.name))
        credential = self._grants(self._oauth) if self._oauth else auth.StaticToken(config.token)
        self._http = open(credential=credential, classify=self._classify, learn=self._allowances.learn)
        self._links = links.Links(self._http, self._paths, self._type, self._schema)
        self._events = events.Events(self._http, self._paths)
        self._lists = lists.Lists(self._http, self._paths, self._type)

    def limits(self, object: str, operation: Operation, rows: int) -> Limits:
        if operation is Operation.APPEND:
            return events.LIMITS
        if lists.is_list(object):
            return lists.LIMITS
        return Limits(batch_size=reads.MOST_INPUTS, in_flight=IN_FLIGHT)

    @property
    def traffic(self) -> Traffic:
        return self._traffic

    @property
    def requests_per_second(self) -> float:
        return self._allowances.ordinary.requests_per_second

    async def account(self) -> str:
        """The portal id."""
        answer = await self._http.send("GET", self._paths.account(), idempotent=True)
        details = errors.body_of(answer)
        if not details.get("portalId"):
            raise errors.unreadable("the account's details name no portal", answer)
        self._allowances.zone = _zone(details.get("timeZone"))
        return str(details["portalId"])

    async def describe(self, object: str) -> ObjectSchema:
        """By the account's property list, or an event's definition; a list has the properties that find its records."""
        described = self._schemas[object] = await self._described(object)
        return described

    async def write(self, batch: Batch) -> Outcomes:
        if batch.operation is Operation.APPEND:
            return await self._events.send(batch)
        if lists.is_list(batch.object):
            return await (await self._lists.named(batch.object)).write(batch)
        known = self._schemas[batch.object].fields if batch.object in self._schemas else ()
        writing = write.Writing(await self._records(batch.object), batch, known)
        try:
            return await writing.run()
        except ReverseEtlError as failure:
            if not isinstance(failure, InDoubt) and not failure.doubtful:  # only what was answered has been carried out
                failure.answered = writing.outcomes
            raise

    async def describe_link(self, object: str, name: str, parent: Parent) -> Field:
        self._refuse_without_records(object, "links")
        return await self._links.describe(object, name, parent)

    async def link(self, batch: Batch, record_ids: Sequence[str]) -> dict[int, Refusal]:
        return await self._links.write(batch, record_ids)

    async def find(
        self, object: str, match: str, values: Sequence[str], fields: Sequence[str]
    ) -> dict[str, dict[str, object]]:
        if lists.is_list(object):
            return await (await self._lists.named(object)).find(match, values, fields)
        return await (await self._records(object)).find(match, values, fields)

    async def draft_fields(self, object: str, fields: Sequence[Field]) -> list[NewField]:
        self._refuse_without_records(object, "new fields")
        return await properties.draft(self._http, self._paths, await self._type(object), fields)

    async def make_fields(self, object: str, fields: Sequence[NewField]) -> dict[str, Refusal]:
        return await properties.make(self._http, self._paths, await self._type(object), fields)

    async def aclose(self) -> None:
        await self._http.aclose()
        await self._tokens.aclose()

    def _grants(self, app: OAuthApp) -> auth.Grants:
        return auth.Grants(app, self._account, self._paths.token(), self._opening, self._tokens)

    async def _described(self, object: str) -> ObjectSchema:
        """A plain name is an object's, else an event's."""
        if lists.is_list(object):
            return await (await self._lists.named(object)).describe()
        type = object if events.is_full_name(object) else await self._type(object)
        if not schema.is_certain(type) and (event := await self._events.describe(object)):
            return event
        return await schema.describe(self._http, self._paths, object, type, self._events.names)

    def _refuse_without_records(self, object: str, what: str) -> None:
        """Events and lists, as far as they are described, have none of their own. Raises DestinationError."""
        described = self._schemas.get(object)
        if described is not None and not described.extensible:
            raise DestinationError(
                f"HubSpot, {object}: only objects with records of their own can have {what}",
                code="destination_config",
                hint="take the field out of the mapping",
            )

    async def _records(self, object: str) -> reads.Records:
        return reads.Records(self._http, self._paths, await self._type(object))

    async def _schema(self, object: str) -> ObjectSchema:
        return self._schemas.get(object) or await self.describe(object)

    async def _type(self, object: str) -> str:
        if object not in self._types:
            self._types[object] = await schema.resolve(self._http, self._paths, object)
        return self._types[object]

    def _classify(self, answer: Answer) -> DestinationError | None:
        access = errors.Access(self._opening.name, renewable=self._oauth is not None)
        return errors.classify(answer, access=access, zone=self._allowances.zone, now=self._opening.clock.now())


def _zone(name: object) -> ZoneInfo | None:
    """The account's time zone, None where this machine doesn't know it."""
    try:
        return ZoneInfo(str(name))
    except (KeyError, ValueError, OSError):
        return None
