"""The destination itself: settings, limits, and the way to the modules that know the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from reverse_etl.answer import Answer
from reverse_etl.destinations.hubspot import properties, schema
from reverse_etl.destinations.hubspot.auth import Grants, StaticToken, fingerprint, of_exchange
from reverse_etl.destinations.hubspot.config import WINDOW_SECONDS, HubSpotConfig, OAuthApp
from reverse_etl.destinations.hubspot.errors import Access, body_of, classify, unreadable
from reverse_etl.destinations.hubspot.paths import Paths
from reverse_etl.destinations.hubspot.reads import MOST_INPUTS, Records
from reverse_etl.destinations.hubspot.write import Writing
from reverse_etl.errors import DestinationError
from reverse_etl.http import Http
from reverse_etl.model import Batch, Field, Limits, ObjectSchema, Operation, Outcomes, Refusal
from reverse_etl.pace import Pace, shared
from reverse_etl.protocols import NewField, Opening, Traffic

# The allowance of the smallest plan; the first answer tells the account's own.
FIRST_REQUESTS = 100
IN_FLIGHT = 4


class HubSpot:
    """One account of HubSpot's, for one run. `transport` stands in for the network in tests."""

    Config: ClassVar[type[BaseModel]] = HubSpotConfig
    modes: ClassVar[frozenset[str]] = frozenset({"upsert", "update", "insert", "mirror"})
    removal: ClassVar[str] = "archive"

    def __init__(self, config: HubSpotConfig, opening: Opening, *, transport: Any = None) -> None:
        self._opening = opening
        self._paths = Paths(config.api_version)
        self._most, self._window = config.rate_limit.window(WINDOW_SECONDS)
        self._reserve = config.rate_limit.reserve
        self._traffic = Traffic()
        self._zone: ZoneInfo | None = None
        self._types: dict[str, str] = {}
        self._schemas: dict[str, ObjectSchema] = {}
        self._oauth = config.oauth
        self._account = fingerprint(config)
        self._pace = shared(self._account, self._new_pace)
        open = partial(
            Http,
            base_url=config.base_url,
            pace=self._pace,
            traffic=self._traffic,
            clock=opening.clock,
            transport=transport,
        )
        self._tokens = open(classify=partial(of_exchange, connection=opening.name))
        credential = self._grants(self._oauth) if self._oauth else StaticToken(config.token)
        self._http = open(credential=credential, classify=self._classify, learn=self._learn)

    def limits(self, object: str, operation: Operation, rows: int) -> Limits:
        return Limits(batch_size=MOST_INPUTS, in_flight=IN_FLIGHT)

    @property
    def traffic(self) -> Traffic:
        return self._traffic

    @property
    def requests_per_second(self) -> float:
        return self._pace.requests_per_second

    async def account(self) -> str:
        """The portal id."""
        answer = await self._http.send("GET", self._paths.account(), idempotent=True)
        details = body_of(answer)
        if not details.get("portalId"):
            raise unreadable("the account's details name no portal", answer)
        self._zone = _zone(details.get("timeZone"))
        return str(details["portalId"])

    async def describe(self, object: str) -> ObjectSchema:
        """By the account's property list."""
        described = await schema.describe(self._http, self._paths, object, await self._type(object))
        self._schemas[object] = described
        return described

    async def write(self, batch: Batch) -> Outcomes:
        known = self._schemas[batch.object].fields if batch.object in self._schemas else ()
        return await Writing(await self._records(batch.object), batch, known).run()

    async def find(
        self, object: str, match: str, values: Sequence[str], fields: Sequence[str]
    ) -> dict[str, dict[str, object]]:
        return await (await self._records(object)).find(match, values, fields)

    async def draft_fields(self, object: str, fields: Sequence[Field]) -> list[NewField]:
        return await properties.draft(self._http, self._paths, await self._type(object), fields)

    async def make_fields(self, object: str, fields: Sequence[NewField]) -> dict[str, Refusal]:
        return await properties.make(self._http, self._paths, await self._type(object), fields)

    async def aclose(self) -> None:
        await self._http.aclose()
        await self._tokens.aclose()

    def _grants(self, app: OAuthApp) -> Grants:
        return Grants(app, self._account, self._paths.token(), self._opening, self._tokens)

    async def _records(self, object: str) -> Records:
        return Records(self._http, self._paths, await self._type(object))

    async def _type(self, object: str) -> str:
        if object not in self._types:
            self._types[object] = await schema.resolve(self._http, self._paths, object)
        return self._types[object]

    def _new_pace(self) -> Pace:
        return Pace(
            requests=self._most or FIRST_REQUESTS,
            per_seconds=self._window,
            clock=self._opening.clock,
            reserve=self._reserve,
            most=self._most,
        )

    def _classify(self, answer: Answer) -> DestinationError | None:
        access = Access(self._opening.name, renewable=self._oauth is not None)
        return classify(answer, access=access, zone=self._zone, now=self._opening.clock.now())

    def _learn(self, answer: Answer) -> None:
        """Search answers carry no such headers, and OAuth apps no daily ones: what isn't told isn't learned."""
        most = _number(answer.headers, "x-hubspot-ratelimit-max")
        remaining = _number(answer.headers, "x-hubspot-ratelimit-remaining")
        seconds = (_number(answer.headers, "x-hubspot-ratelimit-interval-milliseconds") or 10_000) / 1000
        if most is None:
            return
        if self._most is None or seconds == self._window:
            self._pace.learn(requests=most, remaining=remaining, per_seconds=seconds)
        else:  # the user's window is not HubSpot's: their figure only bounds ours
            self._pace.learn(requests=max(1, int(most * self._window / seconds)))


def _number(headers: Mapping[str, str], name: str) -> int | None:
    told = headers.get(name, "")
    return int(told) if told.isdecimal() else None


def _zone(name: object) -> ZoneInfo | None:
    """The account's time zone, None where this machine doesn't know it."""
    try:
        return ZoneInfo(str(name))
    except (KeyError, ValueError, OSError):
        return None
