"""A CRM that costs next to nothing: what a benchmark posts to, in a process of its own.

It answers HubSpot's batch upsert, update, read and archive, a property list and the account's details in their
documented shapes (https://developers.hubspot.com/docs/api-reference, read November 2026), takes every value and knows
no faults. It shares no code with the product and none with its sandbox.

    python -m benchmarks.fake [--record FILE] [--rate CALLS] [--latency SECONDS]

prints its address on the first line. `--record` keeps the body of every batch call, one JSON line a call. With `--rate`
it lets in so many calls in any ten seconds and refuses the others; `--latency` is how long a call takes, half of it on
the way in. GET /seen tells when each call arrived, and whether it was refused.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import orjson

NOW = "2026-11-23T02:00:00.000Z"
PORTAL = 4711
PLENTY = "1000000"
WINDOW_SECONDS = 10.0
REFUSAL = orjson.dumps(
    {
        "status": "error",
        "message": "You have reached your ten_secondly_rolling limit.",
        "errorType": "RATE_LIMIT",
        "correlationId": "0",
        "policyName": "TEN_SECONDLY_ROLLING",
    }
)
BATCH = re.compile(r"^/crm/objects/[^/]+/([^/]+)/batch/(upsert|update|read|archive)$")
FIELDS = {
    "email": "string",
    "app_user_id": "string",
    "firstname": "string",
    "company": "string",
    "country": "string",
    "plan": "string",
    "seats": "number",
    "mrr": "number",
    "score": "number",
    "active": "bool",
    "signed_up": "date",
    "last_seen": "datetime",
}
UNIQUE = {"app_user_id"}

Body = dict[str, Any]


class Crm:
    """Records by object, found by record id or by the unique property a caller names."""

    def __init__(self) -> None:
        self.records: dict[str, Body] = {}
        self.ids: dict[tuple[str, str, str], str] = {}

    def upsert(self, object: str, body: Body) -> Body:
        return _answer([self._upserted(object, each) for each in body["inputs"]])

    def update(self, object: str, body: Body) -> Body:
        known = [each for each in body["inputs"] if each["id"] in self.records]
        for each in known:
            self.records[each["id"]].update(each["properties"])
        answer = _answer([_result(each["id"], each["properties"]) for each in known])
        return _with_missing(answer, [each["id"] for each in body["inputs"] if each["id"] not in self.records])

    def read(self, object: str, body: Body) -> Body:
        by, wanted = body.get("idProperty"), body["properties"]
        asked = [each["id"] for each in body["inputs"]]
        ids = [self.ids.get((object, by, each)) if by else each for each in asked]
        found = [(id, self.records[id]) for id in ids if id is not None and id in self.records]
        answer = _answer([_result(id, {name: record.get(name) for name in wanted}) for id, record in found])
        return _with_missing(answer, [each for each, id in zip(asked, ids, strict=True) if id not in self.records])

    def archive(self, object: str, body: Body) -> None:
        for each in body["inputs"]:
            self.records.pop(each["id"], None)

    def _upserted(self, object: str, each: Body) -> Body:
        key = (object, each["idProperty"], each["id"])
        id = self.ids.get(key)
        new = id is None or id not in self.records
        if id is None or new:
            id = self.ids[key] = str(len(self.ids) + 1)
            self.records[id] = {}
        self.records[id].update(each["properties"])
        return {**_result(id, each["properties"]), "new": new}


def _result(id: str, properties: Body) -> Body:
    told = {**properties, "hs_object_id": id, "lastmodifieddate": NOW}
    return {"id": id, "properties": told, "createdAt": NOW, "updatedAt": NOW, "archived": False}


def _answer(results: list[Body]) -> Body:
    return {"status": "COMPLETE", "startedAt": NOW, "completedAt": NOW, "results": results}


def _with_missing(answer: Body, missing: list[str]) -> Body:
    if missing:
        message = "Could not get some objects, they may be deleted or not exist. Check that ids are valid."
        error = {"status": "error", "category": "OBJECT_NOT_FOUND", "message": message, "context": {"ids": missing}}
        answer.update(numErrors=1, errors=[error])
    return answer


def _property(name: str, kind: str) -> Body:
    return {
        "name": name,
        "label": name,
        "type": kind,
        "fieldType": "booleancheckbox" if kind == "bool" else "text",
        "groupName": "contactinformation",
        "options": [{"label": each, "value": each, "hidden": False} for each in ("true", "false")] * (kind == "bool"),
        "hidden": False,
        "archived": False,
        "calculated": False,
        "externalOptions": False,
        "hasUniqueValue": name in UNIQUE,
        "modificationMetadata": {"readOnlyValue": False, "readOnlyDefinition": False, "archivable": True},
    }


class Gate:
    """An exact rolling window: a call counts when it arrives, and one too many is refused."""

    def __init__(self, rate: int | None, latency: float) -> None:
        self.rate = rate
        self.latency = latency
        self.seen: list[tuple[float, bool]] = []
        self._window: deque[float] = deque()

    def admits(self) -> bool:
        now = time.monotonic()
        while self._window and self._window[0] <= now - WINDOW_SECONDS:
            self._window.popleft()
        admitted = self.rate is None or len(self._window) < self.rate
        if admitted:
            self._window.append(now)
        self.seen.append((now, not admitted))
        return admitted

    def told(self) -> str:
        """The headers of an answer."""
        most = int(PLENTY) if self.rate is None else self.rate
        left = most if self.rate is None else most - len(self._window)
        return (
            f"X-HubSpot-RateLimit-Max: {most}\r\nX-HubSpot-RateLimit-Remaining: {left}\r\n"
            f"X-HubSpot-RateLimit-Interval-Milliseconds: {WINDOW_SECONDS * 1000:.0f}\r\n"
            f"X-HubSpot-RateLimit-Daily: {PLENTY}\r\nX-HubSpot-RateLimit-Daily-Remaining: {PLENTY}\r\n"
        )


class Connection(asyncio.Protocol):
    """One keep-alive connection; requests are answered in order, after the latency."""

    def __init__(self, crm: Crm, record: IO[bytes] | None, gate: Gate) -> None:
        self.crm = crm
        self.record = record
        self.gate = gate
        self.pending = b""
        self.transport: asyncio.Transport | None = None
        self.calls: dict[str, Callable[[str, Body], Body | None]] = {
            "upsert": crm.upsert,
            "update": crm.update,
            "read": crm.read,
            "archive": crm.archive,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.pending += data
        while (end := self.pending.find(b"\r\n\r\n")) >= 0:
            head = self.pending[:end].decode("latin-1")
            declared = re.search(r"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
            size = int(declared.group(1)) if declared else 0
            if len(self.pending) < end + 4 + size:
                return
            body = self.pending[end + 4 : end + 4 + size]
            self.pending = self.pending[end + 4 + size :]
            target = head.split("\r\n", 1)[0].split(" ")[1].partition("?")[0]
            if self.gate.latency:
                asyncio.get_running_loop().call_later(self.gate.latency / 2, self._arrive, target, body)
            else:
                self._arrive(target, body)

    def _arrive(self, target: str, body: bytes) -> None:
        if target == "/seen":
            self._reply(200, orjson.dumps(self.gate.seen))
            return
        answer = self._answer(target, body) if self.gate.admits() else (429, REFUSAL)
        if self.gate.latency:
            asyncio.get_running_loop().call_later(self.gate.latency / 2, self._reply, *answer)
        else:
            self._reply(*answer)

    def _answer(self, target: str, body: bytes) -> tuple[int, bytes]:
        if called := BATCH.match(target):
            if self.record is not None:
                self.record.write(orjson.dumps([target, body.decode()]) + b"\n")
                self.record.flush()
            told = self.calls[called[2]](called[1], orjson.loads(body))
            return (204, b"") if told is None else (207 if "errors" in told else 200, orjson.dumps(told))
        if target.startswith("/crm/properties/"):
            return 200, orjson.dumps({"results": [_property(name, kind) for name, kind in FIELDS.items()]})
        if target.startswith("/account-info/"):
            return 200, orjson.dumps({"portalId": PORTAL, "accountType": "DEVELOPER_TEST", "timeZone": "UTC"})
        return 404, orjson.dumps({"status": "error", "message": "resource not found", "correlationId": "0"})

    def _reply(self, status: int, body: bytes) -> None:
        assert self.transport is not None
        head = (
            f"HTTP/1.1 {status} -\r\nContent-Type: application/json;charset=utf-8\r\nContent-Length: {len(body)}\r\n"
            f"{self.gate.told()}\r\n"
        )
        self.transport.write(head.encode() + body)


async def serve(record: IO[bytes] | None, gate: Gate) -> None:
    """Answer on a free port of the loopback until the process is ended."""
    crm = Crm()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(crm, record, gate), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    arguments = argparse.ArgumentParser(description="the benchmark's CRM")
    arguments.add_argument("--record", type=Path)
    arguments.add_argument("--rate", type=int)
    arguments.add_argument("--latency", type=float, default=0.0)
    given = arguments.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(given.record.open("wb") if given.record else None, Gate(given.rate, given.latency)))


if __name__ == "__main__":
    main()
