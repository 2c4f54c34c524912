"""What may be sent again, after which pause, and how often: a destination in trouble must not get many more calls.

A call is tried a few times, a batch repeated a few times with all its calls, a run only in proportion to what it sends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from reverse_etl.clock import Clock
from reverse_etl.errors import DestinationError, InDoubt, Throttled, Unavailable

if TYPE_CHECKING:
    from tenacity import RetryCallState

TRIES = 6  # of one call, the first included
DEADLINES = 3  # tries of a call that is answered too late each time
MOST_OF_A_BATCH = 6
FREE_OF_A_RUN, SHARE_OF_A_RUN = 10, 0.2

BACKOFF_SECONDS, BACKOFF_CAP_SECONDS = 0.5, 30.0
THROTTLED_SECONDS, THROTTLED_CAP_SECONDS = 1.0, 10.0
LONGEST_TOLD_PAUSE_SECONDS = 15 * 60.0

TIMEOUT = "destination_timeout"  # code of a call that wasn't answered by its deadline
TOO_MUCH = frozenset({502, 504, 524})  # a gateway lost patience: fewer rows may get through


class Budget:
    """How much a run may repeat: ten calls, and a fifth of those it makes. One for all of a run's clients."""

    def __init__(self) -> None:
        self.first = 0
        self.again = 0

    def take(self) -> bool:
        """Whether one more repeat is within bounds, of the run and of the batch under way; if so it is counted."""
        batch = _batch.get()
        if self.again + 1 > FREE_OF_A_RUN + SHARE_OF_A_RUN * self.first or (batch is not None and batch.left == 0):
            return False
        self.again += 1
        if batch is not None:
            batch.left -= 1
        return True


class Repeats:
    """What may still be repeated of one batch; and whether a try of it, that got no answer, may still land."""

    def __init__(self) -> None:
        self.left = MOST_OF_A_BATCH
        self.doubted = False


_batch: ContextVar[Repeats | None] = ContextVar("reverse_etl_batch", default=None)


@contextmanager
def of_one_batch() -> Iterator[Repeats]:
    """All calls in here are about one batch: what they repeat counts together."""
    repeats = Repeats()
    before = _batch.set(repeats)
    try:
        yield repeats
    finally:
        _batch.reset(before)


def doubt() -> None:
    """A try of the batch under way got no answer, and may be carried out at any time from now on."""
    batch = _batch.get()
    if batch is not None:
        batch.doubted = True


def may_help(error: BaseException, *, idempotent: bool) -> bool:
    """Whether the same call may fare better after a pause that can be sat out."""
    if not isinstance(error, Throttled | Unavailable | InDoubt):
        return False
    if error.retry_after is not None and error.retry_after > LONGEST_TOLD_PAUSE_SECONDS:
        return False
    return idempotent or not isinstance(error, InDoubt)


def tries(error: DestinationError, usual: int, *, splittable: bool) -> int:
    """How often a call is made that fails like this; one that can be halved is not repeated as it is for long."""
    most = usual if error.tries is None else min(usual, error.tries)
    if error.code == TIMEOUT:
        return 1 if splittable else min(most, DEADLINES)
    return min(most, 2) if splittable and too_much(error) else most


def too_much(error: DestinationError) -> bool:
    """Whether the call was perhaps only too large: its answer took longer than we, or a gateway, would wait."""
    return isinstance(error, InDoubt) and (error.code == TIMEOUT or error.status in TOO_MUCH)


class Pause:
    """As long as the destination asked for; else growing, with full jitter, and longer when we were too fast."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        doublings = min(retry_state.attempt_number - 1, 16)
        if isinstance(error, DestinationError) and error.retry_after is not None:
            return error.retry_after + self.clock.jitter(min(1.0, 0.1 * error.retry_after))
        if isinstance(error, Throttled):
            return min(THROTTLED_CAP_SECONDS, THROTTLED_SECONDS * 2.0**doublings) + self.clock.jitter(1.0)
        return self.clock.jitter(min(BACKOFF_CAP_SECONDS, BACKOFF_SECONDS * 2.0**doublings))
