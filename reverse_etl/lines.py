"""HTTP/1.1 on connections to one origin: h11 parses, and a connection that both sides keep open is used again.

A pool for many hosts, with an object for every header and URL, is what httpx brings beyond this, and it is most of what
a call costs. Deadlines, sizes and meanings are `wire`'s.
"""

from __future__ import annotations

import select
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import quote, urlencode, urlsplit

import anyio
import h11
from anyio.abc import ByteStream, SocketAttribute

CONNECT_SECONDS = 15.0
IDLE_SECONDS = 5.0  # that a connection is kept for the next call: servers close theirs after a while
READ_BYTES = 64 * 1024
MOST_HEAD = 100 * 1024  # bytes of an answer before its body
_AS_THEY_ARE = "/?%:@!$&'()*+,;=~"  # characters of an address that need no escape, or are one

Body: TypeAlias = bytes | AsyncIterator[bytes] | None


class Unreachable(Exception):
    """There was no connection, so nothing was sent."""


class Cut(Exception):
    """The connection broke before the answer was whole."""


class Unsendable(Exception):
    """What was to be sent is no request."""


@dataclass(frozen=True)
class Reply:
    """An answer that has begun; header names are lower-case, the body comes as it was encoded."""

    status: int
    headers: Mapping[str, str]
    parts: AsyncIterator[bytes]


class Lines:
    """The connections to one origin, as many as calls are open at once."""

    def __init__(self, base_url: str, trust: Callable[[], ssl.SSLContext]) -> None:
        """`trust` is asked for with the first connection, if that is one with TLS."""
        origin = urlsplit(base_url)
        self._tls = origin.scheme == "https"
        self._host = origin.hostname or ""
        self._port = origin.port or (443 if self._tls else 80)
        self._named = _authority(self._host, origin.port, self._tls).encode()
        self._trust = trust
        self._context: ssl.SSLContext | None = None
        self._free: list[tuple[Line, float]] = []

    @asynccontextmanager
    async def call(
        self, method: str, url: str, params: Mapping[str, str] | None, headers: Mapping[str, str], body: Body
    ) -> AsyncIterator[Reply]:
        """The answer to one request. Raises Unreachable, Cut or Unsendable, while its body is read too."""
        target = _target(url)
        if params:
            target += ("&" if "?" in target else "?") + urlencode(params)
        line = await self._line()
        try:
            yield await line.ask(method, target, [(b"host", self._named), *_encoded(headers)], body)
        except h11.LocalProtocolError as ours:
            raise Unsendable(str(ours)) from ours
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, h11.RemoteProtocolError) as broken:
            raise Cut(str(broken)) from broken
        finally:
            if line.may_be_used_again():
                self._free.append((line, time.monotonic()))
            else:
                await line.close()

    async def aclose(self) -> None:
        while self._free:
            await self._free.pop()[0].close()

    async def _line(self) -> Line:
        """The one that was used last, so that those which aren't needed any more grow old; else a new one."""
        while self._free:
            line, since = self._free.pop()
            if time.monotonic() - since < IDLE_SECONDS and not line.has_something_to_say():
                return line
            await line.close()
        return Line(await self._connected())

    async def _connected(self) -> ByteStream:
        if self._tls and self._context is None:
            self._context = self._trust()
            self._context.set_alpn_protocols(["http/1.1"])
        try:
            with anyio.fail_after(CONNECT_SECONDS):
                if self._context is None:
                    return await anyio.connect_tcp(self._host, self._port)
                return await anyio.connect_tcp(
                    self._host, self._port, ssl_context=self._context, tls_standard_compatible=False
                )
        except TimeoutError as late:
            raise Unreachable(str(late)) from late
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream) as failure:
            raise Unreachable(str(failure)) from failure


class Line:
    """One connection, one call at a time."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD)
        self._heard = select.poll()
        self._heard.register(stream.extra(SocketAttribute.raw_socket), select.POLLIN)  # noqa: S610  # no Django

    def has_something_to_say(self) -> bool:
        """Whether the other side has closed it, or spoken unasked."""
        return bool(self._heard.poll(0))

    def may_be_used_again(self) -> bool:
        """Whether the call is over on both sides; if so the next one may begin."""
        if self._parser.our_state is not h11.DONE or self._parser.their_state is not h11.DONE:
            return False
        self._parser.start_next_cycle()
        return not self._parser.trailing_data[0]

    async def close(self) -> None:
        await anyio.aclose_forcefully(self._stream)

    async def ask(self, method: str, target: str, headers: list[tuple[bytes, bytes]], body: Body) -> Reply:
        """Send a request and read the head of its answer."""
        if isinstance(body, bytes):
            headers.append((b"content-length", b"%d" % len(body)))
        elif body is None and method not in ("GET", "HEAD", "DELETE"):
            headers.append((b"content-length", b"0"))
        out = self._bytes(h11.Request(method=method, target=target, headers=headers))
        with suppress(anyio.BrokenResourceError):  # an answer may be there: a server needn't read all that it refuses
            await self._send(out, body)
        while not isinstance(event := await self._event(), h11.Response):
            pass  # an answer on the way to the answer
        return Reply(event.status_code, _decoded(event.headers), self._parts())

    async def _send(self, head: bytes, body: Body) -> None:
        if isinstance(body, bytes):
            head += self._bytes(h11.Data(data=body))
        elif body is not None:
            await self._stream.send(head)
            head = b""
            async for part in body:
                await self._stream.send(self._bytes(h11.Data(data=part)))
        if head := head + self._bytes(h11.EndOfMessage()):
            await self._stream.send(head)

    def _bytes(self, event: h11.Event) -> bytes:
        return self._parser.send(event) or b""

    async def _event(self) -> h11.Event:
        while True:
            event = self._parser.next_event()
            if event is h11.NEED_DATA:
                try:
                    self._parser.receive_data(await self._stream.receive(READ_BYTES))
                except anyio.EndOfStream:
                    self._parser.receive_data(b"")
            elif isinstance(event, h11.Event) and not isinstance(event, h11.ConnectionClosed):
                return event
            else:
                raise Cut("the other side speaks no HTTP any more")

    async def _parts(self) -> AsyncIterator[bytes]:
        while isinstance(event := await self._event(), h11.Data):
            yield event.data


def _authority(host: str, port: int | None, tls: bool) -> str:
    """What the Host header says; a port only where it isn't the usual one."""
    name = f"[{host}]" if ":" in host else host
    return name if port in (None, 443 if tls else 80) else f"{name}:{port}"


@lru_cache(64)
def _target(url: str) -> str:
    """What of an address goes on the first line of a request. Batches go to the same few."""
    parts = urlsplit(url)
    path = quote(parts.path or "/", safe=_AS_THEY_ARE)
    return f"{path}?{quote(parts.query, safe=_AS_THEY_ARE)}" if parts.query else path


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    try:
        return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
    except UnicodeEncodeError as ours:
        raise Unsendable("a header holds more than ASCII") from ours


def _decoded(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found
