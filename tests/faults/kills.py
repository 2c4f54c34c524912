"""Killed, stopped, asked to stop: at any instant, by stage, at the k-th call to the system."""

from __future__ import annotations

import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable

from tests.faults import checker
from tests.faults.families import family, needs
from tests.faults.scripted import Call
from tests.faults.stage import Running, Stage

CHAIN, SMALL_CHAIN = 10, 4
ROWS, CHANGES = 1200, 900
MOMENTS = ("arrived", "applied", "answered")
Killer = Callable[[Stage, random.Random], Running]


def chain(stage: Stage, killed: Killer, *, bound: int = checker.IN_FLIGHT) -> None:
    """Change rows, run and kill, once or a few times over; then one clean run must put everything right."""
    length = SMALL_CHAIN if stage.small else CHAIN
    stage.ground.add(ROWS)
    stage.ground.put()
    first = stage.sync() if stage.random.random() < 0.7 else None  # else the very first run is killed, too
    stage.most("run_s", first.seconds if first else 1.5)
    stage.fake.latency = 0.05
    tries = 0
    while stage.cycles < length and tries < 1.5 * length:
        changed = set(stage.ground.rows) if not stage.fake.ledger else set(stage.ground.change(CHANGES))
        changed |= set(stage.ground.add(stage.random.choice((0, 0, 7))))
        stage.ground.put()
        mark, here = len(stage.fake.ledger), stage.random.choice((1, 1, 2, 3))
        kills = 0
        for _ in range(here):
            ended = stage.finish(killed(stage, stage.random))
            stage.fake.watch = lambda _call, _moment: None
            kills += ended.code == -signal.SIGKILL  # else it was over before
        stage.cycles, tries = stage.cycles + kills, tries + here
        stage.count("too_late", here - kills)
        clean = checker.heal(stage, changed=changed)
        stage.most("restart_s", clean.seconds)
        sent_again(stage, mark, kills, bound)
    checker.idle(stage)
    close(stage)


def sent_again(stage: Stage, mark: int, kills: int, bound: int) -> None:
    """Every kill leaves at most what was in flight. Each such row is sent again by the next run, and, as nobody knows
    when its first call is over, once more by one that begins a minute later."""
    sent: Counter[tuple[str, str]] = Counter()
    for entry in stage.fake.ledger[mark:]:
        what = (entry.key, repr(sorted(entry.values.items())))
        sent[what] += entry.applied or sent[what] > 0
    again = [times for times in sent.values() if times > 1]
    stage.most("repeats_a_kill", len(again) / max(1, kills))
    if len(again) > bound * kills:
        stage.wrong("I3", f"{len(again)} rows were sent again after {kills} kills; in flight were at most {bound} each")
    if max(again, default=0) > 1 + 2 * kills:
        stage.wrong("I3", f"after {kills} kills a row was sent {max(again)} times")


def close(stage: Stage) -> None:
    checker.records(stage)
    checker.polite(stage)
    checker.silent(stage)


@family("F01", "SIGKILL at a random moment", nightly=10, release=60)
def at_random(stage: Stage) -> None:
    def killed(stage: Stage, chance: random.Random) -> Running:
        """Half of the time anywhere in the run, else from the first write on."""
        running = stage.start_sync()
        if chance.random() < 0.5:
            time.sleep(chance.uniform(0.1, stage.figures["run_s"]))
        else:
            await_calls(stage, running, 1)
            time.sleep(chance.uniform(0.0, 0.4))
        running.kill()
        return running

    chain(stage, killed)


@family("F02", "SIGKILL as the k-th call arrives, is applied, is answered", smoke=1, nightly=8, release=40)
def by_stage(stage: Stage) -> None:
    chain(stage, at_a_call(9))


def at_a_call(most: int) -> Killer:
    """Kills at one of the first writing calls, at one of its moments."""

    def killed(stage: Stage, chance: random.Random) -> Running:
        number = chance.randint(1, most)
        reached: set[int] = set()

        def one(call: Call) -> bool:
            reached.update({call.number} if call.number and len(reached) < number else ())
            return call.number in reached and len(reached) == number

        return killed_when(stage, one, chance.choice(MOMENTS), chance.choice((0.0, 0.0, 0.002, 0.01, 0.05)))

    return killed


def killed_when(stage: Stage, one: Callable[[Call], bool], moment: str, pause: float = 0.0) -> Running:
    """A run that is killed as soon as a call of the kind asked for has come so far; it may be over before."""
    reached = threading.Event()

    def watch(call: Call, now: str) -> None:
        if now == moment and one(call):
            reached.set()

    stage.fake.watch = watch
    running = stage.start_sync()
    while not reached.wait(0.02) and running.process.poll() is None:
        pass
    time.sleep(pause)
    running.kill()
    return running


@family("F03", "SIGKILL while files change: spool, store, snapshot, fold", smoke=1, nightly=8, release=40)
def by_file(stage: Stage) -> None:
    """The state's own files tell how far a run is: killed shortly after one of them appears or changes."""
    places = ("spool/*/0.arrow", "state.db-wal", "snapshots/*.duckdb.wal", "snapshots/*.duckdb", "snapshots/*.new")

    def killed(stage: Stage, chance: random.Random) -> Running:
        place, pause = chance.choice(places), chance.choice((0.0, 0.001, 0.005, 0.02))
        before = _look(stage, place)
        running = stage.start_sync()
        while running.process.poll() is None and _look(stage, place) in (before, set()):
            time.sleep(0.001)
        time.sleep(pause)
        running.kill()
        return running

    chain(stage, killed)


