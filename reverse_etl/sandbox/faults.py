"""Faults that a test orders: which requests they strike, how often, and what goes wrong.

A fault is matched by method, platform and a pattern on the path, and strikes the `nth` matching request, or each of
them with `probability` (seeded), at most `times` times (once unless told; None: always). Requests that their token or a
limit refuses are not counted. Kinds:

    status       answer `status` (with `body`, `headers`, `retry_after`); `applied`: carry the request out first
    throttle     a 429 of `policy` ten_secondly, secondly or daily; for Salesforce a 403 of `policy` daily or concurrent
    slow         answer after `seconds`
    drip         answer whole, but a byte every `seconds`
    cut          close the connection without an answer; `applied` says whether the request was carried out
    truncate     carry out, announce the whole answer, send half of it
    empty        2xx with nothing in it, nothing carried out
    omit         carry out, leave `rows` records out of the answer
    reverse      carry out, turn the order of the answer's records around
    duplicate    carry out, mention the first record of the answer twice
    stranger     carry out, add a record to the answer that nobody asked for
    refuse       `rows` records of the request, or this `share` of them, are refused with `code` and `message`
    lock         likewise, for a lock (Salesforce UNABLE_TO_LOCK_ROW, HubSpot 423 for the whole request)
    expire       the request's token is no longer valid
    html         a gateway's page with `status`, 502 unless told

Of Salesforce's bulk jobs, ordered on the request that closes the upload (method PATCH, path jobs/ingest):

    fail_job     fails after `rows` rows, the rest stays unprocessed, `message` is its errorMessage
    vanish       `rows` rows of each chunk of 200 are carried out and in none of the result files
    stuck        is in progress for ever
"""

from __future__ import annotations

import random
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from reverse_etl.sandbox.messages import Request

KINDS = frozenset(
    {"status", "throttle", "slow", "drip", "cut", "truncate", "empty", "omit", "reverse", "duplicate", "stranger"}
    | {"refuse", "lock", "expire", "html", "fail_job", "vanish", "stuck"}
)


class BadFault(ValueError):
    """An order that no fault fits."""


@dataclass(slots=True)
class Fault:
    kind: str
    method: str | None = None
    path: str = ""
    platform: str | None = None
    nth: int | None = None
    after: int = 0
    times: int | None = 1
    probability: float = 1.0
    status: int | None = None
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    retry_after: str | None = None
    policy: str | None = None
    seconds: float = 0.0
    applied: bool = False
    rows: int = 1
    share: float | None = None
    code: str = ""
    message: str = ""
    fields: list[str] = field(default_factory=list)
    id: int = 0
    seen: int = 0
    struck: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BadFault(f"unknown kind {self.kind!r}; it is one of {', '.join(sorted(KINDS))}")
        if self.kind == "status" and self.status is None:
            raise BadFault("a fault of kind 'status' needs a status")
        try:
            re.compile(self.path)
        except re.error as error:
            raise BadFault(f"path is not a regular expression: {error}") from None

    def count(self, of: int) -> int:
        """How many of that many records it strikes."""
        return min(of, self.rows if self.share is None else round(self.share * of))

    def document(self) -> dict[str, Any]:
        return asdict(self)


class Faults:
    """The faults in force. Deterministic: the same orders, seed and requests strike alike."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311  # replayable, guards no secret
        self._faults: list[Fault] = []
        self._next = 1

    def add(self, kind: str, **order: Any) -> Fault:
        """Orders a fault; see the module for the kinds. `path` is a regular expression searched in the path."""
        known = {entry.name for entry in fields(Fault)} - {"kind", "id", "seen", "struck"}
        unknown = sorted(set(order) - known)
        if unknown:
            raise BadFault(f"unknown {', '.join(unknown)}; a fault takes {', '.join(sorted(known))}")
        fault = Fault(kind, **order)
        fault.id, self._next = self._next, self._next + 1
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        self._faults.clear()
        self._random = random.Random(self._seed)  # noqa: S311  # as above

    def __iter__(self) -> Any:
        return iter(list(self._faults))

    def __bool__(self) -> bool:
        return bool(self._faults)

    def strike(self, request: Request, platform: str) -> list[Fault]:
        """The faults that strike this request, in the order they were ordered."""
        return [fault for fault in self._faults if self._strikes(fault, request, platform)]

    def _strikes(self, fault: Fault, request: Request, platform: str) -> bool:
        if fault.platform not in (None, platform) or fault.method not in (None, request.method):
            return False
        if not re.search(fault.path, request.path):
            return False
        fault.seen += 1
        if fault.seen <= fault.after or (fault.nth is not None and fault.seen != fault.nth):
            return False
        if fault.times is not None and fault.struck >= fault.times:
            return False
        if fault.probability < 1.0 and self._random.random() >= fault.probability:
            return False
        fault.struck += 1
        return True
