"""An event loop whose time jumps to the next timer instead of waiting: a minute of traffic takes milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import anyio

from reverse_etl.clock import Clock

T = TypeVar("T")
START = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self, grace: float = 0.0) -> None:
        super().__init__()
        self.now = 1000.0
        self.grace = grace  # real seconds that worker threads get before time jumps

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0 if timeout == 0 else self.grace)
        if not ready and timeout is None:
            raise AssertionError("every task waits and no timer is set: a deadlock")
        if not ready and timeout:
            self.now += timeout
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, grace: float = 0.0) -> None:
        self._jumping = _JumpingSelector(grace)
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


class VirtualClock(Clock):
    """The clock of `run`; jitter is the most it can be unless told otherwise, so that waits can be foretold."""

    def __init__(self, share: float = 1.0) -> None:
        self.share = share

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic() - 1000.0)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def jitter(self, most: float) -> float:
        return most * self.share


def run_beside_threads(scenario: Callable[..., Awaitable[T]]) -> T:
    """`run` for scenarios with quick work in threads, which takes no time."""
    return anyio.run(scenario, backend_options={"loop_factory": partial(_VirtualLoop, 0.01)})


def run(scenario: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    """Runs the scenario in virtual time, to its end."""
    return anyio.run(scenario, *arguments, backend_options={"loop_factory": _VirtualLoop})
