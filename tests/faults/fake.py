"""A destination for the campaign: enough of HubSpot's wire to be written to, a ledger of its own, a script of faults.

It shares no code with what is tested. Every row of every request is entered with its time, key, values and whether it
was applied, so that what the tool says of itself can be held against what arrived here.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from tests.faults.serving import served

PORTAL = 4711
TEXTS = ("email", "firstname", "lastname", "plan", "note")
FIELDS = {**dict.fromkeys(TEXTS, "string"), "seats": "number", "score": "number", "seen_at": "datetime"}
MATCH = "email"
ON_THE_WAY = 0.05  # seconds: a call that had left when the pause was told


@dataclass(frozen=True)
class Act:
    """What becomes of one call. As it stands: it is carried out and answered truly."""

    apply: bool = True
    wait: float = 0.0  # seconds before anything happens
    late: float | None = None  # carried out this long after the answer
    status: int | None = None  # answered with this, whatever was done
    body: bytes = b""  # beside `status`
    headers: dict[str, str] = field(default_factory=dict)
    edit: Callable[[dict[str, Any]], Any] | None = None  # the true answer, rewritten
    cut: float | None = None  # the connection is reset after this share of the answer
    drip: float = 0.0  # seconds between the answer's bytes
    hang_up: bool = False  # close the connection after the answer, without having said so


@dataclass
class Call:
    """One request as it arrived. `moments` tells how far it came: arrived, applied, answered."""

    number: int  # among those that write, from 1; 0 for those that don't
    at: float
    method: str
    path: str
    verb: str
    inputs: list[dict[str, Any]]
    bearer: str
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


TRUE = Act()


class Fake:
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
        self.script: Callable[[Call], Act] = lambda _call: TRUE
        self.refuses: Callable[[dict[str, str]], str | None] = lambda _values: None
        self.watch: Callable[[Call, str], None] = lambda _call, _moment: None
        self.bearers: set[str] = set()
        self.port = 0
        self._window: deque[float] = deque()

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
        path = target.partition("?")[0]
        verb = path.rpartition("/")[2] if "/batch/" in path else ""
        inputs = json.loads(body)["inputs"] if verb else []
        with self.lock:
            if verb and verb != "read":
                self.writes += 1
            number = self.writes if verb and verb != "read" else 0
            bearer = headers.get("authorization", "").removeprefix("Bearer ")
            call = Call(number, time.monotonic(), method, path, verb, inputs, bearer)
            call.early = self.told_at + ON_THE_WAY < call.at < self.not_before
            self._window.append(call.at)
            while self._window[0] < call.at - self.allowance[1]:
                self._window.popleft()
            call.over = len(self._window) > self.allowance[0]
            self.calls.append(call)
            self.bearers.add(bearer)
        return call

    async def _respond(self, call: Call, act: Act, writer: asyncio.StreamWriter) -> bool:
        """Do what the act says. Returns whether the connection lives on."""
        await asyncio.sleep(self.latency + act.wait)
        if call.over:
            act = too_many("10")
        if act.late is not None:
            asyncio.get_running_loop().call_later(act.late, self._carry_out, call, True)
        status, answer = self._carry_out(call, act.apply and act.late is None)
        if call.number and act.apply and act.late is None:
            self.watch(call, "applied")
        raw = b"" if answer is None else json.dumps(act.edit(answer) if act.edit else answer).encode()
        if act.status is not None:
            status, raw = act.status, act.body
        call.status = status
        told = act.headers.get("retry-after", "")
        if told.isdecimal() and call.at >= self.caller_since:
            self.not_before = max(self.not_before, time.monotonic() + float(told))
            self.told_at = time.monotonic()
        head = f"HTTP/1.1 {status} {_phrase(status)}\r\ncontent-type: application/json;charset=utf-8\r\n"
        fields = {"content-length": str(len(raw)), "x-hubspot-correlation-id": f"c-{len(self.calls)}", **self._limits()}
        fields |= act.headers
        whole = (
            head.encode() + b"".join(f"{name}: {value}\r\n".encode() for name, value in fields.items()) + b"\r\n" + raw
        )
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

    def _limits(self) -> dict[str, str]:
        most, seconds = self.allowance
        left = max(0, most - len(self._window))
        return {
            "x-hubspot-ratelimit-max": str(most),
            "x-hubspot-ratelimit-remaining": str(left),
            "x-hubspot-ratelimit-interval-milliseconds": str(int(seconds * 1000)),
        }

    # --- what it does -------------------------------------------------------------------------------------------------

    def _carry_out(self, call: Call, apply: bool) -> tuple[int, dict[str, Any] | None]:
        with self.lock:
            if call.path.startswith("/account-info/"):
                return 200, {"portalId": PORTAL, "timeZone": "UTC"}
            if call.path.startswith("/crm/properties/"):
                return 200, {"results": [_property(name, kind) for name, kind in FIELDS.items()]}
            if call.verb == "read":
                return 200, self._read(call)
            if call.verb:
                return self._write(call, apply)
            return 404, {"status": "error", "message": "resource not found"}

    def _read(self, call: Call) -> dict[str, Any]:
        found = [(self.by_key.get(each["id"].lower(), each["id"])) for each in call.inputs]
        results = [{"id": id, "properties": self.records[id]} for id in found if id in self.records]
        return {"status": "COMPLETE", "results": results}

    def _write(self, call: Call, apply: bool) -> tuple[int, dict[str, Any] | None]:
        results, errors = [], []
        for each in call.inputs:
            result, error = self._row(call, each, apply)
            if result is not None:
                results.append(result)
            if error is not None:
                errors.append({**error, "context": {"objectWriteTraceId": [each.get("objectWriteTraceId")]}})
        if call.verb == "archive":
            return 204, None
        self.random.shuffle(results)
        document: dict[str, Any] = {"status": "COMPLETE", "results": results}
        if errors:
            document |= {"numErrors": len(errors), "errors": errors}
        return (207 if errors else 200), document

    def _row(
        self, call: Call, each: dict[str, Any], apply: bool
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        values: dict[str, str] = each.get("properties", {})
        by_id = call.verb in ("update", "archive") and "idProperty" not in each
        wanted = each.get("id") or values.get(MATCH, "")
        record_id = wanted if by_id else self.by_key.get(wanted.lower())
        before = self.records.get(record_id or "")
        key = (before or self.archived.get(record_id or "") or {}).get(MATCH) or values.get(MATCH, wanted)
        refusal = self.refuses({MATCH: key, **values})
        missing = before is None and call.verb in ("update", "archive")
        done = apply and refusal is None and not missing
        self.ledger.append(Entry(time.monotonic(), call.number, call.verb, key.lower(), dict(values), done))
        if refusal is not None:
            return None, {"status": "error", "category": "VALIDATION_ERROR", "message": refusal}
        if missing:
            return None, {"status": "error", "category": "OBJECT_NOT_FOUND", "message": "Could not get some objects"}
        if call.verb == "archive":
            if apply and record_id:
                self.archived[record_id] = self.records.pop(record_id)
                del self.by_key[key.lower()]
            return None, None
        fresh = record_id is None
        if record_id is None:
            record_id = str(1000 + len(self.records) + len(self.archived))
        if apply:
            kept = self.records.setdefault(record_id, {})
            kept.update(values)
            self.by_key[kept.get(MATCH, key).lower()] = record_id
        told = {MATCH: key, **values, "hs_object_id": record_id}
        return {"id": record_id, "properties": told, "new": fresh, "archived": False}, None


def too_many(after: str | None, policy: str = "TEN_SECONDLY_ROLLING") -> Act:
    """The refusal of a call for its number, with the pause told in the form given."""
    said = {"status": "error", "errorType": "RATE_LIMIT", "message": "too many", "policyName": policy}
    headers = {} if after is None else {"retry-after": after}
    return Act(apply=False, status=429, body=json.dumps(said).encode(), headers=headers)


@contextmanager
def running(seed: int) -> Iterator[Fake]:
    """A fake that answers."""
    fake = Fake(seed)
    with served(fake.serve, limit=2**24) as fake.port:
        yield fake


def _parts(whole: bytes, drip: float) -> Iterator[bytes]:
    size = 1 if drip else max(1, len(whole))
    for start in range(0, len(whole), size):
        yield whole[start : start + size]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Odd"


def _property(name: str, kind: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name,
        "type": kind,
        "fieldType": {"string": "text", "number": "number", "datetime": "date"}[kind],
        "hasUniqueValue": name == MATCH,
        "options": [],
    }
