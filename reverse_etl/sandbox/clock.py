"""The sandbox's own time: it runs with the machine's and can be moved ahead, so that tests need not wait."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    def __init__(self) -> None:
        self._ahead = 0.0
        self._second = -1
        self._prefix = ""

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time() + self._ahead

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def advance(self, seconds: float) -> None:
        """Moves on, for rate windows, token lifetimes, search lag and daily quotas alike."""
        self._ahead += seconds

    def iso(self) -> str:
        """Now as `2026-11-23T02:00:00.412Z`; the part down to the second is kept, as bursts ask thousands of times."""
        now = self.now()
        second = int(now)
        if second != self._second:
            self._second, self._prefix = second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        return f"{self._prefix}{int((now - second) * 1000):03d}Z"


def iso(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
