"""How fast a destination may be called: one rolling window for each account, kept on our side of the wire.

A destination counts a call when it arrives, which is somewhere between our sending it and our reading the answer. So
a call holds its place in the window from the moment it starts until `per_seconds` after its answer came: whatever the
network does in between, the destination never sees more than the allowance in any window. Where it counts by the day
as well, what is left is only known from its answers, and a run ends before that is used up.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

import anyio

from reverse_etl.clock import Clock
from reverse_etl.errors import DailyLimit, Throttled
from reverse_etl.quota import Forecast, Quota
from reverse_etl.retries import LONGEST_TOLD_PAUSE_SECONDS
from reverse_etl.stop import unless_asked

if TYPE_CHECKING:
    from reverse_etl.protocols import Places

# Their clock and ours may tick a little differently; a place is given up this much later than it would have to be.
MARGIN_SECONDS = 0.01
# A place given back in another thread's event loop can't wake a waiter of this one: it looks again this often.
LOOK_AGAIN_SECONDS = 0.05
# A place among all processes is asked for this often while there is none.
ASK_AGAIN_SECONDS = 0.025
# Calls of other processes are known a moment late: only when more than this share is unexplained, there are strangers.
UNEXPLAINED = 0.1


class Pace:
    """A rolling window: never more than `requests` in any `per_seconds`, however late they arrive there.

    `requests` is what is believed until the destination tells its own figure (`learn`); `most` is the user's upper
    bound, which no told figure exceeds; `reserve` is the share of the allowance left to others. `in_flight` bounds the
    calls that are open at once. `quota` counts the same calls by the day. `places` are those of all processes that use
    the account together: a call then needs one of them as well.
    """

    def __init__(
        self,
        *,
        requests: int,
        per_seconds: float,
        clock: Clock,
        reserve: float = 0.0,
        in_flight: int = 16,
        most: int | None = None,
        quota: Quota | None = None,
        places: Places | None = None,
    ) -> None:
        self.clock = clock
        self._quota = quota
        self._places = places
        self._told = requests
        self._per_seconds = per_seconds
        self._reserve = reserve
        self._in_flight = in_flight
        self._most = most
        self._open = 0
        self._answered: deque[float] = deque()  # when each held place was answered, oldest first
        self._longest = 0.0  # the longest call seen, in seconds
        self._not_before = -math.inf
        self._waiting: set[tuple[int, anyio.Event]] = set()
        self._lock = threading.Lock()

    @property
    def day(self) -> Quota | None:
        """The day that its calls count for."""
        return self._quota

    @property
    def allowance(self) -> int:
        """Calls that may be made in one window."""
        return self._share(self._told)

    @property
    def used(self) -> int:
        """Calls that hold a place in the present window."""
        with self._lock:
            return self._held(self.clock.monotonic())

    @property
    def requests_per_second(self) -> float:
        """The rate that can be kept up."""
        return self.allowance / self._per_seconds

    def _share(self, told: int) -> int:
        """What may be used of a told figure."""
        share = math.floor(told * (1.0 - self._reserve))
        return max(1, share if self._most is None else min(share, self._most))

    async def acquire(self) -> float:
        """Waits for a place, which is held until `release` gets what this returned.

        Raises Interrupted rather than wait for a run that was asked to stop, DailyLimit when nothing is left of the
        day, and Throttled when the destination asked for a pause too long to be sat out.
        """
        while (seconds := self._take()) > 0:
            with unless_asked():
                if seconds is math.inf:
                    await self._release()
                else:
                    await self.clock.sleep(seconds)
        return self.clock.monotonic()

    def release(self, started: float) -> None:
        """After the answer, or whatever came instead of one."""
        if self._quota is not None:
            self._quota.give_back()
        self._give_back(started)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Waits for a place and holds it while a call is open."""
        started = await self.acquire()
        try:
            yield
        finally:
            self.release(started)

    def learn(
        self, *, requests: int | None = None, remaining: int | None = None, per_seconds: float | None = None
    ) -> None:
        """What an answer's headers tell: the allowance of a window, and how much of it is left.

        When less is left than our own calls explain, others use the same allowance; their calls get places too.
        """
        with self._lock:
            if requests is not None and requests > 0:
                self._told = requests
                self._tell(requests, None)
            if per_seconds is not None and per_seconds > 0:
                self._per_seconds = per_seconds
                self._tell(None, per_seconds)
            if remaining is not None:
                self._note_others(remaining)

    def pause(self, seconds: float) -> None:
        """Nothing starts before then; a shorter pause doesn't cut a longer one, and nobody sits out a very long one."""
        with self._lock:
            self._not_before = max(self._not_before, self.clock.monotonic() + seconds)
            if self._places is not None:
                self._places.pause(seconds)

    def adopt(self, newer: Pace) -> None:
        """Takes over the settings of `newer`, made from the connection as it reads now; what was learned stays."""
        with self._lock:
            self._per_seconds = newer._per_seconds
            self._reserve = newer._reserve
            self._in_flight = newer._in_flight
            self._most = newer._most
            self._places = newer._places

    def _take(self) -> float:
        """Takes a place and says 0; else for how many seconds there surely is none, inf until a call ends."""
        with self._lock:
            now = self.clock.monotonic()
            self._hear()
            if now < self._not_before:
                return self._pause_left(now)
            if self._open >= self._in_flight:
                return math.inf
            free = self.allowance - self._held(now)
            if free > 0:
                return self._start()
            # The places that must still come free: all but the last of them were answered before this one.
            live = len(self._answered) - self._expired(now)
            due = 1 - free
            if due > live:
                return math.inf
            frees_at = self._answered[self._expired(now) + due - 1] + self._per_seconds + MARGIN_SECONDS
            return max(frees_at - now, 1e-6)

    def _start(self) -> float:
        """Holds a place, among all processes too where they share the account; else says when to ask again."""
        places = self._places
        if places is not None and not places.take(self._told, self._per_seconds, self._share):
            return ASK_AGAIN_SECONDS
        try:
            if self._quota is not None:
                self._quota.take()
        except DailyLimit:
            if places is not None:
                places.give_back()
            raise
        self._open += 1
        return 0.0

    def _hear(self) -> None:
        """What other processes were told of the account counts here too."""
        if self._places is not None:
            heard = self._places.heard
            self._told = heard.requests or self._told
            self._per_seconds = heard.per_seconds or self._per_seconds
            self._not_before = max(self._not_before, heard.not_before)

    def _tell(self, requests: int | None, per_seconds: float | None) -> None:
        if self._places is not None:
            self._places.tell(requests, per_seconds)

    def _note_others(self, remaining: int) -> None:
        now = self.clock.monotonic()
        others = self._told - self._held(now, slack=self._longest) - remaining
        if self._places is None:
            self._answered.extend([now] * min(others, self._told))
            return
        others -= self._places.heard.elsewhere
        if others > self._told * UNEXPLAINED:
            self._places.note(min(others, self._told))

    def _pause_left(self, now: float) -> float:
        left = self._not_before - now
        if left > LONGEST_TOLD_PAUSE_SECONDS:
            raise Throttled(
                f"the destination asked for a pause in which nothing is sent; {left / 60:.0f} minutes of it are left",
                hint="nothing is lost: run again after it",
                retry_after=left,
            )
        return left

    def _give_back(self, started: float) -> None:
        with self._lock:
            now = self.clock.monotonic()
            self._open -= 1
            if self._places is not None:
                self._places.give_back()
            self._longest = max(now - started, self._longest * 0.99)
            self._answered.append(now)
            while self._answered and self._answered[0] + self._window + self._longest <= now:
                self._answered.popleft()
            here = threading.get_ident()
            waiting = [event for thread, event in self._waiting if thread == here]
        for event in waiting:
            event.set()

    async def _release(self) -> None:
        entry = (threading.get_ident(), anyio.Event())
        with self._lock:
            self._waiting.add(entry)
        try:
            with anyio.move_on_after(LOOK_AGAIN_SECONDS):
                await entry[1].wait()
        finally:
            with self._lock:
                self._waiting.discard(entry)

    @property
    def _window(self) -> float:
        return self._per_seconds + MARGIN_SECONDS

    def _held(self, now: float, slack: float = 0.0) -> int:
        return self._open + len(self._answered) - self._expired(now, slack)

    def _expired(self, now: float, slack: float = 0.0) -> int:
        """How many of the oldest answers lie a window and `slack` back."""
        expired = 0
        for answered in self._answered:
            if answered + self._window + slack > now:
                break
            expired += 1
        return expired


