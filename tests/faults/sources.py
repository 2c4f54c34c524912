"""The warehouse under a run: locked, damaged, changing while it is read, committing late; its columns come and go."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import duckdb

from tests.faults import checker
from tests.faults.answers import prepared, settled
from tests.faults.families import family, needs
from tests.faults.ground import DuckDB, SQLite
from tests.faults.kills import await_calls
from tests.faults.stage import Ended, Stage


def _nothing_moved(stage: Stage, ended: Ended, calls: int, what: str, codes: tuple[int, ...] = (1,)) -> None:
    """A read that failed sends nothing and says so; what it says is not a bug."""
    if ended.code not in codes:
        stage.wrong("I10", f"{what}: ended with {ended.code}: {ended.out[-300:]} {ended.err[-300:]}")
    if any(call.number for call in stage.fake.calls[calls:]):
        stage.wrong("I2", f"{what}: something was sent after a read that failed")
    if ended.code != 2 and (ended.run.get("error") or {}).get("code") in (None, "bug"):
        stage.wrong("I10", f"{what}: told as {ended.run.get('error')}")


@family("F50", "a DuckDB file locked for a while by another process", warehouse="duckdb")
def locked_duckdb(stage: Stage) -> None:
    prepared(stage)
    python = needs("python3", "python3")
    hold = "import sys, time, fcntl; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX); time.sleep(4)"
    holder = threading.Thread(target=lambda: _run(python, hold, str(stage.folder / "warehouse.duckdb")))
    holder.start()
    time.sleep(0.5)
    ended = stage.sync()
    holder.join()
    if ended.code != 0:
        stage.wrong("I10", f"a file locked for four seconds ended the run with {ended.code}: {ended.out[-300:]}")
    checker.balanced(stage, ended)
    stage.most("waited_s", ended.seconds)
    stage.cycles += 1
    settled(stage)


def _run(python: str, code: str, argument: str) -> None:
    import subprocess  # noqa: PLC0415

    subprocess.run([python, "-c", code, argument], check=False)


@family("F51", "a SQLite warehouse written to, and locked, while it is read", warehouse="sqlite")
def written_sqlite(stage: Stage) -> None:
    """One view: every row read is of one commit. A writer changes all rows together, again and again."""
    prepared(stage)
    stop, failures = threading.Event(), 0
    path = stage.folder / "warehouse.sqlite"

    def write() -> None:
        while not stop.wait(0.05):
            with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
                connection.execute("update people set seats = seats + 1")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(2):
            mark = len(stage.fake.ledger)
            ended = stage.sync()
            failures += ended.code != 0
            checker.balanced(stage, ended)
            _one_view(stage, mark)
            stage.cycles += 1
    finally:
        stop.set()
        writer.join()
    stage.count("failed_reads", failures)
    with closing(sqlite3.connect(path)) as connection:
        for email, seats in connection.execute("select email, seats from people"):
            stage.ground.rows[email] = replace(stage.ground.rows[email], seats=seats)
    settled(stage)


def _one_view(stage: Stage, mark: int) -> None:
    """All rows were moved by the same number of steps."""
    steps = {
        int(entry.values["seats"]) - (stage.ground.rows[entry.key].seats or 0)
        for entry in stage.fake.ledger[mark:]
        if entry.values.get("seats") and stage.ground.rows[entry.key].seats is not None
    }
    if len(steps) > 1:
        stage.wrong("I4", f"rows of {len(steps)} different moments were read by one run")


@family("F52", "the warehouse file cut, overwritten, gone, or without its table or column")
def spoiled_file(stage: Stage) -> None:
    """Nothing is sent or removed for it, whatever the mode."""
    stage.define(mode="mirror")
    prepared(stage)
    stage.sync()
    store = stage.store
    assert isinstance(store, DuckDB | SQLite)
    whole = store.path.read_bytes()
    renamed = "alter table people rename column seats to places"
    harms = ("cut", "random", "gone", "empty", "drop table people", renamed)
    for harm in stage.random.sample(harms, 3) if stage.small else harms:
        if harm == "gone":
            store.path.unlink()
        elif harm in ("cut", "random", "empty"):
            half = whole[: len(whole) // 2]
            spoiled = {"cut": half, "random": half[:64] + stage.random.randbytes(len(half)), "empty": b""}
            store.path.write_bytes(spoiled[harm])
        else:
            _execute(stage, harm)
        calls = len(stage.fake.calls)
        _nothing_moved(stage, stage.sync(), calls, harm, codes=(1, 2))
        store.path.with_name(store.path.name + ".wal").unlink(missing_ok=True)
        store.path.write_bytes(whole)
        stage.cycles += 1
    stage.ground.change(300)
    stage.ground.put()
    settled(stage, removes=True)


def _execute(stage: Stage, *statements: str) -> None:
    store = stage.store
    if isinstance(store, SQLite):
        with closing(sqlite3.connect(store.path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)
        return
    assert isinstance(store, DuckDB)
    with duckdb.connect(str(store.path)) as database:
        for statement in statements:
            database.execute(statement)


@family(
    "F53",
    "a cursor: ties of thousands, late commits inside the lag, no value, values of the future",
    warehouse="duckdb",
)
def cursor(stage: Stage) -> None:
    """Kills between the runs; rows with equal, older and missing values arrive whenever they are committed."""
    stage.define(cursor={"column": "changed_at", "lag": "10m"})
    now = datetime.now(UTC).replace(microsecond=0)
    stage.ground.now = now - timedelta(hours=3)
    stage.ground.add(800)
    for step in range(3 if stage.small else 6):
        stage.ground.now = now - timedelta(hours=2) + timedelta(minutes=20 * step)
        kind = stage.random.choice(("tie", "late", "future", "old values"))
        keys = stage.ground.change(300) if kind != "tie" else stage.ground.add(250)
        if kind == "late":
            stage.ground.now -= timedelta(minutes=26)  # its own minute, and inside the lag behind the newest
            keys += stage.ground.add(50)
        if kind == "future":
            stage.ground.now = now + timedelta(days=2)
            keys += stage.ground.add(20)
        stage.ground.put()
        if stage.random.random() < 0.5:
            running = stage.start_sync()
            time.sleep(stage.random.uniform(0.5, 1.5))
            running.kill()
            stage.finish(running)
        ended = stage.sync()
        if ended.code != 0:
            stage.wrong("I10", f"after {kind} it ended with {ended.code}: {ended.out[-300:]}")
        checker.balanced(stage, ended)
        checker.converged(stage)
        stage.cycles += 1
    checker.idle(stage)
    checker.records(stage)
    checker.silent(stage)


@family("F55", "rows of the cursor's own value that are committed after the run that reached it, killed or not")
def ties(stage: Stage) -> None:
    """A whole number counts commits: what comes later with the same number is not passed over, nor sent for ever."""
    stage.define(cursor="batch", query="select *, cast(epoch(changed_at) as bigint) as batch from people")
    if isinstance(stage.store, SQLite):
        stage.define(cursor="batch", query="select *, unixepoch(changed_at) as batch from people")
    stage.ground.add(500)
    now = stage.ground.now
    for step in range(3 if stage.small else 5):
        for _ in range(3):
            now = stage.ground.now
            stage.ground.add(300 if step % 2 else 100)  # a run is killed with more rows to send than it has under way
        stage.ground.now = now  # the next ones come with the last number
        stage.ground.put()
        if step % 2:
            running = stage.start_sync()
            await_calls(stage, running, stage.random.randint(1, 3))
            running.kill()
            stage.finish(running)
        stage.sync()  # the cursor has reached that number
        stage.ground.add(50)
        stage.ground.put()
        ended = stage.sync()
        if ended.code != 0:
            stage.wrong("I10", f"it ended with {ended.code}: {ended.out[-300:]}")
        checker.balanced(stage, ended)
        checker.converged(stage)
        stage.cycles += 1
    checker.idle(stage)
    checker.records(stage)


@family("F54", "awkward rows: no key, doubled keys, NULLs, quotes, control characters, long and foreign texts")
def awkward(stage: Stage) -> None:
    """Each goes its own way: the good arrive letter for letter, the bad are listed, none sinks its batch."""
    stage.ground.add(400)
    texts = (
        "O'Hara",
        'say "hi"',
        "tab\there",
        "line\nbreak",
        "Ω≈ç√ 漢字 🙂",
        "  spaces  ",
        "=1+1",
        "\\N",
        "null",
        "x" * 60_000,
    )
    keys = sorted(stage.ground.rows)
    for key, text in zip(keys, texts, strict=False):
        stage.ground.rows[key] = replace(stage.ground.rows[key], firstname=text)
    stage.ground.rows[keys[20]] = replace(stage.ground.rows[keys[20]], seats=-(2**53), firstname=None)
    bad_key = keys[30]
    stage.ground.put()
    _execute(
        stage,
        "insert into people (email, firstname, seats) values (null, 'nobody', 1)",
        f"insert into people (email, firstname, seats) values ('{bad_key}', 'twice', 2)",
        "insert into people (email, firstname, seats) values ('', 'empty', 3)",
    )
    ended = stage.sync()
    if ended.code != 3:
        stage.wrong("I10", f"with invalid rows it ended with {ended.code}: {ended.out[-300:]}")
    checker.balanced(stage, ended)
    checker.converged(stage, excused={bad_key})
    if stage.fake.values(bad_key) is not None:
        stage.wrong("I5", "a row of a doubled key was sent")
    stage.cycles += 1
    stage.ground.put()
    settled(stage)
