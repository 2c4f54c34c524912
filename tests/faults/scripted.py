"""What the campaign's destinations have in common: the wire, a script of faults, a ledger of what arrived.

They share no code with what is tested. Every row of every request is entered with its time, key, values and whether it
was applied, so that what the tool says of itself can be held against what arrived here.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from tests.faults.serving import served

ON_THE_WAY = 0.3  # seconds: a call that had left when the pause was told, on a machine with much else to do
LONGEST_HEAD = 2**24
LONGEST_WAIT = 100.0  # seconds: calls have a deadline


@dataclass(frozen=True)
class Act:
    """What becomes of one call. As it stands: it is carried out and answered truly."""

    apply: bool = True
    wait: float = 0.0  # seconds before anything happens
    after: threading.Event | None = None  # nothing happens before this one
    late: float | None = None  # carried out this long after the answer
    status: int | None = None  # answered with this, whatever was done
    body: bytes = b""  # beside `status`
    headers: dict[str, str] = field(default_factory=dict)
    edit: Callable[[Any], Any] | None = None  # the true answer, rewritten
    cut: float | None = None  # the connection is reset after this share of the answer
    drip: float = 0.0  # seconds between the answer's bytes
    hang_up: bool = False  # close the connection after the answer, without having said so


@dataclass
class Call:
    """One request as it arrived. Its moments: arrived, applied, answered."""

    number: int  # among those that write, from 1; 0 for those that don't
    at: float
    method: str
    path: str
    verb: str
    inputs: list[dict[str, Any]]
    bearer: str
    query: str = ""
    body: bytes = b""
    status: int = 0
    answered: bool = False
    early: bool = False  # before a pause that had been told was over
    over: bool = False  # more than the window allows


@dataclass(frozen=True)
class Entry:
    """A row of a request."""

    at: float
    call: int
    verb: str
    key: str
    values: dict[str, str]
    applied: bool


@dataclass(frozen=True)
class Reply:
    """What an answer says: `content` goes out as JSON, bytes as they are."""

    status: int
    content: Any = None
    headers: dict[str, str] = field(default_factory=dict)


TRUE = Act()
Script = Callable[[Call], Act]


class Scripted(ABC):
    """Records by id, and what happened. `script` decides about each call; `refuses` about each row."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.lock = threading.RLock()
        self.records: dict[str, dict[str, str]] = {}
        self.by_key: dict[str, str] = {}
        self.archived: dict[str, dict[str, str]] = {}
        self.calls: list[Call] = []
        self.ledger: list[Entry] = []
        self.writes = 0
        self.latency = 0.01
        self.allowance: tuple[int, float] = (10_000, 10.0)
        self.not_before = 0.0
        self.told_at = 0.0
        self.caller_since = 0.0  # when the process that calls was started
        self.script: Script = lambda _call: TRUE
        self.refuses: Callable[[dict[str, str]], str | None] = lambda _values: None
        self.watch: Callable[[Call, str], None] = lambda _call, _moment: None
        self.bearers: set[str] = set()
        self.port = 0
        self.window: deque[float] = deque()

    @abstractmethod
    def verb_of(self, method: str, path: str, body: bytes) -> tuple[str, bool]:
        """What a request asks for, and whether that writes."""

    @abstractmethod
    def inputs_of(self, verb: str, body: bytes) -> list[dict[str, Any]]:
        """The rows that a request brings."""

    @abstractmethod
    def carry_out(self, call: Call, apply: bool) -> Reply:
        """Do it, unless it is only to look as if; under the lock."""

    @abstractmethod
    def settings(self, url: str) -> dict[str, Any]:
        """The connection's settings in a project file; `url` may be that of a proxy."""

    @property
    @abstractmethod
    def people(self) -> dict[str, Any]:
        """What a sync of people says of its destination."""

    def told_headers(self) -> dict[str, str]:
        """What every answer carries."""
        return {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def values(self, key: str) -> dict[str, str] | None:
        """The record with this key as it is now; None without one."""
        record_id = self.by_key.get(key)
        return None if record_id is None else self.records[record_id]

    def new_caller(self) -> None:
        """Another process calls from now on; a pause binds the one that was told of it."""
        self.not_before, self.caller_since = 0.0, time.monotonic()

    def heal(self) -> None:
        """No more faults, from the next call on."""
        self.script = lambda _call: TRUE
        self.refuses = lambda _values: None
        self.watch = lambda _call, _moment: None

    # --- the wire -----------------------------------------------------------------------------------------------------

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side has enough."""
        try:
            while (call := await self._request(reader)) is not None:
                act = self.script(call)
                self.watch(call, "arrived")
                if not await self._respond(call, act, writer):
                    return
                self.watch(call, "answered")
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> Call | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return None
        line, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        method, target, _ = line.split(" ")
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        path, _, query = target.partition("?")
        verb, writes = self.verb_of(method, path, body)
        inputs = self.inputs_of(verb, body)
        with self.lock:
            self.writes += writes
            bearer = headers.get("authorization", "").removeprefix("Bearer ")
            number = self.writes if writes else 0
            call = Call(number, time.monotonic(), method, path, verb, inputs, bearer, query, body)
            call.early = self.told_at + ON_THE_WAY < call.at < self.not_before
            self.window.append(call.at)
            while self.window[0] < call.at - self.allowance[1]:
                self.window.popleft()
            call.over = len(self.window) > self.allowance[0]
            self.calls.append(call)
            self.bearers.add(bearer)
        return call

    async def _respond(self, call: Call, act: Act, writer: asyncio.StreamWriter) -> bool:
        """Do what the act says. Returns whether the connection lives on."""
        await asyncio.sleep(self.latency + act.wait)
        if act.after is not None:
            await asyncio.to_thread(act.after.wait, LONGEST_WAIT)
        if call.over:
            act = too_many("10")
        if act.late is not None:
            asyncio.get_running_loop().call_later(act.late, self._locked, call, True)
        reply = self._locked(call, act.apply and act.late is None)
        if act.apply and act.late is None:
            self.watch(call, "applied")
        whole = self._written(call, act, reply)
        told = act.headers.get("retry-after", "")
        if told.isdecimal() and call.at >= self.caller_since:
            self.not_before = max(self.not_before, time.monotonic() + float(told))
            self.told_at = time.monotonic()
        if act.cut is not None:
            writer.write(whole[: int(len(whole) * act.cut)])
            await writer.drain()
            writer.transport.abort()
            return False
        for part in _parts(whole, act.drip):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(act.drip)
        call.answered = True
        return not act.hang_up

    def _locked(self, call: Call, apply: bool) -> Reply:
        with self.lock:
            return self.carry_out(call, apply)

    def _written(self, call: Call, act: Act, reply: Reply) -> bytes:
        """The answer's bytes, head and body."""
        content = act.edit(reply.content) if act.edit else reply.content
        raw = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
        kind = "text/csv; charset=UTF-8" if isinstance(content, bytes) else "application/json;charset=utf-8"
        call.status = reply.status
        if act.status is not None:
            call.status, raw = act.status, act.body
        fields = {"content-type": kind, "content-length": str(len(raw)), **self.told_headers(), **reply.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in (fields | act.headers).items())
        return f"HTTP/1.1 {call.status} {_phrase(call.status)}\r\n{lines}\r\n".encode() + raw


def too_many(after: str | None, policy: str = "TEN_SECONDLY_ROLLING") -> Act:
    """The refusal of a call for its number, with the pause told in the form given."""
    said = {"status": "error", "errorType": "RATE_LIMIT", "message": "too many", "policyName": policy}
    headers = {} if after is None else {"retry-after": after}
    return Act(apply=False, status=429, body=json.dumps(said).encode(), headers=headers)


@contextmanager
def answering(fake: Scripted) -> Iterator[None]:
    """While it lasts, the fake is there."""
    with served(fake.serve, limit=LONGEST_HEAD) as fake.port:
        yield


def _parts(whole: bytes, drip: float) -> Iterator[bytes]:
    size = 1 if drip else max(1, len(whole))
    for start in range(0, len(whole), size):
        yield whole[start : start + size]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Odd"
