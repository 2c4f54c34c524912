"""Asked to stop: nothing new is started, nobody sits out a pause, and what is on the wire is finished and recorded."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import anyio
import anyio.abc

from reverse_etl.errors import Interrupted

STOPS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Stop:
    """Asked to stop: no request is started any more. `reason` is raised when all that was under way is recorded.

    `still_held` raises once the sync may be another run's: no request is started then either.
    """

    reason: BaseException | None = None
    asked: bool = False
    still_held: Callable[[], None] = lambda: None
    _told: list[Callable[[], None]] = field(default_factory=list)

    def ask(self, reason: BaseException | None = None) -> None:
        """From the event loop that the run is in."""
        self.asked = True
        if self.reason is None:
            self.reason = reason
        for tell in list(self._told):
            tell()

    def check(self) -> None:
        """Raises, when asked to stop."""
        if self.asked:
            raise self.reason or Interrupted("asked to stop")

    @contextmanager
    def telling(self, tell: Callable[[], None]) -> Iterator[None]:
        """`tell` is called when asked to stop, at once if that was before."""
        self._told.append(tell)
        try:
            if self.asked:
                tell()
            yield
        finally:
            self._told.remove(tell)

    @contextmanager
    def breaking(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Around work in a thread that would otherwise go on: call `interrupt` when asked to stop."""
        with self.telling(interrupt):
            yield
        if self.reason is not None:
            raise self.reason

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Whatever is waited for in here, `unless_asked` leaves when asked to stop."""
        before = _heeded.set(self)
        try:
            yield
        finally:
            _heeded.reset(before)

    def _interrupted(self) -> Interrupted:
        """About the call that was about to be made; a failure of another one says nothing about it."""
        if isinstance(self.reason, Interrupted):
            return Interrupted(self.reason.message, hint=self.reason.hint, exit_code=self.reason.exit_code)
        return Interrupted("asked to stop")


_heeded: ContextVar[Stop | None] = ContextVar("reverse_etl_stop", default=None)


@contextmanager
def unless_asked() -> Iterator[None]:
    """Around a wait before a call, never around the call: raises Interrupted as soon as the run is asked to stop.

    Raises LeaseLost when, the wait being over, the sync may be another run's.
    """
    stop = _heeded.get()
    if stop is None:
        yield
        return
    with anyio.CancelScope() as wait:
        with stop.telling(wait.cancel):
            yield
    stop.still_held()
    if wait.cancelled_caught:
        raise stop._interrupted()


async def ask_on_signal(stop: Stop, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    """The first SIGINT or SIGTERM lets what is under way be answered and recorded; a second one ends the process."""
    with _handlers_kept(), anyio.open_signal_receiver(*STOPS) as signals:
        task_status.started()
        async for number in signals:
            if stop.asked:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            name = signal.Signals(number).name
            stop.ask(
                Interrupted(f"interrupted by {name}", hint="the next run goes on from here", exit_code=128 + number)
            )


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Whoever calls us as a library gets its own handlers back, which the event loop would replace by the defaults."""
    before = {number: signal.getsignal(number) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: it wasn't set from Python, and can't be
                signal.signal(number, handler)
