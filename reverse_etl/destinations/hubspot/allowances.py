"""How much an account may be asked: HubSpot counts ordinary calls, searches and links apart, the first two by the day.

Figures and headers: https://developers.hubspot.com/docs/developer-tooling/platform/usage-guidelines (read 2026-11). One
object serves every run of this process that uses the same credential.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from reverse_etl.answer import Answer
from reverse_etl.breaker import Breaker
from reverse_etl.destinations.hubspot.config import WINDOW_SECONDS, HubSpotConfig
from reverse_etl.destinations.hubspot.errors import daily_limit
from reverse_etl.destinations.hubspot.paths import Bucket, bucket
from reverse_etl.errors import DailyLimit
from reverse_etl.pace import Pace
from reverse_etl.protocols import Opening
from reverse_etl.quota import Quota

# What the smallest plan grants in ten seconds; answers tell the account's own figures.
FIRST_REQUESTS = 100
FIRST_ASSOCIATIONS = 100
SEARCHES, SEARCH_SECONDS = 5, 1.0
EVENTS, EVENT_SECONDS = 1250, 1.0
# How long a told remainder counts while nobody knows when the account's day begins.
UNKNOWN_DAY = timedelta(hours=1)


class Allowances:
    """The limiters of an account, its day, and the breaker that guards it."""

    def __init__(self, config: HubSpotConfig, opening: Opening, account: str) -> None:
        self.clock = clock = opening.clock
        self.zone: ZoneInfo | None = None
        self._most, self._window = config.rate_limit.window(WINDOW_SECONDS)
        reserve = config.rate_limit.reserve
        name = f"HubSpot (connection {opening.name!r})"
        self.day = Quota(account=name, clock=clock, reserve=reserve, began=self._day_began, used_up=self._used_up)
        self.breaker = Breaker(clock, name, patience=config.patience)
        few = max(1, int(FIRST_ASSOCIATIONS * self._window / WINDOW_SECONDS))

        pace = partial(_pace, account, opening)
        self._paces: Mapping[Bucket, Pace] = {
            "ordinary": pace(
                "ordinary",
                requests=self._most or FIRST_REQUESTS,
                per_seconds=self._window,
                reserve=reserve,
                most=self._most,
                quota=self.day,
            ),
            "search": pace("search", requests=SEARCHES, per_seconds=SEARCH_SECONDS, reserve=reserve, quota=self.day),
            "associations": pace(
                "associations", requests=few, per_seconds=self._window, reserve=reserve, most=self._most
            ),
            "events": pace("events", requests=EVENTS, per_seconds=EVENT_SECONDS, reserve=reserve),
        }

    @property
    def ordinary(self) -> Pace:
        """The limiter of whatever has none of its own."""
        return self._paces["ordinary"]

    @property
    def used(self) -> int:
        return self.ordinary.used

    @property
    def allowance(self) -> int:
        return self.ordinary.allowance

    def of(self, path: str) -> Pace:
        """The limiter that a call to this path needs a place of."""
        return self._paces[bucket(path)]

    def adopt(self, newer: Allowances) -> None:
        """The connection as it reads now; a run that uses it has begun, and may ask once how things stand."""
        self._most, self._window = newer._most, newer._window
        for name, pace in self._paces.items():
            pace.adopt(newer._paces[name])
        self.day.reserve = newer.day.reserve
        self.day.allow_a_look()
        self.breaker.patience = newer.breaker.patience

    def learn(self, answer: Answer, pace: Pace) -> None:
        """Search answers tell no window, and OAuth apps have no day: what isn't told isn't learned."""
        allowed = _number(answer.headers, "x-hubspot-ratelimit-daily")
        left = _number(answer.headers, "x-hubspot-ratelimit-daily-remaining")
        if allowed is not None and left is not None:
            self.day.learn(allowed, left)
        most = _number(answer.headers, "x-hubspot-ratelimit-max")
        if most is None or pace is self._paces["search"] or pace is self._paces["events"]:
            return
        seconds = (_number(answer.headers, "x-hubspot-ratelimit-interval-milliseconds") or 10_000) / 1000
        if self._most is None or seconds == self._window:
            remaining = _number(answer.headers, "x-hubspot-ratelimit-remaining")
            pace.learn(requests=most, remaining=remaining, per_seconds=seconds)
        else:  # the user's window is not HubSpot's: their figure only bounds ours
            pace.learn(requests=max(1, int(most * self._window / seconds)))

    def _day_began(self, now: datetime) -> datetime:
        if self.zone is None:
            return now - UNKNOWN_DAY
        return now.astimezone(self.zone).replace(hour=0, minute=0, second=0, microsecond=0)

    def _used_up(self, left: int, allowed: int) -> DailyLimit:
        told = f"of HubSpot's {allowed:,} calls for today {max(0, left):,} are left"
        if self.day.reserve:
            told += f", which are reserved for others (reserve: {self.day.reserve:.0%})"
        return daily_limit(told, self.zone, self.clock.now())


def _pace(account: str, opening: Opening, bucket: Bucket, *, per_seconds: float, **settings: Any) -> Pace:
    """A limiter of this account; where other processes use the account too, together with them."""
    places = opening.places(f"hubspot:{account}:{bucket}:{per_seconds:g}")
    return Pace(per_seconds=per_seconds, clock=opening.clock, places=places, **settings)


def _number(headers: Mapping[str, str], name: str) -> int | None:
    told = headers.get(name, "")
    return int(told) if told.isdecimal() else None
