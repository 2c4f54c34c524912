"""One org's REST API: a session opened with the first call, calls paced and counted, the day's allowance watched."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import IO, Any, TypeVar
from urllib.parse import quote

import anyio
from anyio.lowlevel import checkpoint

from reverse_etl import breaker
from reverse_etl.answer import Answer
from reverse_etl.destinations.salesforce import auth, errors
from reverse_etl.destinations.salesforce.config import SalesforceConfig
from reverse_etl.errors import DailyLimit, InDoubt
from reverse_etl.http import UNSET, Http
from reverse_etl.pace import Pace, shared
from reverse_etl.protocols import Opening, Traffic
from reverse_etl.retries import Budget
from reverse_etl.stop import unless_asked

IN_FLIGHT = 4
# Salesforce publishes no limit per second: it counts calls by the day, and those that run for 20 s or longer at once.
# (Developer Limits and Allocations Quick Reference, "API Requests", read in 2026.)
CALLS_PER_SECOND = 1000
LOGINS_PER_SECOND = 5
DEADLINE_SECONDS = 300.0

HEADERS = {
    "sforce-call-options": "client=reverse-etl",  # names us in the org's logs
    "sforce-auto-assign": "FALSE",  # else every write to a lead or case fires the assignment rules
    "sforce-mru": "updateMru=false",  # else records we write show up among the user's recently viewed ones
}
_USAGE = re.compile(r"(?:^|;)\s*api-usage=(\d+)/(\d+)")


T = TypeVar("T")


async def a_few_at_once(work: Callable[[T], Awaitable[None]], items: Iterable[T]) -> None:
    """Do the work for each item, as many at once as an org is asked.

    After a failure, or when the run is asked to stop, no further one is begun; it is raised when those under way have
    ended.
    """
    waiting = iter(items)
    failures: list[Exception] = []

    async def one_after_the_other() -> None:
        for item in waiting:
            try:
                with unless_asked():
                    await checkpoint()
                await work(item)
            except Exception as failure:
                failures.append(failure)
            if failures:
                return

    async with anyio.create_task_group() as tasks:
        for _ in range(IN_FLIGHT):
            tasks.start_soon(one_after_the_other)
    if failures:
        raise failures[0]


class Rest:
    """Calls to `/services/data/{version}/...` of the org behind one connection.

    `transport` stands in for the network in tests.
    """

    def __init__(self, config: SalesforceConfig, opening: Opening, transport: Any = None) -> None:
        self._name = opening.name
        self._told = f"Salesforce (connection {opening.name!r})"
        self._config = config
        self._clock = opening.clock
        self._places = opening.places
        self._transport = transport
        self._usage: tuple[int, int] | None = None  # calls of the last 24 hours, of how many; they lag a little
        self._asked_identity: auth.Identity | None = None
        self.traffic = Traffic()
        self._pace = shared(f"salesforce:{auth.fingerprint(config)}", self._new_pace)
        login_pace = shared(f"salesforce-login:{auth.fingerprint(config)}", self._new_login_pace)
        self._budget = Budget()
        self._login = Http(
            base_url=config.login_url,
            budget=self._budget,
            pace=login_pace,
            traffic=self.traffic,
            clock=opening.clock,
            classify=partial(auth.of_login, opening.name),
            transport=transport,
        )
        self._sessions = auth.Sessions(config, opening, self._login)
        self._instance: Http | None = None

    @property
    def requests_per_second(self) -> float:
        return self._pace.requests_per_second

    @property
    def calls_left(self) -> int | None:
        """Calls that the org has left of its 24 hours, as far as an answer has told."""
        return None if self._usage is None else max(0, self._usage[1] - self._usage[0])

    async def organization(self) -> str:
        """The org's id, 18 characters."""
        return (await self._identity()).organization

    async def user(self) -> str:
        """The id of the user that the session belongs to."""
        return (await self._identity()).user

    async def _identity(self) -> auth.Identity:
        """From the login, or asked for when the token came ready-made."""
        session = await self._sessions.current()
        if session.identity is not None:
            return session.identity
        if self._asked_identity is None:
            self._asked_identity = await self._ask_identity()
        return self._asked_identity

    async def _ask_identity(self) -> auth.Identity:
        answer = await self.call("GET", "")  # the list of resources, which tells whose session it is
        resources = answer.json()
        try:
            return auth.identity_in(resources["identity"])
        except (KeyError, TypeError, ValueError, AttributeError) as unreadable:
            raise self._unreadable("the org did not tell its id", answer) from unreadable

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = UNSET,
        content: bytes | IO[bytes] | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        idempotent: bool = True,
        splittable: bool = False,
        deadline: float | None = None,
        into: IO[bytes] | None = None,
    ) -> Answer:
        """One call below `/services/data/{version}`. Raises DailyLimit when only the reserve is left."""
        self._spare_the_reserve()
        http = await self._open()
        return await http.send(
            method,
            f"/services/data/{self._config.api_version}/{path}",
            json=json,
            content=content,
            params=params,
            headers={**HEADERS, **(headers or {})},
            idempotent=idempotent,
            splittable=splittable,
            deadline=deadline,
            into=into,
        )

    async def query(self, soql: str) -> list[dict[str, Any]]:
        """All records that a query finds, over as many pages as it takes."""
        return [record async for record in self.listed(f"query?q={quote(soql, safe='')}")]

    async def count(self, soql: str) -> int:
        """What a query for a COUNT() says."""
        answer = await self.call("GET", f"query?q={quote(soql, safe='')}")
        told = answer.json()
        if not isinstance(told, dict) or not isinstance(told.get("totalSize"), int):
            raise self._unreadable("a number was asked for, and something else answered", answer)
        return int(told["totalSize"])

    async def listed(self, path: str) -> AsyncIterator[dict[str, Any]]:
        """What a list holds, page by page."""
        answer = await self.call("GET", path)
        while True:
            page = answer.json()
            if not isinstance(page, dict) or not isinstance(page.get("records"), list):
                raise self._unreadable("a list was answered with something that is not one", answer)
            for record in page["records"]:
                yield record
            following = page.get("nextRecordsUrl")
            if page.get("done", True) or not isinstance(following, str):
                return
            self._spare_the_reserve()
            answer = await (await self._open()).send("GET", following, headers=HEADERS, idempotent=True)

    async def aclose(self) -> None:
        await self._login.aclose()
        if self._instance is not None:
            await self._instance.aclose()

    async def _open(self) -> Http:
        session = await self._sessions.current()
        if self._instance is None:
            self._instance = Http(
                base_url=session.instance_url,
                pace=self._pace,
                traffic=self.traffic,
                clock=self._clock,
                credential=self._sessions,
                classify=partial(errors.of_request, self._name),
                learn=self._learn,
                breaker=breaker.shared(auth.fingerprint(self._config), self._clock, self._told),
                budget=self._budget,
                deadline=DEADLINE_SECONDS,
                transport=self._transport,
            )
        return self._instance

    def _unreadable(self, message: str, answer: Answer) -> InDoubt:
        said = f"destination {self._name!r}: {message}"
        return InDoubt(said, code="destination_unreadable", request_id=answer.request_id)

    def _learn(self, answer: Answer, pace: Pace) -> None:
        found = _USAGE.search(answer.headers.get("sforce-limit-info", ""))
        if found is not None:
            self._usage = int(found[1]), int(found[2])

    def _spare_the_reserve(self) -> None:
        reserve = self._config.rate_limit.reserve
        if self._usage is None or not reserve:
            return
        used, allowed = self._usage
        if allowed - used < allowed * reserve:
            raise DailyLimit(
                f"destination {self._name!r}: {used} of the org's {allowed} calls a day are used, "
                f"the rest is reserved for others (reserve: {reserve:.0%})",
                hint="the next run goes on with the waiting rows; lower `reserve` to let this connection use more",
            )

    def _new_pace(self) -> Pace:
        most, seconds = self._config.rate_limit.window(1.0)
        # Without a bound of the user's there is none to share: our own figure is far above what four calls at once do.
        limiter = f"salesforce:{auth.fingerprint(self._config)}:{seconds:g}"
        return Pace(
            requests=most or CALLS_PER_SECOND,
            per_seconds=seconds,
            clock=self._clock,
            in_flight=IN_FLIGHT,
            most=most,
            places=self._places(limiter) if most else None,
        )

    def _new_login_pace(self) -> Pace:
        return Pace(requests=LOGINS_PER_SECOND, per_seconds=1.0, clock=self._clock, in_flight=1)
