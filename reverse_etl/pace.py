"""How fast a destination may be called: one rolling window for each account, kept on our side of the wire.

A destination counts a call when it arrives, which is somewhere between our sending it and our reading the answer. So
a call holds its place in the window from the moment it starts until `per_seconds` after its answer came: whatever the
network does in between, the destination never sees more than the allowance in any window.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio

from reverse_etl.clock import Clock

# Their clock and ours may tick a little differently; a place is given up this much later than it would have to be.
MARGIN_SECONDS = 0.01
# A place given back in another thread's event loop can't wake a waiter of this one: it looks again this often.
LOOK_AGAIN_SECONDS = 0.05


class Pace:
    """A rolling window: never more than `requests` in any `per_seconds`, however late they arrive there.

    `requests` is what is believed until the destination tells its own figure (`learn`); `most` is the user's upper
    bound, which no told figure exceeds; `reserve` is the share of the allowance left to others. `in_flight` bounds the
    calls that are open at once.
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
    ) -> None:
        self.clock = clock
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
    def allowance(self) -> int:
        """Calls that may be made in one window."""
        told = math.floor(self._told * (1.0 - self._reserve))
        return max(1, told if self._most is None else min(told, self._most))

    @property
    def requests_per_second(self) -> float:
        """The rate that can be kept up."""
        return self.allowance / self._per_seconds

    def slot(self) -> AbstractAsyncContextManager[None]:
        """Waits for a place and holds it while a call is open."""
        return self._slot()

    def learn(
        self, *, requests: int | None = None, remaining: int | None = None, per_seconds: float | None = None
    ) -> None:
        """What an answer's headers tell: the allowance of a window, and how much of it is left.

        When less is left than our own calls explain, others use the same allowance; their calls get places too.
        """
        with self._lock:
            if requests is not None and requests > 0:
                self._told = requests
            if per_seconds is not None and per_seconds > 0:
                self._per_seconds = per_seconds
            if remaining is not None:
                now = self.clock.monotonic()
                others = self._told - self._held(now, slack=self._longest) - remaining
                self._answered.extend([now] * min(others, self._told))

    def pause(self, seconds: float) -> None:
        """Nothing starts before then; a shorter pause doesn't cut a longer one."""
        with self._lock:
            self._not_before = max(self._not_before, self.clock.monotonic() + seconds)

    def adopt(self, newer: Pace) -> None:
        """Takes over the settings of `newer`, made from the connection as it reads now; what was learned stays."""
        with self._lock:
            self._per_seconds = newer._per_seconds
            self._reserve = newer._reserve
            self._in_flight = newer._in_flight
            self._most = newer._most

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        while (seconds := self._take()) > 0:
            if seconds is math.inf:
                await self._release()
            else:
                await self.clock.sleep(seconds)
        started = self.clock.monotonic()
        try:
            yield
        finally:
            self._give_back(started)

    def _take(self) -> float:
        """Takes a place and says 0; else for how many seconds there surely is none, inf until a call ends."""
        with self._lock:
            now = self.clock.monotonic()
            if now < self._not_before:
                return self._not_before - now
            if self._open >= self._in_flight:
                return math.inf
            free = self.allowance - self._held(now)
            if free > 0:
                self._open += 1
                return 0.0
            # The places that must still come free: all but the last of them were answered before this one.
            live = len(self._answered) - self._expired(now)
            due = 1 - free
            if due > live:
                return math.inf
            frees_at = self._answered[self._expired(now) + due - 1] + self._per_seconds + MARGIN_SECONDS
            return max(frees_at - now, 1e-6)

    def _give_back(self, started: float) -> None:
        with self._lock:
            now = self.clock.monotonic()
            self._open -= 1
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


_shared: dict[tuple[str, Clock], Pace] = {}
_shared_lock = threading.Lock()


def shared(key: str, make: Callable[[], Pace]) -> Pace:
    """The one limiter of an account in this process, whatever the number of syncs, runs, threads and event loops.

    `key` stands for the account (a hash of origin and credential). `make` reads the connection's settings: the first
    call's limiter stays, later calls only renew its settings.
    """
    fresh = make()
    with _shared_lock:
        pace = _shared.setdefault((key, fresh.clock), fresh)
    if pace is not fresh:
        pace.adopt(fresh)
    return pace