def _look(stage: Stage, place: str) -> set[tuple[str, int]]:
    try:
        return {(path.name, path.stat().st_mtime_ns) for path in stage.state.glob(place)}
    except FileNotFoundError:  # gone between the two looks
        return set()


@family("F04", "SIGKILL at the k-th fsync, write, truncation", smoke=1, nightly=8, release=40)
def by_system_call(stage: Stage) -> None:
    strace = needs("strace", "strace")
    calls = {"fsync,fdatasync": 8, "pwrite64": 120, "write": 10, "ftruncate": 1}  # a run's number

    def killed(stage: Stage, chance: random.Random) -> Running:
        names, most = chance.choice(list(calls.items()))
        nth = 1 + int(most * chance.random() ** 3)  # counted in each thread: the first ones are reached surely
        inject = f"inject={names}:signal=SIGKILL:when={nth}"
        quiet = ("-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", f"trace={names}")
        return stage.start_sync(prefix=(strace, *quiet, "-e", inject))

    chain(stage, killed)


@family("F56", "SIGKILL while the store can't be written: answers wait to be recorded", smoke=1, nightly=3, release=10)
def store_held(stage: Stage) -> None:
    """Another process holds the store's only write lock: a slot that waits for its record takes no further batch."""
    stage.ground.add(ROWS)
    stage.ground.put()
    stage.sync()
    for _ in range(2):
        changed = set(stage.ground.change(ROWS))
        stage.ground.put()
        mark, calls = len(stage.fake.ledger), stage.fake.writes
        running = stage.start_sync()
        await_calls(stage, running, 1)
        holder = sqlite3.connect(stage.state / "state.db", timeout=10, isolation_level=None)
        holder.execute("begin immediate")
        time.sleep(1.5)
        held = stage.fake.writes - calls
        running.kill()
        stage.cycles += stage.finish(running).code == -signal.SIGKILL
        holder.execute("rollback")
        holder.close()
        stage.most("calls_while_held", held)
        checker.heal(stage, changed=changed)
        sent_again(stage, mark, 1, checker.IN_FLIGHT)
    close(stage)


@family("F05", "SIGTERM and SIGINT, once and twice", smoke=1, nightly=5, release=20)
def asked_to_stop(stage: Stage) -> None:
    """Asked once, a run records what was answered: nothing is sent again. Asked twice, it goes at once."""
    stage.ground.add(ROWS)
    stage.ground.put()
    stage.sync()
    stage.fake.latency = 0.1
    term, interrupt = (signal.SIGTERM, 143), (signal.SIGINT, 130)
    for (number, code), twice in ((term, False), (interrupt, False), (term, True)):
        changed = set(stage.ground.change(CHANGES))
        stage.ground.put()
        mark = len(stage.fake.ledger)
        running = stage.start_sync()
        await_calls(stage, running, stage.random.randint(1, 5))
        running.signal(number)
        asked = time.monotonic()
        if twice:
            time.sleep(0.02)
            running.signal(number)
        ended = stage.finish(running)
        stage.most("end_s", time.monotonic() - asked)
        if ended.code not in (code, 0, -number if twice else code):
            stage.wrong("I10", f"asked by signal {number} to stop, it ended with {ended.code}: {ended.err[-300:]}")
        checker.balanced(stage, ended)
        checker.heal(stage, changed=changed)
        sent_again(stage, mark, 1, checker.IN_FLIGHT if twice else 0)
        stage.cycles += 1
    if stage.figures["end_s"] > 30:
        stage.wrong("I10", f"it took {stage.figures['end_s']:.0f} s to stop")
    close(stage)


def await_calls(stage: Stage, running: Running, number: int) -> None:
    """Until so many more writing calls have arrived."""
    wanted = stage.fake.writes + number
    while stage.fake.writes < wanted and running.process.poll() is None:
        time.sleep(0.005)


@family("F06", "SIGSTOP, a second run meanwhile, SIGCONT", smoke=1, nightly=5, release=20)
def paused(stage: Stage) -> None:
    """The sleeper holds its sync: the second run names it and sends nothing. Awake, the first one ends well."""
    stage.ground.add(ROWS)
    stage.ground.put()
    for _ in range(2):
        mark = len(stage.fake.ledger)
        running = stage.start_sync()
        await_calls(stage, running, stage.random.randint(1, 6))
        running.signal(signal.SIGSTOP)
        time.sleep(0.2)
        calls = len(stage.fake.calls)
        second = stage.sync()
        if running.process.poll() is None and (second.code != 5 or len(stage.fake.calls) > calls + 4):
            stage.wrong("I9", f"beside a paused run the second one ended with {second.code}: {second.out[-300:]}")
        running.signal(signal.SIGCONT)
        ended = stage.finish(running)
        if ended.code != 0:
            stage.wrong("I10", f"after a pause it ended with {ended.code}: {ended.out[-300:]}")
        checker.balanced(stage, ended)
        checker.converged(stage)
        sent_again(stage, mark, 1, 0)
        stage.ground.change(CHANGES)
        stage.ground.put()
        stage.cycles += 1
    close(stage)
