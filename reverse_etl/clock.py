"""The only module that knows the time or chance."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime

import anyio


class Clock:
    """The machine's clock. `testing.FakeClock` is the other one."""

    def now(self) -> datetime:
        """The time in UTC, always with an offset."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that only grow; for pauses and deadlines, never stored."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(max(0.0, seconds))

    def jitter(self, most: float) -> float:
        """A random number of seconds from 0 to `most`."""
        return random.uniform(0.0, most)  # noqa: S311  # spreads load, guards no secret


SYSTEM = Clock()


def text(moment: datetime) -> str:
    """RFC 3339 in UTC, to the millisecond: the one way times are printed and stored."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse(moment: str) -> datetime:
    """What `text` wrote."""
    return datetime.fromisoformat(moment)
