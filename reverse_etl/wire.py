"""One request over the network, and its answer read whole: bounded in time and size, honest about how far it came.

httpx is imported where it is needed: by a proxy, and to find the authorities that TLS trusts.
"""

from __future__ import annotations

import logging
import ssl
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from io import SEEK_END
from typing import IO, TYPE_CHECKING, Protocol, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio

from reverse_etl.answer import Answer
from reverse_etl.errors import InDoubt, PluginError, Unavailable
from reverse_etl.lines import CONNECT_SECONDS, Body, Cut, Lines, Reply, Unreachable, Unsendable
from reverse_etl.retries import TIMEOUT
from reverse_etl.urls import is_loopback

if TYPE_CHECKING:
    import httpx

MOST_BYTES = 32 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024  # of a file, on its way
IDLE_SECONDS = 60.0  # that a file on its way down may stand still, well before its deadline
TIMEOUTS = {
    "connect": CONNECT_SECONDS,
    "read": None,
    "write": None,
    "pool": None,
}  # seconds; the deadline bounds the whole call
HEADERS = {"user-agent": "reverse-etl", "accept": "application/json", "accept-encoding": "gzip"}


class Door(Protocol):
    """What carries a request to its origin."""

    def call(
        self, method: str, url: str, params: Mapping[str, str] | None, headers: Mapping[str, str], body: Body
    ) -> AbstractAsyncContextManager[Reply]:
        """Raises Unreachable, Cut or Unsendable, while the answer is read too."""
        ...

    async def aclose(self) -> None: ...


class Wire:
    """Connections to one origin. `transport` stands in for the network in tests."""

    def __init__(self, base_url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._base_url = base_url
        self._host = urlsplit(base_url).hostname or ""
        self._given = transport
        self._door: Door | None = None

    async def aclose(self) -> None:
        """Closes the connections; the next call would open new ones."""
        if self._door is not None:
            door, self._door = self._door, None
            await door.aclose()

    async def exchange(
        self,
        method: str,
        url: str,
        *,
        content: bytes | IO[bytes] | None,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str],
        deadline: float,
        into: IO[bytes] | None = None,
    ) -> Answer:
        """The answer. What breaks becomes an error that says how far it came; who cancels waits for either."""
        self._door = door = self._door or self._open()
        body, size = _to_send(content)
        try:
            with anyio.CancelScope(deadline=anyio.current_time() + deadline, shield=True):
                async with door.call(method, url, params, {**HEADERS, **size, **headers}, body) as reply:
                    return await _read(reply, into)
            raise TimeoutError(f"no complete answer within {deadline:g} s")
        except TimeoutError as late:
            raise InDoubt(f"{_place(method, url)}: {late}", code=TIMEOUT) from late
        except Unreachable as failure:
            raise Unavailable(
                f"{_place(method, url)}: can't be reached: {str(failure) or 'no connection in time'}",
                hint=self._out_of_reach(),
            ) from failure
        except Unsendable as ours:
            raise PluginError(f"{_place(method, url)}: the request can't be sent: {ours}") from ours
        except Cut as cut:
            why = str(cut) or type(cut.__cause__ or cut).__name__
            raise InDoubt(f"{_place(method, url)}: the connection was cut before the answer was whole: {why}") from cut
        except _TooLarge as large:
            raise InDoubt(f"{_place(method, url)}: {large}", code="destination_unreadable") from large

    def _out_of_reach(self) -> str:
        advice = "check base_url, the network and its proxy"
        return f"is `reverse-etl sandbox` running? Otherwise {advice}" if is_loopback(self._host) else advice

    def _open(self) -> Door:
        """Connections of our own, but through a proxy httpx's."""
        proxy = None if is_loopback(self._host) else proxy_for(self._base_url)
        if self._given is None and proxy is None:
            return Lines(self._base_url, _trust)
        import httpx  # noqa: PLC0415

        for chatty in ("httpx", "httpcore"):  # their lines hold whole URLs
            logging.getLogger(chatty).setLevel(logging.WARNING)
        return _Httpx(self._given or httpx.AsyncHTTPTransport(proxy=proxy))


class _Httpx:
    """httpx's transport without its client: redirects, cookies and sessions are what we don't want."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def aclose(self) -> None:
        await self._transport.aclose()

    @asynccontextmanager
    async def call(
        self, method: str, url: str, params: Mapping[str, str] | None, headers: Mapping[str, str], body: Body
    ) -> AsyncIterator[Reply]:
        import httpx  # noqa: PLC0415

        try:
            request = httpx.Request(
                method, url, params=params, headers=headers, content=body, extensions={"timeout": TIMEOUTS}
            )
            response = await self._transport.handle_async_request(request)
            try:
                parts = aiter(cast("AsyncIterable[bytes]", response.stream))
                yield Reply(response.status_code, dict(response.headers), parts)
            finally:
                await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as unreachable:
            raise Unreachable(str(unreachable)) from unreachable
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL) as ours:
            raise Unsendable(str(ours)) from ours
        except httpx.HTTPError as cut:
            raise Cut(str(cut)) from cut


def _trust() -> ssl.SSLContext:
    """The authorities that say who is whom, as httpx finds them."""
    import httpx  # noqa: PLC0415

    return httpx.create_ssl_context()


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for an address, None where it goes directly."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _place(method: str, url: str) -> str:
    return f"{method} {urlsplit(url).path} at {urlsplit(url).netloc}"


class _TooLarge(Exception):
    """What is too large, for `exchange` to tell where."""


async def _read(reply: Reply, into: IO[bytes] | None) -> Answer:
    parts = reply.parts
    if reply.headers.get("content-encoding") == "gzip":
        parts = _unpacked(parts)
    if into is not None and 200 <= reply.status < 300:
        into.seek(0)
        into.truncate()
        async for part in _moving(parts):
            into.write(part)
        return Answer(reply.status, reply.headers, b"")
    body: list[bytes] = []
    size = 0
    async for part in parts:
        size += len(part)
        if size > MOST_BYTES:
            raise _TooLarge(f"the answer is larger than {MOST_BYTES // 2**20} MiB")
        body.append(part)
    return Answer(reply.status, reply.headers, b"".join(body))


async def _unpacked(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        async for part in parts:
            yield unpacking.decompress(part)
    except zlib.error as broken:
        raise Cut(str(broken)) from broken
    if not unpacking.eof:
        raise Cut("it ends in the middle of what was packed")


async def _moving(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The parts as they come. Raises TimeoutError when none has come for a while."""
    while True:
        with anyio.move_on_after(IDLE_SECONDS) as waiting:
            part = await anext(parts, None)
        if waiting.cancelled_caught:
            raise TimeoutError(f"the answer stood still for {IDLE_SECONDS:g} s")
        if part is None:
            return
        yield part


def _to_send(content: bytes | IO[bytes] | None) -> tuple[Body, dict[str, str]]:
    """A file as a stream from its beginning, and the header that tells its size."""
    if content is None or isinstance(content, bytes):
        return content, {}
    size = content.seek(0, SEEK_END)
    content.seek(0)
    return _streamed(content), {"content-length": str(size)}


async def _streamed(file: IO[bytes]) -> AsyncIterator[bytes]:
    while part := file.read(CHUNK_BYTES):
        yield part
