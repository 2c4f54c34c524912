"""What the sandbox saw and what it did: the request log, and the ledger of every write that was applied."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from reverse_etl.sandbox.clock import Clock, iso
from reverse_etl.sandbox.messages import Request, Response
from reverse_etl.sandbox.table import pack

KEPT_REQUESTS = 20_000


@dataclass(slots=True)
class Entry:
    """One request as the log keeps it. The token is shown only as a short hash."""

    at: float
    method: str
    path: str
    status: int
    rows: int
    token: str | None
    fault: str | None

    def document(self) -> dict[str, Any]:
        return asdict(self) | {"at": iso(self.at)}


class RequestLog:
    """The latest requests in order, and counters over all of them. Iterates over `Entry`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: deque[Entry] = deque(maxlen=KEPT_REQUESTS)
        self._window: deque[float] = deque()
        self._hashes: dict[str, str] = {}
        self.total = 0
        self.changing = 0  # requests that may have changed something, ever
        self.peak = 0
        self.by_route: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries))

    def __len__(self) -> int:
        return self.total

    def add(self, request: Request, response: Response, fault: str | None) -> None:
        now = self._clock.now()
        status = 0 if response.cut else response.status
        self._entries.append(
            Entry(now, request.method, request.path, status, response.rows, self._hash(request), fault)
        )
        self.total += 1
        self.changing += request.method != "GET"
        self.by_route[f"{request.method} {request.path}"] += 1
        self._window.append(now)
        while self._window[0] <= now - 10:
            self._window.popleft()
        self.peak = max(self.peak, len(self._window))

    def matching(self, method: str | None = None, path: str = "") -> list[Entry]:
        """The kept requests with that method whose path contains `path`."""
        return [entry for entry in self if (method is None or entry.method == method) and path in entry.path]

    def clear(self) -> None:
        self._entries.clear()
        self._window.clear()
        self.by_route.clear()
        self.total = self.peak = 0

    def document(self) -> dict[str, Any]:
        return {
            "total": self.total,
            "peak_per_10s": self.peak,
            "by_route": dict(self.by_route),
            "requests": [entry.document() for entry in self],
        }

    def _hash(self, request: Request) -> str | None:
        credential = request.headers.get("authorization")
        if credential is None:
            return None
        if credential not in self._hashes:
            if len(self._hashes) > 1000:
                self._hashes.clear()
            self._hashes[credential] = hashlib.sha256(credential.encode()).hexdigest()[:12]
        return self._hashes[credential]


class Ledger:
    """Every applied write in order, whatever the client was told about it.

    A request's writes are packed together, so that half a million of them stay small; they are taken apart on reading.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._packs: list[tuple[float, str, str, bytes]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for at, platform, kind, packed in list(self._packs):
            for action, record_id, values in orjson.loads(packed):
                yield {
                    "at": iso(at),
                    "platform": platform,
                    "object": kind,
                    "action": action,
                    "id": record_id,
                    "values": values,
                }

    def add(self, platform: str, kind: str, writes: list[tuple[str, str, Any]]) -> None:
        """Notes one request's writes: (action, record id, values as applied)."""
        if writes:
            self._packs.append((self._clock.now(), platform, kind, pack(writes)))
            self._count += len(writes)

    def mark(self) -> tuple[int, int]:
        """Where the ledger ends now, to be cut back to if what follows is undone."""
        return len(self._packs), self._count

    def cut(self, mark: tuple[int, int]) -> None:
        packs, self._count = mark
        del self._packs[packs:]

    def clear(self) -> None:
        self._packs.clear()
        self._count = 0
