"""Places in an account's windows that many processes share: given out by the database, a few at a time.

A thread talks to the database, and only while there is something to say; whoever wants a place never waits for it. In
one transaction it tells which calls were answered, hands back what it doesn't need, and takes as many places as were
asked for lately. What was given out counts until its holder says what became of it, and a window from then on:
however late a call arrives, the destination never sees more than the allowance. A process that dies keeps its few
places as long as its last calls could have taken.
"""

from __future__ import annotations

import atexit
import logging
import math
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import groupby

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from reverse_etl.protocols import Heard
from reverse_etl.state import engine, migrations

MOST = 16  # places given to one process at a time
LONGEST_CALL = 120.0  # a place that nobody has spoken of counts so much longer
MARGIN = 0.01  # their clock and the database's may tick a little differently
RENEW = 30.0
IDLE = 2.0  # then the thread ends, and its connection with it
DISTURBED = 1.0  # before the database is asked again
LATE = 0.1  # how late a place that comes free may be noticed

log = logging.getLogger(__name__)

_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:limiter, 0))")
_TELL = sa.text(
    "INSERT INTO limiters AS known (limiter, requests, per_seconds, not_before) "
    "VALUES (:limiter, :requests, :per_seconds, clock_timestamp() + make_interval(secs => :pause)) "
    "ON CONFLICT (limiter) DO UPDATE SET requests = coalesce(excluded.requests, known.requests), "
    "per_seconds = coalesce(excluded.per_seconds, known.per_seconds), "
    "not_before = greatest(known.not_before, excluded.not_before)"
)
_HEAR = sa.text(
    "SELECT requests, per_seconds, extract(epoch FROM not_before - clock_timestamp()) AS pause "
    "FROM limiters WHERE limiter = :limiter"
)
_DROP = sa.text(
    "DELETE FROM places WHERE limiter = :limiter "
    "AND (held_until <= clock_timestamp() OR (holder = :holder AND NOT answered))"
)
_HOLD = sa.text(
    "INSERT INTO places (limiter, holder, answered, number, held_until) "
    "VALUES (:limiter, :holder, :answered, :number, clock_timestamp() + make_interval(secs => :seconds))"
)
_COUNT = sa.text(
    "SELECT coalesce(sum(number), 0) AS held, coalesce(sum(number) FILTER (WHERE holder <> :holder), 0) AS elsewhere, "
    "extract(epoch FROM min(held_until) - clock_timestamp()) AS frees FROM places WHERE limiter = :limiter"
)


@dataclass(frozen=True)
class _Window:
    requests: int
    per_seconds: float
    share: Callable[[int], int]

    @property
    def lasts(self) -> float:
        """How long places may be kept without being used; short beside the window, as they count longer by that."""
        return min(0.3, self.per_seconds / 30)


@dataclass(frozen=True)
class _News:
    """What this process has to say."""

    requests: int | None = None
    per_seconds: float | None = None
    not_before: float | None = None
    answered: list[float] = field(default_factory=list)

    def before(self, later: _News) -> _News:
        """Both together."""
        pauses = [moment for moment in (self.not_before, later.not_before) if moment is not None]
        return _News(
            later.requests or self.requests,
            later.per_seconds or self.per_seconds,
            max(pauses, default=None),
            [*self.answered, *later.answered],
        )


@dataclass(frozen=True)
class _Ask:
    """One transaction's part: what is told, how many places are held unanswered, how many more are wanted."""

    window: _Window
    news: _News
    open: int
    wanted: int


