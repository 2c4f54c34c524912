"""The calls of an account's day: what is left of them, when only the reserve is, and how long they will last."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from reverse_etl.clock import Clock
from reverse_etl.errors import DailyLimit

COURSE = timedelta(hours=1)  # how far back the present rate of a day's calls reaches
SHORTEST_COURSE = timedelta(minutes=15)  # less is a burst, and says nothing about the day
STEP = timedelta(minutes=1)


@dataclass(frozen=True)
class Forecast:
    """When a day's calls end at the rate of the last hour, and when they begin anew."""

    account: str
    left: int
    allowed: int
    ends_at: datetime
    resets_at: datetime

    @property
    def too_soon(self) -> bool:
        return self.ends_at < self.resets_at


class Quota:
    """Calls of a day, counted at the destination and shared with whoever else uses the account.

    Nothing is held back until an answer has told how many are left (`learn`). `reserve` is the share left to others.
    `began` says when the day of a moment began: what was told before is of another day. `used_up` makes the error.
    `account` is its name for people.
    """

    def __init__(
        self,
        *,
        account: str = "",
        clock: Clock,
        began: Callable[[datetime], datetime],
        used_up: Callable[[int, int], DailyLimit],
        reserve: float = 0.0,
    ) -> None:
        self.account = account
        self.clock = clock
        self.reserve = reserve
        self._course: deque[tuple[datetime, int]] = deque()  # what was left when, in the last hour
        self._began = began
        self._used_up = used_up
        self._allowed = 0
        self._left: int | None = None
        self._told_at: datetime | None = None
        self._open = 0
        self._looks = 0
        self._lock = threading.Lock()

    def allow_a_look(self) -> None:
        """One call goes out whatever is left: a run that begins sees for itself whether the allowance was raised."""
        self._looks = 1

    def take(self) -> None:
        """Before a call. Raises DailyLimit when only the reserve is left."""
        with self._lock:
            if self._told_at is not None and self._told_at < self._began(self.clock.now()):
                self._left = self._told_at = None
            if self._left is not None and self._left <= self._allowed * self.reserve and not self._looks:
                raise self._used_up(self._left, self._allowed)
            self._looks = 0
            self._open += 1
            if self._left is not None:
                self._left -= 1

    def give_back(self) -> None:
        """After it, answered or not: the destination may have counted it."""
        with self._lock:
            self._open -= 1

    def learn(self, allowed: int, left: int) -> None:
        """What an answer tells. It may or may not count the calls that are under way now, so they are taken off."""
        with self._lock:
            sure = left - max(0, self._open - 1)  # the call just answered is open still, and counted
            known = self._left
            is_another_day = known is None or left > known + 2 * self._open or allowed != self._allowed
            self._left = sure if is_another_day or known is None else min(known, sure)
            self._allowed = allowed
            self._told_at = self.clock.now()
            if is_another_day:
                self._course.clear()
            if not self._course or self._told_at - self._course[-1][0] >= STEP:
                self._course.append((self._told_at, self._left))
            while len(self._course) > 1 and self._told_at - self._course[1][0] >= COURSE:
                self._course.popleft()

    def forecast(self) -> Forecast | None:
        """None while too little is known, or nothing is used."""
        now = self.clock.now()
        with self._lock:
            if self._left is None or self._told_at is None or self._told_at < self._began(now):
                return None
            (since, before), left = self._course[0], self._left
            if now - since < SHORTEST_COURSE or before <= left:
                return None
            spare = max(0.0, left - self._allowed * self.reserve)
            ends_at = now + (now - since) * (spare / (before - left))
            return Forecast(self.account, left, self._allowed, ends_at, self._began(now) + timedelta(days=1))
