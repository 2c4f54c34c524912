"""One request over the network, and its answer read whole: bounded in time and size, honest about how far it came.

httpx is imported with the first call, so that a run that sends nothing never pays for it.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from functools import lru_cache
from io import SEEK_END
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio

from reverse_etl.answer import Answer
from reverse_etl.errors import InDoubt, PluginError, Unavailable
from reverse_etl.retries import TIMEOUT
from reverse_etl.urls import is_loopback

if TYPE_CHECKING:
    import httpx

MOST_BYTES = 32 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024  # of a file, on its way
IDLE_SECONDS = 60.0  # that a file on its way down may stand still, well before its deadline
CONNECTIONS = 16  # httpx's pool gets slow past 32 connections
TIMEOUTS = {"connect": 15.0, "read": None, "write": None, "pool": None}  # seconds; the deadline bounds the whole call
HEADERS = {"user-agent": "reverse-etl", "accept": "application/json", "accept-encoding": "gzip"}


class Wire:
    """Connections to one origin. `transport` stands in for the network in tests."""

    def __init__(self, base_url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._base_url = base_url
        self._host = urlsplit(base_url).hostname or ""
        self._given = transport
        self._transport: httpx.AsyncBaseTransport | None = None

    async def aclose(self) -> None:
        """Closes the connections; the next call would open new ones."""
        if self._transport is not None:
            transport, self._transport = self._transport, None
            await transport.aclose()

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
        import httpx  # noqa: PLC0415  # late: a run that sends nothing doesn't need it

        transport = self._transport or self._open(httpx)
        body, size = _to_send(content)
        try:
            with anyio.CancelScope(deadline=anyio.current_time() + deadline, shield=True):
                request = httpx.Request(
                    method,
                    _parsed(url),
                    content=body,
                    params=params,
                    headers={**HEADERS, **size, **headers},
                    extensions={"timeout": TIMEOUTS},
                )
                return await _read(transport, request, into)
            raise TimeoutError(f"no complete answer within {deadline:g} s")
        except TimeoutError as late:
            raise InDoubt(f"{_place(method, url)}: {late}", code=TIMEOUT) from late
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as unreachable:
            raise Unavailable(
                f"{_place(method, url)}: can't be reached: {unreachable or 'no connection in time'}",
                hint=self._out_of_reach(),
            ) from unreachable
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL) as ours:
            raise PluginError(f"{_place(method, url)}: the request can't be sent: {ours}") from ours
        except httpx.HTTPError as cut:
            why = cut or type(cut).__name__
            raise InDoubt(f"{_place(method, url)}: the connection was cut before the answer was whole: {why}") from cut

    def _out_of_reach(self) -> str:
        advice = "check base_url, the network and its proxy"
        return f"is `reverse-etl sandbox` running? Otherwise {advice}" if is_loopback(self._host) else advice

    def _open(self, httpx_module: Any) -> httpx.AsyncBaseTransport:
        """httpx's transport without its client: redirects, cookies and sessions are what we don't want, and a third of
        a call's cost."""
        for chatty in ("httpx", "httpcore"):  # their lines hold whole URLs
            logging.getLogger(chatty).setLevel(logging.WARNING)
        proxy = None if is_loopback(self._host) else proxy_for(self._base_url)
        self._transport = self._given or httpx_module.AsyncHTTPTransport(
            limits=httpx_module.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
            proxy=proxy,
            verify=_trust(self._base_url),
        )
        transport: httpx.AsyncBaseTransport = self._transport
        return transport


def _trust(url: str) -> ssl.SSLContext | bool:
    """The authorities that say who is whom; none where there is no TLS, as reading their list takes a while."""
    return True if urlsplit(url).scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for an address, None where it goes directly."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


@lru_cache(64)
def _parsed(url: str) -> httpx.URL:
    """Batches go to the same few addresses, and taking one apart is a twentieth of a call's cost."""
    import httpx  # noqa: PLC0415

    return httpx.URL(url)


def _place(method: str, url: str) -> str:
    return f"{method} {urlsplit(url).path} at {urlsplit(url).netloc}"


async def _read(transport: httpx.AsyncBaseTransport, request: httpx.Request, into: IO[bytes] | None = None) -> Answer:
    response = await transport.handle_async_request(request)
    try:
        headers = _plain(response.headers.raw)
        packed = "content-encoding" in headers
        parts = response.aiter_bytes() if packed else aiter(cast("AsyncIterable[bytes]", response.stream))
        if into is not None and response.is_success:
            into.seek(0)
            into.truncate()
            async for part in _moving(parts):
                into.write(part)
            return Answer(response.status_code, headers, b"")
        body: list[bytes] = []
        size = 0
        async for part in parts:
            size += len(part)
            if size > MOST_BYTES:
                raise _too_large(request)
            body.append(part)
    finally:
        await response.aclose()
    return Answer(response.status_code, headers, b"".join(body))


def _plain(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


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


def _too_large(request: httpx.Request) -> InDoubt:
    place = _place(request.method, str(request.url))
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
