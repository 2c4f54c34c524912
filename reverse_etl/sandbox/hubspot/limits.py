"""Tokens, and how many requests each may make: a rolling window, a daily quota, a bucket of its own for search.

Figures: https://developers.hubspot.com/docs/developer-tooling/platform/usage-guidelines (November 2026).
"""

from __future__ import annotations

import uuid
from collections import deque
from dataclasses import dataclass, field

from reverse_etl.sandbox.clock import Clock, iso
from reverse_etl.sandbox.hubspot.errors import Refusal, expired, missing_scopes, no_credentials
from reverse_etl.sandbox.hubspot.portal import PORTAL_ID
from reverse_etl.sandbox.messages import Request

WINDOW = 10.0
UNLIMITED = 1_000_000
DAY = 86_400
TOKEN = "sandbox-token"  # noqa: S105  # the emulator's published token
APP_ID = 67890


@dataclass
class Token:
    """`scopes` None: all of them. `until` None: it never expires. `oauth`: such apps have no daily quota."""

    scopes: frozenset[str] | None = None
    until: float | None = None
    oauth: bool = False
    window: deque[float] = field(default_factory=deque)


class Limits:
    """`rate`: requests in any ten seconds, None for no limit; `daily`: requests a day; `searches` a second."""

    def __init__(self, clock: Clock, rate: int | None, daily: int, searches: int = 5) -> None:
        self._clock = clock
        self.rate = rate
        self.daily = daily
        self.searches = searches
        self.tokens: dict[str, Token] = {TOKEN: Token()}
        self.used_today = 0
        self._day = int(clock.now() // DAY)
        self._searches: deque[float] = deque()

    def admit(self, request: Request, scopes: list[str], *, search: bool) -> None:
        """Counts the request; raises the 401, 403 or 429 that it gets."""
        token = self.identify(request)
        if token.scopes is not None and not token.scopes.issuperset(scopes):
            raise missing_scopes(scopes)
        self._count_day(token)
        now = self._clock.monotonic()
        if search:
            _forget(self._searches, now - 1.0)
            if len(self._searches) >= self.searches:
                raise secondly()
            self._searches.append(now)
            return
        _forget(token.window, now - WINDOW)
        if self.rate is not None and len(token.window) >= self.rate:
            raise ten_secondly()
        token.window.append(now)

    def headers(self, request: Request, *, search: bool) -> dict[str, str]:
        token = self.tokens.get(request.bearer() or "")
        if token is None:
            return {}
        headers: dict[str, str] = {}
        if not token.oauth:
            headers["X-HubSpot-RateLimit-Daily"] = str(self.daily)
            headers["X-HubSpot-RateLimit-Daily-Remaining"] = str(max(0, self.daily - self.used_today))
        if not search:
            most = UNLIMITED if self.rate is None else self.rate
            remaining = most if self.rate is None else max(0, most - len(token.window))
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
        self.used_today = 0
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

    def _count_day(self, token: Token) -> None:
        """The quota starts anew at midnight of the account's time zone, which is UTC here."""
        today = int(self._clock.now() // DAY)
        if today != self._day:
            self._day, self.used_today = today, 0
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
