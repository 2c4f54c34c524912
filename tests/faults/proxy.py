"""A TCP proxy that spoils connections: delays, slows, cuts after so many bytes, half-closes, swallows, each way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

from tests.faults.serving import served

Ending = Literal["reset", "close", "half", "hole"]
CHUNK = 4096


@dataclass(frozen=True)
class Wire:
    """What one direction of one connection is like. `after` bytes it ends as said; None lets it live."""

    delay: float = 0.0  # seconds before each piece
    rate: float | None = None  # bytes a second
    after: int | None = None
    ending: Ending = "reset"
    held: float = 3.0  # seconds that a hole swallows before the connection is reset


CLEAR = Wire()


@dataclass
class Proxy:
    """`choose` gives the two directions, up and down, of the nth connection."""

    to: int | str  # a port of this machine, or the path of a socket
    choose: Callable[[int], tuple[Wire, Wire]] = lambda _nth: (CLEAR, CLEAR)
    port: int = 0
    connections: int = 0
    spoiled: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        up, down = self.choose(self.connections)
        try:
            theirs, ours = await self._reached()
        except OSError:
            writer.transport.abort()
            return
        ways = [self._carry(reader, ours, writer, up), self._carry(theirs, writer, ours, down)]
        try:
            await asyncio.gather(*ways)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            for each in (writer, ours):
                each.transport.abort()

    async def _reached(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.to, str):
            return await asyncio.open_unix_connection(self.to)
        return await asyncio.open_connection("127.0.0.1", self.to)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, other: asyncio.StreamWriter, wire: Wire
    ) -> None:
        """One direction. What ends by `reset` or `close` takes the other direction with it."""
        carried = 0
        while piece := await reader.read(CHUNK):
            room = len(piece) if wire.after is None else max(0, min(len(piece), wire.after - carried))
            await asyncio.sleep(wire.delay + (room / wire.rate if wire.rate else 0.0))
            writer.write(piece[:room])
            await writer.drain()
            carried += room
            if room < len(piece):
                self.spoiled += 1
                await self._end(reader, writer, other, wire)
                return
        with suppress(OSError):
            writer.write_eof()

    async def _end(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, other: asyncio.StreamWriter, wire: Wire
    ) -> None:
        if wire.ending == "half":
            writer.write_eof()
            await asyncio.wait_for(_swallowed(reader), wire.held)
        elif wire.ending == "hole":
            with suppress(TimeoutError):
                await asyncio.wait_for(_swallowed(reader), wire.held)
        elif wire.ending == "close":
            writer.close()
            other.close()
        writer.transport.abort()
        other.transport.abort()
        raise ConnectionResetError


async def _swallowed(reader: asyncio.StreamReader) -> None:
    while await reader.read(CHUNK):
        pass


@contextmanager
def proxied(to: int | str) -> Iterator[Proxy]:
    """A proxy on a free port of this machine."""
    proxy = Proxy(to)
    with served(proxy.serve) as proxy.port:
        yield proxy
