"""Waves that are too large, clocks that jump, and everything at once."""

from __future__ import annotations

import signal
import time
from dataclasses import replace

from tests.faults import checker
from tests.faults.answers import HTML, WRONG, prepared, settled, sometimes
from tests.faults.families import family, needs
from tests.faults.ground import Row
from tests.faults.scripted import Act, too_many
from tests.faults.stage import Stage


def _held(stage: Stage, what: str) -> str:
    """A guarded run: code 4, nothing written. Returns the plan's id."""
    mark = len(stage.fake.ledger)
    ended = stage.sync()
    if ended.code != 4:
        stage.wrong("I5", f"{what} was not held: {ended.code} {ended.out[-300:]}")
    if len(stage.fake.ledger) > mark:
        stage.wrong("I5", f"{what}: {len(stage.fake.ledger) - mark} rows were written before approval")
    checker.balanced(stage, ended)
    stage.cycles += 1
    return str(ended.run.get("plan_id") or ended.run.get("error", {}).get("plan_id") or "")


@family("F60", "mass removal, an empty result, an emptied column; approvals used for another wave or twice")
def waves(stage: Stage) -> None:
    stage.define(mode="mirror")
    stage.ground.add(400)
    stage.ground.put()
    stage.sync()
    everything = dict(stage.ground.rows)
    left = set(stage.ground.remove(200))
    stage.ground.put()
    plan = _held(stage, "half of all rows gone")
    left |= set(stage.ground.remove(50))
    stage.ground.put()
    mark = len(stage.fake.ledger)
    larger = stage.sync("--approve", plan)
    if larger.code != 4 or len(stage.fake.ledger) > mark:
        stage.wrong("I5", f"an approval of 200 removals covered 250: {larger.code}")
    second = str(larger.run.get("plan_id"))
    stage.ground.rows = {}
    stage.ground.put()
    _held(stage, "an empty result")
    stage.ground.rows = {key: row for key, row in everything.items() if key not in left}
    stage.ground.put()
    approved = stage.sync("--approve", second)
    if approved.code != 0:
        stage.wrong("I10", f"an approved wave ended with {approved.code}: {approved.out[-300:]}")
    checker.no_deletions(stage, allowed=left)
    checker.converged(stage, removes=True)
    stage.ground.rows = {key: replace(row, firstname=None, seats=None) for key, row in stage.ground.rows.items()}
    stage.ground.put()
    _held(stage, "a column gone empty")
    stage.ground.rows = {key: row for key, row in everything.items() if key not in left}
    stage.ground.put()
    checker.idle(stage)
    checker.silent(stage)


@family("F61", "killed while it removes", smoke=1)
def killed_removing(stage: Stage) -> None:
    """Removed are only records of rows that left; a removal that was cut off is finished."""
    stage.define(mode="mirror", guard={"max_removed": "90%"})
    stage.fake.latency = 0.1
    stage.ground.add(1000)
    stage.ground.put()
    stage.sync()
    gone = set(stage.ground.remove(600))
    stage.ground.put()
    for _ in range(3):
        running = stage.start_sync()
        wanted = stage.fake.writes + 2
        while stage.fake.writes < wanted and running.process.poll() is None:
            time.sleep(0.01)
        running.kill()
        stage.cycles += stage.finish(running).code == -signal.SIGKILL
        if stage.random.random() < 0.4:  # some come back
            back = sorted(gone)[:20]
            for key in back:
                stage.ground.rows[key] = stage.ground.rows[min(stage.ground.rows)].__class__(
                    key, "Back", 1, stage.ground.now
                )
            gone -= set(back)
            stage.ground.put()
    checker.heal(stage, removes=True)
    checker.no_deletions(stage, allowed=stage.ground.ever)
    checker.idle(stage)
    checker.silent(stage)


@family("F62", "clocks: hours back, a day ahead, years back between runs")
def clocks(stage: Stage) -> None:
    faketime = needs("faketime", "faketime")
    prepared(stage)
    for shift in stage.random.sample(("-3h", "+1d", "-2y", "+25h", "-10m", "+3y"), 2 if stage.small else 4):
        ended = stage.sync(prefix=(faketime, "-f", shift))
        if ended.code != 0:
            stage.wrong("I10", f"with the clock at {shift} it ended with {ended.code}: {ended.out[-300:]}")
        checker.balanced(stage, ended)
        checker.converged(stage)
        stage.ground.change(200)
        stage.ground.put()
        stage.cycles += 1
    settled(stage)


@family("F90", "everything at random: answers, wires, signals, changes", smoke=1, nightly=10, release=60)
def chaos(stage: Stage) -> None:
    prepared(stage)
    acts = [
        *(Act(apply=done, status=status, body=HTML) for status in (500, 502, 503) for done in (True, False)),
        *(Act(apply=done, cut=share) for share in (0.0, 0.5) for done in (True, False)),
        *(Act(edit=edit) for edit in WRONG[:2]),
        too_many("1"),
        Act(wait=0.5),
        Act(hang_up=True),
    ]
    guilty = set(stage.random.sample(sorted(stage.ground.rows), 5))
    for _ in range(3 if stage.small else 5):
        stage.fake.refuses = lambda values: "not valid" if values["email"] in guilty else None
        stage.fake.script = sometimes(stage, 0.25, *acts)
        running = stage.start_sync(*stage.random.choice(((), (), (), ("--limit", "250"), ("--full",))))
        if stage.random.random() < 0.7:
            time.sleep(stage.random.uniform(0.3, 2.5))
            running.signal(stage.random.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)))
        ended = stage.finish(running)
        checker.balanced(stage, ended)
        checker.honest(stage, ended)
        stage.ground.change(stage.random.randrange(500))
        stage.ground.add(stage.random.randrange(30))
        stage.ground.put()
        stage.cycles += 1
    for key in guilty:
        stage.ground.rows[key] = Row(key, "Good", 7, stage.ground.now)
    stage.ground.put()
    settled(stage)
