"""Tokens, and how many requests each may make: a rolling window, a daily quota; search and associations have their own.

Figures: https://developers.hubspot.com/docs/developer-tooling/platform/usage-guidelines (November 2026).
"""

from __future__ import annotations

import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from reverse_etl.sandbox.clock import Clock, iso
from reverse_etl.sandbox.hubspot.errors import Refusal, expired, missing_scopes, no_credentials
from reverse_etl.sandbox.hubspot.portal import PORTAL_ID
from reverse_etl.sandbox.messages import Request

WINDOW = 10.0
UNLIMITED = 1_000_000
DAY = 86_400
TOKEN = "sandbox-token"  # noqa: S105  # the emulator's published token
APP_ID = 67890
MOST_ASSOCIATIONS = 150  # requests in ten seconds, of the larger accounts
DAILY_ASSOCIATIONS = 500_000

Bucket = Literal["ordinary", "search", "associations"]


@dataclass
class Token:
    """`scopes` None: all of them. `until` None: it never expires. `oauth`: such apps have no daily quota."""

    scopes: frozenset[str] | None = None
    until: float | None = None
    oauth: bool = False
    window: deque[float] = field(default_factory=deque)
    associations: deque[float] = field(default_factory=deque)


class Limits:
    """`rate`: requests in any ten seconds, None for no limit; `daily`: requests a day; `searches` a second.

    Calls of the associations API count in a window and a day of their own and in neither of these.
    """

    def __init__(self, clock: Clock, rate: int | None, daily: int, searches: int = 5) -> None:
        self._clock = clock
        self.rate = rate
        self.daily = daily
        self.searches = searches
        self.tokens: dict[str, Token] = {TOKEN: Token()}
        self.daily_associations = DAILY_ASSOCIATIONS
        self.used_today = 0
        self.associations_today = 0
        self._day = int(clock.now() // DAY)
        self._searches: deque[float] = deque()

    @property
    def association_rate(self) -> int | None:
        """Calls of the associations API in any ten seconds: a small account has no larger window than for the rest."""
        return None if self.rate is None else min(self.rate, MOST_ASSOCIATIONS)

    def now(self) -> float:
        return self._clock.now()

    def admit(self, request: Request, scopes: list[str], bucket: Bucket = "ordinary") -> None:
        """Counts the request; raises the 401, 403 or 429 that it gets."""
        token = self.identify(request)
        if token.scopes is not None and not token.scopes.issuperset(scopes):
            raise missing_scopes(scopes)
        self._count_day(token, bucket)
        now = self._clock.monotonic()
        if bucket == "search":
            _forget(self._searches, now - 1.0)
            if len(self._searches) >= self.searches:
                raise secondly()
            self._searches.append(now)
            return
        window, most = self._window(token, bucket)
        _forget(window, now - WINDOW)
        if most is not None and len(window) >= most:
            raise ten_secondly()
        window.append(now)

    def _window(self, token: Token, bucket: Bucket) -> tuple[deque[float], int | None]:
        if bucket == "associations":
            return token.associations, self.association_rate
        return token.window, self.rate

    def headers(self, request: Request, bucket: Bucket = "ordinary") -> dict[str, str]:
        token = self.tokens.get(request.bearer() or "")
        if token is None:
            return {}
        headers: dict[str, str] = {}
        if not token.oauth:
            headers["X-HubSpot-RateLimit-Daily"] = str(self.daily)
            headers["X-HubSpot-RateLimit-Daily-Remaining"] = str(max(0, self.daily - self.used_today))
        if bucket != "search":
            window, limit = self._window(token, bucket)
            most = UNLIMITED if limit is None else limit
            remaining = most if limit is None else max(0, most - len(window))
            headers["X-HubSpot-RateLimit-Max"] = str(most)
            headers["X-HubSpot-RateLimit-Remaining"] = str(remaining)
            headers["X-HubSpot-RateLimit-Interval-Milliseconds"] = "10000"
            headers["X-HubSpot-RateLimit-Secondly"] = str(max(1, most // 10))
            headers["X-HubSpot-RateLimit-Secondly-Remaining"] = str(max(0, most // 10 - 1))
        return headers

    def grant(self, seconds: float, scopes: frozenset[str] | None = None) -> str:
        """A fresh OAuth access token."""
        token = "CJ" + uuid.uuid4().hex + uuid.uuid4().hex
        self.tokens[token] = Token(scopes, self._clock.now() + seconds, oauth=True)
        return token

    def expire(self, token: str) -> None:
        if token in self.tokens:
            self.tokens[token].until = self._clock.now() - 1

    def reset(self) -> None:
        self.tokens = {TOKEN: Token()}
        self.used_today = self.associations_today = 0
        self._searches.clear()

    def identify(self, request: Request) -> Token:
        """The request's token; raises the 401 for none, an unknown and an expired one."""
        given = request.bearer()
        if given is None:
            raise no_credentials()
        token = self.tokens.get(given)
        if token is None:
            # one that can't be read at all counts as expired since 1970
            now = self._clock.now()
            raise no_credentials() if given.startswith("pat-") else expired(int(now), iso(0))
        if token.until is not None and token.until <= self._clock.now():
            raise expired(max(1, int(self._clock.now() - token.until)), iso(token.until))
        return token

    def _count_day(self, token: Token, bucket: Bucket) -> None:
        """The quota starts anew at midnight of the account's time zone, which is UTC here."""
        today = int(self._clock.now() // DAY)
        if today != self._day:
            self._day, self.used_today, self.associations_today = today, 0, 0
        if bucket == "associations":
            if self.associations_today >= self.daily_associations:
                raise daily()
            self.associations_today += 1
            return
        if token.oauth:
            return
        if self.used_today >= self.daily:
            raise daily()
        self.used_today += 1


def ten_secondly() -> Refusal:
    return Refusal(
        429,
        "You have reached your ten_secondly_rolling limit.",
        errorType="RATE_LIMIT",
        policyName="TEN_SECONDLY_ROLLING",
        groupName=f"publicapi:private_app-api-calls-ten-secondly:{PORTAL_ID}:{APP_ID}",
    )


def secondly() -> Refusal:
    return Refusal(429, "You have reached your secondly limit.", "RATE_LIMITS")


def daily() -> Refusal:
    return Refusal(
        429,
        "You have reached your daily limit.",
        errorType="RATE_LIMIT",
        policyName="DAILY",
        requestId=str(uuid.uuid4()),
    )


def _forget(window: deque[float], before: float) -> None:
    while window and window[0] <= before:
        window.popleft()
