"""The circuit breaker of one account: one that has stopped answering is left alone, but for a call now and then.

It counts calls that came to nothing: not answered, or answered by "I am down". An account that has never answered is
not out of order, its address is wrong: those failures are told at once.
"""

from __future__ import annotations

import logging
import threading

from reverse_etl.clock import Clock
from reverse_etl.errors import Unavailable
from reverse_etl.stop import unless_asked

log = logging.getLogger(__name__)

FAILURES = 5  # in a row
PROBE_SECONDS = 30.0
PATIENCE_SECONDS = 600.0
LOOK_AGAIN_SECONDS = 1.0  # at whether another caller's probe has been answered, maybe in another event loop


_shared: dict[tuple[str, Clock], Breaker] = {}


def shared(key: str, clock: Clock, name: str) -> Breaker:
    """The one breaker of an account in this process. `key` stands for the account, as for `pace.shared`."""
    return _shared.setdefault((key, clock), Breaker(clock, name))


class Breaker:
    """Shared by everybody who calls the account, in whatever thread; `name` stands for it in the log."""

    def __init__(self, clock: Clock, name: str, *, patience: float = PATIENCE_SECONDS) -> None:
        self.clock = clock
        self.name = name
        self.patience = patience
        self._in_a_row = 0
        self._has_answered = False
        self._opened: float | None = None
        self._next_probe = 0.0
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        return self._opened is not None

    @property
    def has_given_up(self) -> bool:
        return self._opened is not None and self.clock.monotonic() >= self._opened + self.patience

    def gave_up(self) -> Unavailable:
        """What is told then."""
        seconds = self.clock.monotonic() - (self._opened or 0.0)
        return Unavailable(
            f"{self.name} has not answered for {seconds:.0f} s",
            hint="nothing is lost: run again when it is back; its status page may know more",
        )

    async def admit(self) -> bool:
        """Waits while it is open. Returns whether the call is a probe. Raises Unavailable when patience has run out."""
        while self._opened is not None:
            with self._lock:
                seconds = self._until_probe()
            if seconds <= 0:
                return True
            with unless_asked():
                await self.clock.sleep(min(seconds, LOOK_AGAIN_SECONDS))
        return False

    def answered(self) -> None:
        """The account is there."""
        self._has_answered = True
        self._in_a_row = 0
        if self._opened is not None:
            with self._lock:
                self._opened = None
            log.warning("%s answers again", self.name)

    def failed(self) -> None:
        """A call came to nothing."""
        with self._lock:
            self._in_a_row += 1
            if self._opened is None and self._has_answered and self._in_a_row >= FAILURES and self.patience > 0:
                self._opened = self.clock.monotonic()
                self._next_probe = self._opened + PROBE_SECONDS
                log.warning(
                    "%s has stopped answering: one call every %d s tries whether it is back, for %d s",
                    self.name,
                    PROBE_SECONDS,
                    self.patience,
                )

    def _until_probe(self) -> float:
        """Seconds until a probe is due; 0: the caller's call is the probe."""
        now = self.clock.monotonic()
        if now >= self._next_probe:
            self._next_probe = now + PROBE_SECONDS
            return 0.0
        if self.has_given_up:
            raise self.gave_up()
        return self._next_probe - now
