"""A sync held by one run among many machines: a row with a rising token, kept alive by the database's clock.

Every write of the holder first holds its own lease's row against its token, in the same transaction: a run that was
paused or cut off, and whose sync another one has taken over meanwhile, commits nothing.

The right to schedule is held in the same way, by one daemon of a state (`SCHEDULING`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from reverse_etl.errors import LeaseLost, StateError, SyncBusy
from reverse_etl.state import engine as engines
from reverse_etl.state import tables


@dataclass(frozen=True)
class Term:
    """How long a lease lasts from a beat on, how often it beats, in seconds, and what whoever comes second is told."""

    lasts: float
    beat: float
    taken: str = "{name} is held by another run ({holder})"


RUN = Term(lasts=60.0, beat=15.0)
DAEMON = Term(lasts=10.0, beat=2.5, taken="another daemon schedules for this state ({holder})")
SCHEDULING = ".daemon"  # no sync has such a name

log = logging.getLogger(__name__)

_TAKE = sa.text(
    "INSERT INTO leases (sync, token, holder, expires_at) "
    "VALUES (:sync, 1, :holder, clock_timestamp() + make_interval(secs => :lasts)) "
    "ON CONFLICT (sync) DO UPDATE SET token = leases.token + 1, holder = :holder, "
    "expires_at = clock_timestamp() + make_interval(secs => :lasts) "
    "WHERE leases.expires_at < clock_timestamp() RETURNING token"
)
_BEAT = sa.text(
    "UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => :lasts) "
    "WHERE sync = :sync AND token = :token"
)
_LEAVE = sa.text("UPDATE leases SET expires_at = '-infinity' WHERE sync = :sync AND token = :token")


class Lease:
    """One holder's. `check` is for the moment before a request goes out.

    `taken_over`: another one holds it, as the database has said. Until then a lease that has run out may be renewed.
    """

    def __init__(self, engine: sa.Engine, sync: str, token: int, until: float, term: Term) -> None:
        self.sync = sync
        self.token = token
        self.taken_over = False
        self._engine = engine
        self._until = until  # by this machine's steady clock: never later than by the database's
        self._term = term
        self._ended = threading.Event()

    @property
    def holds(self) -> bool:
        """Whether nobody else can hold it yet."""
        return time.monotonic() < self._until

    def check(self) -> None:
        """Raises LeaseLost from the moment on at which another run may have taken the sync over."""
        if not self.holds:
            raise lost(self.sync)

    def keep(self) -> None:
        """Beat until ended, or until another run holds the sync."""
        facts = {"sync": self.sync, "token": self.token, "lasts": self._term.lasts}
        while not self._ended.wait(self._term.beat):
            asked = time.monotonic()
            try:
                with self._engine.begin() as connection:
                    found = connection.execute(_BEAT, facts)
            except SQLAlchemyError as failure:
                log.warning("the lease was not renewed", extra={"sync": self.sync, "reason": str(failure.args[:1])})
                continue
            if not found.rowcount:
                self._until, self.taken_over = 0.0, True
                return
            self._until = asked + self._term.lasts

    def end(self) -> None:
        self._ended.set()


@contextmanager
def held(engine: sa.Engine, sync: str, holder: str, term: Term | None = None) -> Iterator[Lease]:
    """Hold the sync among all machines that share the store, as a run does. Raises SyncBusy, naming the holder."""
    lease = _taken(engine, sync, holder, term or RUN)
    beat = threading.Thread(target=lease.keep, name=f"lease of {sync}", daemon=True)
    beat.start()
    try:
        yield lease
    finally:
        lease.end()
        beat.join()
        try:
            with engine.begin() as connection:
                connection.execute(_LEAVE, {"sync": sync, "token": lease.token})
        except SQLAlchemyError:  # it ends by itself
            log.warning("the lease was not given back", extra={"sync": sync})


def _taken(engine: sa.Engine, sync: str, holder: str, term: Term) -> Lease:
    asked = time.monotonic()
    try:
        with engine.begin() as connection:
            token = connection.scalar(_TAKE, {"sync": sync, "holder": holder, "lasts": term.lasts})
            named = connection.scalar(sa.select(tables.leases.c.holder).where(tables.leases.c.sync == sync))
    except SQLAlchemyError as failure:
        raise StateError(
            f"{sync} can't be held in the state's database: {engines.words(failure)}",
            hint="check state.url, and whether the database is up",
        ) from failure
    if token is None:
        said = term.taken.format(name=sync, holder=named)
        raise SyncBusy(said, hint="it goes on by itself; try later")
    return Lease(engine, sync, int(token), asked + term.lasts, term)


def holder(connection: sa.Connection, sync: str) -> str | None:
    """Whose lease holds, by the database's clock."""
    holds = sa.and_(tables.leases.c.sync == sync, tables.leases.c.expires_at > sa.func.clock_timestamp())
    found: str | None = connection.scalar(sa.select(tables.leases.c.holder).where(holds))
    return found


def hold_fast(connection: sa.Connection, sync: str, token: int) -> None:
    """Within a transaction: nobody takes the sync over before it ends. Raises LeaseLost when somebody has."""
    mine = sa.select(tables.leases.c.token).where(tables.leases.c.sync == sync).with_for_update(read=True)
    if connection.scalar(mine) != token:
        raise lost(sync)


def lost(sync: str) -> LeaseLost:
    return LeaseLost(
        f"this run was cut off from the state for so long that another may hold {sync} now",
        hint="nothing more was sent or recorded by it; the other run goes on from what was recorded",
    )
