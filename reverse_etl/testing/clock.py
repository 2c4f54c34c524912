"""Time and memory under a test's control."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import anyio.lowlevel

from reverse_etl.clock import Clock

MIDDAY = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


class FakeClock(Clock):
    """Stands still until it is moved. Whoever sleeps moves it, and waits for nothing; jitter is always the most."""

    def __init__(self, now: datetime = MIDDAY) -> None:
        self._start = self._now = now

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return (self._now - self._start).total_seconds()

    def set_back(self, by: timedelta) -> None:
        """What the clock shows is set back; the time that has passed is not."""
        self._now -= by
        self._start -= by

    async def sleep(self, seconds: float) -> None:
        self.advance(timedelta(seconds=max(0.0, seconds)))
        await anyio.lowlevel.checkpoint()

    def jitter(self, most: float) -> float:
        return most

    def advance(self, by: timedelta) -> None:
        """Let time pass."""
        self._now += by


class Forgetful(dict[str, str]):
    """A destination's memory that ends with the test."""

    def put(self, name: str, value: str | None) -> None:
        if value is None:
            self.pop(name, None)
        else:
            self[name] = value
