"""The one HTTP client: paced, bounded in time and size, retried where it helps, silent about what it carries.

A destination says what an answer means (`classify`) and which limits it tells (`learn`); waiting, retrying, giving up
and keeping credentials at home are decided here, once for all. httpx is imported with the first call, so that a run
that sends nothing never pays for it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from io import SEEK_END
from typing import IO, TYPE_CHECKING, Any, Protocol
from urllib.parse import SplitResult, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio
import orjson

from reverse_etl.answer import Answer, told_pause
from reverse_etl.clock import SYSTEM, Clock
from reverse_etl.errors import AuthError, DestinationError, InDoubt, PluginError, Throttled, Unavailable
from reverse_etl.pace import Pace
from reverse_etl.urls import checked_base_url, is_loopback

if TYPE_CHECKING:
    import httpx
    from tenacity import RetryCallState

UNSET: Any = object()
SESSION = "destination_session"  # an AuthError with this code: the session ended, a newer one may be had

MOST_BYTES = 32 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024  # of a file, on its way
CONNECTIONS = 16  # httpx's pool gets slow past 32 connections
TIMEOUTS = {"connect": 15.0, "read": None, "write": None, "pool": None}  # seconds; the deadline bounds the whole call
HEADERS = {"user-agent": "reverse-etl", "accept": "application/json", "accept-encoding": "gzip"}
BACKOFF_SECONDS, BACKOFF_CAP_SECONDS = 0.5, 30.0
THROTTLED_SECONDS, THROTTLED_CAP_SECONDS = 1.0, 10.0
LONGEST_TOLD_PAUSE_SECONDS = 15 * 60.0


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
    authorized: bool
    deadline: float
    pace: Pace
    into: IO[bytes] | None = None
    attempts: int = 0
    waited: bool = False  # after the first try
    generation: int = 0  # of the credential that the latest try used

    def worth_retrying(self, error: BaseException) -> bool:
        if not isinstance(error, Throttled | Unavailable | InDoubt):
            return False
        if error.retry_after is not None and error.retry_after > LONGEST_TOLD_PAUSE_SECONDS:
            return False
        return self.idempotent or not isinstance(error, InDoubt)


class _Wait:
    """As long as the destination asked for; else growing, with full jitter, and longer when we were too fast."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        doublings = min(retry_state.attempt_number - 1, 16)
        if isinstance(error, DestinationError) and error.retry_after is not None:
            return error.retry_after + self.clock.jitter(min(1.0, 0.1 * error.retry_after))
        if isinstance(error, Throttled):
            return min(THROTTLED_CAP_SECONDS, THROTTLED_SECONDS * 2.0**doublings) + self.clock.jitter(1.0)
        return self.clock.jitter(min(BACKOFF_CAP_SECONDS, BACKOFF_SECONDS * 2.0**doublings))


