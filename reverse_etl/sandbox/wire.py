"""HTTP/1.1 on an asyncio transport: h11 parses, the application answers, faults may spoil the answer.

The application is a plain function from request to response, called on the event loop: it is quick and never waits.
"""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable

import h11

from reverse_etl.sandbox.messages import Request, Response

MOST_BODY = 200 * 1024 * 1024
MOST_HEAD = 64 * 1024
GZIP_FROM = 64 * 1024  # batch answers stay plain: packing them would cost more than answering

Application = Callable[[Request], Response]


class Connection(asyncio.Protocol):
    """One client's connection: its requests are answered in turn, whether or not they were sent ahead."""

    def __init__(self, application: Application, connections: set[Connection]) -> None:
        self._application = application
        self._connections = connections
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEAD)
        self._head: h11.Request | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._busy = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # what loop.create_server always passes
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)

    def close(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._parser.receive_data(data)
        if not self._busy:
            self._advance()

    def eof_received(self) -> bool:
        self._parser.receive_data(b"")
        return self._busy  # an answer under way is still written

    def _advance(self) -> None:
        while not self._busy and not self._transport.is_closing():
            try:
                event = self._parser.next_event()
            except h11.RemoteProtocolError as error:
                self._refuse(error.error_status_hint)
                return
            if event is h11.NEED_DATA or event is h11.PAUSED:
                if self._parser.they_are_waiting_for_100_continue:
                    self._transport.write(
                        self._parser.send(h11.InformationalResponse(status_code=100, headers=[])) or b""
                    )
                return
            if isinstance(event, h11.ConnectionClosed):
                self._transport.close()
                return
            self._take(event)

    def _take(self, event: object) -> None:
        if isinstance(event, h11.Request):
            self._head, self._body, self._size = event, [], 0
        elif isinstance(event, h11.Data):
            self._size += len(event.data)
            if self._size > MOST_BODY:
                self._refuse(413)
                return
            self._body.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            self._respond()

    def _refuse(self, status: int) -> None:
        if self._parser.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            head = h11.Response(status_code=status, headers=[("content-length", "0"), ("connection", "close")])
            self._transport.write((self._parser.send(head) or b"") + (self._parser.send(h11.EndOfMessage()) or b""))
        self._transport.close()

    def _respond(self) -> None:
        request = self._request()
        if request is None:
            self._refuse(400)
            return
        response = self._application(request)
        if response.delay > 0:
            self._busy = True
            asyncio.get_running_loop().call_later(response.delay, self._resume, request, response)
        else:
            self._send(request, response)

    def _request(self) -> Request | None:
        """The request with its body unpacked; None when the body isn't what its encoding says."""
        head = self._head
        assert head is not None  # noqa: S101  # a message ends only after its head
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
        body = b"".join(self._body)
        self._body = []
        if body and headers.get("content-encoding", "identity") != "identity":
            unpacked = _unpack(body, headers["content-encoding"])
            if unpacked is None:
                return None
            body = unpacked
        return Request(head.method.decode("ascii"), head.target.decode("latin-1"), headers, body)

    def _resume(self, request: Request, response: Response) -> None:
        self._busy = False
        if not self._transport.is_closing():
            self._send(request, response)
            self._advance()

    def _send(self, request: Request, response: Response) -> None:
        if response.cut:
            self._transport.abort()
            return
        headers = list(response.headers.items())
        body = response.body
        spoiled = response.truncate or response.drip > 0
        if response.content_type is not None:
            headers.append(("content-type", response.content_type))
        if len(body) >= GZIP_FROM and not spoiled and "gzip" in request.headers.get("accept-encoding", ""):
            body = gzip.compress(body, 1)
            headers.append(("content-encoding", "gzip"))
        if response.status != 204:
            headers.append(("content-length", str(len(body))))
        out = self._parser.send(h11.Response(status_code=response.status, headers=headers)) or b""
        if response.truncate:
            self._transport.write(out + body[: max(1, len(body) // 2)])
            self._transport.close()
            return
        if response.drip > 0:
            self._busy = True
            self._transport.write(out)
            self._drip(body, response.drip)
            return
        if body and request.method != "HEAD":
            out += self._parser.send(h11.Data(data=body)) or b""
        self._transport.write(out)
        self._finish()

    def _drip(self, body: bytes, seconds: float) -> None:
        """A byte every `seconds`, for clients that bound a request only by the pause between two bytes."""
        if self._transport.is_closing():
            return
        if body:
            self._transport.write(self._parser.send(h11.Data(data=body[:1])) or b"")
            asyncio.get_running_loop().call_later(seconds, self._drip, body[1:], seconds)
            return
        self._busy = False
        self._finish()
        self._advance()

    def _finish(self) -> None:
        self._transport.write(self._parser.send(h11.EndOfMessage()) or b"")
        if self._parser.our_state is h11.DONE and self._parser.their_state is h11.DONE:
            self._parser.start_next_cycle()
        else:
            self._transport.close()


def _unpack(body: bytes, encoding: str) -> bytes | None:
    """The body without its gzip or deflate wrapping, up to the size limit."""
    if encoding not in ("gzip", "x-gzip", "deflate"):
        return None
    unpacker = zlib.decompressobj(wbits=47)
    try:
        unpacked = unpacker.decompress(body, MOST_BODY)
    except zlib.error:
        return None
    return unpacked if unpacker.eof else None