class SharedPlaces:
    """`protocols.Places` of one limiter, for this process."""

    def __init__(self, url: str, limiter: str) -> None:
        self._url = url
        self._limiter = limiter
        self._holder = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._heard = Heard()
        self._window: _Window | None = None
        self._stock, self._stock_until = 0, -math.inf
        self._open = 0
        self._demand = 0  # places taken, and asked for in vain, since the database was last asked
        self._news = _News()
        self._dirty = False  # whether the database knows less than this process
        self._told_at = -math.inf
        self._prepared = False  # whether the tables are there

    # --- protocols.Places ---------------------------------------------------------------------------------------------

    @property
    def heard(self) -> Heard:
        return self._heard

    def take(self, requests: int, per_seconds: float, share: Callable[[int], int]) -> bool:
        with self._lock:
            self._window = _Window(requests, per_seconds, share)
            self._demand += 1
            has_one = self._stock > 0 and time.monotonic() < self._stock_until
            if has_one:
                self._stock -= 1
                self._open += 1
            self._work(now=not has_one or self._stock == 0)
            return has_one

    def give_back(self) -> None:
        with self._lock:
            self._open = max(0, self._open - 1)
            self._news.answered.append(time.monotonic())
            self._work()

    def note(self, strangers: int) -> None:
        with self._lock:
            self._news.answered.extend([time.monotonic()] * strangers)
            self._work()

    def tell(self, requests: int | None, per_seconds: float | None) -> None:
        with self._lock:
            heard = self._heard
            newer = replace(heard, requests=requests or heard.requests, per_seconds=per_seconds or heard.per_seconds)
            if newer == heard:
                return
            self._heard = newer
            self._news = self._news.before(_News(requests, per_seconds))
            self._work()

    def pause(self, seconds: float) -> None:
        with self._lock:
            until = time.monotonic() + seconds
            self._heard = replace(self._heard, not_before=max(self._heard.not_before, until))
            self._news = self._news.before(_News(not_before=until))
            self._work(now=True)

    def close(self) -> None:
        """Say the last things; for the end of the process."""
        with self._lock:
            thread = self._thread
            self._ending.set()
            self._wake.set()
        if thread is not None:
            thread.join(timeout=2.0)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _work(self, *, now: bool = False) -> None:
        """Something has changed; `now`: somebody waits for it. The caller has the lock."""
        self._dirty = True
        if self._thread is None and not self._ending.is_set():
            self._thread = threading.Thread(target=self._serve, name="places", daemon=True)
            self._thread.start()
        if now:
            self._wake.set()

    def _serve(self) -> None:
        database = engine.make(self._url, read_only=False)
        quiet_since = time.monotonic()
        try:
            while True:
                self._wake.wait(self._window.lasts if self._window is not None else LATE)
                self._wake.clear()
                now = time.monotonic()
                ask = self._next(now)
                if ask is not None:
                    quiet_since = now
                    self._ending.wait(self._exchange(database, ask, now))
                elif self._ended(now - quiet_since):
                    return
        finally:
            engine.release(database)

    def _ended(self, quiet: float) -> bool:
        with self._lock:
            if self._dirty or not (self._ending.is_set() or (quiet > IDLE and not self._open)):
                return False
            self._thread = None
            return True

    def _next(self, now: float) -> _Ask | None:
        """What there is to say and to ask; None when nothing is."""
        with self._lock:
            returning = self._stock > 0 and (now >= self._stock_until or self._ending.is_set())
            renewing = self._open > 0 and now - self._told_at > RENEW
            if self._window is None or not (self._dirty or returning or renewing):
                return None
            if returning:
                self._stock = 0
            wanted = 0 if self._ending.is_set() else max(0, min(self._demand, MOST) - self._stock)
            ask = _Ask(self._window, self._news, self._open + self._stock, wanted)
            self._news, self._demand, self._dirty = _News(), 0, False
            return ask

    def _exchange(self, database: sa.Engine, ask: _Ask, asked: float) -> float:
        """Talks to the database once; returns for how long that is enough."""
        try:
            with engine.writing(database, durable=True) as connection:
                self._prepared = self._prepared or migrations.version(connection) == migrations.NEWEST
                if self._prepared:
                    granted, heard, frees = _settle(connection, self._limiter, self._holder, ask)
                else:  # before a project's first run, only looks are taken
                    granted, heard, frees = ask.wanted, self._heard, LATE
        except SQLAlchemyError as failure:
            with self._lock:
                self._news = ask.news.before(self._news)
                self._dirty = not self._ending.is_set()
            if not self._ending.is_set():
                log.warning("the rate limit in the database was not reached: %s", engine.words(failure))
            return DISTURBED
        with self._lock:
            self._told_at = asked
            self._stock += granted
            self._stock_until = asked + ask.window.lasts
            if self._news == _News(answered=self._news.answered):  # nothing newer has been told meanwhile
                self._heard = replace(heard, not_before=max(heard.not_before, self._heard.not_before))
        return MARGIN if granted == ask.wanted else min(max(frees, MARGIN), LATE, ask.window.lasts)


def _settle(connection: sa.Connection, limiter: str, holder: str, ask: _Ask) -> tuple[int, Heard, float]:
    """How many places are granted, what is known of the limiter, and in how many seconds the next place comes free."""
    me = {"limiter": limiter, "holder": holder}
    connection.execute(_LOCK, {"limiter": limiter})
    _tell(connection, limiter, ask.news)
    connection.execute(_DROP, me)
    known = dict(connection.execute(_HEAR, {"limiter": limiter}).mappings().first() or {})
    per_seconds = known.get("per_seconds") or ask.window.per_seconds
    _hold_answered(connection, me, ask.news.answered, per_seconds)
    held = connection.execute(_COUNT, me).mappings().one()
    pause = float(known.get("pause") or -math.inf)
    free = ask.window.share(known.get("requests") or ask.window.requests) - int(held["held"]) - ask.open
    granted = 0 if pause > 0 else max(0, min(ask.wanted, math.ceil(free / 2)))
    if ask.open + granted:
        seconds = LONGEST_CALL + per_seconds
        connection.execute(_HOLD, {**me, "answered": False, "number": ask.open + granted, "seconds": seconds})
    heard = Heard(known.get("requests"), known.get("per_seconds"), time.monotonic() + pause, int(held["elsewhere"]))
    return granted, heard, float(held["frees"] or LATE)


def _tell(connection: sa.Connection, limiter: str, news: _News) -> None:
    if (news.requests, news.per_seconds, news.not_before) != (None, None, None):
        pause = None if news.not_before is None else news.not_before - time.monotonic()
        told = {"requests": news.requests, "per_seconds": news.per_seconds, "pause": pause}
        connection.execute(_TELL, {"limiter": limiter, **told})


def _hold_answered(connection: sa.Connection, me: dict[str, str], answered: list[float], per_seconds: float) -> None:
    """Each counts for a window from its answer on. Those of nearly the same time share a row, and count as the last."""
    slice_ = per_seconds / 200
    now = time.monotonic()
    for _, group in groupby(sorted(answered), lambda moment: moment // slice_):
        together = list(group)
        seconds = per_seconds + MARGIN - (now - together[-1])
        if seconds > 0:
            connection.execute(_HOLD, {**me, "answered": True, "number": len(together), "seconds": seconds})


_known: dict[tuple[str, str], SharedPlaces] = {}
_known_lock = threading.Lock()


def places_of(url: str, limiter: str) -> SharedPlaces | None:
    """The places of a limiter; None where the state is a file of one machine's, and its limiters are enough."""
    if engine.is_embedded(url):
        return None
    with _known_lock:
        return _known.setdefault((url, limiter), SharedPlaces(url, limiter))


@atexit.register
def _close() -> None:
    for places in list(_known.values()):
        places.close()