class Http:
    """One destination's door: every call to it goes through `send`.

    `base_url` is the only place credentials go to. `deadline` is the whole time a try may take, in seconds;
    `attempts` counts tries, the first included. `transport` stands in for the network in tests.
    """

    def __init__(
        self,
        *,
        base_url: str,
        pace: Pace,
        traffic: Counters,
        classify: Callable[[Answer], DestinationError | None],
        clock: Clock = SYSTEM,
        credential: Credential | None = None,
        learn: Callable[[Answer], None] | None = None,
        deadline: float = 110.0,
        attempts: int = 6,
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
        self._deadline = deadline
        self._attempts = attempts
        self._given = transport
        self._wire: httpx.AsyncBaseTransport | None = None
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
        authorized: bool = True,
        deadline: float | None = None,
        pace: Pace | None = None,
        into: IO[bytes] | None = None,
    ) -> Answer:
        """The answer, which `classify` found nothing wrong with. `idempotent`: repeating the call does no harm.

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
            authorized=authorized and self._credential is not None,
            deadline=self._deadline if deadline is None else deadline,
            pace=pace or self._pace,
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
        if self._wire is not None:
            wire, self._wire = self._wire, None
            await wire.aclose()

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
        call.attempts = 0
        try:
            return await self._try(call)
        except DestinationError as error:
            if not call.worth_retrying(error):
                raise
            return await self._retried(call, error)

    async def _retried(self, call: _Call, first: DestinationError) -> Answer:
        """The tries after the first, which failed with `first`."""
        from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt  # noqa: PLC0415  # most calls succeed

        def pause_everyone(state: RetryCallState) -> None:
            if state.outcome and isinstance(state.outcome.exception(), Throttled) and state.next_action:
                call.pace.pause(state.next_action.sleep)

        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._attempts),
            wait=_Wait(self._clock),
            retry=retry_if_exception(call.worth_retrying),
            sleep=self._clock.sleep,
            before_sleep=pause_everyone,
            reraise=True,
        )
        try:
            return await retrying(self._again, call, first)
        except DestinationError as error:
            if call.attempts > 1:
                error.message += f" ({call.attempts} attempts)"
                error.args = (error.message,)
            raise

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
        async with call.pace.slot():
            call.attempts += 1
            self._traffic.requests += 1
            answer = await self._exchange(call, headers)
            if answer.status == 429:
                self._traffic.throttled += 1
            if self._learn is not None:
                self._learn(answer)
        error = self._moved(answer) or self._classify(answer)
        if error is None:
            return answer
        if error.retry_after is None:
            error.retry_after = told_pause(answer, self._clock.now())
        if isinstance(error, Throttled) and error.retry_after is not None:
            call.pace.pause(error.retry_after)
        raise error

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

    async def _exchange(self, call: _Call, headers: Mapping[str, str]) -> Answer:
        """One call on the wire, read whole in time; what breaks becomes an error that says how far it came."""
        import httpx  # noqa: PLC0415  # late: a run that sends nothing doesn't need it

        place = f"{call.method} {urlsplit(call.url).path} at {urlsplit(call.url).netloc}"
        wire = self._wire or self._open(httpx)
        try:
            with anyio.fail_after(call.deadline):
                content, size = _to_send(call.content)
                request = httpx.Request(
                    call.method,
                    call.url,
                    content=content,
                    params=call.params,
                    headers={**HEADERS, **size, **headers},
                    extensions={"timeout": TIMEOUTS},
                )
                return await _read(wire, request, place, call.into)
        except TimeoutError as late:
            raise InDoubt(
                f"{place}: no complete answer within {call.deadline:g} s", code="destination_timeout"
            ) from late
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as unreachable:
            raise Unavailable(
                f"{place}: can't be reached: {unreachable or 'no connection in time'}",
                hint=self._out_of_reach(),
            ) from unreachable
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL) as ours:
            raise PluginError(f"{place}: the request can't be sent: {ours}") from ours
        except httpx.HTTPError as cut:
            raise InDoubt(
                f"{place}: the connection was cut before the answer was whole: {cut or type(cut).__name__}"
            ) from cut

    def _out_of_reach(self) -> str:
        advice = "check base_url, the network and its proxy"
        return f"is `reverse-etl sandbox` running? Otherwise {advice}" if is_loopback(self._host) else advice

    def _open(self, httpx_module: Any) -> httpx.AsyncBaseTransport:
        """httpx's transport without its client: redirects, cookies and sessions are what we don't want, and a third of
        a call's cost."""
        for chatty in ("httpx", "httpcore"):  # their lines hold whole URLs
            logging.getLogger(chatty).setLevel(logging.WARNING)
        proxy = None if is_loopback(self._host) else _proxy_for(self._base_url)
        self._wire = self._given or httpx_module.AsyncHTTPTransport(
            limits=httpx_module.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
            proxy=proxy,
        )
        wire: httpx.AsyncBaseTransport = self._wire
        return wire


def _proxy_for(url: str) -> str | None:
    """The proxy that the environment names for an address, None where it goes directly."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


async def _read(
    wire: httpx.AsyncBaseTransport, request: httpx.Request, place: str, into: IO[bytes] | None = None
) -> Answer:
    response = await wire.handle_async_request(request)
    try:
        if into is not None and response.is_success:
            into.seek(0)
            into.truncate()
            async for part in response.aiter_bytes(CHUNK_BYTES):
                into.write(part)
            return Answer(response.status_code, dict(response.headers), b"")
        told = response.headers.get("content-length")
        if told is not None and told.isdecimal() and "content-encoding" not in response.headers:
            if int(told) > MOST_BYTES:
                raise _too_large(place)
            return Answer(response.status_code, dict(response.headers), await response.aread())
        parts: list[bytes] = []
        size = 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > MOST_BYTES:
                raise _too_large(place)
            parts.append(part)
    finally:
        await response.aclose()
    return Answer(response.status_code, dict(response.headers), b"".join(parts))


def _too_large(place: str) -> InDoubt:
    return InDoubt(f"{place}: the answer is larger than {MOST_BYTES // 2**20} MiB", code="destination_unreadable")


def _to_send(content: bytes | IO[bytes] | None) -> tuple[bytes | AsyncIterator[bytes] | None, dict[str, str]]:
    """A file as a stream from its beginning, and the header that tells its size."""
    if content is None or isinstance(content, bytes):
        return content, {}
    size = content.seek(0, SEEK_END)
    content.seek(0)
    return _streamed(content), {"content-length": str(size)}


async def _streamed(file: IO[bytes]) -> AsyncIterator[bytes]:
    while part := file.read(CHUNK_BYTES):
        yield part


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
