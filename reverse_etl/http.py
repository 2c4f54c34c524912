"""The one HTTP client: paced, bounded in time and size, retried where it helps, silent about what it carries.

A destination says what an answer means (`classify`) and which limits it tells (`learn`); waiting, retrying, giving up
and keeping credentials at home are decided here, once for all; `wire` does what is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Protocol
from urllib.parse import SplitResult, urlencode, urlsplit

import anyio
import orjson

from reverse_etl.answer import Answer, told_pause
from reverse_etl.breaker import Breaker
from reverse_etl.clock import SYSTEM, Clock
from reverse_etl.errors import (
    AuthError,
    BatchRefused,
    DestinationError,
    InDoubt,
    PluginError,
    ReverseEtlError,
    Throttled,
    Unavailable,
)
from reverse_etl.pace import Pace
from reverse_etl.retries import TRIES, Budget, Pause, doubt, may_help, too_much, tries
from reverse_etl.stop import unless_asked
from reverse_etl.urls import checked_base_url
from reverse_etl.wire import Wire

if TYPE_CHECKING:
    import httpx
    from tenacity import RetryCallState

UNSET: Any = object()
SESSION = "destination_session"  # an AuthError with this code: the session ended, a newer one may be had


class Counters(Protocol):
    """Where calls are counted: every try, and those refused for their number."""

    requests: int
    throttled: int


class Credential(Protocol):
    """What opens the door. Calls to it are never concurrent for `renew`; `headers` may log in first."""

    async def headers(self) -> Mapping[str, str]: ...

    async def renew(self) -> bool:
        """Gets a newer session after one was refused. False: there is none to get, the refusal stands."""
        ...


@dataclass
class _Call:
    """One request and what has become of it so far."""

    method: str
    url: str
    content: bytes | IO[bytes] | None
    params: Mapping[str, str] | None
    headers: dict[str, str]
    idempotent: bool
    splittable: bool
    authorized: bool
    deadline: float
    pace: Pace
    into: IO[bytes] | None = None
    attempts: int = 0
    probes: int = 0  # of them: made while the breaker was open
    waited: bool = False  # after the first try
    doubtful: bool = False  # a try may have been carried out
    generation: int = 0  # of the credential that the latest try used

    def failed(self, error: DestinationError) -> None:
        """Note what a failed try may have done, or may still do."""
        if isinstance(error, InDoubt):
            self.doubtful = True
            if self.method != "GET":
                doubt()

    def worth_retrying(self, error: BaseException) -> bool:
        return may_help(error, idempotent=self.idempotent)


class Http:
    """One destination's door: every call to it goes through `send`.

    `base_url` is the only place credentials go to. `pace` may depend on the path. `breaker` is the account's, `budget`
    the run's. `deadline` is the whole time a try may take, in seconds; `attempts` counts tries, the first included.
    `transport` stands in for the network in tests.
    """

    def __init__(
        self,
        *,
        base_url: str,
        pace: Pace | Callable[[str], Pace],
        traffic: Counters,
        classify: Callable[[Answer], DestinationError | None],
        clock: Clock = SYSTEM,
        credential: Credential | None = None,
        learn: Callable[[Answer, Pace], None] | None = None,
        breaker: Breaker | None = None,
        budget: Budget | None = None,
        deadline: float = 110.0,
        attempts: int = TRIES,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        try:
            self._base_url = checked_base_url(base_url)
        except ValueError as refused:
            raise PluginError(f"the address of a destination {refused}") from refused
        self._host = urlsplit(base_url).hostname or ""
        self._pace = pace
        self._traffic = traffic
        self._clock = clock
        self._credential = credential
        self._classify = classify
        self._learn = learn
        self._breaker = breaker or Breaker(clock, self._host)
        self._budget = budget or Budget()
        self._deadline = deadline
        self._attempts = attempts
        self._wire = Wire(self._base_url, transport)
        self._generation = 0  # of the credential: how often it was renewed
        self._renewing = anyio.Lock()

    async def send(
        self,
        method: str,
        path_or_url: str,
        *,
        json: Any = UNSET,
        content: bytes | IO[bytes] | None = None,
        form: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        idempotent: bool,
        splittable: bool = False,
        authorized: bool = True,
        deadline: float | None = None,
        into: IO[bytes] | None = None,
    ) -> Answer:
        """The answer, which `classify` found nothing wrong with. `idempotent`: repeating the call does no harm.

        `splittable`: the caller sends smaller parts when a call is refused whole, as one is that takes too long.
        What doesn't fit in memory goes up out of a file, and comes down `into` one, which holds nothing else then.
        """
        body, kind = _body(json, content, form)
        call = _Call(
            method=method,
            url=self._url(path_or_url),
            content=body,
            params=params,
            headers={**kind, **{name.lower(): value for name, value in (headers or {}).items()}},
            idempotent=idempotent,
            splittable=splittable and idempotent,
            authorized=authorized and self._credential is not None,
            deadline=self._deadline if deadline is None else deadline,
            pace=self._pace if isinstance(self._pace, Pace) else self._pace(path_or_url),
            into=into,
        )
        try:
            return await self._with_retries(call)
        except AuthError as refused:
            if refused.code != SESSION or not call.authorized or not await self._renewed(call):
                raise
        return await self._with_retries(call)

    async def aclose(self) -> None:
        """Closes the connections; the next call would open new ones."""
        await self._wire.aclose()

    def _url(self, path_or_url: str) -> str:
        if "://" not in path_or_url:
            return f"{self._base_url}/{path_or_url.lstrip('/')}"
        theirs, ours = urlsplit(path_or_url), urlsplit(self._base_url)
        if (theirs.scheme, theirs.hostname, _port(theirs)) != (ours.scheme, ours.hostname, _port(ours)):
            raise PluginError(
                f"a call to {theirs.scheme}://{theirs.netloc} was refused: credentials stay at {self._base_url}"
            )
        return path_or_url

    async def _with_retries(self, call: _Call) -> Answer:
        call.attempts = call.probes = 0
        self._budget.first += 1
        try:
            return await self._try(call)
        except DestinationError as error:
            call.failed(error)
            if not call.worth_retrying(error):
                raise
            return await self._retried(call, error)

    async def _retried(self, call: _Call, first: DestinationError) -> Answer:
        """The tries after the first, which failed with `first`."""
        from tenacity import AsyncRetrying, retry_if_exception  # noqa: PLC0415  # most calls succeed

        def pause_everyone(state: RetryCallState) -> None:
            if state.outcome and isinstance(state.outcome.exception(), Throttled) and state.next_action:
                call.pace.pause(state.next_action.sleep)

        retrying = AsyncRetrying(
            stop=partial(self._enough, call),
            wait=Pause(self._clock),
            retry=retry_if_exception(call.worth_retrying),
            sleep=self._sit_out,
            before_sleep=pause_everyone,
            reraise=True,
        )
        try:
            return await retrying(self._again, call, first)
        except ReverseEtlError as error:
            if call.attempts > 1 and isinstance(error, DestinationError):
                error.message += f" ({call.attempts} attempts)"
                error.args = (error.message,)
            if call.splittable and isinstance(error, InDoubt) and too_much(error):
                raise _refused_whole(error) from error
            error.doubtful = call.doubtful
            raise

    def _enough(self, call: _Call, state: RetryCallState) -> bool:
        """Whether the call is given up after this failure. What an open breaker lets through is a look, no repeat."""
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, DestinationError):
            return True
        call.failed(error)
        if self._breaker.has_given_up:
            raise self._breaker.gave_up() from error
        if self._breaker.is_open:
            return False
        most = tries(error, self._attempts, splittable=call.splittable)
        return call.attempts - call.probes >= most or not self._budget.take()

    async def _sit_out(self, seconds: float) -> None:
        with unless_asked():
            await self._clock.sleep(seconds)

    async def _again(self, call: _Call, first: DestinationError) -> Answer:
        """The first try has been made: it only tells how long to wait."""
        if call.attempts == 1 and not call.waited:
            call.waited = True
            raise first
        return await self._try(call)

    async def _try(self, call: _Call) -> Answer:
        call.generation = self._generation
        headers = dict(call.headers)
        if call.authorized and self._credential is not None:
            headers.update(await self._credential.headers())
        call.probes += await self._breaker.admit()
        answer = await self._exchange(call, headers)
        error = self._moved(answer) or self._classify(answer)
        if answer.status >= 500 and isinstance(error, Unavailable | InDoubt):
            self._breaker.failed()
        else:
            self._breaker.answered()
        if error is None:
            return answer
        if error.retry_after is None:
            error.retry_after = told_pause(answer, self._clock.now())
        if isinstance(error, Throttled) and error.retry_after is not None:
            call.pace.pause(error.retry_after)
        raise error

    async def _exchange(self, call: _Call, headers: Mapping[str, str]) -> Answer:
        """One try, at its place among the account's calls."""
        started = await call.pace.acquire()
        try:
            call.attempts += 1
            self._traffic.requests += 1
            answer = await self._wire.exchange(
                call.method,
                call.url,
                content=call.content,
                params=call.params,
                headers=headers,
                deadline=call.deadline,
                into=call.into,
            )
            if answer.status == 429:
                self._traffic.throttled += 1
            if self._learn is not None:
                self._learn(answer, call.pace)
            return answer
        except (Unavailable, InDoubt):
            self._breaker.failed()
            raise
        finally:
            call.pace.release(started)

    async def _renewed(self, call: _Call) -> bool:
        """Whether a newer session than the one this call used can be had; of many callers one asks for it."""
        async with self._renewing:
            if call.generation != self._generation:
                return True
            if self._credential is None or not await self._credential.renew():
                return False
            self._generation += 1
            return True

    def _moved(self, answer: Answer) -> DestinationError | None:
        if answer.status not in (301, 302, 303, 307, 308):
            return None
        return DestinationError(
            f"{self._host} answered that it has moved (HTTP {answer.status}); redirects are not followed",
            hint="put the new address into the connection, if you know it to be right",
            status=answer.status,
            request_id=answer.request_id,
        )


def _refused_whole(error: DestinationError) -> BatchRefused:
    """What was too much for one call may not be for two."""
    return BatchRefused(
        error.message, hint=error.hint, code=error.code, status=error.status, request_id=error.request_id
    )


def _body(
    json: Any, content: bytes | IO[bytes] | None, form: Mapping[str, str] | None
) -> tuple[bytes | IO[bytes] | None, dict[str, str]]:
    if json is not UNSET:
        return orjson.dumps(json), {"content-type": "application/json"}
    if form is not None:
        return urlencode(form).encode(), {"content-type": "application/x-www-form-urlencoded"}
    return content, {}


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)
