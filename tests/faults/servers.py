"""PostgreSQL as the warehouse and as the state: its connections cut, its COMMIT's answer lost, its holders killed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tests.faults import checker
from tests.faults.answers import prepared, settled
from tests.faults.cluster import database
from tests.faults.families import family
from tests.faults.ground import COLUMNS, Row
from tests.faults.kills import await_calls
from tests.faults.proxy import CLEAR, Proxy, Wire, proxied
from tests.faults.stage import Ended, Stage

LEASE_SECONDS, TAKEN_OVER_SECONDS = 60.0, 75.0


@dataclass
class Postgres:
    """A warehouse: `url` is what the project says, `direct` goes around the proxy."""

    url: str
    direct: str

    def put(self, rows: list[Row]) -> None:
        engine = create_engine(self.direct, poolclass=NullPool)
        with engine.begin() as connection:
            connection.execute(text(f"create table if not exists people ({COLUMNS})"))
            connection.execute(text("delete from people"))
            told = [vars(row) | {"changed_at": row.changed_at.replace(tzinfo=None)} for row in rows]
            if told:
                connection.execute(text("insert into people values (:email, :firstname, :seats, :changed_at)"), told)


@contextmanager
def server() -> Iterator[tuple[str, Proxy]]:
    """A PostgreSQL that is reached around, or through, a proxy; no port but the proxy's is opened."""
    with database() as found, proxied(str(next(Path(found.folder).glob(".s.PGSQL.*[0-9]")))) as proxy:
        yield found.url, proxy


def through(proxy: Proxy) -> str:
    return f"postgresql+psycopg://postgres@127.0.0.1:{proxy.port}/postgres"


@family("F57", "a PostgreSQL warehouse whose connection is cut while it is read", warehouse="duckdb")
def warehouse_cut(stage: Stage) -> None:
    """The whole read starts again, three times; then the run fails and nothing was sent."""
    with server() as (direct, proxy):
        stage.ground.store = stage.store = Postgres(through(proxy), direct)
        stage.project()
        prepared(stage)
        for cuts in (1, 2, 99):
            first, mark = proxy.connections, stage.fake.writes

            def choose(nth: int, first: int = first, cuts: int = cuts) -> tuple[Wire, Wire]:
                spoiled = nth - first <= cuts
                return CLEAR, Wire(after=stage.random.randrange(200, 60_000)) if spoiled else CLEAR

            proxy.choose = choose
            ended = stage.sync()
            checker.balanced(stage, ended)
            if ended.code not in (0, 1):
                stage.wrong("I10", f"cut while it was read it ended with {ended.code}: {ended.out[-300:]}")
            if ended.code and stage.fake.writes > mark:
                stage.wrong("I2", "something was sent after a read that failed")
            if (ended.run.get("error") or {}).get("code") == "bug":
                stage.wrong("I10", f"a cut connection is told as {ended.run['error']}")
            stage.count("failed_reads", ended.code != 0)
            proxy.choose = lambda _nth: (CLEAR, CLEAR)
            checker.heal(stage, changed=set(stage.ground.rows))
            stage.ground.change(700)
            stage.ground.put()
            stage.cycles += 1
        stage.count("connections_spoiled", proxy.spoiled)
        settled(stage)


def _once_free(stage: Stage) -> Ended:
    """A run that waits for a dead holder's lease to end."""
    began = time.monotonic()
    ended = stage.sync()
    if ended.code == 5:  # nothing is to be learned before
        time.sleep(max(0.0, LEASE_SECONDS - 6 - (time.monotonic() - began)))
    while ended.code == 5 and time.monotonic() - began < TAKEN_OVER_SECONDS + 15:
        time.sleep(3)
        ended = stage.sync()
    stage.most("takeover_s", round(time.monotonic() - began, 1))
    return ended


@family(
    "F58", "state in PostgreSQL: killed, its connections cut, COMMIT answers lost", nightly=3, release=10, waits=130
)
def state_in_postgres(stage: Stage) -> None:
    """A dead holder is replaced within lease and a quarter of a minute; a cut never counts as recorded."""
    with server() as (direct, proxy):
        del direct
        stage.project(state={"url": through(proxy)})
        prepared(stage)
        for kind in ("kill", "cut") if stage.small else ("kill", "cut", "cut"):
            mark = len(stage.fake.ledger)
            changed = set(stage.ground.change(900))
            stage.ground.put()
            if kind == "cut":
                after = stage.random.randrange(2_000, 40_000)
                proxy.choose = lambda _nth, after=after: (CLEAR, Wire(after=after))  # type: ignore[misc]
            running = stage.start_sync()
            if kind == "kill":
                await_calls(stage, running, stage.random.randint(1, 6))
                running.signal(signal.SIGKILL)
            ended = stage.finish(running)
            checker.balanced(stage, ended)
            if (ended.run.get("error") or {}).get("code") == "bug":
                stage.wrong("I10", f"a cut connection to the state is told as {ended.run['error']}")
            proxy.choose = lambda _nth: (CLEAR, CLEAR)
            clean = _once_free(stage)
            if clean.code != 0:
                stage.wrong("I9", f"after a {kind} the sync was not taken over: {clean.code} {clean.out[-300:]}")
            checker.unclaimed(stage, stage.fake.ledger[clean.since :], changed)
            checker.repeats(stage, stage.fake.ledger[mark : clean.since], stage.fake.ledger[clean.since :])
            checker.converged(stage)
            stage.cycles += 1
        if stage.figures["takeover_s"] > TAKEN_OVER_SECONDS + 15:
            stage.wrong("I9", f"it took {stage.figures['takeover_s']:.0f} s to replace a dead holder")
        settled(stage)