class Shared(Protocol):
    """What all runs of an account in this process use together."""

    @property
    def clock(self) -> Clock: ...

    @property
    def used(self) -> int: ...

    @property
    def allowance(self) -> int: ...

    @property
    def day(self) -> Quota | None: ...

    def adopt(self, newer: Self) -> None: ...


S = TypeVar("S", bound=Shared)
_shared: dict[tuple[str, type, Clock], Shared] = {}
_shared_lock = threading.Lock()


def shared(key: str, make: Callable[[], S]) -> S:
    """The one limiter of an account in this process, whatever the number of syncs, runs, threads and event loops.

    `key` stands for the account (a hash of origin and credential). `make` reads the connection's settings: the first
    call's limiter stays, later calls only renew its settings.
    """
    fresh = make()
    with _shared_lock:
        known = _shared.setdefault((key, type(fresh), fresh.clock), fresh)
    assert isinstance(known, type(fresh))  # noqa: S101  # by its key
    if known is not fresh:
        known.adopt(fresh)
    return known


def usage() -> list[tuple[str, int, int]]:
    """Every account's limiter in this process: a short name, the calls in its present window, and those allowed.

    The name tells accounts apart and nothing else about them.
    """
    with _shared_lock:
        paces = list(_shared.items())
    return [(hashlib.sha256(key.encode()).hexdigest()[:8], pace.used, pace.allowance) for (key, *_), pace in paces]


def forecasts() -> list[Forecast]:
    """Of every account in this process of which enough is known."""
    with _shared_lock:
        days = [each.day for each in _shared.values()]
    return [found for day in days if day is not None and (found := day.forecast()) is not None]
