"""Connections of our own, against a server that answers byte for byte what a test says."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import pytest

from reverse_etl import lines
from reverse_etl.answer import Answer
from reverse_etl.errors import InDoubt, PluginError, Unavailable
from reverse_etl.wire import Wire

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"


class Server:
    """Answers its calls one by one by a script, the last step for ever. None: it closes without a word."""

    def __init__(self, *script: bytes | None, reads: bool = True) -> None:
        self.script = list(script)
        self.reads = reads
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.talks: list[asyncio.Task[Any] | None] = []

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.talks.append(asyncio.current_task())
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                size = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
                if self.reads:
                    self.bodies.append(await reader.readexactly(int(size or 0)))
                said = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                writer.write(said or b"")
                await writer.drain()
                if said is None or b"close" in said or not self.reads:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def calls(server: Server, talk: Callable[[Callable[..., Awaitable[Answer]]], Awaitable[Any]]) -> Any:
    """What `talk` makes of a function that calls the server."""

    async def scenario() -> Any:
        listening = await asyncio.start_server(server.talk, "127.0.0.1", 0)
        base = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        wire = Wire(base)

        async def call(method: str = "GET", path: str = "/x", **more: Any) -> Answer:
            details: Mapping[str, Any] = {"content": None, "params": None, "headers": {}, "deadline": 5.0, **more}
            return await wire.exchange(method, base + path, **details)

        try:
            return await talk(call)
        finally:
            await wire.aclose()
            listening.close()
            await asyncio.gather(*filter(None, server.talks))

    return anyio.run(scenario)


def one(server: Server, method: str = "GET", path: str = "/x", **more: Any) -> Answer:
    answer: Answer = calls(server, lambda call: call(method, path, **more))
    return answer


def test_a_request_says_what_it_is_asked_to() -> None:
    server = Server(PLAIN)
    answer = one(server, "POST", "/a b/é?x=1", content=b"{}", params={"q": "ü&"}, headers={"if-match": "1"})
    assert (answer.status, answer.headers, answer.body) == (200, {"content-length": "4"}, b"fine")
    head = server.heads[0].decode().split("\r\n")
    assert head[0] == "POST /a%20b/%C3%A9?x=1&q=%C3%BC%26 HTTP/1.1"
    assert {"if-match: 1", "user-agent: reverse-etl", "content-length: 2"} < {line.lower() for line in head}
    assert server.bodies == [b"{}"]


def test_a_write_without_a_body_says_so() -> None:
    server = Server(PLAIN)
    one(server, "POST")
    assert b"\r\ncontent-length: 0\r\n" in server.heads[0].lower()


@pytest.mark.parametrize(
    ("port", "tls", "named"), [(None, True, "a.example"), (443, True, "a.example"), (443, False, "a.example:443")]
)
def test_a_host_is_named_with_a_port_that_is_not_the_usual_one(port: int | None, tls: bool, named: str) -> None:
    assert lines._authority("a.example", port, tls) == named
    assert lines._authority("::1", 8080, tls) == "[::1]:8080"


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nfi\r\n2\r\nne\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + PLAIN,
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nfine",
        b"HTTP/1.0 200 OK\r\nx-close: 1\r\n\r\nfine",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzip.compress(b"fine"),
    ],
)
def test_an_answer_may_come_in_any_standard_shape(said: bytes) -> None:
    assert one(Server(said)).body == b"fine"


def test_headers_that_come_twice_are_one_with_a_comma() -> None:
    said = b"HTTP/1.1 204 No Content\r\nWarning: a\r\nWARNING: b\r\n\r\n"
    assert one(Server(said)).headers == {"warning": "a, b"}


@pytest.mark.parametrize(
    "said",
    [
        None,
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nx: close\r\n\r\nfine",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nx: close\r\n\r\n2\r\nfi\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzip.compress(b"fine")[:-4],
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\nfine",
        b"close: this is no HTTP\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nx: close\r\n\r\n",
    ],
)
def test_P25_an_answer_that_is_not_whole_is_in_doubt(said: bytes | None) -> None:
    server = Server(said)
    server.script[0] = said if said is None or b"close" in said else said + b"x: close"
    with pytest.raises(InDoubt, match="the connection was cut before the answer was whole"):
        one(server, "POST", content=b"{}")


def test_nobody_there_is_told_as_such() -> None:
    async def scenario() -> None:
        wire = Wire("http://127.0.0.1:1")
        await wire.exchange("GET", "http://127.0.0.1:1/x", content=None, params=None, headers={}, deadline=5.0)

    with pytest.raises(Unavailable, match="can't be reached"):
        anyio.run(scenario)


@pytest.mark.parametrize("header", [{"x-a": "line\r\nbreak"}, {"x-a": "é"}, {"x a": "b"}])
def test_a_header_that_is_none_never_goes_out(header: dict[str, str]) -> None:
    server = Server(PLAIN)
    with pytest.raises(PluginError, match="the request can't be sent"):
        one(server, headers=header)
    assert server.heads == []


# --- the same connection again ---------------------------------------------------------------------------------------


async def _twice(call: Callable[..., Awaitable[Answer]]) -> list[bytes]:
    first = await call()
    await anyio.sleep(0.02)
    return [first.body, (await call()).body]


def test_calls_one_after_another_share_a_connection() -> None:
    server = Server(PLAIN)
    assert calls(server, _twice) == [b"fine", b"fine"]
    assert server.connections == 1


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nx-then: close\r\n\r\nfine",  # it doesn't say so, and closes
        PLAIN + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",  # nobody asked for a second answer
    ],
)
def test_P25_a_connection_that_was_closed_or_spoke_unasked_is_not_used_again(said: bytes) -> None:
    server = Server(said, PLAIN)
    assert calls(server, _twice) == [b"fine", b"fine"]
    assert server.connections == 2


def test_a_connection_that_rested_for_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "IDLE_SECONDS", 0.01)
    server = Server(PLAIN)
    calls(server, _twice)
    assert server.connections == 2


def test_P24_a_call_given_up_takes_its_connection_along() -> None:
    server = Server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfine", PLAIN)

    async def scenario(call: Callable[..., Awaitable[Answer]]) -> bytes:
        with pytest.raises(InDoubt, match=r"no complete answer within 0\.05 s"):
            await call(deadline=0.05)
        return (await call()).body

    assert calls(server, scenario) == b"fine"
    assert server.connections == 2


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_file_goes_up_whole_and_another_comes_down() -> None:
    server = Server(PLAIN)
    with tempfile.TemporaryFile() as up, tempfile.TemporaryFile() as down:
        up.write(b"x" * 3_000_000)
        answer = one(server, "PUT", content=up, into=down)
        down.seek(0)
        assert (answer.body, down.read()) == (b"", b"fine")
    assert [len(body) for body in server.bodies] == [3_000_000]


def test_an_answer_is_heard_though_the_body_was_not_read_to_its_end() -> None:
    server = Server(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch", reads=False)
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 200_000)
        assert one(server, "PUT", content=file).status == 413
